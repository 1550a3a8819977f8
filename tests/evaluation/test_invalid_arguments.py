"""What no metric can take is refused where it comes in: counts that are none, levels, values out of range."""

import math

import numpy as np
import pytest

from diffprob.base.errors import DiffprobError
from diffprob.base.rng import subset
from diffprob.evaluation.classify import FitSettings
from diffprob.evaluation.diversity import class_histogram_distance, inception_score
from diffprob.evaluation.estimate import Estimate, student_95, wilson
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
    "n of the expected bias": lambda n: expected_bias(Statistics.of(POINTS), n),
    "subsets": lambda n: kid(POINTS, POINTS, subsets=n),
    "subset size": lambda n: kid(POINTS, POINTS, size=n),
    "neighbours": lambda n: precision_recall(POINTS, POINTS, k=n),
    "neighbours for density": lambda n: precision_recall(POINTS, POINTS, density_k=n),
    "real points for coverage": lambda n: expected_coverage(5, n),
    "neighbours for coverage": lambda n: expected_coverage(5, 5, n),
    "splits": lambda n: inception_score(EVEN, n),
    "classes": lambda n: class_histogram_distance(np.array([0]), np.array([0]), n),
    "directions": lambda n: sliced_wasserstein2(POINTS, POINTS, n),
    "dimensions": lambda n: unit_directions(n, 3),
    "batch of extraction": lambda n: extract(PixelFeatures((1, 4, 4)), IMAGES, batch=n),
    "PCA axes": lambda n: PcaFeatures.fit(IMAGES, n),
    "degrees of freedom": student_95,
    "samples": lambda n: Estimate(1.0, n),
    "references": lambda n: Estimate(1.0, 5, n),
    "n of a share": lambda n: wilson(0, n),
    "epochs": lambda n: FitSettings(epochs=n),
    "batch of the classifier": lambda n: FitSettings(batch=n),
    "levels of psnr": lambda n: psnr(WIDE, WIDE, n),
    "levels of ssim": lambda n: ssim(WIDE, WIDE, n),
}


@pytest.mark.parametrize("n", NO_COUNT, ids=repr)
@pytest.mark.parametrize("what", COUNTS)
def test_invalid_counts_are_errors(what: str, n: object) -> None:
    """2.5 parts were two, -3 samples had a negative bias, one level was infinitely far from another."""
    with pytest.raises(ValueError, match="must be"):
        COUNTS[what](n)


REFUSED = {
    "too many classes": lambda: class_histogram_distance(np.array([0]), np.array([0]), 10**12),
    "count above n": lambda: wilson(7, 5),
    "subset larger than the set": lambda: subset(5, 6, 0, "x"),
    "negative subset size": lambda: subset(5, -2, 0, "x"),
    "NaN statistics": lambda: Statistics(None, FACTOR[0] * math.nan, FACTOR),
    "overflowing precision and recall": lambda: precision_recall(FAR, POINTS),
    "overflowing kernel distance": lambda: polynomial_mmd2(FAR, POINTS),
    "overflowing Wasserstein distance": lambda: wasserstein_1d(FAR[:, 0], POINTS[:, 0], 2),
    "overflowing sliced distance": lambda: sliced_wasserstein2(FAR, POINTS),
    "overflowing memorisation distances": lambda: memorisation(FAR, POINTS, POINTS),
    "power too large": lambda: wasserstein_1d(POINTS[:, 0], POINTS[:, 1], 1e6),
    "negative image index": lambda: extract(PixelFeatures((1, 4, 4)), IMAGES, np.array([-1])),
    "image index out of range": lambda: extract(PixelFeatures((1, 4, 4)), IMAGES, np.array([12])),
    "fractional image index": lambda: extract(PixelFeatures((1, 4, 4)), IMAGES, np.array([1.5])),
    "level out of range": lambda: psnr(IMAGES, IMAGES + 20, 17),
    "NaN level": lambda: ssim(WIDE, WIDE * math.nan, 256),
    "fractional mask": lambda: psnr(WIDE, WIDE, 256, where=np.full((12, 12), 0.5)),
    "infinite learning rate": lambda: FitSettings(lr=math.inf),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_arguments_are_errors(what: str) -> None:
    with pytest.raises((ValueError, DiffprobError)) as caught:
        REFUSED[what]()
    assert len(str(caught.value)) < 300


def test_empty_pairs_give_empty_results() -> None:
    assert psnr(WIDE[:0], WIDE[:0], 256).shape == ssim(WIDE[:0], WIDE[:0], 256).shape == (0,)
