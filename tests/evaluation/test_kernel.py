"""Kernel distance against torchmetrics, a double loop, and its expectation under the null and by hand."""

import numpy as np
import pytest
import torch
from truth.statistics import assert_mean

from diffprob.base.errors import InputError
from diffprob.base.rng import subset
from diffprob.evaluation.kernel import kid, polynomial_mmd2


def normal(n, d, seed, scale=1.0):
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_kid_matches_torchmetrics_on_the_same_subset():
    module = pytest.importorskip("torchmetrics.image.kid")
    x, y = normal(80, 12, 0), 0.2 + normal(80, 12, 1)
    theirs = float(module.poly_mmd(x, y))
    assert polynomial_mmd2(x, y) == pytest.approx(theirs, rel=1e-12)
    distance = kid(x, y.numpy(), subsets=3, size=40, seed=2)
    parts = [module.poly_mmd(x[subset(80, 40, 2, "kid x", i)], y[subset(80, 40, 2, "kid y", i)]) for i in range(3)]
    assert distance.value == pytest.approx(float(torch.stack(parts).mean()), rel=1e-12)
    assert distance.details["spread"] == pytest.approx(float(torch.stack(parts).std()), rel=1e-10)


def test_kid_of_unequal_sizes_matches_loops():
    x, y = normal(4, 2, 0).numpy(), normal(3, 2, 1).numpy()

    def k(a, b):
        return (float(a @ b) / 2 + 1) ** 3

    xx = np.mean([k(x[i], x[j]) for i in range(4) for j in range(4) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(3) for j in range(3) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert polynomial_mmd2(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-13)


def test_kid_is_unbiased_under_the_null():
    distances = [kid(normal(60, 5, i), normal(50, 5, 10_000 + i), subsets=1, size=40, seed=i) for i in range(120)]
    values = torch.tensor([e.value for e in distances])
    assert_mean(values, 0.0)
    assert 0.3 < float((values < 0).double().mean()) < 0.8  # negative values are kept
    # Near zero the interval may be too wide, not too narrow; 4 binomial standard errors of 120 are 8%.
    assert np.mean([e.low <= 0 <= e.high for e in distances]) > 0.95 - 0.08


def test_kid_is_unbiased_with_coverage_for_different_laws():
    """One dimension, k = 1 + 3 ab + 3 a^2 b^2 + a^3 b^3: MMD^2 = sum of c_j (E x^j - E y^j)^2; y uniform, x = y + m."""
    m = 0.5
    truth = 3 * m**2 + 3 * m**4 + (m**3 + m) ** 2
    u = 2 * torch.rand(80, 2, 120, 1, generator=torch.Generator().manual_seed(0)).double() - 1
    distances = [kid(m + a, b, subsets=2, size=60, seed=i) for i, (a, b) in enumerate(u)]
    assert_mean(torch.tensor([e.value for e in distances]), truth)
    # 4 binomial standard errors of 80 are 10%.
    assert np.mean([e.low <= truth <= e.high for e in distances]) > 0.95 - 0.1


def test_error_of_the_full_subset_matches_hoeffding():
    """One subset that is the whole of both sets: 4 (Var h_x / n + Var h_y / m)."""
    x, y = normal(40, 3, 0, 1.2), normal(40, 3, 1)
    k_xx, k_xy, k_yy = ((a @ b.T / 3 + 1) ** 3 for a, b in ((x, x), (x, y), (y, y)))
    h_x = (k_xx.sum(1) - k_xx.diag()) / 39 - k_xy.mean(1)
    h_y = (k_yy.sum(1) - k_yy.diag()) / 39 - k_xy.mean(0)
    expected = 2 * ((h_x.var(correction=0) + h_y.var(correction=0)) / 40) ** 0.5
    distance = kid(x, y, subsets=1, size=1000)
    assert distance.details["error"] == pytest.approx(float(expected), rel=1e-10)
    assert (distance.details["size"], distance.details["size_asked"], distance.details["spread"]) == (40, 1000, None)
    assert (distance.n, distance.m) == (40, 40)


def test_result_depends_only_on_the_seed():
    x, y = normal(50, 3, 0), normal(40, 3, 1)
    assert kid(x, y, 3, 20, seed=1) == kid(x, y, 3, 20, seed=1)
    assert kid(x, y, 3, 20, seed=1).value != kid(x, y, 3, 20, seed=2).value


def test_invalid_input_is_an_error():
    x = normal(10, 3, 0)
    with pytest.raises(InputError, match="one dimension, got 3 and 4"):
        kid(x, normal(10, 4, 0))
    with pytest.raises(InputError, match="y holds 1 of the at least 2"):
        kid(x, normal(1, 3, 0))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        kid(x, x, subsets=0, size=5)
