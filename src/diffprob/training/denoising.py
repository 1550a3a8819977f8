"""The denoising objective L_simple, and the noised images that every objective starts from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from diffprob.base.checks import able
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.variance import Variance
from diffprob.process.learned import LearnedSchedule
from diffprob.process.linear import LinearProcess
from diffprob.training.times import Times, UniformTimes
from diffprob.training.weights import LossWeight


class Objective(Protocol):
    """One loss per sample; the trainer averages."""

    def __call__(self, model: Any, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, (B,)."""
        ...


class Memory(Protocol):
    """What an objective keeps from step to step: its ``memory``."""

    def synchronise(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Take in what was noted since the last time, by all processes; called by each after a step."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What resuming needs."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        ...


class Noised(NamedTuple):
    """x_t = alpha x_0 + sigma noise, (B, *event), at t, float64 (B,)."""

    xt: Tensor
    t: Tensor
    noise: Tensor


def add_noise(process: LinearProcess, x0: Tensor, t: Tensor, rng: Rng) -> Noised:
    """The images ``x0`` (B, *event) at the times t (B,), with the noise of ``rng``."""
    noise = process.noise_like(rng, x0, t)
    return Noised(process.add_noise(x0, noise, t), t, noise)


def output_error(model: NetDenoiser, process: LinearProcess, x0: Tensor, case: Noised, output: Tensor) -> Tensor:
    """|target - output|^2 / d in what the network predicts, (B,)."""
    error = output - model.prediction.target(process, x0, case.noise, case.t)
    return flat_sum(error * error) / x0[0].numel()


@dataclass(frozen=True)
class Denoising:
    """E w(t) |target - output|^2 / d at x_t = alpha x_0 + sigma eps (Ho et al. 2020, eq. 14 and algorithm 1).

    With `Epsilon`, uniform times and no weight this is L_simple; with another prediction the squared error of what the
    network predicts.

    Args:
        times: the law of t; uniform unless told.
        weight: w(t), such as ``MinSNR()``; None: 1 at all times.

    Exact when: the network predicts 0 and the target is the noise; the expectation without a weight is 1.
    """

    times: Times = UniformTimes()
    weight: LossWeight | None = None

    def __post_init__(self) -> None:
        able("times", self.times, "cdf", "UniformTimes()")
        if self.weight is not None:
            able("weight", self.weight, "factor", "MinSNR()")

    def check(self, process: LinearProcess, variance: Variance) -> None:
        """Refuse what this loss cannot train.

        Raises:
            InputError: a learned variance, or a learned schedule.
        """
        process.require_linear("Denoising()")
        if isinstance(variance, LearnedRange | LearnedDiagonal):
            raise InputError(
                f"Denoising() does not train the variance {variance!r}: take objective=Hybrid() or VariationalBound(), "
                "or variance=Zero() and fit one later"
            )
        if isinstance(process.schedule, LearnedSchedule):
            take = process.schedule.objective
            raise InputError(f"Denoising() does not train {process.schedule!r}: take objective={take}")

    def __call__(self, model: NetDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, (B,): a function of the sample, its seed and the step.

        Raises:
            InputError: the model's variance or schedule is learned, which this loss does not train.
        """
        process = model.process
        self.check(process, model.variance)
        case = add_noise(process, x0, self.times(process, rng.fold("time")).to(x0.device), rng.fold("noise"))
        error = output_error(model, process, x0, case, model.raw(case.xt, case.t).main)
        return error if self.weight is None else self.weight.factor(process, model.prediction, case.t).to(error) * error
