"""What no metric can take is refused where it comes in: counts that are none, levels, values out of range."""

import math

import numpy as np
import pytest

from diffprob.base.errors import DiffprobError
from diffprob.evaluation.classify import FitSettings
from diffprob.evaluation.diversity import class_histogram_distance, inception_score
from diffprob.evaluation.estimate import Estimate, student_95, subset, wilson
from diffprob.evaluation.features import PcaFeatures, PixelFeatures, extract
from diffprob.evaluation.frechet import Statistics, expected_bias
from diffprob.evaluation.image_quality import psnr, ssim
from diffprob.evaluation.kernel import kid, polynomial_mmd2
from diffprob.evaluation.manifold import expected_coverage, precision_recall
from diffprob.evaluation.memorisation import memorisation
from diffprob.evaluation.transport import sliced_wasserstein2, unit_directions, wasserstein_1d

POINTS = np.random.default_rng(0).normal(size=(40, 4))
FAR = POINTS * 1e200
IMAGES, EVEN = np.zeros((12, 1, 4, 4), dtype=np.uint8), np.full((40, 4), 0.25)
WIDE = np.zeros((2, 1, 12, 12))
FACTOR = Statistics.of(POINTS).factor
NO_COUNT = [0, -1, 2.5, True, math.nan]
COUNTS = {
    "a jackknife's n": lambda n: expected_bias(Statistics.of(POINTS), n),
    "subsets": lambda n: kid(POINTS, POINTS, subsets=n),
    "points of a subset": lambda n: kid(POINTS, POINTS, size=n),
    "neighbours": lambda n: precision_recall(POINTS, POINTS, k=n),
    "neighbours of a density": lambda n: precision_recall(POINTS, POINTS, density_k=n),
    "real points to cover": lambda n: expected_coverage(5, n),
    "balls": lambda n: expected_coverage(5, 5, n),
    "parts": lambda n: inception_score(EVEN, n),
    "classes": lambda n: class_histogram_distance(np.array([0]), np.array([0]), n),
    "directions": lambda n: sliced_wasserstein2(POINTS, POINTS, n),
    "dimensions": lambda n: unit_directions(n, 3),
    "images a call": lambda n: extract(PixelFeatures((1, 4, 4)), IMAGES, batch=n),
    "axes": lambda n: PcaFeatures.fit(IMAGES, n),
    "degrees of freedom": student_95,
    "samples": lambda n: Estimate(1.0, n),
    "references": lambda n: Estimate(1.0, 5, n),
    "what a share is of": lambda n: wilson(0, n),
    "epochs": lambda n: FitSettings(epochs=n),
    "images a step": lambda n: FitSettings(batch=n),
    "levels of a signal": lambda n: psnr(WIDE, WIDE, n),
    "levels to see": lambda n: ssim(WIDE, WIDE, n),
}


@pytest.mark.parametrize("n", NO_COUNT, ids=repr)
@pytest.mark.parametrize("what", COUNTS)
def test_invalid_counts_are_errors(what: str, n: object) -> None:
    """2.5 parts were two, -3 samples had a negative bias, one level was infinitely far from another."""
    with pytest.raises(ValueError, match="must be"):
        COUNTS[what](n)


REFUSED = {
    "classes without end": lambda: class_histogram_distance(np.array([0]), np.array([0]), 10**12),
    "more of them than there are": lambda: wilson(7, 5),
    "more than all": lambda: subset(5, 6, 0, "x"),
    "less than none": lambda: subset(5, -2, 0, "x"),
    "statistics of no number": lambda: Statistics(None, FACTOR[0] * math.nan, FACTOR),
    "balls whose squares are lost": lambda: precision_recall(FAR, POINTS),
    "kernels whose cubes are lost": lambda: polynomial_mmd2(FAR, POINTS),
    "distances that are lost": lambda: wasserstein_1d(FAR[:, 0], POINTS[:, 0], 2),
    "projections that are lost": lambda: sliced_wasserstein2(FAR, POINTS),
    "neighbours whose distances are lost": lambda: memorisation(FAR, POINTS, POINTS),
    "a power without end": lambda: wasserstein_1d(POINTS[:, 0], POINTS[:, 1], 1e6),
    "an image counted from the end": lambda: extract(PixelFeatures((1, 4, 4)), IMAGES, np.array([-1])),
    "an image behind the last": lambda: extract(PixelFeatures((1, 4, 4)), IMAGES, np.array([12])),
    "half an image": lambda: extract(PixelFeatures((1, 4, 4)), IMAGES, np.array([1.5])),
    "a level that there is not": lambda: psnr(IMAGES, IMAGES + 20, 17),
    "a level of no number": lambda: ssim(WIDE, WIDE * math.nan),
    "a mask of weights": lambda: psnr(WIDE, WIDE, where=np.full((12, 12), 0.5)),
    "a rate of learning without end": lambda: FitSettings(lr=math.inf),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_arguments_are_errors(what: str) -> None:
    with pytest.raises((ValueError, DiffprobError)) as caught:
        REFUSED[what]()
    assert len(str(caught.value)) < 300


def test_empty_pairs_give_empty_results() -> None:
    assert psnr(WIDE[:0], WIDE[:0]).shape == ssim(WIDE[:0], WIDE[:0]).shape == (0,)
