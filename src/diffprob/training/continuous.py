"""The bound of infinitely many steps as a training objective: likelihood weighting, and noise schedules that learn."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffprob.base.checks import flag
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum, per_sample
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.variance import Variance
from diffprob.process.calculus import logsnr_decay
from diffprob.process.learned import AtTimes, Learned, Monotone
from diffprob.process.linear import LinearProcess
from diffprob.training.denoising import add_noise
from diffprob.training.times import uniform_times


class _Squared:
    """A hook on what the curve of a schedule gives: multiplies its gradient by twice each sample's loss, so that the
    curve descends on E loss^2, while the network descends on E loss."""

    def __init__(self) -> None:
        self.loss = torch.zeros(())

    def __call__(self, gradient: Tensor) -> Tensor:
        return gradient * 2 * self.loss.to(gradient)


@dataclass(frozen=True)
class ContinuousBound:
    """1/2 int g^2/sigma^2 E|eps - eh|^2 dt / d between the last noisy time and 1, nats for each dimension.

    g^2/sigma^2 = -d logsnr/dt, the likelihood weighting; one random t for each sample. The terms at the ends, of the
    prior and of the decoder, are left out: they do not depend on the network, the decoder's as long as its bins are
    wider than the noise at the last noisy time. The curve of a `Learned` schedule is trained on the squared loss, which
    changes nothing of the bound but makes the estimate vary less.

    Args:
        importance: draw t with a density proportional to g^2/sigma^2, by its inverse distribution function (t uniform
            in log-SNR), instead of uniformly.

    Exact when: averaged over t; the same for every curve between the same ends.

    Reference: Song et al., "Maximum likelihood training of score-based diffusion models" (2021), theorem 1; Kingma et
    al., "Variational diffusion models" (2021), eq. 17 and section 5.1.
    """

    importance: bool = False

    def __post_init__(self) -> None:
        flag("importance", self.importance)

    def check(self, process: LinearProcess, variance: Variance) -> None:
        """Refuse what this loss cannot train.

        Raises:
            InputError: a schedule with steps, ends of infinite log-SNR, a learned variance, or two ways to choose t.
        """
        process.require_linear("ContinuousBound()")
        process.check_law("ContinuousBound()")
        schedule = process.schedule
        if schedule.steps is not None:
            raise InputError(
                f"ContinuousBound() needs a continuous schedule, not {schedule!r}: take VariationalBound()"
            )
        if not bool(torch.isfinite(process.logsnr(1.0))):
            raise InputError(f"the bound is infinite with {schedule!r}, whose log-SNR is: take Denoising()")
        if isinstance(variance, LearnedRange | LearnedDiagonal):
            raise InputError(f"ContinuousBound() does not train the variance {variance!r}: take variance=Zero()")
        if self.importance and isinstance(schedule, Learned):
            raise InputError(f"{schedule!r} learns where to put t: take ContinuousBound(importance=False)")

    def __call__(self, model: NetDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, nats a dimension, (B,).

        Raises:
            InputError: as in `check`.
        """
        self.check(model.process, model.variance)
        squared = _Squared()
        process, t, rate = self._drawn(model, rng.fold("time"), x0.device, squared)
        case = add_noise(process, x0, t, rng.fold("noise"))
        target = model.prediction.target(process, x0, case.noise, t)
        # x_0 = A x_t + B output, so an error of the output is one of alpha B/sigma in the noise.
        (alpha, sigma), (_, b) = process.coefficients(t), model.prediction.coefficients(process, t)
        # The network's clock and the scale of its input are those of the schedule as it stands, not of the last table.
        output = model.with_process(process).raw(case.xt, t).main
        error = per_sample(alpha * b / sigma, x0) * (output - target)
        loss = 0.5 * rate.to(x0) * flat_sum(error * error) / x0[0].numel()
        squared.loss = loss.detach()
        return loss

    def _drawn(
        self, model: NetDenoiser, rng: Rng, device: torch.device, squared: _Squared
    ) -> tuple[LinearProcess, Tensor, Tensor]:
        """The process at the times drawn, the times (B,) and g^2/sigma^2 over their density, float64 (B,)."""
        process, schedule = model.process, model.process.schedule
        if self.importance:
            most, least = process.logsnr(schedule.start), process.logsnr(1.0)
            t = schedule.time(torch.lerp(most, least, rng.uniform((), torch.float64).cpu())).to(device)
            return process, t, (most - least).to(device).expand(t.shape)
        t = uniform_times(process, rng).to(device)
        span = 1 - schedule.start
        if not isinstance(model.curve, Monotone) or not isinstance(schedule, Learned):
            return process, t, span * logsnr_decay(process, t)
        logsnr, rate = schedule.along(model.curve, t)
        if logsnr.requires_grad:
            logsnr.register_hook(squared)
            rate.register_hook(squared)
        return replace(process, schedule=AtTimes(t, logsnr)), t, span * rate
