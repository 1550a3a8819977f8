"""The peak signal-to-noise ratio against its formula, image by image."""

import math

import numpy as np
import pytest

from diffprob.evaluation.likeness import mean_and_error, psnr

SHAPE = (3, 1, 5, 4)


def images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SHAPE).astype(np.uint8)


@pytest.mark.parametrize("levels", [256, 300])
def test_the_formula(levels: int) -> None:
    a, b = images(0), images(1)
    for k, found in enumerate(psnr(a, b, levels)):
        error = sum((int(x) - int(y)) ** 2 for x, y in zip(a[k].ravel(), b[k].ravel(), strict=True)) / 20
        assert found == pytest.approx(10 * math.log10((levels - 1) ** 2 / error), rel=1e-12)
    assert psnr(np.zeros((1, 1, 2, 2)), np.full((1, 1, 2, 2), 25.5))[0] == pytest.approx(20)


def test_over_some_pixels() -> None:
    a, b = images(0), images(1)
    where = np.zeros((1, 1, 5, 4), dtype=bool)
    where[..., 1:3, 2:] = True
    assert psnr(a, b, where=where) == pytest.approx(psnr(a[..., 1:3, 2:], b[..., 1:3, 2:]), rel=1e-12)
    with pytest.raises(ValueError, match="no pixel"):
        psnr(a, b, where=np.zeros(SHAPE, dtype=bool))
    with pytest.raises(ValueError, match="of one shape"):
        psnr(a, b[:2])


def test_equal_images_have_no_error() -> None:
    found = psnr(images(0), images(0))
    assert np.isinf(found).all()
    assert mean_and_error(found)[0] == math.inf
    assert math.isnan(mean_and_error(found)[1])


def test_the_standard_error() -> None:
    mean, error = mean_and_error(np.array([1.0, 2.0, 6.0]))
    assert (mean, error) == (3.0, pytest.approx(math.sqrt(7 / 3)))
    assert math.isnan(mean_and_error(np.array([1.0]))[1])
