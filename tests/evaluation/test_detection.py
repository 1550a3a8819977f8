"""AUROC, average precision and FPR at a TPR against scikit-learn, ties included, and their intervals."""

import math

import numpy as np
import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.evaluation.detection import auroc, average_precision, fpr_at_tpr


def pairs():
    rng = np.random.default_rng(0)
    yield rng.normal(size=200) + 1, rng.normal(size=150)
    yield rng.integers(0, 4, 60) + 1, rng.integers(0, 4, 90)  # many ties
    yield np.zeros(7), np.zeros(5)  # nothing but ties
    yield rng.normal(size=30), rng.normal(size=40) + 5  # the wrong way round
    yield np.array([1.0, np.inf, 2.0]), np.array([-np.inf, 2.0])


@pytest.mark.parametrize("index", range(5))
def test_detection_metrics_match_scikit_learn(index):
    metrics = pytest.importorskip("sklearn.metrics")
    inside, outside = list(pairs())[index]
    truth = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    scores = np.r_[inside, outside].astype(float)
    scores = np.clip(scores, -100, 100)  # scikit-learn takes no infinite scores; the order is the same
    estimate = auroc(inside, torch.from_numpy(outside))
    assert estimate.value == pytest.approx(metrics.roc_auc_score(truth, scores), rel=1e-12)
    for positive, y, s in (("inside", truth, scores), ("outside", 1 - truth, -scores)):
        estimate = average_precision(inside, outside, positive)
        assert estimate.value == pytest.approx(metrics.average_precision_score(y, s), rel=1e-12)
        assert estimate.details["chance"] == pytest.approx(y.mean())
    for tpr in (0.95, 0.5, 1.0):
        fpr, tprs, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
        assert fpr_at_tpr(inside, outside, tpr).value == pytest.approx(fpr[np.argmax(tprs >= tpr)], rel=1e-12)


def test_detection_metrics_match_a_computation_by_hand():
    assert auroc(np.array([1.0, 2.0]), np.array([2.0, 0.0])).value == (0 + 1 + 0.5 + 1) / 4
    # 19 of 20 inside scores reach 1, which 3 of 8 outside scores do.
    inside, outside = np.r_[np.arange(1.0, 20.0), -5.0], np.array([-1.0, 0, 0, 0, 0.5, 1, 2, 3])
    estimate = fpr_at_tpr(inside, outside)
    assert (estimate.value, estimate.details["threshold"]) == (3 / 8, 1.0)
    assert (estimate.n, estimate.m) == (20, 8)
    assert fpr_at_tpr(np.array([-np.inf]), np.array([0.0])).details["threshold"] == "-inf"


def test_auroc_interval_matches_delong():
    inside, outside = next(pairs())
    above = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    variance = above.mean(1).var(ddof=1) / len(inside) + above.mean(0).var(ddof=1) / len(outside)
    estimate = auroc(inside, outside)
    assert estimate.high - estimate.value == pytest.approx(1.959963984540054 * math.sqrt(variance), rel=1e-12)


def test_intervals_have_nominal_coverage():
    """N(1, 1) against N(0, 1): AUROC = Phi(1 / sqrt 2), and the false positives above the 5% quantile Phi(0.645)."""
    rng = np.random.default_rng(1)
    draws = [(rng.normal(size=100) + 1, rng.normal(size=120)) for _ in range(200)]
    truth = 0.5 * (1 + math.erf(0.5))
    cover = np.mean([e.low <= truth <= e.high for e in (auroc(*d) for d in draws)])
    # 4 binomial standard errors of 200 are 6.2%.
    assert cover > 0.95 - 0.062
    beyond = 0.5 * (1 + math.erf((1.6448536269514722 - 1) / math.sqrt(2)))
    estimates = [fpr_at_tpr(*d, seed=i) for i, d in enumerate(draws[:80])]
    # Percentiles of a quantile are coarse: 4 standard errors of 80, 10%, and some more.
    assert np.mean([e.low <= beyond <= e.high for e in estimates]) > 0.95 - 0.13


def test_perfect_separation_has_a_nonzero_interval():
    estimate = auroc(np.ones(20), np.zeros(30))
    assert (estimate.value, estimate.high) == (1, 1) and estimate.low == pytest.approx(0.025 ** (1 / 20))
    estimate = auroc(np.zeros(20), np.ones(30))
    assert (estimate.value, estimate.low) == (0, 0) and estimate.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert auroc(np.zeros(1), np.zeros(1)).value == 0.5


def test_bootstrap_depends_only_on_the_seed():
    inside, outside = next(pairs())
    assert average_precision(inside, outside, seed=1) == average_precision(inside, outside, seed=1)
    assert average_precision(inside, outside, seed=1).low != average_precision(inside, outside, seed=2).low
    estimate = average_precision(inside, outside)
    assert estimate.low < estimate.value < estimate.high


def test_invalid_input_is_an_error():
    good = np.zeros(3)
    for bad, message in (
        (np.array([math.nan]), "hold NaN"),
        (np.zeros((2, 2)), r"shape \(n,\)"),
        (np.zeros(0), r"shape \(n,\)"),
        (np.array(["a"]), "real numbers"),
    ):
        with pytest.raises(InputError, match=message):
            auroc(good, bad)
    with pytest.raises(ValueError, match="'real'"):
        average_precision(good, good, positive="real")
    with pytest.raises(ValueError, match="tpr"):
        fpr_at_tpr(good, good, tpr=0.0)
