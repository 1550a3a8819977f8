"""Dequantisation: what a uniform density costs, and how the bound tightens."""

import math

import pytest
import torch
from torch import Tensor
from truth.models import tensor
from truth.statistics import assert_mean

from diffprob.base.distributions import LocationScale
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum
from diffprob.space.dequantise import Dequantisation, dequantised
from diffprob.space.pixels import Pixels, level_type


def all_levels(n: int, levels: int) -> Tensor:
    return torch.arange(levels).to(level_type(levels)).expand(n, 1, 1, levels)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_noise_stays_in_the_bin_of_its_level(levels: int) -> None:
    space, n = Pixels((1, 1, levels), levels), 500
    k = all_levels(n, levels)
    x = dequantised(space, k, Rng.of(0, n))
    assert x.dtype == torch.float64
    assert torch.equal(space.to_data(x), k)
    u = ((x - space.to_model(k, torch.float64)) / space.bin_width).flatten()
    assert float(u.abs().max()) <= 0.5
    assert_mean(u, 0.0)
    assert_mean(u.square(), 1 / 12)
    assert torch.equal(dequantised(space, k[3:5], Rng.of(0, n).select(slice(3, 5))), x[3:5])


@pytest.mark.parametrize("how", [Dequantisation(), Dequantisation(3, 4)], ids=repr)
@pytest.mark.parametrize("levels", [2, 17, 256, 16384])
def test_uniform_density_costs_log2_levels(levels: int, how: Dequantisation) -> None:
    space = Pixels((1, 1, levels), levels)
    edge = 1 + space.bin_width / 2

    def density(x: Tensor, rng: Rng) -> Tensor:
        inside = (x.abs() <= edge).flatten(1).all(1)
        return torch.where(inside, tensor(-space.dimensions * math.log(2 * edge)), -torch.inf)

    bits = space.bits_per_dim(-how.log_prob(density, space, all_levels(5, levels), Rng.of(1, 5)))
    torch.testing.assert_close(bits, torch.full_like(bits, math.log2(levels)), rtol=1e-13, atol=0)


def test_bound_matches_its_expectation_and_tightens_with_importance_samples() -> None:
    """A normal density on wide bins: E[log p(x + u)] has a closed form, the mass is a difference of cdfs."""
    space, n, std = Pixels((1, 1, 5), 5), 200, 0.35
    k = all_levels(n, 5)
    x, w = space.to_model(k, torch.float64), space.bin_width

    def density(y: Tensor, rng: Rng) -> Tensor:
        return LocationScale(torch.zeros_like(y), tensor(std)).log_prob(y)

    once = Dequantisation().log_prob(density, space, k, Rng.of(2, n))
    # E[(x + u)^2] = x^2 + w^2/12
    assert_mean(once, density(x[:1], Rng.of(0, 1)) - 5 * w * w / 24 / std**2)
    thrice = Dequantisation(repeats=9).log_prob(density, space, k, Rng.of(2, n))
    assert float(once.std() / thrice.std()) == pytest.approx(3, rel=0.2)
    normal = torch.distributions.Normal(tensor(0.0), tensor(std))
    mass = flat_sum(torch.log((normal.cdf(x[:1] + w / 2) - normal.cdf(x[:1] - w / 2)) / w))
    bounds = [Dequantisation(importance=m).log_prob(density, space, k, Rng.of(2, n)).mean() for m in (1, 4, 16, 256)]
    assert bounds == sorted(bounds)
    assert float(bounds[-1]) == pytest.approx(float(mass), abs=0.03)
    assert float(bounds[0]) < float(mass) - 0.5


def test_density_gets_separate_random_streams() -> None:
    seen = []

    def density(x: Tensor, rng: Rng) -> Tensor:
        seen.append((rng.stream, rng.step, float(rng.uniform()[0])))
        return torch.zeros(len(x))

    space = Pixels((1, 1, 4), 4)
    Dequantisation(2, 3).log_prob(density, space, all_levels(2, 4), Rng.of(0, 2))
    assert len(set(seen)) == 6


def test_invalid_settings_are_errors() -> None:
    for name in ("repeats", "importance"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            Dequantisation(**{name: 0})


@pytest.mark.parametrize("streams", [1, 3])
def test_wrong_number_of_streams_is_an_error(streams: int) -> None:
    with pytest.raises(ValueError, match=f"{streams} random streams for a batch of 2"):
        dequantised(Pixels((1, 1, 4), 4), all_levels(2, 4), Rng.of(0, streams))


def test_density_of_another_shape_is_an_error() -> None:
    """One for all of them would be shared without a word."""
    with pytest.raises(ValueError, match="a density must be"):
        Dequantisation().log_prob(lambda x, _: x.sum(), Pixels((1, 1, 4), 4), all_levels(2, 4), Rng.of(0, 2))
