"""Kernel distance between two sets of features: an unbiased squared maximum mean discrepancy."""

import math

import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.rng import subset
from diffprob.evaluation.estimate import NORMAL_95, Estimate, Points, features, same_width


def polynomial_mmd2(x: Points, y: Points) -> float:
    """Unbiased MMD^2 between x (n, d) and y (m, d) under the kernel k(a, b) = (a.b / d + 1)^3, in float64.

    mean of k(x_i, x_j) over i != j, plus the same of y, minus twice the mean of k(x_i, y_j). Negative values are
    legitimate: its expectation is 0 for two sets of one law.

    Raises:
        InputError: fewer than two points a side, other shapes, or values that are not finite.

    Reference: Binkowski, Sutherland, Arbel & Gretton, "Demystifying MMD GANs" (2018), section 4.
    """
    a, b = features(x, "x"), features(y, "y")
    same_width(a, b)
    return _mmd2(a, b)[0]


def kid(x: Points, y: Points, subsets: int = 100, size: int = 1000, seed: int = 0) -> Estimate:
    """Kernel (Inception) distance of the features x (n, d) from y (m, d): mean `polynomial_mmd2` over random subsets.

    Each of the ``subsets`` draws ``size`` points of either set without replacement. The interval is for the distance of
    the two laws. Its standard error comes from how much every single point moves the value, so it knows that the
    subsets share points: the error of independent subsets, spread / sqrt(subsets), would be too small. It is right for
    large n and m where the laws differ; near zero distance it is up to 1.4 times too large.

    Details: subsets, size, size_asked, spread (standard deviation over the subsets, as often published), error.

    Args:
        size: reduced to the smaller set where that is smaller; ``size_asked`` keeps what was asked for.

    Raises:
        ValueError: fewer than 1 subset, or a size below 2.
        InputError: fewer than two points a side, other shapes, or values that are not finite.

    Reference: Binkowski, Sutherland, Arbel & Gretton, "Demystifying MMD GANs" (2018), section 4.
    """
    whole("subsets", subsets, 1)
    whole("size", size, 2)
    a, b = features(x, "x"), features(y, "y")
    same_width(a, b)
    n, m = len(a), len(b)
    used = min(size, n, m)
    values = torch.empty(subsets, dtype=torch.float64)
    pull_a, pull_b = torch.zeros(n, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
    seen_a, seen_b = torch.zeros(n, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
    for i in range(subsets):
        of_a = torch.from_numpy(subset(n, used, seed, "kid x", i))
        of_b = torch.from_numpy(subset(m, used, seed, "kid y", i))
        values[i], rows_a, rows_b = _mmd2(a[of_a], b[of_b])
        pull_a[of_a] += rows_a
        pull_b[of_b] += rows_b
        seen_a[of_a] += 1
        seen_b[of_b] += 1
    error = math.sqrt(_variance(pull_a, seen_a) + _variance(pull_b, seen_b))
    value = float(values.mean())
    details = {
        "subsets": subsets,
        "size": used,
        "size_asked": size,
        "spread": float(values.std()) if subsets > 1 else None,
        "error": error,
    }
    return Estimate(value, n, m, value - NORMAL_95 * error, value + NORMAL_95 * error, details)


def _mmd2(x: Tensor, y: Tensor) -> tuple[float, Tensor, Tensor]:
    """MMD^2 of x (n, d) and y (m, d), and of every point the mean k to its own set less the mean k to the other."""
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    own_x = (xx.sum(1) - xx.diagonal()) / (n - 1)
    own_y = (yy.sum(1) - yy.diagonal()) / (m - 1)
    value = float(own_x.mean() + own_y.mean() - 2 * xy.mean())
    return value, own_x - xy.mean(1), own_y - xy.mean(0)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    base = (x @ y.T).div_(x.shape[1]).add_(1)
    return base.square().mul_(base)


def _variance(pull: Tensor, seen: Tensor) -> float:
    """Variance of the value from one set: its Hoeffding projection, 4 sum_i w_i^2 (h_i - h)^2.

    ``pull`` is the sum of the projections h_i over the subsets that hold point i and ``seen`` their number: w_i is its
    share of all draws. The noise of h_i, which the subset's other points make, adds at least the second-order term that
    is left out.
    """
    centred = pull - seen * (pull.sum() / seen.sum())
    return 4 * float(centred.square().sum()) / float(seen.sum()) ** 2
