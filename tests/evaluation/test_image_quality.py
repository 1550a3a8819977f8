"""The peak signal-to-noise ratio against its formula, and the structural similarity against torchmetrics."""

import math

import numpy as np
import pytest
import torch

from diffprob.evaluation.image_quality import mean_and_error, psnr, ssim

SHAPE = (3, 1, 5, 4)


def images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SHAPE).astype(np.uint8)


@pytest.mark.parametrize("levels", [256, 300])
def test_psnr_matches_the_formula(levels: int) -> None:
    a, b = images(0), images(1)
    for k, ratios in enumerate(psnr(a, b, levels)):
        error = sum((int(x) - int(y)) ** 2 for x, y in zip(a[k].ravel(), b[k].ravel(), strict=True)) / 20
        assert ratios == pytest.approx(10 * math.log10((levels - 1) ** 2 / error), rel=1e-12)
    assert psnr(np.zeros((1, 1, 2, 2)), np.full((1, 1, 2, 2), 25.5), 256)[0] == pytest.approx(20)


def test_psnr_over_masked_pixels_matches_the_formula() -> None:
    a, b = images(0), images(1)
    where = np.zeros((1, 1, 5, 4), dtype=bool)
    where[..., 1:3, 2:] = True
    assert psnr(a, b, 256, where=where) == pytest.approx(psnr(a[..., 1:3, 2:], b[..., 1:3, 2:], 256), rel=1e-12)
    with pytest.raises(ValueError, match="no pixel"):
        psnr(a, b, 256, where=np.zeros(SHAPE, dtype=bool))
    with pytest.raises(ValueError, match="of one shape"):
        psnr(a, b[:2], 256)


def test_psnr_of_equal_images_is_infinite() -> None:
    ratios = psnr(images(0), images(0), 256)
    assert np.isinf(ratios).all()
    assert mean_and_error(ratios)[0] == math.inf
    assert math.isnan(mean_and_error(ratios)[1])


def test_mean_and_standard_error_match_the_formula() -> None:
    mean, error = mean_and_error(np.array([1.0, 2.0, 6.0]))
    assert (mean, error) == (3.0, pytest.approx(math.sqrt(7 / 3)))
    assert math.isnan(mean_and_error(np.array([1.0]))[1])


@pytest.mark.parametrize(("shape", "levels"), [((3, 1, 28, 28), 256), ((2, 3, 13, 20), 17)])
def test_ssim_matches_torchmetrics(shape, levels):
    metrics = pytest.importorskip("torchmetrics.functional.image")
    random = np.random.default_rng(0)
    x = random.integers(0, levels, shape)
    y = np.clip(x + random.integers(-levels // 4, levels // 4, shape), 0, levels - 1)
    pair = (torch.from_numpy(image).double() for image in (x, y))
    _, theirs = metrics.structural_similarity_index_measure(*pair, data_range=levels - 1.0, return_full_image=True)
    theirs = theirs[..., 5:-5, 5:-5].mean((1, 2, 3))  # theirs goes on into a reflected border, Wang et al.'s does not
    # float64 sums of 121 terms; variances of some hundred levels as differences of squares lose three digits.
    assert np.allclose(ssim(x, y, levels), theirs.numpy(), rtol=0, atol=1e-9)


def test_ssim_of_equal_images_is_one_and_of_others_less():
    x = np.random.default_rng(1).integers(0, 256, (4, 1, 16, 16), dtype=np.uint8)
    assert np.allclose(ssim(x, x, 256), 1, rtol=0, atol=1e-12)
    assert (ssim(x, 255 - x, 256) < 0).all()


def test_images_of_different_shapes_are_errors():
    x = np.zeros((2, 1, 16, 16))
    for other in (np.zeros((2, 1, 16, 15)), np.zeros((1, 1, 16, 16))):
        with pytest.raises(ValueError, match="expected two arrays"):
            ssim(x, other, 256)
    with pytest.raises(ValueError, match="11 pixels or more"):
        ssim(x[..., :10], x[..., :10], 256)
