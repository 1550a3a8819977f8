"""The wrapper's answers do not depend on companions, and the proxies say what the densities say."""

import math

import pytest
import torch
from torch import nn
from truth.densities import Normal
from truth.statistics import assert_mean

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import Evaluation
from diffprob.density.baselines import DensityModel, LogDensity, NegativeEnergy
from diffprob.net.energy import EnergySpec
from diffprob.net.glow import GlowSpec
from diffprob.space.pixels import Pixels

SPACE = Pixels((1, 4, 4), 5)


@pytest.fixture
def levels():
    return Rng.of(0, 12).integers(SPACE.shape, SPACE.levels)


@pytest.mark.parametrize("spec", [GlowSpec(SPACE.shape, 2, 2, 8), EnergySpec(1, (8, 16))], ids=repr)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_density_model_has_the_same_bits_in_any_batch(spec, precision, levels):
    torch.manual_seed(0)
    model = DensityModel(spec.build().eval(), Evaluation(chunk=4, precision=precision))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    x = SPACE.to_model(levels)
    with torch.no_grad():
        whole = model(x)
        assert whole.dtype == torch.float64 and whole.shape == (12,)
        for picked in (slice(0, 1), slice(3, 8), slice(5, None)):
            assert torch.equal(model(x[picked]), whole[picked])
        assert torch.equal(model(x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)), whole)
        assert torch.equal(model(x.double()), whole)
        assert model(x[:0]).shape == (0,)
        loose = DensityModel(model.net, Evaluation(precision=precision))(x)
    torch.testing.assert_close(loose, whole, rtol=1e-5 if precision == "fp32" else 0.02, atol=1e-5)


def test_energy_is_minus_log_prob():
    x = Rng.of(1, 6).normal((3,), torch.float64)
    density, energy = DensityModel(Normal(0.5, True)), DensityModel(Normal(0.5))
    law = torch.distributions.Normal(0, 0.5**0.5).log_prob(x).sum(1)
    torch.testing.assert_close(density.log_prob(x), law)
    torch.testing.assert_close(density.energy(x), -law)
    torch.testing.assert_close(energy.energy(x), law.max() - law + energy.energy(x).min())
    assert density.normalised and not energy.normalised
    with pytest.raises(InputError, match=r"Normal knows log p\(x\) up to a constant only"):
        energy.log_prob(x)


def test_gradients_flow_to_images_and_weights():
    model = DensityModel(Normal(0.5, True))
    x = Rng.of(1, 6).normal((3,), torch.float64).requires_grad_(True)
    by_x, by_v = torch.autograd.grad(model.raw(x).sum(), [x, model.net.v])
    torch.testing.assert_close(by_x, -x.detach() / 0.5)
    torch.testing.assert_close(by_v, (x.detach().square().sum() / (2 * 0.5**2) - 6 * 3 / (2 * 0.5)))


def test_log_density_averages_over_the_bins(levels):
    """E over u of log N(x + u; 0, v I) in closed form: u has the variance w^2/12."""
    model, n, v = DensityModel(Normal(0.7, True)), 2000, 0.7
    image = SPACE.to_model(levels[:1], torch.float64).expand(n, -1, -1, -1)
    proxy = LogDensity(noises=3).bind(SPACE)
    scores = proxy(model, image, Rng.of(5, n))
    second = image[0].square().sum() + 16 * SPACE.bin_width**2 / 12
    assert_mean(scores, -0.5 * second / v - 8 * math.log(2 * math.pi * v))
    single = LogDensity(noises=1).bind(SPACE)(model, image, Rng.of(5, n))
    assert float(single.var() / scores.var()) == pytest.approx(3, rel=0.3)  # of independent noises; 4 errors of a ratio


def test_uniform_density_gives_log_levels(levels):
    class Uniform(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(()))

        def log_prob(self, x):
            edge = 1 + SPACE.bin_width / 2
            inside = (x.abs() <= edge).flatten(1).all(1)
            return torch.where(inside, -16 * math.log(2 * edge), -math.inf)

    scores = LogDensity(2).bind(SPACE)(DensityModel(Uniform()), SPACE.to_model(levels, torch.float64), Rng.of(0, 12))
    torch.testing.assert_close(SPACE.bits_per_dim(-scores), torch.full_like(scores, math.log2(5)))


def test_proxies_are_per_image_and_detached(levels):
    torch.manual_seed(0)
    x, rng = SPACE.to_model(levels), Rng.of(7, 12)
    glow = DensityModel(GlowSpec(SPACE.shape, 2, 2, 8).build().eval(), Evaluation(chunk=4))
    energy = DensityModel(EnergySpec(1, (8, 16)).build().eval(), Evaluation(chunk=4))
    with torch.no_grad():
        for model, proxy in ((glow, LogDensity(2).bind(SPACE)), (energy, NegativeEnergy())):
            statistics = proxy.statistics(model, x, rng)
            assert statistics.shape == (12, len(proxy.columns)) and statistics.dtype == torch.float64
            part = proxy.statistics(model, x[4:7], rng.select(slice(4, 7)))
            assert torch.equal(part, statistics[4:7])
    for model, proxy in ((glow, LogDensity(2).bind(SPACE)), (energy, NegativeEnergy())):
        assert not proxy.statistics(model, x, rng).requires_grad
    torch.testing.assert_close(NegativeEnergy()(energy, x, rng), -energy.energy(x).detach())


def test_proxies_are_higher_near_the_mode():
    """Near the mode of both kinds of model the proxies are larger; the images are levels of nine."""
    x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None, None, None].expand(5, 1, 4, 4)
    energy = NegativeEnergy()(DensityModel(Normal(0.5)), x, Rng.of(0, 5))
    density = LogDensity(4, 9)(DensityModel(Normal(0.5, True)), x, Rng.of(0, 5))
    assert energy.diff().max() < 0 and density.diff().max() < 0


def test_invalid_use_is_an_error():
    x, rng = torch.zeros(2, *SPACE.shape), Rng.of(0, 2)
    with pytest.raises(InputError, match=r"NegativeEnergy\(\) needs a DensityModel"):
        NegativeEnergy()(nn.Linear(1, 1), x, rng)
    with pytest.raises(ValueError, match="does not know the grey levels"):
        LogDensity()(DensityModel(Normal(1.0, True)), x, rng)
    with pytest.raises(InputError, match="up to a constant only"):
        LogDensity(levels=5)(DensityModel(Normal(1.0)), x, rng)
    with pytest.raises(ValueError, match="noises must be at least 1, got 0"):
        LogDensity(0)
    with pytest.raises(ValueError, match="levels must be"):
        LogDensity(levels=1)
    assert LogDensity(2, 17).bind(SPACE) == LogDensity(2, 17)
