"""Clipping and dynamic thresholding of the predicted image."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from truth.models import exact_models, net_denoiser, tensor

from diffprob.base.distributions import LocationScale
from diffprob.base.rng import Rng
from diffprob.denoise.clipping import Clip, DynamicClip
from diffprob.process.linear import LinearProcess

T = tensor(0.6)


@dataclass(frozen=True, eq=False)
class Labelled(LocationScale):
    """A posterior that carries something else."""

    label: str = field(default="kept", kw_only=True)


class Fixed:
    """The same posterior whatever is asked."""

    process = LinearProcess()

    def __init__(self, mean: torch.Tensor) -> None:
        self.law = Labelled(mean, torch.full((), 0.3))

    def __call__(self, xt, t):
        return self.law


MEAN = 2 * Rng.of(3, 5).normal((3, 7, 7))
MEAN[0] *= 0.1  # within the range: nothing to do


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.995, 1.0])
def test_dynamic_clip_matches_imagen(quantile: float) -> None:
    """q = max(1, the sample's quantile of |x_0|), then clamp(x_0, -q, q)/q: by numpy."""
    clipped = DynamicClip(Fixed(MEAN), quantile)(MEAN, T).mean
    for mean, image in zip(MEAN.numpy(), clipped, strict=True):
        q = max(1.0, float(np.quantile(np.abs(mean.astype(np.float64)), quantile)))
        np.testing.assert_allclose(image.numpy(), np.clip(mean, -q, q) / q, rtol=1e-5, atol=1e-6)
    assert torch.equal(clipped[0], MEAN[0])
    assert float(clipped.abs().max()) <= 1 + 1e-6


def test_dynamic_clip_scales_with_its_bound() -> None:
    clipped = DynamicClip(Fixed(3 * MEAN), 0.9, bound=3.0)(MEAN, T).mean
    torch.testing.assert_close(clipped, 3 * DynamicClip(Fixed(MEAN), 0.9)(MEAN, T).mean)


@pytest.mark.parametrize("wrap", [Clip, DynamicClip])
def test_wrappers_change_only_the_mean(wrap) -> None:
    model = Fixed(MEAN)
    wrapped = wrap(model)
    law = wrapped(MEAN, T)
    assert wrapped.process is model.process
    assert type(law) is Labelled
    assert law.label == "kept"
    assert law.std is model.law.std
    with pytest.raises(ValueError, match="only a LocationScale posterior can be clipped, got Gaussian"):
        wrap(exact_models()["gaussian"])(torch.zeros(2, 2), T)


def test_sample_does_not_depend_on_its_batch() -> None:
    model, x = DynamicClip(net_denoiser(chunk=2), 0.8), Rng.of(0, 5).normal((1, 8, 8))
    with torch.no_grad():
        assert torch.equal(model(x, T).mean[3:4], model(x[3:4], T).mean)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "quantile must lie in .*got 0.0"),
        ((1.5,), "quantile must lie in .*got 1.5"),
        ((math.nan,), "quantile must lie in .*got nan"),
        ((0.9, -1.0), "bound must be positive, got -1.0"),
    ],
)
def test_invalid_settings_are_errors(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DynamicClip(Fixed(MEAN), *arguments)
