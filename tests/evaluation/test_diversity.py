"""Inception Score and class histograms against numpy, scipy and closed cases."""

import math

import numpy as np
import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.base.rng import subset
from diffprob.evaluation.diversity import class_histogram_distance, inception_score


def test_inception_score_of_closed_cases():
    uniform = inception_score(torch.full((40, 7), 1 / 7))
    assert uniform.value == pytest.approx(1, rel=1e-6) and uniform.details["std"] == pytest.approx(0, abs=1e-7)
    certain = torch.eye(5).repeat(4, 1)
    assert inception_score(certain, splits=1).value == pytest.approx(5, rel=1e-12)
    assert inception_score(certain, splits=1).high is None


def test_inception_score_matches_the_formula():
    logits = np.random.default_rng(0).normal(size=(95, 6)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    parts = [p[i] for i in np.array_split(subset(95, 95, 3, "splits"), 10)]
    scores = [math.exp(np.mean([(row * np.log(row / part.mean(0))).sum() for row in part])) for part in parts]
    score = inception_score(p, seed=3)
    assert score.value == pytest.approx(np.mean(scores), rel=1e-12)
    assert score.details == {"splits": 10, "std": pytest.approx(np.std(scores)), "classes": 6, "size": 9}
    half = 2.2621571627409915 * np.std(scores, ddof=1) / math.sqrt(10)
    assert score.high - score.low == pytest.approx(2 * half, rel=1e-9)


def test_inception_score_does_not_depend_on_class_order():
    """Ten classes in order and ten splits: contiguous parts would each hold one class and score 1."""
    p = torch.eye(10).repeat_interleave(100, 0)
    assert inception_score(p).value > 8


def test_histogram_distance_matches_a_computation_by_hand():
    distance = class_histogram_distance(torch.tensor([0, 0, 1, 2]), np.array([0, 1, 1, 1, 2, 2, 2, 2]), classes=4)
    assert distance.value == pytest.approx(0.5 * (0.375 + 0.125 + 0.25), rel=1e-14)
    assert distance.details["histogram"] == [0.5, 0.25, 0.25, 0.0]
    assert (distance.n, distance.m) == (4, 8)
    assert distance.low == 0 and distance.value < distance.high <= 1


def test_p_value_matches_scipy():
    from scipy.stats import chi2_contingency

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 100), rng.choice(5, 80, p=[0.3, 0.1, 0.2, 0.2, 0.2])
    table = [np.bincount(x, minlength=5), np.bincount(y, minlength=5)]
    expected = chi2_contingency(table, correction=False).pvalue
    assert class_histogram_distance(x, y, 8).details["p_value"] == pytest.approx(expected, rel=1e-10)
    assert class_histogram_distance(np.zeros(3, int), np.zeros(4, int), 2).details["p_value"] == 1


def test_histogram_distance_bias_and_interval_under_the_null():
    """Under the null the mean is the expected one; the interval holds the true 0 and 0.2."""
    rng = np.random.default_rng(0)
    law, other = [0.4, 0.3, 0.2, 0.1], [0.2, 0.3, 0.2, 0.3]
    null = [class_histogram_distance(rng.choice(4, 200, p=law), rng.choice(4, 150, p=law), 4) for _ in range(200)]
    apart = [class_histogram_distance(rng.choice(4, 200, p=law), rng.choice(4, 150, p=other), 4) for _ in range(200)]
    values = np.array([e.value for e in null])
    expected = np.mean([e.details["expected"] for e in null])
    assert values.mean() == pytest.approx(expected, abs=4 * values.std() / math.sqrt(200))
    assert np.mean([e.low == 0 for e in null]) > 0.95
    assert np.mean([e.low <= 0.2 <= e.high for e in apart]) > 0.95


def test_invalid_input_is_an_error():
    with pytest.raises(InputError, match="softmax"):
        inception_score(torch.ones(40, 3))
    with pytest.raises(InputError, match="19 of the at least 20"):
        inception_score(torch.full((19, 2), 0.5))
    with pytest.raises(ValueError, match="splits"):
        inception_score(torch.full((19, 2), 0.5), splits=0)
    good = torch.tensor([0, 1])
    for bad, message in (
        (torch.tensor([0, 2]), r"lie in \[0, 2\)"),
        (torch.zeros(2), "integers"),
        (good[:0], "labels"),
    ):
        with pytest.raises(InputError, match=message):
            class_histogram_distance(good, bad, 2)
    with pytest.raises(ValueError, match="classes"):
        class_histogram_distance(good, good, 0)
