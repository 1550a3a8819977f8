"""Structural similarity against torchmetrics, and what it must be."""

import numpy as np
import pytest
import torch

from diffprob.evaluation.structural import ssim


@pytest.mark.parametrize(("shape", "levels"), [((3, 1, 28, 28), 256), ((2, 3, 13, 20), 17)])
def test_agrees_with_torchmetrics(shape, levels):
    metrics = pytest.importorskip("torchmetrics.functional.image")
    random = np.random.default_rng(0)
    x = random.integers(0, levels, shape)
    y = np.clip(x + random.integers(-levels // 4, levels // 4, shape), 0, levels - 1)
    pair = (torch.from_numpy(each).double() for each in (x, y))
    _, theirs = metrics.structural_similarity_index_measure(*pair, data_range=levels - 1.0, return_full_image=True)
    theirs = theirs[..., 5:-5, 5:-5].mean((1, 2, 3))  # theirs goes on into a reflected border, Wang et al.'s does not
    # float64 sums of 121 terms; variances of some hundred levels as differences of squares lose three digits.
    assert np.allclose(ssim(x, y, levels), theirs.numpy(), rtol=0, atol=1e-9)


def test_equal_images_have_one_and_others_less():
    x = np.random.default_rng(1).integers(0, 256, (4, 1, 16, 16), dtype=np.uint8)
    assert np.allclose(ssim(x, x), 1, rtol=0, atol=1e-12)
    assert (ssim(x, 255 - x) < 0).all()


def test_what_cannot_be_compared_is_refused():
    x = np.zeros((2, 1, 16, 16))
    for other in (np.zeros((2, 1, 16, 15)), np.zeros((1, 1, 16, 16))):
        with pytest.raises(ValueError, match="expected two arrays"):
            ssim(x, other)
    with pytest.raises(ValueError, match="11 pixels or more"):
        ssim(x[..., :10], x[..., :10])
