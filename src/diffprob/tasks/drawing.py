"""Drawing samples as grey levels: what every task that draws shares."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.distributions import Distribution
from diffprob.base.errors import InputError, NumericalError
from diffprob.base.finite import not_finite
from diffprob.base.rng import Rng
from diffprob.base.text import one_line
from diffprob.denoise.clipping import Clip, DynamicClip
from diffprob.denoise.denoiser import Denoiser, NetworkModel
from diffprob.denoise.subset import for_samples
from diffprob.sampling.simulate import State, begin, simulate, start
from diffprob.space.space import Space
from diffprob.tasks.options import option
from diffprob.tasks.reporter import Progress, Reporter

COLUMNS = 10  # of a progression


@dataclass
class Drawn:
    """Samples as grey levels.

    Args:
        levels: uint8 (N, C, H, W).
        frames: predicted x_0 of the first samples along the chain, each uint8 (rows, C, H, W); empty unless asked for.
        times: t of each frame.
        evaluations: of the model for each image, on average: samplers to a tolerance differ between images.
    """

    levels: np.ndarray
    frames: list[np.ndarray]
    times: list[float]
    evaluations: float


def make_times(grid: Any, process: Any, steps: int, name: str | None = None) -> Tensor:
    """The times of a grid; ``name`` is what a message calls it, if not the option for grids.

    Raises:
        InputError: the grid cannot have that many times on this process.
    """
    try:
        return grid(process, steps)
    except ValueError as error:
        raise InputError(f"{name or option('grid')} {grid!r} with {steps} steps: {one_line(error)}") from error


class _Tally:
    """A denoiser that counts the samples it is asked about."""

    def __init__(self, model: Denoiser, seen: list[int] | None = None) -> None:
        self.model, self.process, self.seen = model, model.process, [0] if seen is None else seen

    def __call__(self, xt: Tensor, t: Tensor) -> Distribution:
        self.seen[0] += len(xt)
        return self.model(xt, t)

    def begin(self, rng: Rng, x: Tensor) -> "_Tally":
        """The same tally of the model for these chains."""
        return _Tally(begin(self.model, rng, x), self.seen)

    def for_samples(self, index: Tensor) -> "_Tally":
        """The same tally of the model for some of the samples."""
        return _Tally(for_samples(self.model, index), self.seen)


def draw(
    model: Denoiser,
    sampler: Any,
    times: Tensor,
    rng: Rng,
    space: Space,
    clip: bool | float | None = None,
    rows: int = 0,
    watch: Callable[[State], None] | None = None,
) -> Drawn:
    """Draw one image per stream; ``rows`` samples are followed on their way; ``clip`` as in a `SamplingPlan`, None:
    where the space is bounded; ``watch`` sees every state of the chain.

    Raises:
        NumericalError: a sample is not finite.
    """
    tally = _Tally(model)
    clipped = limited(tally, space.bounded if clip is None else clip)
    shown = {round(k * (len(times) - 1) / (COLUMNS - 1)) for k in range(COLUMNS)} if rows else set()
    frames, x = [], start(model, rng, space.model_shape)
    for k, state in enumerate(simulate(clipped, sampler, x, times, rng)):
        x = state.x
        if watch is not None:
            watch(state)
        if k in shown and state.posterior is not None:
            frames.append((float(times[k]), state.posterior.mean[:rows].clone()))
    check_finite(x, rng, model)
    frames = [(t, space.nearest(frame).cpu().numpy()) for t, frame in frames]
    levels = space.to_data(x).cpu().numpy()
    return Drawn(levels, [frame for _, frame in frames], [t for t, _ in frames], tally.seen[0] / len(levels))


def clips(run: Any) -> bool:
    """Whether the predicted images of a run are clamped unless said: points have no interval, and the means of an exact
    denoiser need none."""
    return run.space.bounded and not getattr(run, "exact", False)


def limited(model: Denoiser, clip: bool | float) -> Denoiser:
    """The model with its predicted images clipped as in `diffprob.tasks.plan.SamplingPlan`."""
    return model if clip is False else Clip(model) if clip is True else DynamicClip(model, clip)


def check_finite(x: Tensor, rng: Rng, model: Any) -> None:
    """Look at samples (B, *event) of ``model``, one for each stream.

    Raises:
        NumericalError: one is not finite; its seed is named.
    """
    if not bool(torch.isfinite(x).all()):
        first = int((~torch.isfinite(x.flatten(1)).all(1)).nonzero()[0])
        raise NumericalError(f"the sample of seed {int(rng.seeds[first])} is not finite: {blame(model)}")


def blame(model: Any) -> str:
    """What to say of a number of ``model`` that is not finite: its weights are named only where they are damaged."""
    damage = not_finite(model.state_dict()) if isinstance(model, torch.nn.Module) else None
    if damage is not None:
        return f"the weights are damaged, {damage}"
    known = "the weights are finite; " if isinstance(model, torch.nn.Module) else ""
    return f"{known}numbers outgrew their range on the way: other steps, sampler, guidance or clipping may help"


def calls(model: NetworkModel, n: int, steps: int | None) -> int | None:
    """How often the network will be called for n samples of ``steps`` evaluations; None where a tolerance decides."""
    return None if steps is None else steps * math.ceil(n / (model.evaluation.chunk or n))


@contextmanager
def counted(model: NetworkModel, update: Callable[[int], None]) -> Iterator[None]:
    """Call ``update`` with the number of network calls so far after every one of them."""
    done = 0

    def after(*_: Any) -> None:
        nonlocal done
        done += 1
        update(done)

    handle = model.net.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def seeds_text(seed: int, n: int) -> str:
    """``0..63`` for 64 samples from seed 0."""
    return f"{seed}..{seed + n - 1}" if n > 1 else str(seed)


@contextmanager
def network_progress(reporter: Reporter, what: str, total: int | None, model: NetworkModel) -> Iterator[Progress]:
    """Report every call of the network of ``model``, of ``total``; None where nobody knows how many."""
    with reporter.progress(what, total, "network call") as progress, counted(model, progress.update):
        yield progress


def slices(n: int, size: int) -> list[slice]:
    """Slices of at most ``size`` that make up n."""
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]
