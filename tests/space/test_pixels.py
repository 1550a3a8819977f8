"""Pixel space: levels there and back, and the size of a bin."""

import math

import pytest
import torch
from truth.models import tensor

from diffprob.base.distributions import Discretised, LocationScale
from diffprob.base.errors import NumericalError
from diffprob.base.rng import Rng
from diffprob.space.pixels import Pixels, level_type


@pytest.mark.parametrize("levels", [2, 3, 16, 17, 255, 256, 257, 4096, 16384])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_survive_the_round_trip(levels: int, dtype: torch.dtype) -> None:
    space = Pixels((1, 1, levels), levels)
    k = torch.arange(levels).to(level_type(levels)).reshape(1, 1, 1, -1)
    x = space.to_model(k, dtype)
    assert x.dtype == dtype
    assert float(x.min()) == -1
    assert float(x.max()) == pytest.approx(1, abs=2e-7)
    torch.testing.assert_close(x.double(), 2 * k.double() / (levels - 1) - 1, rtol=0, atol=2e-7)
    assert torch.equal(space.to_data(x), k)
    assert space.to_data(x).dtype == level_type(levels)
    assert torch.equal(space.exact(x), k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_level_of_sixteen_bits_survives_the_round_trip(dtype: torch.dtype) -> None:
    """A level is 3e-5 wide, and rounding in float32 moves it by at most 2 eps/(2/65535) = 0.008 of that."""
    space = Pixels((1, 256, 256), 65536)
    k = torch.arange(65536).to(torch.uint16).reshape(1, 1, 256, 256)
    x = space.to_model(k, dtype)
    assert torch.equal(space.to_data(x), k)
    assert torch.equal(space.exact(x), k)
    with pytest.raises(ValueError, match="none of 65536 levels"):
        space.exact(x + 0.1 * space.bin_width)


@pytest.mark.parametrize("mean", [0.0, 0.37])
def test_discretised_law_of_sixteen_bits_sums_to_one(mean: float) -> None:
    """To 1e-10 in float64, and each level is its density times the width, to 1e-6 where that is flat."""
    x = Pixels((1, 1, 1), 65536).to_model(torch.arange(65536).reshape(-1, 1, 1, 1), torch.float64)
    base = LocationScale(torch.full_like(x, mean), tensor(0.05))
    logs = Discretised(base, 65536).log_prob(x)
    assert float(logs.exp().sum()) == pytest.approx(1, abs=1e-10)
    near = (x.flatten() - mean).abs() < 0.1
    torch.testing.assert_close(logs[near], base.log_prob(x)[near] + math.log(2 / 65535), rtol=0, atol=1e-6)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_bin_extends_half_a_width_to_either_side(levels: int) -> None:
    space = Pixels((1, 1, levels), levels)
    k = torch.arange(levels, dtype=torch.uint8).reshape(1, 1, 1, -1)
    x = space.to_model(k, torch.float64)
    for fraction in (-0.499, -0.25, 0.25, 0.499):
        assert torch.equal(space.to_data(x + fraction * space.bin_width), k)
    inner = slice(None, -1)
    assert torch.equal(space.to_data(x + 0.501 * space.bin_width)[..., inner], k[..., inner] + 1)


def test_values_out_of_range_are_clamped() -> None:
    x = tensor([-7.0, -1.01, 1.01, 300.0, math.inf, -math.inf]).reshape(1, 1, 1, -1)
    assert Pixels((1, 1, 6), 256).to_data(x).flatten().tolist() == [0, 0, 255, 255, 255, 0]


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
def test_uniform_density_costs_log2_levels(levels: int) -> None:
    space = Pixels((3, 8, 8), levels)
    assert space.dimensions == 192
    # Uniform on the K bins, which reach half a width beyond [-1, 1].
    nats = torch.full((2,), space.dimensions * math.log(levels * space.bin_width), dtype=torch.float64)
    torch.testing.assert_close(space.bits_per_dim(nats), torch.full_like(nats, math.log2(levels)), rtol=1e-13, atol=0)


def test_discretised_law_matches_its_density_for_fine_bins() -> None:
    """-log2 P(level) against bits_per_dim of -log p at the level: equal up to the curvature within a bin."""
    space = Pixels((1, 4, 4), 256)
    base = LocationScale(torch.zeros(5, 1, 4, 4, dtype=torch.float64), tensor(0.4))
    x = space.to_model(space.to_data(base.sample(Rng.of(0, 5)).clamp(-0.9, 0.9)), torch.float64)
    discrete = -Discretised(base, 256).log_prob(x) / (16 * math.log(2))
    torch.testing.assert_close(space.bits_per_dim(-base.log_prob(x)), discrete, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("shape", "levels", "message"),
    [
        ((1, 8, 8), 1, "1"),
        ((1, 8, 8), 65537, "65537"),
        ((8, 8), 17, r"\(8, 8\)"),
        ((1, 0, 8), 17, r"shape\[1\] must be at least 1, got 0"),
    ],
)
def test_invalid_spaces_are_errors(shape: tuple[int, ...], levels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pixels(shape, levels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bool])
def test_fractional_levels_are_errors(dtype: torch.dtype) -> None:
    """Values in [0, 1] were nearly black images, and values above the levels brighter than white."""
    with pytest.raises(ValueError, match=r"whole numbers 0\.\.16 .*\(x \* 16\)\.round\(\)\.to\(torch\.uint8\)"):
        Pixels((1, 2, 2), 17).to_model(torch.ones(1, 1, 2, 2).to(dtype))


def test_levels_out_of_range_are_errors() -> None:
    for wrong, levels in ((17, 17), (-1, 256), (256, 256)):
        with pytest.raises(ValueError, match=rf"levels must lie in 0\.\.{levels - 1}, got {wrong}"):
            Pixels((1, 1, 1), levels).to_model(torch.full((1, 1, 1, 1), wrong))
    assert Pixels((1, 1, 1)).to_model(torch.zeros(0, 1, 1, 1, dtype=torch.int64)).shape == (0, 1, 1, 1)


def test_nan_is_an_error() -> None:
    with pytest.raises(NumericalError, match="not numbers"):
        Pixels((1, 1, 2)).to_data(tensor([0.5, math.nan]).reshape(1, 1, 1, 2))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_levels_passed_as_points_are_an_error(dtype: torch.dtype) -> None:
    """Level 0 as a point is the middle grey; and points of a whole type lose everything between -1 and 1."""
    space = Pixels((1, 1, 2))
    with pytest.raises(ValueError, match="floating type"):
        space.to_data(torch.zeros(1, 1, 1, 2, dtype=dtype))
    with pytest.raises(ValueError, match="floating type"):
        space.to_model(torch.zeros(1, 1, 1, 2, dtype=torch.uint8), dtype)
