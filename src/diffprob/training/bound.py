"""Objectives that train for likelihood: the variational bound of a chain, alone or beside L_simple."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.errors import InputError
from diffprob.base.levels import check_levels
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum, per_sample
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.variance import Variance
from diffprob.likelihood.bound import Decoder, step_nats
from diffprob.net.layers import Output
from diffprob.process.learned import AtSteps, LearnedBetas, Rates
from diffprob.process.linear import LinearProcess
from diffprob.space.pixels import Pixels
from diffprob.training.denoising import Noised, Objective, add_noise, output_error
from diffprob.training.history import LossHistory
from diffprob.training.times import uniform_times


def chain_nats(
    model: NetDenoiser, x0: Tensor, case: Noised, output: Output, levels: int, stop_mean: bool = False
) -> Tensor:
    """The term of the bound that x_t belongs to, nats, (B,), of the chain of all T steps of a discrete schedule.

    KL(q(x_s|x_t,x_0) || p(x_s|x_t)) with s = t - 1/T, and -log p(x_0|x_t) at t = 1/T (Ho et al. 2020, eq. 5). x0h is
    never clipped.

    Args:
        model: what the network's output means.
        x0: images in model space, (B, *event).
        case: x_t and t, multiples of 1/T.
        output: the network's at x_t.
        levels: grey levels of the images.
        stop_mean: let gradients flow to the variance alone.
    """
    process, steps = model.process, steps_of(model)
    mean = model.prediction.to_x0(process, case.xt, case.t, output.main)
    mean = mean.detach() if stop_mean else mean
    nats = x0.new_zeros(len(x0))
    first = case.t * steps < 1.5
    for chosen in (first, ~first):
        index = chosen.nonzero()[:, 0]
        if not len(index):
            continue
        t, extra = case.t[index], None if output.extra is None else output.extra[index]
        posterior = model.variance.posterior(process, t, mean[index], extra)
        if chosen is first:
            part = -Decoder(levels).law(process, posterior, t, t + 1 / steps).log_prob(x0[index])
        else:
            part = step_nats(process, posterior, x0[index], case.xt[index], t - 1 / steps, t)
        nats = nats.index_add(0, index, part)
    return nats


@dataclass(frozen=True)
class VariationalBound:
    """L: T times the term of the bound at one random t of the chain's own T times, in nats for each dimension.

    An unbiased estimate of L_0 + L_1 + ... + L_(T-1) over d; L_T = KL(q(x_T|x_0) || p(x_T)) has nothing to train, but
    with `LearnedBetas`, whose rates are trained here: there it is added. "L, fixed" with `Zero` or `UnitData`, "L,
    learned" with `LearnedDiagonal` or `LearnedRange` (Ho et al. 2020, table 2).

    Args:
        levels: grey levels of the images; None takes those of the trainer's space.
        history: 0 draws t uniformly; n draws it with p_t proportional to the root of the mean square of the last n
            terms seen at t, once there are n for every t, and divides by T p_t. Only under a trainer.
        uniform: share of t drawn uniformly even then.

    Exact when: averaged over t; with the exact posterior the sum is the bound of `variational_bound`.

    Reference: Ho et al. 2020, eq. 5; Nichol & Dhariwal 2021, section 3.3 (``history=10`` is theirs).
    """

    levels: int | None = None
    history: int = 0
    uniform: float = 0.001

    def __post_init__(self) -> None:
        check_levels(self.levels)
        whole("history", self.history, 0, 1000)
        real("uniform", self.uniform, "(0, 1]")

    def check(self, process: LinearProcess, variance: Variance) -> None:
        """Refuse what this loss cannot train.

        Raises:
            InputError: a continuous schedule.
        """
        _check_discrete(self, process)

    def bind(self, model: NetDenoiser, space: Pixels) -> Objective:
        """The loss for such images, with a history of its own if it wants one."""
        self.check(model.process, model.variance)
        space.log_det()
        if self.history and isinstance(model.process.schedule, LearnedBetas):
            raise InputError(f"{self!r} would weigh the rates too: take history=0 with {model.process.schedule!r}")
        bound = replace(self, levels=self.levels or space.levels)
        return Weighed(bound, LossHistory(steps_of(model), self.history, self.uniform)) if self.history else bound

    def __call__(self, model: NetDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, nats a dimension, (B,).

        Raises:
            InputError: a continuous schedule.
            ValueError: the number of grey levels is not known, or a history is wanted without a trainer.
        """
        if self.history:
            raise ValueError(f"{self!r} remembers losses: take what bind() returns, as the trainer does")
        self.check(model.process, model.variance)
        model = with_rates(model)
        t = uniform_times(model.process, rng.fold("time")).to(x0.device)
        loss = steps_of(model) * self.term(model, x0, t, rng)
        return loss + _last_nats(model.process, x0) / x0[0].numel() if _learns(model.process) else loss

    def term(self, model: NetDenoiser, x0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """The term at the times t (B,), nats a dimension, (B,)."""
        case = add_noise(model.process, x0, t, rng.fold("noise"))
        nats = chain_nats(model, x0, case, model.raw(case.xt, t), known(self.levels, self))
        return nats / x0[0].numel()


class Weighed:
    """`VariationalBound` with t drawn where the terms are large; it remembers them, so a training has one of its own.

    Not a module: data-parallel training would overwrite its numbers in the middle of a step with the first process's.
    """

    def __init__(self, bound: VariationalBound, memory: LossHistory) -> None:
        self.bound = replace(bound, history=0)
        self.memory = memory

    def __call__(self, model: NetDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, nats a dimension, (B,): the term divided by p_t."""
        index, probability = self.memory.draw(rng.fold("time"))
        term = self.bound.term(model, x0, ((index + 1).double() / self.memory.steps).to(x0.device), rng)
        self.memory.note(index, term)
        return term / probability.to(term)


@dataclass(frozen=True)
class Hybrid:
    """L_simple + weight L_vlb, where the bound trains the variance alone: no gradient reaches the mean through it.

    L_vlb is `VariationalBound` at the same t: T times one term, in nats for each dimension. The released code of Nichol
    & Dhariwal multiplies one term in bits by T/1000, its factor T times its weight of 0.001: ``weight`` = 0.001/log 2.

    Args:
        weight: of the bound.
        levels: grey levels of the images; None takes those of the trainer's space.

    Exact when: the gradient of the mean is that of `Denoising`, the gradient of the variance ``weight`` times that of
    `VariationalBound`.

    Reference: Nichol & Dhariwal, "Improved denoising diffusion probabilistic models" (2021), eq. 16.
    """

    weight: float = 0.001
    levels: int | None = None

    def __post_init__(self) -> None:
        real("weight", self.weight, "(0, inf)")
        check_levels(self.levels)

    def check(self, process: LinearProcess, variance: Variance) -> None:
        """Refuse what this loss cannot train.

        Raises:
            InputError: a continuous schedule, one that is learned, or a variance without anything to learn.
        """
        _check_discrete(self, process)
        if isinstance(process.schedule, LearnedBetas):
            raise InputError(f"Hybrid() does not train {process.schedule!r}: take objective=VariationalBound()")
        if not isinstance(variance, LearnedRange | LearnedDiagonal):
            raise InputError(
                f"Hybrid() trains a learned variance, not {variance!r}: take variance=LearnedRange() and "
                "network.out_channels twice the channels, or objective=Denoising()"
            )

    def bind(self, model: NetDenoiser, space: Pixels) -> Objective:
        """The loss for such images."""
        self.check(model.process, model.variance)
        space.log_det()
        return replace(self, levels=self.levels or space.levels)

    def __call__(self, model: NetDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, (B,).

        Raises:
            InputError: a continuous schedule, or a variance without anything to learn.
            ValueError: the number of grey levels is not known.
        """
        process = model.process
        self.check(process, model.variance)
        t = uniform_times(process, rng.fold("time")).to(x0.device)
        case = add_noise(process, x0, t, rng.fold("noise"))
        output = model.raw(case.xt, t)
        nats = chain_nats(model, x0, case, output, known(self.levels, self), stop_mean=True)
        bound = steps_of(model) * nats / x0[0].numel()
        return output_error(model, process, x0, case, output.main) + self.weight * bound


def with_rates(model: NetDenoiser) -> NetDenoiser:
    """The model with the rates of a `LearnedBetas` schedule as they are in training, with gradients; others as they
    are."""
    schedule = model.process.schedule
    if not isinstance(schedule, LearnedBetas) or not isinstance(model.curve, Rates):
        return model
    return model.with_process(replace(model.process, schedule=schedule.along(model.curve)))


def _learns(process: LinearProcess) -> bool:
    return isinstance(process.schedule, AtSteps)


def _last_nats(process: LinearProcess, x0: Tensor) -> Tensor:
    """L_T = KL(N(alpha x_0, sigma^2) || N(0, sigma^2)) at t = 1, nats, (B,), with gradients to the schedule."""
    ratio = torch.exp(process.logsnr(torch.ones(len(x0), dtype=torch.float64, device=x0.device)))
    return 0.5 * per_sample(ratio, x0).flatten() * flat_sum(x0 * x0)


def steps_of(model: NetDenoiser) -> int:
    """T of the model's discrete schedule."""
    return model.process.schedule.steps or 1


def known(levels: int | None, objective: object) -> int:
    """The number of grey levels.

    Raises:
        ValueError: nobody said it.
    """
    if levels is None:
        raise ValueError(f"{objective!r} needs levels, the number of grey levels; a trainer takes it from its space")
    return levels


def _check_discrete(objective: object, process: LinearProcess) -> None:
    process.require_linear(f"{type(objective).__name__}()")
    if process.schedule.steps is None:
        name = type(objective).__name__
        raise InputError(f"{name}() needs a chain, but {process.schedule!r} is continuous: take ContinuousBound()")
    process.check_law(f"{type(objective).__name__}()")
