"""Method 1 of potentials: a network whose output is a gradient learns what a trained denoiser predicts."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffprob.base.checks import able, real, several
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum
from diffprob.denoise.denoiser import Denoiser, Evaluation, NetDenoiser, NetworkModel
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.variance import Variance
from diffprob.net.potential import Potential
from diffprob.process.learned import LearnedSchedule
from diffprob.process.linear import LinearProcess
from diffprob.space.pixels import Pixels
from diffprob.training.denoising import Objective, add_noise
from diffprob.training.times import uniform_times


@dataclass(frozen=True)
class GradientDistillation:
    """E |grad F(x_t, t) - eps(x_t, t)|^2 / d, with eps what a trained denoiser predicts and grad F a `Potential`.

    With `Epsilon`, grad F = eps = -sigma score means F = -sigma log q_t + C(t). Where the student predicts something
    else, the teacher's mean of x_0 is expressed in that. The least loss is the distance from the teacher to gradient
    fields, which is 0 only if the teacher's Jacobian is symmetric. Method 2 needs no teacher: it is `Denoising` on a
    `Potential`, whose least loss is the variance of the noise given x_t.

    Args:
        teacher: what has ``load()`` that returns a `Denoiser` of the student's process, such as a run.
        times: those that are trained, drawn alike; None: all of them, as in `Denoising`.

    Exact when: the teacher is the student; the loss is 0.
    """

    teacher: Any
    times: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        able("teacher", self.teacher, "load", "PretrainedRun('runs/mine', sha256)")
        if self.times is not None:
            several("times", self.times, lambda name, t: real(name, t, "(0, 1]"), 1, 1000, "(0.1, 0.5)")

    def check(self, process: LinearProcess, variance: Variance) -> None:
        """Refuse what this loss cannot train.

        Raises:
            InputError: a learned variance, or a learned schedule.
        """
        process.require_linear("GradientDistillation(...)")
        if isinstance(variance, LearnedRange | LearnedDiagonal):
            raise InputError(f"GradientDistillation(...) does not train {variance!r}: take variance=Zero()")
        if isinstance(process.schedule, LearnedSchedule):
            raise InputError(f"GradientDistillation(...) does not train {process.schedule!r}: take the teacher's")

    def bind(self, model: NetDenoiser, space: Pixels) -> Objective:
        """The loss with the teacher in memory: on the model's device, frozen, in evaluation mode and its precision.

        Raises:
            InputError: the student is no `Potential`, or the teacher has another process.
        """
        self.check(model.process, model.variance)
        if not isinstance(model.net, Potential):
            kind = type(model.net).__name__
            raise InputError(
                f"GradientDistillation(...) trains a potential: take network=PotentialSpec(...), got {kind}"
            )
        teacher = self.teacher.load()
        if teacher.process != model.process:
            raise InputError(
                f"the teacher's process is {teacher.process!r}: take it for process, got {model.process!r}"
            )
        _prepare(teacher, model)
        return Distilled(teacher, self.times)

    def __call__(self, model: NetDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Not without the teacher.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self!r} has not loaded its teacher: take what bind() returns, as the trainer does")


class Distilled:
    """`GradientDistillation` with its teacher.

    Not a module: data-parallel training would take the teacher's weights for weights to train.

    Args:
        teacher: a denoiser of the student's process.
        times: as in `GradientDistillation`.
    """

    def __init__(self, teacher: Denoiser, times: tuple[float, ...] | None) -> None:
        self.teacher = teacher
        self.times = times

    def __call__(self, model: NetDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, (B,): a function of the sample, its seed and the step."""
        process = model.process
        case = add_noise(process, x0, self._draw(process, rng.fold("time")).to(x0.device), rng.fold("noise"))
        with torch.no_grad():
            mean = self.teacher(case.xt, case.t).mean
            target = model.prediction.from_x0(process, case.xt, case.t, mean)
        error = model.raw(case.xt, case.t).main - target
        return flat_sum(error * error) / x0[0].numel()

    def _draw(self, process: LinearProcess, rng: Rng) -> Tensor:
        if self.times is None:
            return uniform_times(process, rng)
        return torch.tensor(self.times, dtype=torch.float64)[rng.integers((), len(self.times)).cpu()]


def _prepare(teacher: Denoiser, model: NetDenoiser) -> None:
    if isinstance(teacher, nn.Module):
        teacher.to(next(model.parameters()).device).eval().requires_grad_(False)
    if isinstance(teacher, NetworkModel):
        teacher.evaluation = Evaluation(precision=model.evaluation.precision)
