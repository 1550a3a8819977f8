"""Integrals over the line and the plane; for smooth, decaying functions the trapezoidal rule beats any power of n."""

from collections.abc import Callable

import torch
from torch import Tensor


def line(low: float, high: float, n: int) -> tuple[Tensor, float]:
    """n evenly spaced points (n,) and the weight of each."""
    return torch.linspace(low, high, n, dtype=torch.float64), (high - low) / (n - 1)


def plane(low: float, high: float, n: int) -> tuple[Tensor, float]:
    """n^2 points (n^2, 2) of a square and the weight of each."""
    x, weight = line(low, high, n)
    return torch.cartesian_prod(x, x), weight**2


def integral(f: Callable[[Tensor], Tensor], points: Tensor, weight: float) -> float:
    """Sum of f over the points, times the weight."""
    return float(f(points).sum() * weight)


def integrates_to_one(
    log_prob: Callable[[Tensor], Tensor],
    dimensions: int,
    low: float = -12.0,
    high: float = 12.0,
    n: int | None = None,
    tolerance: float = 1e-10,
) -> None:
    """Assert that exp(log_prob) integrates to one over [low, high]^dimensions.

    ``log_prob`` takes the points as a batch (N, dimensions).
    """
    points, weight = plane(low, high, n or 401) if dimensions == 2 else line(low, high, n or 4001)
    total = integral(lambda x: log_prob(x.reshape(len(x), dimensions)).exp(), points, weight)
    assert abs(total - 1) < tolerance, f"integrates to {total!r}"
