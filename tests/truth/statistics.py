"""Monte Carlo against truth: a difference counts in standard errors."""

import numpy as np
import torch
from torch import Tensor

from diffprob.conform.expectations import STANDARD_ERRORS as LIMIT
from diffprob.conform.expectations import check_mean as assert_mean
from diffprob.conform.expectations import z_scores

__all__ = ["LIMIT", "assert_frequencies", "assert_mean", "assert_moments", "assert_uncorrelated", "z_scores"]


def assert_moments(x: Tensor, mean: Tensor, cov: Tensor, limit: float = LIMIT) -> None:
    """Mean and every entry of the covariance of x (n, *event) agree with mean (*event) and cov (d, d)."""
    offset = (x.double() - mean.double()).reshape(len(x), -1)
    assert_mean(offset, 0.0, limit)
    assert_mean(offset[:, :, None] * offset[:, None, :], cov.double(), limit)


def assert_frequencies(counts: np.ndarray, probabilities: np.ndarray, limit: float = LIMIT) -> None:
    """Counts of independent draws agree with probabilities, each within ``limit`` standard errors."""
    n = counts.sum()
    error = np.sqrt(n * probabilities * (1 - probabilities))
    worst = np.abs((counts - n * probabilities) / np.maximum(error, 1e-300)).max()
    assert worst < limit, f"{worst:.2f} standard errors"


def assert_uncorrelated(a: Tensor, b: Tensor, limit: float = LIMIT) -> None:
    """The correlation of two independent rows of numbers is zero within 1/sqrt(n)."""
    r = torch.corrcoef(torch.stack([a.flatten().double(), b.flatten().double()]))[0, 1]
    assert abs(r) * a.numel() ** 0.5 < limit, f"correlation {float(r):.2e} of {a.numel()} pairs"
