"""Grey levels with the mass of a continuous law in their bins, and the noise laws' own functions."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats
from truth.models import tensor
from truth.quadrature import integrates_to_one
from truth.statistics import assert_frequencies

from diffprob.base.distributions import Discretised, LocationScale
from diffprob.base.laws import Normal
from diffprob.base.rng import Rng


def log_probabilities(mean: float, std: float, levels: int) -> torch.Tensor:
    """log P of all K levels, (K,)."""
    x = 2 * torch.arange(levels, dtype=torch.float64)[:, None] / (levels - 1) - 1
    return Discretised(LocationScale(torch.full_like(x, mean), tensor(std)), levels).log_prob(x)


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize(
    ("mean", "std"),
    [(0.0, 0.3), (0.1234, 0.01), (-0.99, 0.00738), (0.2, 1e-4), (1.0, 0.05), (0.5, 10.0), (21.0, 1.0), (-3.0, 0.1)],
)
def test_probabilities_sum_to_one(mean: float, std: float, levels: int) -> None:
    total = math.fsum(log_probabilities(mean, std, levels).exp().tolist())
    assert abs(total - 1) < 1e-12


@pytest.mark.parametrize(("mean", "std"), [(0.1234, 0.01), (0.7, 0.3), (21.0, 1.0), (-0.4, 0.02)])
def test_every_level_matches_mpmath(mean: float, std: float) -> None:
    """Relative accuracy of every probability, also of those beyond 1e-308 and 20 standard deviations away."""
    ours = log_probabilities(mean, std, 17)
    with mpmath.workdps(60):
        for k in range(17):
            x, half = mpmath.mpf(2) * k / 16 - 1, mpmath.mpf(1) / 16
            m, s = mpmath.mpf(mean), mpmath.mpf(std)
            # Phi(b) - Phi(a) = Phi(-a) - Phi(-b): the side where neither is near one.
            low, high = ((x - half - m) / s, (x + half - m) / s)
            low, high = (-mpmath.inf if k == 0 else low), (mpmath.inf if k == 16 else high)
            if low > 0:
                low, high = -high, -low
            mass = mpmath.ncdf(high) - (mpmath.ncdf(low) if low > -mpmath.inf else 0)
            expected = float(mpmath.log(mass))
            # log P is good to a few ulps of itself plus those of the exponent z^2/2.
            assert abs(float(ours[k]) - expected) < 1e-12 * max(1.0, abs(expected)), (k, float(ours[k]), expected)


def test_log_probabilities_far_from_the_mean_are_finite() -> None:
    logs = log_probabilities(0.0, 0.005, 256)
    assert torch.isfinite(logs).all()
    assert (logs[:128].diff() > 0).all()
    assert logs[0] < -15_000
    torch.testing.assert_close(logs, logs.flip(0), rtol=1e-10, atol=0)


def test_gradients_are_finite_at_every_level() -> None:
    x = 2 * torch.arange(17, dtype=torch.float64)[:, None] / 16 - 1
    mean = torch.full_like(x, 0.37).requires_grad_()
    log_std = torch.full_like(x, -3.0).requires_grad_()
    total = Discretised(LocationScale(mean, log_std.exp()), 17).log_prob(x).sum()
    gradients = torch.autograd.grad(total, [mean, log_std])
    assert all(torch.isfinite(g).all() for g in gradients)
    h = 1e-6
    for i, (dm, ds) in enumerate([(h, 0.0), (0.0, h)]):
        shifted = [log_probabilities(0.37 + s * dm, math.exp(-3 + s * ds), 17) for s in (1, -1)]
        torch.testing.assert_close(gradients[i][:, 0], (shifted[0] - shifted[1]) / (2 * h), rtol=1e-6, atol=1e-6)


def test_decoder_bits_match_ddpm() -> None:
    """Bits per dimension of the last DDPM step for three choices of its deviation: 2.504, 2.393 and 2.465.

    An inner level, flat prior: x_1 = a_1 x_0 + s_1 eps with s_1 = 0.01, mean x_1/a_1. The figures are the reference's,
    which lie below an inner level's by less than 0.01 (the two outer levels are cheaper).
    """
    abar1, abar2 = 0.9999, 0.9999 * (1 - (1e-4 + 0.0199 / 999))
    small = math.sqrt((1 - abar2 / abar1) * (1 - abar1) / (1 - abar2))
    assert abs(small - 0.00738) < 5e-6
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    x = torch.full((120, 1), 2 * 140 / 255 - 1, dtype=torch.float64)
    mean = x + 0.01 / math.sqrt(abar1) * torch.from_numpy(nodes)[:, None]
    measured = []
    for std, bits in ((small, 2.504), (0.01, 2.393), (0.0125, 2.465)):
        logs = Discretised(LocationScale(mean, tensor(std)), 256).log_prob(x)
        measured.append(-float(logs @ torch.from_numpy(weights)) / weights.sum() / math.log(2))
        assert 0 < measured[-1] - bits < 0.01
    assert measured[1] == min(measured)


def test_sample_frequencies_match_probabilities() -> None:
    n, levels = 40_000, 5
    base = LocationScale(tensor([[0.3]]).expand(n, 1), tensor(0.6))
    x = Discretised(base, levels).sample(Rng.of(0, n))
    k = ((x + 1) * (levels - 1) / 2).flatten()
    assert torch.equal(k, k.round())
    p = log_probabilities(0.3, 0.6, levels).exp().numpy()
    assert_frequencies(np.bincount(k.long().numpy(), minlength=levels), p)


def test_moments_equal_those_of_the_base_law() -> None:
    law = Discretised(LocationScale(tensor([[0.3]]), tensor(0.6)), 5)
    assert float(law.mean) == 0.3
    assert float(law.variance) == pytest.approx(0.36)
    for bad in (1, 0, -3):
        with pytest.raises(ValueError, match=str(bad)):
            Discretised(law.base, bad)


def test_normal_law_matches_scipy() -> None:
    z = torch.cat([torch.linspace(-38, 38, 3001, dtype=torch.float64), tensor([-1e3, -100.0])])
    np.testing.assert_allclose(Normal().log_density(z), stats.norm.logpdf(z), rtol=1e-14, atol=0)
    np.testing.assert_allclose(Normal().log_cdf(z), stats.norm.logcdf(z), rtol=1e-12, atol=1e-300)
    integrates_to_one(lambda x: Normal().log_density(x)[:, 0], 1)
    assert Normal() == Normal()
    assert repr(Normal()) == "Normal()"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [0.0, 0.4, 3.0, 30.0, 900.0, 2000.0, 3e4, 1e6])
def test_gradients_are_accurate_far_in_the_tails(dtype: torch.dtype, far: float) -> None:
    """By mean and standard deviation, against the exact ones of 60 digits; so many standard deviations away."""
    levels, x, std = 256, 2 * 100 / 255 - 1, 0.01
    for sign in (-1, 1):
        mean = torch.tensor([[x + sign * far * std]], dtype=dtype, requires_grad=True)
        spread = torch.tensor(std, dtype=dtype, requires_grad=True)
        Discretised(LocationScale(mean, spread), levels).log_prob(torch.tensor([[x]], dtype=dtype)).sum().backward()
        with mpmath.workdps(60):
            m, s, k = (mpmath.mpf(float(v)) for v in (mean, spread, torch.tensor(x, dtype=dtype)))
            ends = [(k + h - m) / s for h in (-mpmath.mpf(1) / 255, mpmath.mpf(1) / 255)]
            ends = [-end for end in reversed(ends)] if ends[0] > 0 else ends  # where the difference has its digits
            turn = 1 if ends[1] == (k + mpmath.mpf(1) / 255 - m) / s else -1
            # Phi by its complement: ncdf is 0 far out.
            a, b = ends
            mass = mpmath.erfc(-b / mpmath.sqrt(2)) / 2 - mpmath.erfc(-a / mpmath.sqrt(2)) / 2
            low, high = (mpmath.npdf(end) / mass for end in ends)
            by_mean, by_std = -turn * (high - low) / s, -(b * high - a * low) / s
        slack = 2e-3 if dtype == torch.float32 else 1e-9
        assert mean.grad is not None
        assert spread.grad is not None
        assert float(mean.grad) == pytest.approx(float(by_mean), rel=slack, abs=slack)
        assert float(spread.grad) == pytest.approx(float(by_std), rel=slack, abs=slack)


def test_gradients_of_the_outermost_bins_are_accurate() -> None:
    for x, mean, sign in ((-1.0, 29.0, -1), (1.0, -29.0, 1)):
        m = torch.tensor([[mean]], requires_grad=True)
        Discretised(LocationScale(m, torch.tensor(0.01)), 256).log_prob(torch.tensor([[x]])).sum().backward()
        z = (30 - 1 / 255) / 0.01
        assert m.grad is not None
        assert float(m.grad) == pytest.approx(sign * (z + 1 / z) / 0.01, rel=1e-5)


def test_law_without_spread_puts_all_mass_in_one_bin() -> None:
    x = 2 * torch.arange(5.0)[:, None] / 4 - 1
    for std in (torch.tensor(0.0), torch.tensor(1e-40)):
        log_p = Discretised(LocationScale(torch.full_like(x, 0.4), std), 5).log_prob(x)
        assert log_p.tolist() == [-math.inf, -math.inf, -math.inf, 0, -math.inf]
