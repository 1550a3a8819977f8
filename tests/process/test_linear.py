"""The bridge against the published closed forms, and the reverse kernel as its average."""

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import Tensor
from truth.models import tensor
from truth.quadrature import integrates_to_one, line
from truth.reference import cumulative, ddpm_betas, vpsde_log_alpha

from diffprob.base.distributions import Categorical, Dirac, Gaussian, LocationScale, Mixture
from diffprob.base.divergence import kl
from diffprob.base.errors import NoClosedForm
from diffprob.base.rng import Rng
from diffprob.process.linear import (
    LinearProcess,
    Scaling,
    StraightScaling,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from diffprob.process.schedule import VPSDE, Cosine, LinearBetas, LogLinear, OrnsteinUhlenbeck, Straight, SubVP

DDPM = LinearProcess()
ABAR = torch.from_numpy(cumulative(ddpm_betas()))


def test_bridge_of_one_step_matches_ddpm() -> None:
    betas = torch.from_numpy(ddpm_betas())
    i = torch.arange(2, 1001)
    beta, abar, before = betas[i - 1], ABAR[i], ABAR[i - 1]
    c = DDPM.bridge_coefficients((i - 1).double() / 1000, i.double() / 1000)
    torch.testing.assert_close(c.c0, before.sqrt() * beta / (1 - abar), rtol=1e-10, atol=0)
    torch.testing.assert_close(c.ct, (1 - beta).sqrt() * (1 - before) / (1 - abar), rtol=1e-11, atol=0)
    torch.testing.assert_close(c.ell**2, beta * (1 - before) / (1 - abar), rtol=1e-10, atol=0)


@pytest.mark.parametrize(("s", "t"), [(1, 1000), (100, 500), (499, 500), (3, 7), (999, 1000)])
def test_bridge_of_any_step_matches_the_formula(s: int, t: int) -> None:
    """c0 = a_s beta_{t|s}/bbar_t, ct = sqrt(alpha_{t|s}) bbar_s/bbar_t, btil = beta_{t|s} bbar_s/bbar_t."""
    alpha, bar_s, bar_t = ABAR[t] / ABAR[s], 1 - ABAR[s], 1 - ABAR[t]
    c = DDPM.bridge_coefficients(s / 1000, t / 1000)
    assert float(c.c0) == pytest.approx(float(ABAR[s].sqrt() * (1 - alpha) / bar_t), rel=1e-11)
    assert float(c.ct) == pytest.approx(float(alpha.sqrt() * bar_s / bar_t), rel=1e-11)
    assert float(c.ell**2) == pytest.approx(float((1 - alpha) * bar_s / bar_t), rel=1e-11)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize(("s", "t"), [(0.0, 1.0), (1e-4, 1.0), (1e-3, 0.5), (0.4, 0.41), (0.9999, 1.0)])
def test_bridge_matches_mpmath(s: float, t: float, eta: float) -> None:
    """The family in 50 digits: also ct of a step over the whole range, where 1 - SNR_t/SNR_s is one up to 1e-13."""
    c = LinearProcess(VPSDE()).bridge_coefficients(s, t, eta)
    with mpmath.workdps(50):
        a_s, a_t = (mpmath.exp(vpsde_log_alpha(x)) for x in (s, t))
        v_s, v_t = 1 - a_s**2, 1 - a_t**2
        ell2 = mpmath.mpf(eta) ** 2 * (v_s - (a_t * v_s / a_s) ** 2 / v_t)
        rest = mpmath.sqrt(v_s - ell2)
        expected = [float(v) for v in (a_s - rest * a_t / mpmath.sqrt(v_t), rest / mpmath.sqrt(v_t), mpmath.sqrt(ell2))]
    # logsnr(s) - logsnr(t) is known to about 1e-15 absolutely; sigma_s^2 and 1 - SNR_t/SNR_s inherit it.
    assert [float(v) for v in (c.c0, c.ct, c.ell)] == pytest.approx(
        expected, rel=3e-11 if t - s < 1e-3 else 1e-13, abs=0
    )


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("t", [0.001, 0.5, 1.0])
def test_bridge_to_time_zero_returns_the_data(t: float, eta: float) -> None:
    for process in (
        DDPM,
        LinearProcess(VPSDE()),
        LinearProcess(SubVP(), SubVariancePreserving()),
        LinearProcess(Straight(), StraightScaling()),
    ):
        c = process.bridge_coefficients(0.0, t, eta)
        assert (float(c.c0), float(c.ct), float(c.ell)) == (1.0, 0.0, 0.0)


def test_deterministic_bridge_keeps_the_noise() -> None:
    """eta = 0: (x_s - a_s x_0)/s_s = (x_t - a_t x_0)/s_t (DDIM, eq. 12)."""
    x0, xt = (Rng.of(i, 4).normal((2, 3), torch.float64) for i in (0, 1))
    law = DDPM.bridge(x0, xt, 0.3, 0.8, eta=0.0)
    assert float(law.variance.max()) == 0
    (a, sigma), (a_t, sigma_t) = DDPM.coefficients(0.3), DDPM.coefficients(0.8)
    torch.testing.assert_close((law.mean - a * x0) / sigma, (xt - a_t * x0) / sigma_t, rtol=1e-12, atol=1e-13)


def test_bridge_satisfies_bayes_rule() -> None:
    """q(x_s|x_t,x_0) q(x_t|x_0) = q(x_t|x_s) q(x_s|x_0) for the Markov chain, pointwise."""
    s, t = 0.35, 0.6
    x0, xs, xt = (Rng.of(i, 20).normal((1,), torch.float64) for i in range(3))
    (a_s, v_s), (a_t, v_t) = ((a, sigma**2) for a, sigma in (DDPM.coefficients(s), DDPM.coefficients(t)))
    transition = LocationScale(a_t / a_s * xs, (v_t - (a_t / a_s) ** 2 * v_s).sqrt())
    joint = DDPM.bridge(x0, xt, s, t).log_prob(xs) + DDPM.marginal(x0, t).log_prob(xt)
    torch.testing.assert_close(
        joint, transition.log_prob(xt) + DDPM.marginal(x0, s).log_prob(xs), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize(
    ("process", "sigma"),
    [
        (DDPM, math.sqrt(1 - 4.03582976538e-5)),
        (LinearProcess(LogLinear(), VarianceExploding()), 50.0),
        (LinearProcess(Straight(), StraightScaling()), 1.0),
    ],
    ids=lambda v: repr(v)[:60],
)
def test_prior_and_marginal_moments(process: LinearProcess, sigma: float) -> None:
    like = torch.zeros(5, 2, 3)
    prior = process.prior(like)
    assert prior.mean.shape == like.shape
    assert prior.mean.dtype == prior.std.dtype == torch.float32
    assert (prior.mean == 0).all()
    assert float(prior.std) == pytest.approx(sigma, rel=1e-6)
    x0 = Rng.of(0, 5).normal((2, 3))
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    law = process.marginal(x0, t)
    for i in range(5):
        alpha, std = (float(c) for c in process.coefficients(float(t[i])))
        torch.testing.assert_close(law.mean[i], alpha * x0[i], rtol=1e-6, atol=0)
        assert float(law.std[i]) == pytest.approx(std, rel=1e-6)


def test_float32_states_stay_float32() -> None:
    x = torch.ones(3, 2, 4, 4)
    s, t = tensor([0.1, 0.2, 0.3]), tensor([0.4, 0.5, 0.6])
    for law in (DDPM.marginal(x, t), DDPM.bridge(x, x, s, t), DDPM.reverse(LocationScale(x, x), x, s, t)):
        assert law.mean.dtype == law.variance.dtype == torch.float32


def test_times_may_differ_between_samples() -> None:
    x0, xt = (Rng.of(i, 3).normal((2,), torch.float64) for i in (0, 1))
    s, t = tensor([0.1, 0.2, 0.3]), tensor([0.4, 0.5, 0.6])
    law = DDPM.bridge(x0, xt, s, t, eta=0.5)
    full = DDPM.reverse(Gaussian(x0, torch.eye(2, dtype=torch.float64)[None]), xt, s, t, eta=0.5)
    for i in range(3):
        one = DDPM.bridge(x0[i : i + 1], xt[i : i + 1], s[i], t[i], eta=0.5)
        torch.testing.assert_close(law.mean[i], one.mean[0], rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(law.std[i].squeeze(), one.std, rtol=1e-13, atol=0)
        single = DDPM.reverse(
            Gaussian(x0[i : i + 1], torch.eye(2, dtype=torch.float64)[None]), xt[i : i + 1], s[i], t[i], 0.5
        )
        torch.testing.assert_close(full.cov[i], single.cov[0], rtol=1e-13, atol=1e-15)


POSTERIORS = {
    "point": Dirac(tensor([[0.4]])),
    "normal": LocationScale(tensor([[0.4]]), tensor([[0.7]])),
    "full": Gaussian(tensor([[0.4]]), tensor([[[0.49]]])),
    "mixture": Mixture(tensor([[0.2, -0.4]]), (LocationScale(tensor([[0.4]]), tensor(0.5)), Dirac(tensor([[-1.0]])))),
    "elementwise": Mixture(tensor([[[0.2, -0.4]]]), (Dirac(tensor([[0.4]])), Dirac(tensor([[-1.0]])))),
}


@pytest.mark.parametrize("eta", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("name", POSTERIORS)
def test_reverse_is_the_bridge_averaged_over_the_posterior(name: str, eta: float) -> None:
    """Density of p(x_s|x_t) against the bridge averaged over the posterior by quadrature."""
    posterior, xt, s, t = POSTERIORS[name], tensor([[0.3]]), 0.3, 0.7
    law = DDPM.reverse(posterior, xt, s, t, eta)
    xs = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None]
    points = {"normal": [(1.0, 0.4, 0.7)], "full": [(1.0, 0.4, 0.7)], "point": [(1.0, 0.4, 0.0)]}.get(name)
    if points is None:
        w = float(torch.sigmoid(tensor(0.6)))
        points = [(w, 0.4, 0.5 if name == "mixture" else 0.0), (1 - w, -1.0, 0.0)]
    expected = torch.zeros(25, dtype=torch.float64)
    for weight, mean, std in points:
        z, dz = line(-9, 9, 121) if std else (torch.zeros(1, dtype=torch.float64), math.sqrt(2 * math.pi))
        for value, mass in zip(z, torch.exp(-z * z / 2) * dz / math.sqrt(2 * math.pi), strict=True):
            bridge = DDPM.bridge((mean + std * value).reshape(1, 1), xt, s, t, eta)
            expected += weight * mass * bridge.log_prob(xs).exp()
    torch.testing.assert_close(law.log_prob(xs).exp(), expected, rtol=1e-10, atol=1e-13)
    integrates_to_one(law.log_prob, 1)


def test_reverse_at_eta_zero_keeps_the_posterior_variance() -> None:
    law = DDPM.reverse(POSTERIORS["normal"], tensor([[0.3]]), 0.3, 0.7, eta=0.0)
    c = DDPM.bridge_coefficients(0.3, 0.7, 0.0)
    assert float(law.std) == pytest.approx(float(c.c0) * 0.7, rel=1e-13)
    assert float(DDPM.reverse(POSTERIORS["point"], tensor([[0.3]]), 0.3, 0.7, eta=0.0).variance) == 0


def test_unsupported_posterior_is_an_error() -> None:
    with pytest.raises(NoClosedForm, match="Categorical"):
        DDPM.reverse(Categorical(torch.zeros(1, 1, 2)), torch.zeros(1, 1), 0.3, 0.7)


def test_invalid_arguments_are_errors() -> None:
    for s, t in ((0.7, 0.3), (1.0, 0.5)):
        with pytest.raises(ValueError, match="s < t"):
            DDPM.bridge_coefficients(s, t)
    for eta in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="eta"):
            DDPM.bridge_coefficients(0.3, 0.7, eta)


def test_step_divergence_is_half_snr_difference_times_squared_error() -> None:
    """KL(bridge || bridge at x0h) = (SNR_s - SNR_t) |x_0 - x0h|^2 / 2 (the summand of the bound with btil)."""
    x0, guess, xt = (Rng.of(i, 6).normal((3,), torch.float64) for i in range(3))
    s = torch.linspace(0.001, 0.9, 6, dtype=torch.float64)
    t = s + tensor([0.001, 0.01, 0.02, 0.03, 0.05, 0.1])
    gap = DDPM.logsnr(s).exp() - DDPM.logsnr(t).exp()
    measured = kl(DDPM.bridge(x0, xt, s, t), DDPM.reverse(Dirac(guess), xt, s, t))
    torch.testing.assert_close(measured, 0.5 * gap * ((x0 - guess) ** 2).sum(1), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("i", "weight"), [(2, 0.2727), (1000, 0.0102)])
def test_noise_error_weight_in_the_bound_matches_ddpm(i: int, weight: float) -> None:
    """With step variance beta: beta_t/(2 alpha_t bbar_t) |eps - eps_h|^2, the number of the DDPM paper's weighting."""
    beta = float(LinearBetas().betas()[i - 1])
    eps, guess = tensor([[0.7]]), tensor([[-0.4]])
    t, s = i / 1000, (i - 1) / 1000
    alpha, sigma = DDPM.coefficients(t)
    xt = tensor([[0.2]])

    def mean(noise: Tensor) -> Tensor:
        return DDPM.bridge((xt - sigma * noise) / alpha, xt, s, t).mean

    gap = float((mean(eps) - mean(guess)) ** 2 / (2 * beta) / (eps - guess) ** 2)
    assert gap == pytest.approx(weight, abs=5e-5)


def test_coefficients_cached_under_inference_mode_work_with_autograd() -> None:
    """Coefficients of a single time are kept; asked for under inference_mode first, they still take part in a graph."""
    process, t = LinearProcess(LinearBetas(37)), torch.tensor(0.5, dtype=torch.float64)
    with torch.inference_mode():
        process.bridge_coefficients(0.2, t)
    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    c = process.bridge_coefficients(0.2, t)
    (process.alpha(t) * c.ct * x**2).sum().backward()
    assert x.grad is not None
    moving = t.clone().requires_grad_(True)
    process.alpha(moving).backward()
    assert moving.grad is not None
    torch.testing.assert_close(process.alpha(t), process.alpha(t[None])[0], rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    "scaling", [VariancePreserving(), VarianceExploding(), SubVariancePreserving(), StraightScaling()], ids=repr
)
def test_coefficients_have_the_same_bits_for_one_time_and_many(scaling: Scaling) -> None:
    """Solvers with steps of their own ask about as many times as there are samples that have not arrived."""
    logsnr = 6 * torch.linspace(-1, 1, 321, dtype=torch.float64)
    for k, (every, alone) in enumerate(
        zip(scaling.coefficients(logsnr), one_at_a_time(scaling.coefficients, logsnr), strict=True)
    ):
        assert torch.equal(every, alone), k


def test_times_from_logsnr_have_the_same_bits_for_one_and_many() -> None:
    """Of the schedules that have no table."""
    logsnr = 6 * torch.linspace(-1, 1, 321, dtype=torch.float64)
    for schedule in (Cosine(), VPSDE(), SubVP(), LogLinear(), OrnsteinUhlenbeck(), Straight()):
        (alone,) = one_at_a_time(lambda at, schedule=schedule: (schedule.time(at),), logsnr)
        assert torch.equal(schedule.time(logsnr), alone), schedule


def one_at_a_time(function: Callable[[Tensor], tuple[Tensor, ...]], at: Tensor) -> list[Tensor]:
    """What is found at one place after the other."""
    return [torch.cat(values) for values in zip(*[function(one[None]) for one in at], strict=True)]
