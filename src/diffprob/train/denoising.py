"""The denoising objective L_simple."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, normal_like
from diffprob.base.shapes import flat_sum, per_sample
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange


class Objective(Protocol):
    """One loss per sample; the trainer averages."""

    def __call__(self, model: NetDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, (B,)."""
        ...


@dataclass(frozen=True)
class Denoising:
    """E |target - output|^2 / d at x_t = alpha x_0 + sigma eps, t uniform (Ho et al. 2020, eq. 14 and algorithm 1).

    On a discrete schedule t is uniform on {1/T, ..., 1}; on a continuous one uniform between its last noisy time and 1.
    With `Epsilon` this is L_simple; with another prediction the squared error of what the network predicts.

    Exact when: the network predicts 0 and the target is the noise; the expectation is 1.
    """

    def __call__(self, model: NetDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, (B,): a function of the sample, its seed and the step.

        Raises:
            InputError: the model's variance is learned, which this loss does not train.
        """
        process = model.process
        if isinstance(model.variance, LearnedRange | LearnedDiagonal):
            raise InputError(
                f"Denoising() does not train the variance {model.variance!r}: take Zero(), and fit one later"
            )
        steps, start = process.schedule.steps, process.schedule.start
        times = rng.fold("time")
        if steps is None:
            t = start + (1 - start) * times.uniform((), torch.float64)
        else:
            t = (times.integers((), steps) + 1).double() / steps
        t = t.to(x0.device)
        noise = normal_like(rng.fold("noise"), x0)
        alpha, sigma = process.coefficients(t)
        xt = per_sample(alpha, x0) * x0 + per_sample(sigma, x0) * noise
        error = model.raw(xt, t).main - model.prediction.target(process, x0, noise, t)
        return flat_sum(error * error) / x0[0].numel()
