"""Densities of statistics, fitted to those of images that belong: a normal law and a kernel estimate.

Columns are first put on one scale, (value - mean)/std over these images, because they differ by orders of magnitude;
the densities are those of the statistics as they were.
"""

import math

import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.density.proxy import Fitted, Proxy, enough

_ROWS = 1 << 22  # differences held at a time


def scale(statistics: Tensor, proxy: Proxy) -> dict[str, Tensor]:
    """Mean and standard deviation (n - 1) of every column (n, k), each (k,).

    Raises:
        InputError: too few or infinite values, or a column that is the same for all images.
    """
    values = enough(statistics, proxy)
    mean, std = values.mean(0), values.std(0)
    for name, column in zip(proxy.columns, values.T, strict=True):
        if bool(column.min() == column.max()):
            raise InputError(f"{proxy!r}: {name} is the same for all images that belong, so that nothing can differ")
    return {"mean": mean, "std": std}


def fit_normal(statistics: Tensor, proxy: Proxy) -> dict[str, Tensor]:
    """A normal law with a full covariance, shrunk towards a multiple of I by as much as its error asks for.

    Cov = (1 - g) S + g (tr S/k) I on one scale, with g = min(1, sum_i |z_i z_i^T - S|^2/n^2 / |S - (tr S/k) I|^2).

    Exact when: always; g is that of scikit-learn's LedoitWolf.

    Reference: Ledoit & Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004).
    """
    fitted = scale(statistics, proxy)
    z = (statistics.double() - fitted["mean"]) / fitted["std"]
    n, k = z.shape
    cov = z.T @ z / n
    target = cov.trace() / k * torch.eye(k, dtype=torch.float64)
    distance = (cov - target).square().sum()
    error = (z.square().sum(1).square().sum() / n - cov.square().sum()) / n
    share = (error / distance).clamp(0, 1) if bool(distance > 0) else torch.zeros_like(distance)
    return fitted | {"factor": torch.linalg.cholesky((1 - share) * cov + share * target)}


def normal_log_density(fitted: Fitted, statistics: Tensor) -> Tensor:
    """log N(statistics; mean, Cov) in nats, float64 (B,)."""
    z = ((statistics.double() - fitted["mean"]) / fitted["std"]).T
    white = torch.linalg.solve_triangular(fitted["factor"], z, upper=False)
    volume = fitted["std"].log().sum() + fitted["factor"].diagonal().log().sum()
    return -0.5 * white.square().sum(0) - volume - 0.5 * len(z) * math.log(2 * math.pi)


def fit_kernel(statistics: Tensor, proxy: Proxy) -> dict[str, Tensor]:
    """A normal kernel around each of the n images, of standard deviation h std in every column, h = n^(-1/(k+4)).

    Exact when: always; with one column it is scipy's ``gaussian_kde``.

    Reference: Scott, "Multivariate density estimation" (1992), for h.
    """
    fitted = scale(statistics, proxy)
    n, k = statistics.shape
    width = fitted["std"] * n ** (-1 / (k + 4))
    return {"mean": fitted["mean"], "width": width, "points": (statistics.double() - fitted["mean"]) / width}


def kernel_log_density(fitted: Fitted, statistics: Tensor) -> Tensor:
    """log mean_i N(statistics; point i, width^2) in nats, float64 (B,)."""
    points, k = fitted["points"], statistics.shape[1]
    z = (statistics.double() - fitted["mean"]) / fitted["width"]
    parts = z.split(max(1, _ROWS // points.numel()))
    logs = [torch.logsumexp(-0.5 * (part[:, None] - points).square().sum(-1), 1) for part in parts]
    volume = fitted["width"].log().sum() + 0.5 * k * math.log(2 * math.pi) + math.log(len(points))
    return torch.cat(logs) - volume
