"""A histogram of every pixel: closed forms of its code lengths."""

import numpy as np
import pytest

from diffprob.data import Digits
from diffprob.density.histogram import PixelHistogram


def test_equal_counts_cost_log2_of_the_levels() -> None:
    pixels = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1) * np.ones((1, 3, 2, 5), np.uint8)
    bits = PixelHistogram.fit(pixels, 4).bits_per_dim(pixels)
    assert bits.tolist() == [2.0] * 4


def test_probabilities_follow_the_rule_of_succession() -> None:
    pixels = np.array([[[[0, 1]]], [[[0, 1]]], [[[0, 2]]]], np.uint8)
    bits = PixelHistogram.fit(pixels, 3).bits_per_dim(np.array([[[[0, 2]]], [[[1, 1]]]], np.uint8))
    # three images and three levels: p = (count + 1) / 6
    assert bits == pytest.approx([-np.log2([4 / 6, 2 / 6]).mean(), -np.log2([1 / 6, 3 / 6]).mean()], rel=1e-15)


def test_bits_per_dim_of_the_digits_match_the_docs() -> None:
    train, test = Digits("train").load(), Digits("test").load()
    model = PixelHistogram.fit(train.take(range(len(train))), 17)
    each = np.arange(17, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 1, 8, 8), np.uint8)
    assert model.probability(each).sum(0) == pytest.approx(1, abs=1e-12)
    assert model.bits_per_dim(test.take(range(360))).mean() == pytest.approx(2.438, abs=5e-4)


def test_sixteen_bits_that_occur_once_cost_sixteen_bits() -> None:
    """Unseen levels have 1/(N + K) each: with K = 65,536 and no level seen, 16 bits and log2(1 + N/K)."""
    train = np.arange(100, dtype=np.uint16).reshape(100, 1, 1, 1) * np.ones((1, 2, 3, 3), np.uint16)
    bits = PixelHistogram.fit(train, 1 << 16).bits_per_dim(np.full((1, 2, 3, 3), 65535, np.uint16))
    assert bits == pytest.approx([16 + np.log2(1 + 100 / 65536)], rel=1e-14)
    with pytest.raises(ValueError, match="uint16"):
        PixelHistogram.fit(train, 1 << 16).bits_per_dim(np.zeros((1, 2, 3, 3), np.uint8))


@pytest.mark.parametrize(
    ("pixels", "levels", "message"),
    [
        (np.full((2, 1, 1, 1), 17, np.uint8), 17, "level 17 occurs, at most 16"),
        (np.zeros((0, 1, 1, 1), np.uint8), 17, "N > 0"),
        (np.zeros((2, 1, 1), np.uint8), 17, "uint8"),
        (np.zeros((2, 1, 1, 1), np.float32), 17, "float32"),
        (np.zeros((2, 1, 1, 1), np.uint8), 1, "levels must be at least 2"),
    ],
)
def test_invalid_images_are_errors(pixels: np.ndarray, levels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelHistogram.fit(pixels, levels)
