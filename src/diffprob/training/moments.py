"""The moments that the analytic reverse variance follows from, estimated by Monte Carlo."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffprob.base.rng import Rng
from diffprob.base.shapes import check_points, flat_sum
from diffprob.denoise.denoiser import Denoiser
from diffprob.denoise.moments import NoiseMoments, VarianceQuantiles, noise_residual
from diffprob.process.chain import rising_times

QUANTILES = 64
LEAST = 1e-12  # relative variance below which nothing is told apart


def noise_moments(
    model: Denoiser,
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
        noise = process.noise_like(rng.fold("moments").at(k), x0, t)
        xt = process.add_noise(x0, noise, t)
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


def variance_quantiles(
    model: Denoiser,
    x0: Tensor,
    times: Tensor,
    rng: Rng,
    tell: Callable[[int], None] = lambda done: None,
) -> VarianceQuantiles:
    """How the variance that the model foretells is spread over elements and x_t.

    Images and noise are the same at every time, so that what a path is chosen by is smooth: it follows noise downwards.

    Args:
        model: the denoiser, with the variance of which this is asked.
        x0: images (B, *event), B equal to ``len(rng)``.
        times: increasing noisy times, float64 (K,).
        rng: one stream per image.
        tell: called with the number of times that are done.

    Raises:
        ValueError: other times, or another number of streams.
        NumericalError: images, or what the model makes of them, that are not finite.
    """
    process, rows = model.process, []
    times = rising_times(process, times)
    check_points(x0, "an image")
    ranks = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    for k, t in enumerate(times):
        alpha, sigma = process.coefficients(t)
        xt = process.add_noise(x0, process.noise_like(rng.fold("quantiles"), x0, t), t)
        with torch.no_grad():
            variance = model(xt, t).variance.double().expand(x0.shape)
        relative = variance.flatten().cpu() * float((alpha**2 + sigma**2) / sigma**2)
        rows.append(relative.sort().values[(ranks * relative.numel()).long()].clamp_min(LEAST))
        tell(k + 1)
    return VarianceQuantiles(times.double().cpu(), torch.stack(rows))
