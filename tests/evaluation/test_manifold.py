"""Precision, recall, density and coverage against loops over all pairs, closed cases and their means under the null."""

import numpy as np
import pytest
import torch
from truth.statistics import assert_mean

from diffprob.base.errors import InputError
from diffprob.evaluation import manifold
from diffprob.evaluation.estimate import wilson
from diffprob.evaluation.manifold import expected_coverage, precision_recall


def by_loops(x, y, k, density_k):
    """The definitions, a pair at a time."""

    def distance(a, b):
        return float(np.sqrt(((a - b) ** 2).sum()))

    def radius(points, i, k):
        return sorted(distance(points[i], points[j]) for j in range(len(points)) if j != i)[k - 1]

    n = range(len(x))
    real, wide, own = ([radius(s, i, q) for i in n] for s, q in ((y, k), (y, density_k), (x, k)))
    return {
        "precision": np.mean([any(distance(x[i], y[j]) <= real[j] for j in n) for i in n]),
        "recall": np.mean([any(distance(x[i], y[j]) <= own[i] for i in n) for j in n]),
        "density": np.mean([sum(distance(x[i], y[j]) <= wide[j] for j in n) / density_k for i in n]),
        "coverage": np.mean([min(distance(x[i], y[j]) for i in n) <= wide[j] for j in n]),
    }


@pytest.mark.parametrize(("k", "density_k"), [(3, 5), (1, 2)])
def test_metrics_match_their_definitions(k, density_k, monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)) + 0.7, rng.normal(size=(40, 4))
    expected = by_loops(x, y, k, density_k)
    assert 0 < expected["recall"] < 1 and 0 < expected["coverage"] < 1
    for block in (1 << 21, 1, 123):
        monkeypatch.setattr(manifold, "_BLOCK", block)
        metrics = precision_recall(x, torch.from_numpy(y), k, density_k)
        assert {name: e.value for name, e in metrics.items()} == pytest.approx(expected, rel=1e-13)


def test_ties_at_the_kth_neighbour_count_as_inside():
    """Integer points have many ties at the k-th neighbour: all are inside."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 3, (50, 3)), rng.integers(0, 3, (50, 3))
    metrics = precision_recall(x, y)
    assert {name: e.value for name, e in metrics.items()} == pytest.approx(by_loops(x, y, 3, 5), rel=1e-13)


def test_identical_and_distant_sets_give_one_and_zero():
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)) + 1e3
    same = precision_recall(x, x[torch.arange(29, -1, -1)])
    assert [same[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    # Every ball holds its centre and its five neighbours, the last on the border.
    assert same["density"].value == pytest.approx(6 / 5, rel=1e-13)
    far = precision_recall(x, x + 100)
    assert [e.value for e in far.values()] == [0, 0, 0, 0]
    assert far["precision"].low == 0 < far["precision"].high < 0.2


def test_identical_points_have_radius_zero():
    x = torch.full((12, 5), 0.1)
    assert precision_recall(x, x)["precision"].value == 1
    assert precision_recall(x + 1e-3, x)["precision"].value == 0


def test_means_under_the_null_match_the_formula():
    """For two sets of n of one law: E density = 1 and E coverage = 1 - (n-1)...(n-k) / ((2n-1)...(2n-k)), exactly."""
    n, repetitions = 40, 300
    x = torch.randn(repetitions, 2, n, 3, generator=torch.Generator().manual_seed(0))
    metrics = [precision_recall(a, b) for a, b in x]
    assert_mean(torch.tensor([e["density"].value for e in metrics]), 1.0)
    assert_mean(torch.tensor([e["coverage"].value for e in metrics]), expected_coverage(n, n, 5))
    assert metrics[0]["coverage"].details["expected"] == expected_coverage(n, n, 5)
    assert expected_coverage(3, 3, 2) == pytest.approx(1 - (2 * 1) / (5 * 4), rel=1e-15)
    assert expected_coverage(10**7, 10**7, 5) == pytest.approx(1 - 2**-5, rel=1e-6)


def test_mean_coverage_of_unequal_sizes_matches_ranks():
    """P(no generated point among the k nearest of all others) by drawing ranks."""
    n, m, k = 6, 9, 3
    rng = np.random.default_rng(0)
    kinds = np.arange(n + m - 1) < n
    nearest = np.array([rng.permutation(kinds)[:k].any() for _ in range(20_000)])
    assert_mean(torch.from_numpy(nearest), expected_coverage(n, m, k))


def test_larger_set_is_subsampled_to_the_smaller():
    x, y = torch.randn(25, 3), torch.randn(60, 3)
    metrics = precision_recall(x, y, seed=4)
    assert metrics == precision_recall(x, y, seed=4)
    for estimate in metrics.values():
        assert (estimate.n, estimate.m, estimate.details["drawn_from"]) == (25, 25, [25, 60])
    assert [metrics[name].details["k"] for name in metrics] == [3, 3, 5, 5]


def test_wilson_interval_solves_its_equation():
    """Its ends are the p with |count/n - p| = z sqrt(p (1 - p) / n)."""
    for count, n in ((3, 10), (0, 7), (7, 7), (500, 1000)):
        for p in wilson(count, n):
            assert (count / n - p) ** 2 == pytest.approx(1.959963984540054**2 * p * (1 - p) / n, abs=1e-14)


def test_invalid_input_is_an_error():
    x = torch.zeros(6, 3)
    with pytest.raises(InputError, match="5 neighbours need more points"):
        precision_recall(x[:5], x)
    with pytest.raises(InputError, match="one dimension"):
        precision_recall(x, torch.zeros(6, 2))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        precision_recall(x, x, k=0)
