"""Schedules against published constants and independent tables; every digit printed in the reference is compared."""

import math

import mpmath
import numpy as np
import pytest
import torch
from truth.models import tensor
from truth.reference import cumulative, ddpm_betas, vpsde_log_alpha

from diffprob.process.linear import (
    LinearProcess,
    StraightScaling,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from diffprob.process.schedule import (
    VPSDE,
    Cosine,
    LinearBetas,
    LogLinear,
    OrnsteinUhlenbeck,
    Quadratic,
    ScaledLinear,
    Straight,
    SubVP,
    Tabulated,
)

DDPM = LinearProcess(LinearBetas())
# One unit in the last printed digit.
ABAR = {
    1: (0.9999, 1e-16),
    10: (0.998105204786, 1e-12),
    100: (0.897018145675, 1e-12),
    500: (0.0785872428818, 1e-13),
    900: (2.75205911903e-4, 1e-15),
    1000: (4.03582976538e-5, 1e-16),
}


def knots(steps: int) -> torch.Tensor:
    """t = 0, 1/T, ..., 1."""
    return torch.arange(steps + 1, dtype=torch.float64) / steps


@pytest.mark.parametrize("i", ABAR)
def test_ddpm_alphas_match_published(i: int) -> None:
    value, unit = ABAR[i]
    assert abs(float(DDPM.alpha(i / 1000) ** 2) - value) <= max(unit, 1e-15 * value)
    assert float(DDPM.alpha(i / 1000) ** 2) == pytest.approx(value, rel=1e-9)


def test_ddpm_sigmas_and_logsnr_match_published() -> None:
    assert float(DDPM.sigma(0.001)) == pytest.approx(0.01, rel=1e-13)
    assert float(DDPM.sigma(0.01)) == pytest.approx(0.0435292455, rel=2e-9)
    assert float(DDPM.logsnr(0.001)) / 2 == pytest.approx(4.60512018, rel=2e-9)
    assert float(DDPM.logsnr(1.0)) / 2 == pytest.approx(-5.05883659, rel=2e-9)


@pytest.mark.parametrize(("i", "value"), [(1, 0.0), (2, 5.453188e-5), (3, 8.548912e-5)])
def test_ddpm_posterior_variances_match_published(i: int, value: float) -> None:
    assert float(DDPM.bridge_coefficients((i - 1) / 1000, i / 1000).ell ** 2) == pytest.approx(value, rel=1e-7, abs=0)


@pytest.mark.parametrize(("i", "ratio"), [(2, 0.455), (10, 0.853), (100, 0.982)])
def test_ddpm_posterior_variance_ratios_match_published(i: int, ratio: float) -> None:
    beta = float(LinearBetas().betas()[i - 1])
    assert float(DDPM.bridge_coefficients((i - 1) / 1000, i / 1000).ell ** 2) / beta == pytest.approx(ratio, abs=5e-4)


@pytest.mark.parametrize(("second_moment", "nats"), [(1.0, 2.018e-5), (0.25, 7.3e-6 * math.log(2))])
def test_ddpm_prior_gap_matches_published(second_moment: float, nats: float) -> None:
    """L_T per dimension, KL(q(x_T|x_0) || N(0, I))."""
    alpha, sigma = (float(c) for c in DDPM.coefficients(1.0))
    gap = 0.5 * (alpha**2 * second_moment + sigma**2 - 1 - 2 * math.log(sigma))
    assert gap == pytest.approx(nats, rel=5e-3)


@pytest.mark.parametrize(
    ("schedule", "betas"),
    [
        (LinearBetas(), ddpm_betas()),
        (LinearBetas(50, 2e-3, 0.4), ddpm_betas(50, 2e-3, 0.4)),
        (ScaledLinear(), np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2),
        (Quadratic(), np.linspace(1e-4**0.5, 0.02**0.5, 1000) ** 2),
    ],
    ids=repr,
)
def test_tables_match_cumulative_products(schedule: Tabulated, betas: np.ndarray) -> None:
    steps = len(betas)
    np.testing.assert_allclose(schedule.betas().numpy(), betas, rtol=1e-14)
    abar = cumulative(betas)
    alpha, sigma = (c.numpy() for c in LinearProcess(schedule).coefficients(knots(steps)))
    # Relative error of a product of T factors: at most T ulps; of 1 - abar at small t: those of log abar.
    np.testing.assert_allclose(alpha**2, abar, rtol=1e-13)
    np.testing.assert_allclose(sigma[1:] ** 2, 1 - abar[1:], rtol=5e-12)
    assert alpha[0] == 1
    assert sigma[0] == 0
    # The forward transition of every single step has the variance beta.
    np.testing.assert_allclose(1 - (alpha[1:] / alpha[:-1]) ** 2, betas, rtol=1e-11)


def test_scaled_linear_keeps_signal_at_the_end() -> None:
    assert float(LinearProcess(ScaledLinear()).alpha(1.0) ** 2) == pytest.approx(0.00466, abs=5e-6)


def test_cosine_matches_published_constants() -> None:
    process = LinearProcess(Cosine())
    betas = Cosine().betas()
    assert float(betas[0]) == pytest.approx(4.128e-5, abs=5e-9)
    assert float(process.alpha(0.001) ** 2) == pytest.approx(0.99995872, abs=5e-9)
    assert (betas == 0.999).sum() == 1
    assert float(betas[-1]) == 0.999, "only the last is clipped"
    assert float(process.alpha(1.0) ** 2) == pytest.approx(2.4288e-9, rel=1e-4)
    assert float(process.logsnr(1.0)) / 2 == pytest.approx(-9.918, abs=5e-4)
    for i in (1, 137, 500, 999):
        f = [math.cos((r / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for r in (i, 0)]
        assert float(process.alpha(i / 1000) ** 2) == pytest.approx(f[0] / f[1], rel=1e-11)


@pytest.mark.parametrize(("low", "high"), [(0.1, 20.0), (0.5, 3.0)])
def test_vpsde_matches_mpmath(low: float, high: float) -> None:
    process = LinearProcess(VPSDE(low, high))
    for t in (1e-5, 1e-3, 0.1, 0.37, 0.5, 0.9, 1.0):
        with mpmath.workdps(40):
            log_alpha = vpsde_log_alpha(t, low, high)
            sigma2 = -mpmath.expm1(2 * log_alpha)
            expected = (
                float(mpmath.exp(log_alpha)),
                float(mpmath.sqrt(sigma2)),
                float(2 * log_alpha - mpmath.log(sigma2)),
            )
        measured = (float(process.alpha(t)), float(process.sigma(t)), float(process.logsnr(t)))
        assert measured == pytest.approx(expected, rel=1e-13)


def test_vpsde_is_close_to_the_discrete_chain() -> None:
    """abar(1) of the SDE, and the gap of up to 0.068 in log abar to the table made of the same betas."""
    assert float(LinearProcess(VPSDE()).alpha(1.0) ** 2) == pytest.approx(4.3186e-5, rel=2e-5)
    t = knots(1000)[1:]
    gap = 2 * (LinearProcess(VPSDE()).alpha(t).log() - DDPM.alpha(t).log())
    assert float(gap.abs().max()) == pytest.approx(0.068, abs=5e-4)
    assert int(gap.abs().argmax()) == 999


def test_vpsde_noise_range_matches_edm() -> None:
    r = torch.exp(-LinearProcess(VPSDE()).logsnr(tensor([1e-3, 1.0])) / 2)
    assert r.tolist() == pytest.approx([0.0105, 152], rel=5e-3)


def test_sub_vp_sigma_is_one_minus_alpha_squared() -> None:
    process = LinearProcess(SubVP(), SubVariancePreserving())
    t = torch.linspace(1e-3, 1, 50, dtype=torch.float64)
    alpha, sigma = process.coefficients(t)
    torch.testing.assert_close(alpha, LinearProcess(VPSDE()).alpha(t), rtol=1e-13, atol=0)
    torch.testing.assert_close(sigma, 1 - alpha**2, rtol=1e-11, atol=0)
    torch.testing.assert_close(sigma, LinearProcess(VPSDE()).sigma(t) ** 2, rtol=1e-12, atol=0)


def test_variance_exploding_matches_the_formula() -> None:
    process = LinearProcess(LogLinear(), VarianceExploding())
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    alpha, sigma = process.coefficients(t)
    assert (alpha == 1).all()
    torch.testing.assert_close(sigma, 0.01 * 5000**t, rtol=1e-13, atol=0)


@pytest.mark.parametrize("horizon", [5.0, 1.3])
def test_ornstein_uhlenbeck_matches_the_formula(horizon: float) -> None:
    process = LinearProcess(OrnsteinUhlenbeck(horizon))
    t = torch.linspace(1e-4, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(process.alpha(t), torch.exp(-horizon * t), rtol=1e-13, atol=0)
    torch.testing.assert_close(process.sigma(t), torch.sqrt(-torch.expm1(-2 * horizon * t)), rtol=1e-13, atol=0)


def test_ornstein_uhlenbeck_horizon_matches_ddpm() -> None:
    assert -math.log(float(DDPM.alpha(1.0))) == pytest.approx(5.06, abs=5e-3)


def test_straight_paths_match_the_formula() -> None:
    process = LinearProcess(Straight(), StraightScaling())
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    alpha, sigma = process.coefficients(t)
    torch.testing.assert_close(alpha, 1 - t, rtol=1e-13, atol=0)
    torch.testing.assert_close(sigma, t, rtol=1e-13, atol=0)


@pytest.mark.parametrize("scaling", [VariancePreserving(), SubVariancePreserving(), StraightScaling()], ids=repr)
def test_scalings_keep_their_identity(scaling: VariancePreserving) -> None:
    logsnr = torch.linspace(-30, 30, 61, dtype=torch.float64)
    alpha, sigma = scaling.coefficients(logsnr)
    identity = {
        VariancePreserving: alpha**2 + sigma**2,
        SubVariancePreserving: alpha**2 + sigma,
        StraightScaling: alpha + sigma,
    }[type(scaling)]
    torch.testing.assert_close(identity, torch.ones_like(logsnr), rtol=0, atol=5e-16)
    ends = scaling.coefficients(tensor([math.inf, -math.inf]))
    assert ends[0][0] == 1
    assert ends[1][0] == 0
    assert ends[0][1] == 0
    assert ends[1][1] == 1


def test_log_alpha_is_linear_between_knots() -> None:
    t = tensor([0.0005, 0.1234, 0.99975])
    left, right = (t * 1000).floor() / 1000, (t * 1000).ceil() / 1000
    weight = t * 1000 - (t * 1000).floor()
    expected = torch.lerp(DDPM.alpha(left).log(), DDPM.alpha(right).log(), weight)
    torch.testing.assert_close(DDPM.alpha(t).log(), expected, rtol=1e-12, atol=1e-15)


def test_times_within_rounding_of_a_knot_snap_to_it() -> None:
    i = torch.arange(1, 1001, dtype=torch.float64)
    exact = DDPM.logsnr(i / 1000)
    for t in (i * 0.001, 1 - (1000 - i) / 1000, (i / 1000) * (1 + 1e-15)):
        assert torch.equal(DDPM.logsnr(t), exact)


def test_ties_snap_to_the_even_index() -> None:
    """387.5 is a tie however it was computed, and goes to the even index as in numpy and the references."""
    for steps in (1000, 4000):
        schedule = LinearBetas(steps, 1e-5, 5e-3)
        i = np.arange(steps)
        expected = np.maximum(1, [round(k + 0.5) for k in i.tolist()])  # Python's rounding is half to even
        for t in ((i + 0.5) / steps, 1 - (steps - i - 0.5) / steps, (2 * i + 1) * (0.5 / steps)):
            assert np.array_equal(schedule.snap(torch.from_numpy(t)).numpy(), expected / steps)


@pytest.mark.parametrize(
    "build",
    [
        lambda: LinearBetas(1),
        lambda: LinearBetas(first=0.0),
        lambda: LinearBetas(first=0.03),
        lambda: LinearBetas(last=1.0),
        lambda: Cosine(0),
        lambda: Cosine(shift=0.0),
        lambda: Cosine(clip=1.0),
        lambda: VPSDE(0.0, 1.0),
        lambda: VPSDE(2.0, 1.0),
        lambda: SubVP(-1.0, 1.0),
        lambda: LogLinear(0.0, 1.0),
        lambda: LogLinear(2.0, 1.0),
        lambda: OrnsteinUhlenbeck(0.0),
        lambda: OrnsteinUhlenbeck(math.nan),
        lambda: VPSDE(0.1, math.nan),
    ],
)
def test_invalid_arguments_are_errors_with_the_value(build: object) -> None:
    with pytest.raises(ValueError, match=r"got .*(\d|nan)"):
        build()
