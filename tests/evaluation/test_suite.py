"""Every metric by its name, on views where the answer is known."""

import numpy as np
import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.evaluation.features import PixelFeatures
from diffprob.evaluation.suite import DEFAULT, METRICS, View, assess, leading, usable, view

SHAPE, LEVELS, CLASSES = (1, 4, 4), 16, 3


def images(seed: int, n: int = 120, shift: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 8, (n, *SHAPE)) + shift).astype(np.uint8)


def judged(seed: int, n: int = 120, shift: int = 0) -> View:
    pixels = images(seed, n, shift)
    own = view(PixelFeatures(SHAPE, LEVELS), pixels)
    rng = np.random.default_rng(seed)
    probabilities = torch.from_numpy(rng.dirichlet(np.ones(CLASSES), n))
    return View(pixels, own.features, probabilities, requested=rng.integers(0, CLASSES, n))


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_records_its_name(name):
    estimates = assess(judged(0), judged(1), [name])
    assert estimates and all(estimate.details["metric"] == name for estimate in estimates.values())
    if METRICS[name].title:
        assert leading(estimates, name) == estimates[METRICS[name].title].value
    assert all(estimate.n <= 120 for estimate in estimates.values())


@pytest.mark.parametrize("name", [name for name, m in METRICS.items() if m.better == "lower" and m.title])
def test_declared_direction_of_every_metric_holds(name):
    """Samples of the reference's law beat shifted ones."""
    if METRICS[name].space == "probabilities":
        skewed = judged(2)
        skewed = View(skewed.pixels, skewed.features, torch.eye(CLASSES).double()[torch.zeros(120, dtype=torch.long)])
    else:
        skewed = judged(2, shift=6)
    reference = judged(1)
    assert leading(assess(judged(0), reference, [name]), name) < leading(assess(skewed, reference, [name]), name)


def test_grey_distance_of_shifted_images_is_the_shift():
    own, shifted = judged(3), judged(3, shift=5)
    estimates = assess(own, shifted, ["grey", "sliced", "transport"])
    assert leading(estimates, "grey") == pytest.approx(5)
    # Features are 2k/(K-1) - 1: W2 between a set and its shift by m is |m|, here sqrt(16) * 5 * 2/15.
    assert leading(estimates, "transport") == pytest.approx(4 * 5 * 2 / 15, rel=1e-6)


def test_classes_are_the_known_labels():
    own = judged(4)
    assert own.classes is not None and (own.classes == own.probabilities.argmax(1).numpy()).all()
    labels = np.zeros(120, dtype=np.int64)
    assert (View(own.pixels, own.features, own.probabilities, labels).classes == labels).all()
    assert View(own.pixels, own.features).classes is None


def test_label_accuracy_is_the_share_classified_as_requested():
    """90 of 120; without labels that were asked for the true ones count, and without any there is nothing to say."""
    own, read = judged(5), np.arange(120) % CLASSES
    certain = torch.eye(CLASSES).double()[torch.from_numpy(read)]
    requested = np.where(np.arange(120) < 90, read, (read + 1) % CLASSES)
    for labels, wanted in ((None, requested), (requested, None)):
        (estimate,) = assess(View(own.pixels, own.features, certain, labels, wanted), own, ["labels"]).values()
        assert estimate.value == 0.75 and estimate.low < 0.75 < estimate.high and estimate.n == 120
    with pytest.raises(InputError, match="needs the labels that the images were drawn for"):
        assess(View(own.pixels, own.features, certain), own, ["labels"])


def test_metrics_without_their_inputs_are_errors():
    plain = view(PixelFeatures(SHAPE, LEVELS), images(0))
    with pytest.raises(InputError, match="needs the features of a classifier"):
        assess(plain, plain, ["inception"])
    with pytest.raises(InputError, match="did you mean 'kid'"):
        assess(plain, plain, ["kids"])
    assert "classes" not in usable(DEFAULT, PixelFeatures(SHAPE, LEVELS))
