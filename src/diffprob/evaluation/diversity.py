"""Diversity by a classifier's answers: the Inception Score and the distance between class histograms."""

import math

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.errors import InputError
from diffprob.base.rng import subset
from diffprob.evaluation.estimate import Estimate, Points, features, labels_of, student_95


def inception_score(probabilities: Points, splits: int = 10, seed: int = 0) -> Estimate:
    """exp of the mean KL(p(y|x) || p(y)) in nats, for class probabilities (n, classes): the mean over ``splits`` parts.

    1 where every image gets the same answer, the number of classes where answers are certain and classes equally
    frequent. It compares with no real image: it is meaningless outside the classifier's domain (an ImageNet classifier
    on digits, or images that the classifier never learnt to doubt), and parts of another size give another value. The
    parts are random (seed), because generated images often come ordered by class. The interval (Student's t over the
    parts) is for the average score of a set as large as a part.

    Details: splits, std (over the parts, as published), classes, size (of the smallest part).

    Raises:
        ValueError: fewer than 1 split.
        InputError: rows that are not probabilities, or fewer images than two a split.

    References: Salimans et al., "Improved techniques for training GANs" (2016), section 4; Barratt & Sharma, "A note on
    the Inception Score" (2018).
    """
    whole("splits", splits, 1)
    p = features(probabilities, "the probabilities", 2 * splits).double()
    if float(p.min()) < -1e-6 or float((p.sum(1) - 1).abs().max()) > 1e-3:
        raise InputError("the rows of probabilities must be non-negative and sum to 1: apply a softmax to logits")
    p = p.clamp_min(0)
    p = p / p.sum(1, keepdim=True)
    parts = np.array_split(subset(len(p), len(p), seed, "splits"), splits)
    scores = [_score(p[torch.from_numpy(part)]) for part in parts]
    value = float(np.mean(scores))
    details = {"splits": splits, "std": None, "classes": p.shape[1], "size": len(parts[-1])}
    if splits == 1:
        return Estimate(value, len(p), details=details)
    details["std"] = float(np.std(scores))
    half = student_95(splits - 1) * float(np.std(scores, ddof=1)) / math.sqrt(splits)
    return Estimate(value, len(p), None, value - half, value + half, details)


def class_histogram_distance(x_labels: Points, y_labels: Points, classes: int) -> Estimate:
    """Total variation distance between the class histograms of generated and real images: 1/2 sum_c |p_c - q_c|.

    ``x_labels`` (n,) are what a classifier calls the generated images, ``y_labels`` (m,) the real ones, best by the
    same classifier. The value lies in [0, 1] and is never quite 0 for finite sets: ``expected`` is its mean for two
    sets of one law. The interval holds whatever the laws are (McDiarmid's inequality on top of the mean error), so it
    is wide.

    Details: histogram, reference_histogram (shares), expected, p_value (chi-square test of equal laws), classes.

    Raises:
        ValueError: fewer than 1 class.
        InputError: no labels, labels that are not integers in [0, classes), or another shape.
    """
    whole("classes", classes, 1, 10**6)
    counts = torch.stack([_counts(x_labels, classes, "x"), _counts(y_labels, classes, "y")]).numpy()
    n, m = (int(c) for c in counts.sum(1))
    shares = counts / counts.sum(1, keepdims=True)
    value = 0.5 * float(np.abs(shares[0] - shares[1]).sum())
    pooled = counts.sum(0) / (n + m)
    # |normal of variance v| has the mean sqrt(2 v / pi).
    expected = 0.5 * float(np.sqrt(2 / math.pi * pooled * (1 - pooled) * (1 / n + 1 / m)).sum())
    # |TV - value| <= TV(p, p^) + TV(q, q^), whose mean is at most this sum; one image moves it by 1/n or 1/m.
    mean = 0.5 * sum(float(np.sqrt(s * (1 - s) / k).sum()) for s, k in zip(shares, (n, m), strict=True))
    half = mean + math.sqrt(math.log(20) / 2 * (1 / n + 1 / m))
    details = {
        "histogram": shares[0].tolist(),
        "reference_histogram": shares[1].tolist(),
        "expected": expected,
        "p_value": _p_value(counts),
        "classes": classes,
    }
    return Estimate(value, n, m, max(0.0, value - half), min(1.0, value + half), details)


def _score(p: Tensor) -> float:
    entropy = -torch.special.xlogy(p, p).sum(1).mean()
    marginal = p.mean(0)
    return float((-torch.special.xlogy(marginal, marginal).sum() - entropy).exp())


def _counts(labels: Points, classes: int, name: str) -> Tensor:
    values = labels_of(labels, name)
    if int(values.min()) < 0 or int(values.max()) >= classes:
        raise InputError(f"labels of {name} must lie in [0, {classes}), got {int(values.min())} to {int(values.max())}")
    return torch.bincount(values, minlength=classes)


def _p_value(counts: np.ndarray) -> float:
    """Chi-square test that both rows of counts (2, classes) come from one law; 1 where a single class is left."""
    from scipy.special import chdtrc

    counts = counts[:, counts.sum(0) > 0].astype(float)
    if counts.shape[1] < 2:
        return 1.0
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    return float(chdtrc(counts.shape[1] - 1, ((counts - expected) ** 2 / expected).sum()))
