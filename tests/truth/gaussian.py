"""Exact moments of chains on Gaussian data: every step is affine with normal noise, so two matrices say everything.

No sampling: a step's map is read off at the origin and the unit vectors, and mean and covariance are pushed through it.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from diffprob.base.distributions import Distribution

Kernel = Callable[[Tensor, Tensor, Tensor], Distribution]


def full_cov(law: Distribution) -> Tensor:
    """Covariance (d, d) of the first sample of a law with a ``cov`` or with independent elements."""
    if hasattr(law, "cov"):
        return law.cov[0]
    return torch.diag_embed((law.variance + torch.zeros_like(law.mean))[0].flatten())


def affine(kernel: Callable[[Tensor], Distribution], d: int) -> tuple[Tensor, Tensor, Tensor]:
    """(A, b, Q) with kernel(x) = N(A x + b, Q)."""
    points = torch.cat([torch.zeros(1, d, dtype=torch.float64), torch.eye(d, dtype=torch.float64)])
    law = kernel(points)
    return (law.mean[1:] - law.mean[0]).T, law.mean[0], full_cov(law)


def push(kernel: Kernel, times: Tensor, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Moments at times[-1] of the chain that starts with the given ones at times[0] and draws x_s ~ kernel(x, s, t)."""
    for t, s in itertools.pairwise(times):
        a, b, q = affine(lambda x, s=s, t=t: kernel(x, s, t), len(mean))
        mean, cov = a @ mean + b, a @ cov @ a.T + q
    return mean, cov


def marginal_moments(process, mean: Tensor, cov: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
    """Moments of x_t = alpha x_0 + sigma z for data with moments mean (d,) and cov (d, d)."""
    alpha, sigma = process.coefficients(t)
    return alpha * mean, alpha**2 * cov + sigma**2 * torch.eye(len(mean), dtype=torch.float64)
