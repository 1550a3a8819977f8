"""The sampling loop: explicit state, a generator that the caller drives."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.distributions import Categorical, Distribution
from diffprob.base.rng import Rng, one_for_each
from diffprob.base.shapes import check_points
from diffprob.denoise.denoiser import Denoiser, NetDenoiser
from diffprob.process.chain import noisy_times

MOST_GAIN = 1000.0  # of a network's error in x_0 at the first time; the linear schedule has 157, the cosine one 20,291


@dataclass(frozen=True, eq=False)
class State:
    """Where a chain stands.

    Args:
        x: x_t, (B, *event).
        t: the time, () float64.
        index: number of steps taken; it keys the noise, so a resumed chain continues its stream.
        posterior: p(x_0 | x) of the step that led here, at the previous time.
        memory: history of multistep solvers.
        left: steps of the chain still to come, the reconstruction counted; `simulate` says it, None: not known.
    """

    x: Tensor
    t: Tensor
    index: int = 0
    posterior: Distribution | None = None
    memory: tuple[Tensor, ...] = ()
    left: int | None = None


class Sampler(Protocol):
    """A rule that takes a chain from t down to s (frozen dataclass: its repr is its configuration)."""

    @property
    def order(self) -> int | None:
        """Order of global convergence of a deterministic sampler; None for a stochastic one."""
        ...

    @property
    def evaluations(self) -> int | None:
        """Evaluations of the model in one step, the most where steps differ; None where a tolerance decides."""
        ...

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """The state at s < state.t; pure: the same arguments give the same bits. It begins with `check_step`."""
        ...


@runtime_checkable
class Finishing(Protocol):
    """A sampler with a way of its own from the last noisy time to the data, with one evaluation of the model."""

    def finish(self, model: Denoiser, state: State, rng: Rng) -> State:
        """The state at t = 0."""
        ...


def check_step(state: State, s: Tensor, rng: Rng, stay: bool = False) -> None:
    """What every step begins with: it goes down, or where ``stay`` may end where it began; every sample has a stream.

    Raises:
        ValueError: s is not below the state's time, or another number of streams than of samples.
    """
    one_for_each(rng, state.x)
    if not (float(s) < float(state.t) or (stay and float(s) == float(state.t))):
        raise ValueError(f"a step goes down in time: expected s below {float(state.t):g}, got s = {float(s):g}")


@torch.no_grad()
def simulate(model: Denoiser, sampler: Sampler, x: Tensor | State, times: Tensor, rng: Rng) -> Iterator[State]:
    """Run a chain down a grid of noisy times and yield the state after every step; progressive generation is this
    generator.

    Afterwards one more evaluation gives the reconstruction E[x_0 | x] at the last noisy time (a draw, where x_0 is
    discrete), or what a `Finishing` sampler makes of it, yielded as the state at t = 0. A ``State`` in place of ``x``
    resumes: times not below its own are skipped.

    A network that predicts noise or score errs in x_0 by sigma/alpha times its own error, unless it is clipped
    (`diffprob.denoise.clipping.Clip`); where that is above 1,000 at the first time, a warning says so.

    Args:
        model: the denoiser.
        sampler: the rule for one step.
        x: x at times[0], (B, *event), or a state to go on from.
        times: decreasing noisy times, float64 (n,).
        rng: one stream per sample.

    Raises:
        ValueError: ``times`` do not decrease within [0, 1] or end where there is no noise (the step to the data is the
            reconstruction), the state's time is not one of them, or there is another number of streams than of samples.
        NumericalError: a value of x that is not finite.
    """
    times = noisy_times(model.process, times)
    state = x if isinstance(x, State) else State(x, times[0])
    check_points(state.x)
    one_for_each(rng, state.x)
    model = begin(model, rng, state.x)
    _warn_of_gain(model, state.t)
    if not torch.any(times == state.t):
        raise ValueError(f"the state's time {float(state.t)} is not on the grid")
    ahead = times[times < state.t]
    for k, s in enumerate(ahead):
        state = sampler.step(model, replace(state, left=len(ahead) - k + 1), s, rng)
        yield state
    if isinstance(sampler, Finishing):
        yield sampler.finish(model, state, rng)
        return
    posterior = model(state.x, state.t)
    # Of a discrete law the mean is no value that the data has.
    x = posterior.sample(rng.fold("data")) if isinstance(posterior, Categorical) else posterior.mean
    yield State(x, torch.zeros_like(state.t), state.index + 1, posterior)


def begin(model: Denoiser, rng: Rng, x: Tensor) -> Denoiser:
    """The model for chains that begin in the states x (B, *event): `diffprob.process.process.Process.begin`."""
    own = getattr(model, "begin", None)
    return model if own is None else own(rng, x)


def _warn_of_gain(model: Denoiser, t: Tensor) -> None:
    """Say that the errors of a network will be multiplied beyond use, once for each place that draws."""
    if isinstance(model, NetDenoiser) and (gain := model.prediction.gain(model.process, t)) > MOST_GAIN:
        warnings.warn(
            f"{model.prediction!r} takes {gain:,.0f} times the network's error into x_0 at t = {float(t):g}, where "
            "alpha is nearly 0: draw from Clip(model), as the command line does, or train with prediction=V()",
            stacklevel=3,
        )


@runtime_checkable
class Planned(Protocol):
    """A sampler whose steps differ in their evaluations, so that it is set up for a number of them."""

    def costs(self, steps: int) -> tuple[int, ...]:
        """Evaluations of each step of a chain."""
        ...

    def within(self, evaluations: int) -> tuple[Sampler, int]:
        """The sampler for so many evaluations (at least 1) in its steps, and the number of these."""
        ...


def plan(sampler: Sampler, evaluations: int) -> tuple[Sampler, int]:
    """The sampler set up for so many evaluations of the model for a sample, and how many times its grid may have.

    The last evaluation is the reconstruction. Where a tolerance decides, two times are all that is needed.

    Raises:
        ValueError: no evaluations.
    """
    whole("evaluations", evaluations, 1)
    if sampler.evaluations is None:
        return sampler, 2
    if isinstance(sampler, Planned) and evaluations > 1:
        sampler, steps = sampler.within(evaluations - 1)
        return sampler, steps + 1
    return sampler, 1 + (evaluations - 1) // sampler.evaluations


def cost(sampler: Sampler, n: int) -> int | None:
    """Evaluations for each sample of a chain on n times and its reconstruction; None where a tolerance decides."""
    whole("n", n, 1)
    if sampler.evaluations is None:
        return None
    steps = sum(sampler.costs(n - 1)) if isinstance(sampler, Planned) else (n - 1) * sampler.evaluations
    return steps + 1


def draw(
    model: Denoiser,
    sampler: Sampler,
    times: Tensor,
    rng: Rng,
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw one sample per stream from the prior at times[0] on down, (B, *shape).

    Args:
        shape: the event's shape, e.g. (C, H, W).
    """
    x = start(model, rng, shape, dtype)
    for state in simulate(model, sampler, x, times, rng):
        x = state.x
    return x


def start(model: Denoiser, rng: Rng, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """A draw from the prior for every stream, (B, *shape): where a chain begins."""
    like = torch.empty((len(rng), *shape), dtype=dtype, device=rng.seeds.device)
    return model.process.prior(like).sample(rng.fold("prior"))
