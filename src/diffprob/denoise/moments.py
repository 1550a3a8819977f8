"""How much of x_0 a denoiser leaves open at every time: what the analytic reverse variance follows from."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffprob.base.checks import one_of, shown, whole
from diffprob.base.finite import check_tensors
from diffprob.base.rng import Rng, normal_like
from diffprob.base.shapes import check_points, flat_sum, per_sample
from diffprob.process.linear import LinearProcess
from diffprob.process.times import rising_times

if TYPE_CHECKING:
    from diffprob.denoise.denoiser import Denoiser


@dataclass(frozen=True, eq=False)
class NoiseMoments:
    """E Var[x_0|x_t], averaged over the d elements, at K times, in units of unit data's sigma^2/(alpha^2 + sigma^2).

    Two estimates, which agree for the exact denoiser, each with its standard error; all float64 (K,).

    Args:
        times: increasing.
        norm: from 1 - E|eh|^2/d = 1 - sigma^2 Gamma, Gamma = E|score|^2/d (Bao et al. 2022, eq. 8).
        norm_error: its standard error.
        residual: from E|eps - eh|^2/d: right for the mean that the network really predicts (Bao et al. 2022b, eq. 13).
        residual_error: its standard error.
        count: images per time.

    Raises:
        ValueError: times that do not increase, other shapes or types, or no images.
        NumericalError: a value that is not finite.
    """

    times: Tensor
    norm: Tensor
    norm_error: Tensor
    residual: Tensor
    residual_error: Tensor
    count: int

    def __post_init__(self) -> None:
        whole("count", self.count, 1)
        columns = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "count"}
        if self.times.ndim != 1 or not len(self.times) or any(c.shape != self.times.shape for c in columns.values()):
            raise ValueError(f"moments are (K,) each, got {', '.join(f'{tuple(c.shape)}' for c in columns.values())}")
        if not bool((self.times.diff() > 0).all()):
            raise ValueError(f"times must increase, got {shown(self.times.tolist())}")
        check_tensors(columns, "the moments are")

    def relative(self, moment: str, process: LinearProcess, t: Tensor) -> Tensor:
        """The estimate ``moment`` at t, float64, shaped like t.

        Linear in log-SNR between the times of the table, since in these units the variance changes little, and constant
        outside them.
        """
        one_of("moment", moment, ("norm", "residual"))
        t = torch.as_tensor(t, dtype=torch.float64)
        values = getattr(self, moment).to(t.device)
        # Minus the log-SNR increases with t; a straight path has an infinite one at t = 1.
        knots, value = (-process.logsnr(at).clamp(-1e3, 1e3) for at in (self.times.to(t.device), t))
        if len(knots) == 1:
            return values.expand(t.shape)
        right = torch.searchsorted(knots, value.contiguous()).clamp(1, len(knots) - 1)
        low, high = knots[right - 1], knots[right]
        return torch.lerp(values[right - 1], values[right], ((value - low) / (high - low)).clamp(0, 1))

    def gamma(self, process: LinearProcess) -> tuple[Tensor, Tensor]:
        """Gamma = E|score|^2/d at the times, and its standard error, from ``norm``: (1 - alpha^2/(alpha^2 + sigma^2)
        norm)/sigma^2."""
        alpha, sigma = process.coefficients(self.times)
        unit = alpha**2 / (alpha**2 + sigma**2)
        return (1 - unit * self.norm) / sigma**2, unit * self.norm_error / sigma**2


def noise_residual(process: LinearProcess, x0: Tensor, mean: Tensor, t: Tensor) -> Tensor:
    """NPR: o = (x_0 - x0h)^2 (alpha^2 + sigma^2)/sigma^2 = (eps - eh)^2 (alpha^2 + sigma^2)/alpha^2, (B, *event).

    Its mean given x_t is E[(x_0 - x0h)^2 | x_t], the right variance for the mean really predicted: that of the data
    plus the squared error of the mean (Bao et al. 2022, eq. 13).

    Exact when: always, for a step of any eta; equal to the data's variance when the mean is exact.
    """
    alpha, sigma = process.coefficients(t)
    return per_sample((alpha**2 + sigma**2) / sigma**2, x0) * (mean - x0) ** 2


def noise_moments(
    model: "Denoiser",
    batch: Callable[[int], Tensor],
    times: Tensor,
    rng: Rng,
    tell: Callable[[int], None] = lambda done: None,
) -> NoiseMoments:
    """Estimate the moments at ``times`` by Monte Carlo, one batch of images for each time.

    With r = eps - eh = (alpha/sigma)(x0h - x_0), |eh|^2 = |eps|^2 - 2 eps r + |r|^2. E|eps|^2 = d is known, and so is E
    eps g = 0 for whatever g does not know eps; leaving these out gives the unbiased

        1 - |eh|^2/d ~ [2 (alpha/sigma) eps (x0h - g) - |r|^2]/d,

    without which the estimate near t = 1 would be noise: there it is of the size alpha^2/sigma^2, and |eps|^2/d alone
    varies by (2/d)^(1/2). g is the mean of x0h over the other images plus what a linear denoiser of isotropic data with
    the batch's variance v would keep of x_0 - E x_0, alpha^2 v/(alpha^2 v + sigma^2). Where alpha = 0 only the residual
    says anything, and stands for both.

    Args:
        model: the denoiser; its mean must not be clipped.
        batch: images x_0 (B, *event) for the k-th time, B >= 2 and equal to ``len(rng)``.
        times: increasing noisy times, float64 (K,).
        rng: one stream per image of a batch.
        tell: called with the number of times that are done.

    Raises:
        ValueError: other times, fewer than two images, or another number of streams.
        NumericalError: images, or what the model makes of them, that are not finite.
    """
    process, rows = model.process, []
    times = rising_times(process, times)
    for k, t in enumerate(times):
        x0 = batch(k)
        check_points(x0, "an image")
        if len(x0) < 2:
            raise ValueError(f"the moments need batches of at least 2 images, got {len(x0)}")
        alpha, sigma = process.coefficients(t)
        noise = normal_like(rng.fold("moments").at(k), x0)
        xt = per_sample(alpha, x0) * x0 + per_sample(sigma, x0) * noise
        with torch.no_grad():
            image = model(xt, t).mean.double()
        a, sd, d, n = float(alpha), float(sigma), x0[0].numel(), len(x0)
        residual = flat_sum(noise_residual(process, x0.double(), image, t)) / d
        offset = x0.double() - x0.double().mean(0, keepdim=True)
        spread = a * a * float(offset.square().mean())
        known = (image.sum(0, keepdim=True) - image) / (n - 1) + spread / (spread + sd * sd) * offset
        leaning = flat_sum(noise.double() * (image - known)) / d
        norm = 2 * (a * a + sd * sd) / (a * sd) * leaning - residual if a else residual
        rows.append([value for v in (norm, residual) for value in (v.mean(), v.std() / math.sqrt(n))])
        tell(k + 1)
    columns = torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64).T
    return NoiseMoments(times.double().cpu(), *columns, count=len(rng))
