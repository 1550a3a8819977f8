"""Correlations against scipy and regression by normal equations, and their intervals against simulation."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from diffprob.base.errors import InputError
from diffprob.evaluation.correlation import matrix, partial, pearson, spearman


def columns(n=60, seed=0):
    """Three that go together, and one of few values."""
    rng = np.random.default_rng(seed)
    c = rng.normal(size=n)
    a, b = c + rng.normal(size=n), np.exp(0.5 * c - 0.4 * rng.normal(size=n))
    return a, b, c, rng.integers(0, 4, n)


@pytest.mark.parametrize("other", [1, 2, 3])
def test_correlations_match_scipy(other):
    a, b = columns()[0], columns()[other]
    for correlation, truth in ((pearson(a, b), stats.pearsonr(a, b)), (spearman(a, b), stats.spearmanr(a, b))):
        assert correlation.value == pytest.approx(truth.statistic, rel=1e-12)
        assert correlation.details["p"] == pytest.approx(truth.pvalue, rel=1e-9)
        assert correlation.n == 60 and correlation.m is None and correlation.details["covariates"] == 0
    interval = stats.pearsonr(a, b).confidence_interval(0.95)
    assert (pearson(a, b).low, pearson(a, b).high) == pytest.approx(tuple(interval), rel=1e-12)


def test_correlations_do_not_depend_on_offset_scale_or_container():
    """Densities are large numbers that vary little: r is that of the differences."""
    a, b, *_ = columns()
    r = pearson(a, b).value
    assert pearson(torch.from_numpy(a), torch.from_numpy(b)).value == r
    # 1e6 + a is rounded by 1e-10 of a.
    assert pearson(1e6 + a, -3 * b).value == pytest.approx(-r, rel=1e-8)
    assert pearson(1e200 * a, 1e-200 * b).value == pytest.approx(r, rel=1e-12)
    assert spearman(np.exp(a), b**3).value == spearman(a, b).value


def test_infinite_densities_can_be_ranked():
    a, b, *_ = columns()
    lowest = a.argmin()
    with_zero = np.where(np.arange(60) == lowest, -np.inf, a)
    assert spearman(with_zero, b) == spearman(a, b)
    with pytest.raises(InputError, match=r"^a holds values that are not finite$"):
        pearson(with_zero, b)


def test_spearman_with_ties_matches_a_computation_by_hand():
    """Ranks (1, 2.5, 2.5, 4, 5) and (2, 1, 3, 4, 5): products of the offsets sum to 8, squares to 9.5 and 10."""
    correlation = spearman(np.array([0.0, 1, 1, 2, 9]), np.array([3.0, -1, 4, 5, 6]))
    r = 8 / math.sqrt(9.5 * 10)
    half = 1.959963984540054 * math.sqrt((1 + r * r / 2) / 2)
    assert correlation.value == pytest.approx(r, rel=1e-12)
    assert (math.atanh(correlation.low), math.atanh(correlation.high)) == pytest.approx(
        (math.atanh(r) - half, math.atanh(r) + half)
    )


def residuals(y, covariates):
    """y minus its regression on a constant and the columns of given (n, k), by the normal equations."""
    design = np.column_stack([np.ones(len(y)), covariates])
    return y - design @ np.linalg.solve(design.T @ design, design.T @ y)


@pytest.mark.parametrize("ranks", [False, True])
def test_partial_correlation_is_that_of_the_residuals(ranks):
    a, b, c, d = columns()
    for covariates in ([c], [c, d]):
        k, stack = len(covariates), np.stack(covariates, 1).astype(float)
        correlation = partial(a, b, covariates, ranks)
        x, y, z = (stats.rankdata(v, axis=0) for v in (a, b, stack)) if ranks else (a, b, stack)
        r = np.corrcoef(residuals(x, z), residuals(y, z))[0, 1]
        assert correlation.value == pytest.approx(r, rel=1e-10)
        t = r * math.sqrt((60 - 2 - k) / (1 - r * r))
        assert correlation.details["p"] == pytest.approx(2 * stats.t.sf(abs(t), 60 - 2 - k), rel=1e-9)
        half = 1.959963984540054 * math.sqrt((1 + r * r / 2 if ranks else 1) / (60 - 3 - k))
        assert math.atanh(correlation.high) - math.atanh(r) == pytest.approx(half, rel=1e-9)
        assert correlation.details["covariates"] == k
    assert partial(a, b, c, ranks) == partial(a, b, [c], ranks)
    assert abs(partial(a, b, c, ranks).value) < abs(spearman(a, b).value)


def test_partial_correlation_matches_the_recursion():
    """r_ab.c = (r_ab - r_ac r_bc) / sqrt((1 - r_ac^2)(1 - r_bc^2))."""
    a, b, c, _ = columns()
    ab, ac, bc = (pearson(x, y).value for x, y in ((a, b), (a, c), (b, c)))
    expected = (ab - ac * bc) / math.sqrt((1 - ac**2) * (1 - bc**2))
    assert partial(a, b, torch.from_numpy(c)).value == pytest.approx(expected, rel=1e-12)


def test_repeated_covariate_counts_once():
    a, b, c, _ = columns()
    once, twice = partial(a, b, c), partial(a, b, [c, 2 - 3 * c])
    assert twice.details["covariates"] == 1
    assert (twice.value, twice.low) == pytest.approx((once.value, once.low), rel=1e-12)


def normals(rng, n, cov):
    return (rng.normal(size=(n, len(cov))) @ np.linalg.cholesky(np.array(cov)).T).T


@pytest.mark.parametrize("rho", [0.0, -0.8])
def test_intervals_have_nominal_coverage(rho):
    """Normal data: Pearson's rho, Spearman's 6/pi asin(rho/2), and a partial correlation of 0.3 behind a mask."""
    rng = np.random.default_rng(5)
    trials, n = 1000, 40
    slope = 0.9 if rho else 0.0
    # a = slope c + e, b = slope c + f, corr(e, f) = 0.3.
    three = [
        [1 + slope**2, 0.3 + slope**2, slope],
        [0.3 + slope**2, 1 + slope**2, slope],
        [slope, slope, 1],
    ]
    covered = np.zeros(3)
    for _ in range(trials):
        a, b = normals(rng, n, [[1, rho], [rho, 1]])
        x, y, z = normals(rng, n, three)
        cases = ((pearson(a, b), rho), (spearman(a, b), 6 / math.pi * math.asin(rho / 2)), (partial(x, y, z), 0.3))
        covered += [estimate.low <= truth <= estimate.high for estimate, truth in cases]
    # Four binomial standard errors of 1000 are 2.8%, more than these intervals are off at n = 40.
    assert np.all(np.abs(covered / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials) + 0.01 * (rho != 0)), covered


def test_perfect_correlations_have_value_one():
    a = np.arange(10.0)
    correlation = pearson(a, -a)
    assert (correlation.value, correlation.low, correlation.high) == pytest.approx((-1, -1, -1), abs=1e-12)
    assert correlation.details["p"] < 1e-50
    # A perfect order counts as the next best, one swap of neighbours.
    correlation, swapped = spearman(a, a**3), spearman(a, np.array([1.0, 0, 2, 3, 4, 5, 6, 7, 8, 9]))
    assert correlation.value == correlation.high == 1 and correlation.low == pytest.approx(swapped.low, rel=1e-12)
    assert correlation.low < 0.96


def test_matrix_has_every_pair():
    a, b, c, d = columns()
    table = {"V_0": a, "noise norm": b, "bound": c, "levels": d}
    correlations = matrix(table)
    assert list(correlations) == [("V_0", "noise norm"), ("V_0", "bound"), ("V_0", "levels"), ("noise norm", "bound"),
                           ("noise norm", "levels"), ("bound", "levels")]  # fmt: skip
    assert correlations["noise norm", "levels"] == pearson(b, d)
    assert matrix(table, ranks=True)["V_0", "levels"] == spearman(a, d)
    with pytest.raises(InputError, match=r"^bound is constant"):
        matrix({"V_0": a, "bound": np.ones(60)})
    with pytest.raises(InputError, match="at least 2 columns, got 1"):
        matrix({"V_0": a})


def test_invalid_input_is_an_error():
    a, b, c, _ = columns()
    for call, message in (
        (lambda: pearson(a, b[:-1]), "b has 59 values, a has 60"),
        (lambda: pearson(a, np.full(60, 7.0)), "b is constant"),
        (lambda: spearman(np.zeros(60, int), b), "a is constant"),
        (lambda: pearson(a[:3], b[:3]), "at least 4 values, got 3"),
        (lambda: pearson(a[:0], b[:0]), "a is empty"),
        (lambda: partial(a[:4], b[:4], c[:4]), "given k = 1 covariates needs at least 5 values, got 4"),
        (lambda: partial(a, b, np.ones(60)), "the covariate is constant"),
        (lambda: partial(a, b, [c, np.ones(60)]), "covariate 2 is constant"),
        (lambda: partial(a, b, []), "at least one covariate"),
        (lambda: partial(a, 2 * c + 1, c), "b is a linear function of the covariates"),
        (lambda: spearman(a, np.where(b > 1, np.nan, b)), "b holds NaN"),
        (lambda: pearson(a[:, None], b), r"a must have shape \(n,\), got \(60, 1\)"),
        (lambda: pearson(a, b > 1), "b must hold real numbers, got bool"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
