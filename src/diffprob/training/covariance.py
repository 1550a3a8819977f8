"""Targets for Var[x_0 | x_t] on a frozen network: noise residual, squared noise, covariance matching, likelihood.

A head predicts o(x_t, t), the variance in units of what unit data would have:

    Var[x_0 | x_t] = sigma^2/(alpha^2 + sigma^2) o,  elementwise, o of shape (B, *event).

The published heads predict E[eps^2 | x_t] or E[(eps - eh)^2 | x_t] instead, whose errors are multiplied by
sigma^2/alpha^2 (25,000 near the noise of a DDPM) to give the variance of x_0. The best function is the same, but o has
about the same size at every t, so one head with one learning rate can follow it: 1 for data N(0, I), mostly in [0, 1]
for data in [-1, 1].

The mean that the targets speak of is the network's own, clipped for "nll" alone. Reference: Bao et al., "Estimating the
optimal covariance with imperfect mean in diffusion probabilistic models" (2022), eqs. 11 and 13; Ou et al., "Improving
probabilistic diffusion models with optimal diagonal covariance matching" (2025), theorem 1; Nix & Weigend, "Estimating
the mean and variance of the target probability distribution" (1994).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.denoise.moments import noise_residual
from diffprob.denoise.variance import HEADS
from diffprob.process.linear import LinearProcess

KINDS = tuple(HEADS.values())

_LEAST_LOGSNR = -7.0
_STEP = 0.1  # of sigma^2/alpha^2, the variance in x_0 of what a step multiplies the SNR by 11 with

# (x_t, t) -> the mean of p(x_0 | x_t), unclipped, (B, *event), and the features that the heads read, (B, ...).
Source = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def squared_noise(process: LinearProcess, x0: Tensor, noise: Tensor, mean: Tensor, t: Tensor) -> Tensor:
    """SN: o = (eps^2 - eh^2) (alpha^2 + sigma^2)/alpha^2, (B, *event).

    The published head learns E[eps^2 | x_t], and eh^2 is subtracted from its output. eh^2 is known, so here it is
    subtracted before the regression: the same minimiser without what eps^2 and eh^2 share. With the error d = x0h - x_0
    it is (alpha^2 + sigma^2) d (2 eps/(alpha sigma) - d/sigma^2), where nothing cancels. The spread is that of x_0
    times eps/alpha: large near the noise (Bao et al. 2022, eq. 11).

    Exact when: the mean is exact; with eh = E[eps | x_t] + b it is off by -b (2 E[eps | x_t] + b) in units of eps, and
    may be negative on average.
    """
    alpha, sigma = process.coefficients(t)
    total, error = alpha**2 + sigma**2, mean - x0
    return error * (per_sample(2 * total / (alpha * sigma), x0) * noise - per_sample(total / sigma**2, x0) * error)


def likelihood_loss(process: LinearProcess, answer: Tensor, target: Tensor, t: Tensor) -> Tensor:
    """Gaussian NLL: log(o + f) + (r + f)/(o + f), twice the nats of x_0 under N(x0h, v + f) less a constant.

    r is the `noise_residual`; f = (alpha^2 + sigma^2)/(10 alpha^2), in units of o. A step from t to s sees x_0 through
    noise of the variance 1/(SNR_s - SNR_t), f where it makes the SNR 11 times as large: what is smaller than f hardly
    costs bits there, and without it an image that is predicted exactly would have the variance 0.

    Exact when: its minimiser o is E[r | x_t], for any f.

    Args:
        answer: o, positive, (B, *event).
        target: r, (B, *event).
        t: float64 (B,).

    Returns:
        (B, *event).
    """
    alpha, sigma = process.coefficients(t)
    floor = per_sample(_STEP * (alpha**2 + sigma**2) / alpha**2, answer)
    return torch.log(answer + floor) + (target + floor) / (answer + floor)


def covariance_matching(process: LinearProcess, signs: Tensor, product: Tensor, t: Tensor) -> Tensor:
    """OCM: o = v (J^T v) (alpha^2 + sigma^2)/alpha with J = d x0h/d x_t and random signs v, (B, *event).

    Tweedie's formula x0h = (x_t + sigma^2 score)/alpha, differentiated, is J = (I + sigma^2 Hessian)/alpha, and the
    second-order formula Cov[x_0 | x_t] = sigma^2/alpha^2 (I + sigma^2 Hessian) is therefore sigma^2/alpha J. The mean
    of v_i (J^T v)_i over the signs is J_ii, its variance the sum of J_ji^2 over j other than i (Hutchinson 1990;
    Ou et al. 2025, theorem 1).

    Args:
        signs: v, -1 or 1 with equal chances, (B, *event).
        product: J^T v, (B, *event).

    Exact when: the mean is exact; the targets then scatter less than those of the other kinds the weaker the
    correlations are, and not at all when elements are independent.
    """
    alpha, sigma = process.coefficients(t)
    return per_sample((alpha**2 + sigma**2) / alpha, signs) * signs * product


class Draw(NamedTuple):
    """What one batch of targets is made of; t is float64 (B,), all else (B, *event)."""

    x0: Tensor
    noise: Tensor
    xt: Tensor
    t: Tensor
    signs: Tensor


def noisiest(process: LinearProcess) -> float:
    """The largest time that heads are fitted at: where the log-SNR is -7, or 1 on a schedule that never gets there.

    Beyond it x_t says nothing about x_0 any more and the variance stays what it is, while the targets of SN and OCM
    divide by alpha what a network gets wrong: on a cosine schedule by 1/20,000, which would drown all other times.
    """
    end, schedule = torch.ones((), dtype=torch.float64), process.schedule
    if process.logsnr(end) >= _LEAST_LOGSNR:
        return 1.0
    t = float(schedule.time(torch.tensor(_LEAST_LOGSNR, dtype=torch.float64)))
    return t if schedule.steps is None else max(1, math.floor(t * schedule.steps)) / schedule.steps


def draw(process: LinearProcess, x0: Tensor, rng: Rng) -> Draw:
    """Noise the images x0 at times that are uniform over the schedule and evenly spread within the batch.

    Slot i has the position (p(i) + u_i)/B for a random order p and uniform u. A discrete schedule takes the multiples
    of 1/T up to `noisiest`, all equally often, a continuous one the times between its last noisy one and that. All of
    it depends on the seeds and step of ``rng`` alone.
    """
    count = len(x0)
    rank = rng.fold("order").uniform((), torch.float64).argsort(stable=True).argsort(stable=True)
    position = (rank + rng.fold("time").uniform((), torch.float64)) / count
    steps, start, last = process.schedule.steps, process.schedule.start, noisiest(process)
    t = start + (last - start) * position if steps is None else ((position * (last * steps)).floor() + 1) / steps
    t = t.to(x0.device)
    noise = process.noise_like(rng.fold("noise"), x0, t)
    signs = 1 - 2 * (rng.fold("sign").bits(x0.shape[1:]) >> 31).to(x0.device, x0.dtype)
    return Draw(x0, noise, process.add_noise(x0, noise, t), t, signs)


def targets(
    process: LinearProcess, source: Source, case: Draw, kinds: tuple[str, ...], clip: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """The targets of each kind (B, *event) and the features, none with a gradient.

    The source is called once; "ocm" adds one backward pass to its input. ``clip``: whether the mean that "nll" speaks
    of is clamped to [-1, 1].
    """
    product = None
    if "ocm" in kinds:
        xt = case.xt.detach().requires_grad_()
        with torch.enable_grad():
            mean, features = source(xt, case.t)
            (product,) = torch.autograd.grad(mean, xt, case.signs)
    else:
        with torch.no_grad():
            mean, features = source(case.xt, case.t)
    mean, features = mean.detach(), features.detach()
    by_kind = {}
    if "npr" in kinds:
        by_kind["npr"] = noise_residual(process, case.x0, mean, case.t)
    if "nll" in kinds:
        by_kind["nll"] = noise_residual(process, case.x0, mean.clamp(-1, 1) if clip else mean, case.t)
    if "sn" in kinds:
        by_kind["sn"] = squared_noise(process, case.x0, case.noise, mean, case.t)
    if product is not None:
        by_kind["ocm"] = covariance_matching(process, case.signs, product, case.t)
    return by_kind, features
