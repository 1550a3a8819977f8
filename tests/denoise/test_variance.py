"""Reverse variances: exact where theory says so, in agreement with Monte Carlo, bounded where they should be."""

import math

import pytest
import torch
from truth.gaussian import marginal_moments, push
from truth.statistics import LIMIT

from diffprob.base.distributions import LocationScale
from diffprob.base.errors import NumericalError
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData, MixtureData
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.moments import NoiseMoments, VarianceQuantiles
from diffprob.denoise.variance import (
    Analytic,
    GaussianNLL,
    NoiseResidual,
    OptimalCovariance,
    SquaredNoise,
    UnitData,
    Zero,
)
from diffprob.process.grids import Uniform
from diffprob.process.linear import LinearProcess, StraightScaling
from diffprob.process.schedule import VPSDE, LinearBetas, Straight
from diffprob.training.moments import QUANTILES, noise_moments, variance_quantiles

DDPM = LinearProcess(LinearBetas())
FREE = {"bound": math.inf, "last": math.inf}


def exact_moments(process, c, times):
    """Of isotropic Gaussian data of variance c: Var[x_0|x_t] = sigma^2 c/(alpha^2 c + sigma^2)."""
    alpha, sigma = process.coefficients(times)
    value, zero = c * (alpha**2 + sigma**2) / (alpha**2 * c + sigma**2), torch.zeros_like(times)
    return NoiseMoments(times, value, zero, value, zero, 1)


@pytest.mark.parametrize("moment", ["norm", "residual"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7, 60])
@pytest.mark.parametrize(
    "process", [DDPM, LinearProcess(VPSDE()), LinearProcess(Straight(), StraightScaling())], ids=repr
)
def test_analytic_variance_is_exact_on_isotropic_gaussian_data(process, n, eta, moment):
    c, m = 0.37, torch.tensor([0.3, -0.2], dtype=torch.float64)
    times = Uniform()(process, n)
    table = exact_moments(process, c, Uniform()(process, 60).flip(0))
    variance, ideal = (
        Analytic(moment=moment, moments=table, **FREE),
        GaussianData(m, c * torch.eye(2).double(), process),
    )

    def kernel(x, s, t):
        posterior = variance.posterior(process, t, ideal(x, t).mean, None)
        return process.reverse(posterior, x, s, t, eta)

    start = marginal_moments(process, m, c * torch.eye(2).double(), times[0])
    mean, cov = push(kernel, times, *start)
    wanted = marginal_moments(process, m, c * torch.eye(2).double(), times[-1])
    # Half the times lie between the knots of the table, where 1/(alpha^2 c + sigma^2) is interpolated.
    tolerance = 1e-12 if n in (1, 2, 60) else 1e-4
    assert (mean - wanted[0]).abs().max() < 1e-12 and (cov - wanted[1]).abs().max() < tolerance


def test_quantiles_of_a_diagonal_gaussian_are_its_spectrum_at_every_time():
    spectrum = torch.tensor([0.9, 0.1, 0.002, 0.002], dtype=torch.float64)
    model = GaussianData(torch.zeros(4).double(), torch.diag(spectrum), DDPM)
    times, between = Uniform()(DDPM, 60).flip(0), torch.tensor([0.2083, 0.7], dtype=torch.float64)
    table = variance_quantiles(model, torch.zeros(3, 4).double(), times, Rng.of(0, 3))
    assert table.values.shape == (60, QUANTILES)
    for at, tolerance in ((times, 1e-9), (between, 1e-2)):  # between knots 1/(alpha^2 c + sigma^2) is interpolated
        alpha, sigma = DDPM.coefficients(at)
        exact = sigma[:, None] ** 2 * spectrum / (alpha[:, None] ** 2 * spectrum + sigma[:, None] ** 2)
        wanted = exact.sort(1).values.repeat_interleave(QUANTILES // 4, 1)
        assert torch.allclose(table.variance(DDPM, at), wanted, rtol=tolerance, atol=0)


def test_zero_and_unit_data_match_beta_tilde_and_beta():
    x = torch.zeros(1, 1, dtype=torch.float64)
    for s, t in ((0.1, 0.5), (0.001, 0.002), (0.3, 1.0)):
        s, t = torch.tensor(s, dtype=torch.float64), torch.tensor(t, dtype=torch.float64)
        alpha_s, sigma_s, alpha_t, sigma_t = *DDPM.coefficients(s), *DDPM.coefficients(t)
        beta = 1 - (alpha_t / alpha_s) ** 2
        small = DDPM.reverse(Zero().posterior(DDPM, t, x, None), x, s, t).variance
        large = DDPM.reverse(UnitData().posterior(DDPM, t, x, None), x, s, t).variance
        assert float(small) == pytest.approx(float(beta * sigma_s**2 / sigma_t**2), rel=1e-10)
        assert float(large) == pytest.approx(float(beta), rel=1e-10)


@pytest.fixture(scope="module")
def mixture():
    means = torch.tensor([[0.8, -0.3], [-0.7, 0.1], [0.1, 0.6]], dtype=torch.float64)
    covs = torch.stack(
        [torch.diag(torch.tensor(v, dtype=torch.float64)) for v in ((0.01, 0.03), (0.04, 0.01), (0.02, 0.02))]
    )
    return MixtureData.of(torch.tensor([0.5, 0.3, 0.2]).double(), means, covs, DDPM)


def sample_of(mixture, rng):
    """Draws x_0 of a mixture, one per stream."""
    which = rng.fold("which").uniform((), torch.float64)
    edges = (mixture.weights / mixture.weights.sum()).cumsum(0)
    index = torch.searchsorted(edges, which).clamp_max(len(edges) - 1)
    z = rng.fold("where").normal((2,), torch.float64)
    scale = torch.stack([torch.diagonal(c.cov).sqrt() for c in mixture.components])
    return torch.stack([c.mean for c in mixture.components])[index] + scale[index] * z


TIMES = torch.tensor([1, 30, 200, 500, 800, 1000], dtype=torch.float64) / 1000


def test_fitted_moments_match_the_exact_ones_within_standard_errors(mixture):
    n = 40_000
    rng = Rng.of(0, n)
    moments = noise_moments(mixture, lambda k: sample_of(mixture, rng.fold("data").at(k)), TIMES, rng)
    for k, t in enumerate(TIMES):
        x0 = sample_of(mixture, Rng.of(10**6, n).at(k))
        alpha, sigma = DDPM.coefficients(t)
        xt = alpha * x0 + sigma * Rng.of(2 * 10**6, n).at(k).normal((2,), torch.float64)
        var = (alpha**2 + sigma**2) / sigma**2 * mixture(xt, t).variance.mean(1)
        truth, error = float(var.mean()), float(var.std() / n**0.5)
        for name in ("norm", "residual"):
            value, own = float(getattr(moments, name)[k]), float(getattr(moments, f"{name}_error")[k])
            assert abs(value - truth) < LIMIT * math.hypot(own, error), (name, float(t), value, truth, own)
            # Precise enough to be of use: without the control variates it would be 1e-2 of a truth of 1e-5 at t = 1.
            assert own < 0.05 * truth + 1e-12, (name, float(t))


def test_step_variance_matches_the_mean_squared_error(mixture):
    """ell^2 + c0^2 Var against Monte Carlo of E(x_s - mu)^2, within 0.5% (Bao et al. 2022, theorem 1)."""
    n, steps = 60_000, {0.03: (0.001, 1.0), 0.2: (0.03, 0.0), 0.5: (0.2, 1.0), 1.0: (0.5, 0.5)}
    rng, times = Rng.of(7, n), torch.tensor(list(steps), dtype=torch.float64)
    table = noise_moments(mixture, lambda k: sample_of(mixture, rng.fold("data").at(k)), times, rng)
    for k, (s, eta) in enumerate(steps.values()):
        s, t, fresh = torch.tensor(s, dtype=torch.float64), times[k], Rng.of(10**6, n).at(k)
        x0 = sample_of(mixture, fresh)
        xt = DDPM.marginal(x0, t).sample(fresh.fold("noise"))
        ideal, bridge = mixture(xt, t), DDPM.bridge_coefficients(s, t, eta)
        # E(x_s - mu)^2 with the noise of the bridge integrated out: ell^2 + c0^2 (x_0 - x0h)^2.
        squares = (bridge.ell**2 + bridge.c0**2 * (x0 - ideal.mean) ** 2).mean(1)
        truth, error = float(squares.mean()), float(squares.std() / n**0.5)
        for moment in ("norm", "residual"):
            posterior = Analytic(moment=moment, moments=table, **FREE).posterior(DDPM, t, ideal.mean, None)
            variance = float(DDPM.reverse(posterior, xt, s, t, eta).variance.mean())
            own = float(bridge.c0**2 * UnitData()(DDPM, t) * getattr(table, f"{moment}_error")[k])
            both = math.hypot(own, error)
            assert both < 0.01 * truth and abs(variance - truth) < LIMIT * both, (moment, float(t))
            assert t < 0.5 or abs(variance - truth) < 5e-3 * truth, (moment, float(t))


def test_bounds_apply_only_where_exceeded():
    x = torch.zeros(1, 1, dtype=torch.float64)
    table = exact_moments(DDPM, 9.0, torch.arange(1, 1001, dtype=torch.float64) / 1000)
    t, last, next_to = (torch.tensor(v, dtype=torch.float64) for v in (0.9, 0.001, 0.002))
    free, bound = Analytic(moments=table, **FREE), Analytic(moments=table, last=math.inf)
    assert float(free.posterior(DDPM, t, x, None).variance) > 8
    assert float(bound.posterior(DDPM, t, x, None).variance) == 1
    quiet = Analytic(moments=table, last=2 / 255)
    landing = DDPM.reverse(quiet.posterior(DDPM, t, x, None), x, last, t).variance
    assert float(landing) == pytest.approx((2 / 255) ** 2 * math.pi / 2, rel=1e-12) == pytest.approx(9.663e-5, rel=1e-3)
    elsewhere = [DDPM.reverse(v.posterior(DDPM, t, x, None), x, next_to, t).variance for v in (quiet, bound)]
    assert torch.equal(*elsewhere)
    negative = NoiseMoments(table.times, -table.norm, table.norm, -table.norm, table.norm, 1)
    assert float(Analytic(moments=negative, **FREE).posterior(DDPM, t, x, None).variance) == 0


@pytest.mark.parametrize("kind", [NoiseResidual, SquaredNoise, OptimalCovariance, GaussianNLL])
def test_head_output_of_one_matches_unit_data(kind):
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    t = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    posterior = kind(**FREE).posterior(DDPM, t, x, torch.ones_like(x))
    unit = UnitData().posterior(DDPM, t, x, None)
    assert torch.allclose(posterior.variance, unit.variance + torch.zeros_like(x), rtol=1e-14)
    with pytest.raises(ValueError, match="needs a fitted head: diffprob fit RUN"):
        kind().posterior(DDPM, t, x, None)


def test_learned_range_reaches_both_fixed_variances():
    x = torch.randn(2, 3, dtype=torch.float64)
    for s, t in ((0.499, 0.5), (0.2, 0.5), (0.001, 0.002), (0.001, 1.0)):
        s, t = torch.tensor(s, dtype=torch.float64), torch.tensor(t, dtype=torch.float64)
        for v, fixed in ((-1.0, Zero()), (1.0, UnitData())):
            learned = DDPM.reverse(LearnedRange().posterior(DDPM, t, x, torch.full_like(x, v)), x, s, t)
            wanted = DDPM.reverse(fixed.posterior(DDPM, t, x, None), x, s, t)
            # UnitData's variance of the step is beta_(t|s) exactly.
            assert torch.allclose(learned.variance, wanted.variance + torch.zeros_like(x), rtol=1e-9)
            assert torch.allclose(learned.mean, wanted.mean)
    middle = DDPM.reverse(LearnedRange().posterior(DDPM, t, x, torch.zeros_like(x)), x, s, t).variance
    ends = [DDPM.reverse(v.posterior(DDPM, t, x, None), x, s, t).variance for v in (Zero(), UnitData())]
    assert torch.allclose(middle, (ends[0] * ends[1]).sqrt() + torch.zeros_like(x), rtol=1e-9)


def test_learned_diagonal_gives_the_variance_of_its_own_step():
    x = torch.randn(2, 3, dtype=torch.float64)
    t = torch.tensor(0.5, dtype=torch.float64)
    s = t - 1e-3
    small = DDPM.bridge_coefficients(s, t).ell ** 2
    log_variance = torch.log(small) + torch.tensor([0.001, 0.01, 0.02], dtype=torch.float64).expand(2, 3)
    learned = DDPM.reverse(LearnedDiagonal().posterior(DDPM, t, x, log_variance), x, s, t)
    assert torch.allclose(learned.variance, log_variance.exp(), rtol=1e-9)


def test_learned_variance_without_second_output_is_an_error():
    x, t = torch.zeros(1, 3), torch.tensor(0.5).double()
    for kind in (LearnedRange(), LearnedDiagonal()):
        with pytest.raises(ValueError, match="twice as many outputs"):
            kind.posterior(DDPM, t, x, None)


def test_invalid_settings_are_errors_and_repr_shows_settings():
    with pytest.raises(ValueError, match="'mean'"):
        Analytic(moment="mean")
    with pytest.raises(ValueError, match="bound must be above 0"):
        SquaredNoise(bound=0.0)
    with pytest.raises(ValueError, match="never fitted"):
        Analytic()(DDPM, torch.tensor(0.5))
    assert repr(Analytic(moments=exact_moments(DDPM, 1.0, TIMES))) == repr(Analytic())
    with pytest.raises(ValueError, match="at least 2 images"):
        noise_moments(GaussianData(torch.zeros(1), torch.eye(1)), lambda k: torch.zeros(1, 1), TIMES, Rng.of(0, 1))


def test_relative_variance_is_interpolated_between_times():
    coarse = exact_moments(DDPM, 0.37, torch.arange(20, 1001, 20, dtype=torch.float64) / 1000)
    t = torch.tensor([0.001, 0.5, 0.513, 1.0], dtype=torch.float64)
    truth = exact_moments(DDPM, 0.37, t).norm
    variance = coarse.relative("norm", DDPM, t)
    assert torch.allclose(variance[1:], truth[1:], rtol=1e-3)
    assert variance[3] == truth[3] and variance[0] == coarse.norm[0]
    assert isinstance(Analytic(moments=coarse).posterior(DDPM, t, torch.zeros(4, 1), None), LocationScale)


def test_gamma_is_the_mean_squared_score():
    table = exact_moments(DDPM, 0.37, TIMES)
    alpha, sigma = DDPM.coefficients(TIMES)
    assert torch.allclose(table.gamma(DDPM)[0], 1 / (0.37 * alpha**2 + sigma**2), rtol=1e-9)


@pytest.mark.parametrize("huge", [10**20, 10**300, 1e300, 10**19])
def test_bounds_beyond_float_range_never_apply(huge: float) -> None:
    mean, variance = torch.zeros(2, 1), torch.full((2, 1), 1e6)
    posterior = SquaredNoise(bound=huge, last=huge).bounded(mean, variance)
    assert torch.equal(posterior.std, torch.full((2, 1), 1e3)) and posterior.rule is None


HALF = torch.tensor([0.3, 0.5], dtype=torch.float64)
NO_TABLE = {
    "decreasing times": lambda take, model: noise_moments(model, take, HALF.flip(0), Rng.of(0, 3)),
    "repeated time": lambda take, model: noise_moments(model, take, HALF[[0, 0]], Rng.of(0, 3)),
    "no times": lambda take, model: noise_moments(model, take, HALF[:0], Rng.of(0, 3)),
    "scalar time": lambda take, model: noise_moments(model, take, HALF[0], Rng.of(0, 3)),
    "time zero": lambda take, model: noise_moments(model, take, HALF - 0.3, Rng.of(0, 3)),
    "NaN image": lambda take, model: noise_moments(model, lambda k: take(k) * math.nan, HALF, Rng.of(0, 3)),
    "short column": lambda *_: NoiseMoments(HALF, HALF[:1], HALF, HALF, HALF, 1),
    "columns of decreasing times": lambda *_: NoiseMoments(HALF.flip(0), HALF, HALF, HALF, HALF, 1),
    "NaN moment": lambda *_: NoiseMoments(HALF, HALF * math.nan, HALF, HALF, HALF, 1),
    "quantiles at other times": lambda *_: VarianceQuantiles(HALF, HALF[:1, None]),
    "quantiles at decreasing times": lambda *_: VarianceQuantiles(HALF.flip(0), HALF[:, None]),
    "a quantile of 0": lambda *_: VarianceQuantiles(HALF, 0 * HALF[:, None]),
    "zero images": lambda *_: NoiseMoments(HALF, HALF, HALF, HALF, HALF, 0),
    "unknown moment": lambda *_: NoiseMoments(HALF, HALF, HALF, HALF, HALF, 1).relative("times", DDPM, HALF),
}


@pytest.mark.parametrize("what", NO_TABLE)
def test_invalid_moment_tables_are_errors(what: str) -> None:
    """Falling times came out as a table that is wrong everywhere; t = 0 divided by zero."""
    model = GaussianData(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64), DDPM)
    with pytest.raises((ValueError, NumericalError)):
        NO_TABLE[what](lambda k: torch.ones(3, 2, dtype=torch.float64), model)
