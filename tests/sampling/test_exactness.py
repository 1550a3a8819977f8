"""Chains on Gaussian data by exact moment recursion, without sampling: what is exact must be exact to rounding."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from truth.gaussian import affine, marginal_moments, push
from truth.models import COV, MEAN, gaussian_data, tensor

from diffprob.base.distributions import Dirac, Distribution, LocationScale
from diffprob.base.divergence import kl
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData
from diffprob.denoise.variance import UnitData, Variance, Zero
from diffprob.process.grids import Leading, LogSNR, Uniform
from diffprob.process.linear import LinearProcess, StraightScaling, SubVariancePreserving, VarianceExploding
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
)
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.simulate import State, simulate

PROCESSES = [
    LinearProcess(LinearBetas()),
    LinearProcess(ScaledLinear()),
    LinearProcess(Quadratic()),
    LinearProcess(Cosine()),
    LinearProcess(VPSDE()),
    LinearProcess(OrnsteinUhlenbeck()),
    LinearProcess(SubVP(), SubVariancePreserving()),
    LinearProcess(LogLinear(), VarianceExploding()),
    LinearProcess(Straight(), StraightScaling()),
]
DDPM = PROCESSES[0]
I3 = torch.eye(3, dtype=torch.float64)


def to_data(process: LinearProcess, steps: int, grid: object = Uniform()) -> Tensor:
    """The times of a chain of ``steps`` steps that ends at the data itself, t = 0."""
    times = grid(process, steps)
    return torch.cat([times, torch.zeros(1, dtype=torch.float64)]) if float(times[-1]) > 0 else times


def run(
    model: GaussianData, times: Tensor, eta: float, posterior: Callable[[Tensor, Tensor], Distribution] | None = None
):
    """(mean, cov) at the end of the chain that starts from the exact law of x at times[0]."""
    process = model.process
    start = marginal_moments(process, model.mean, model.cov, times[0])
    return push(lambda x, s, t: process.reverse((posterior or model)(x, t), x, s, t, eta), times, *start)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_full_covariance_is_exact_for_any_number_of_steps(steps: int, eta: float) -> None:
    mean, cov = run(gaussian_data(), to_data(DDPM, steps), eta)
    torch.testing.assert_close(mean, MEAN, rtol=0, atol=1e-12)
    torch.testing.assert_close(cov, COV, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_full_covariance_is_exact_for_every_process(process: LinearProcess, eta: float) -> None:
    times = to_data(process, 5)
    mean, cov = run(gaussian_data(process), times, eta)
    expected = marginal_moments(process, MEAN, COV, times[-1])
    # The prior of VE has variance 2500: rounding is relative to what the chain starts from.
    tolerance = 1e-12 * max(1.0, float(process.sigma(1.0)) ** 2 / 100)
    torch.testing.assert_close(mean, expected[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(cov, expected[1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_bridge_maps_marginal_to_marginal(process: LinearProcess, eta: float) -> None:
    """All members of the family share q(x_s|x_0): mean c0 x_0 + ct alpha_t x_0, variance ct^2 sigma_t^2 + ell^2."""
    times = torch.cat([torch.linspace(process.schedule.start, 1, 9, dtype=torch.float64), tensor([0.0, 0.5, 0.501])])
    s, t = torch.cartesian_prod(times, times).T
    s, t = s[s < t], t[s < t]
    x0 = Rng.of(0, len(s)).normal((2,), torch.float64)
    forward, target = process.marginal(x0, t), process.marginal(x0, s)
    law = process.bridge(x0, forward.mean, s, t, eta)
    torch.testing.assert_close(law.mean, target.mean, rtol=1e-12, atol=1e-12)
    ct = process.bridge_coefficients(s, t, eta).ct[:, None]
    variance = law.variance + ct**2 * forward.variance
    torch.testing.assert_close(variance, target.variance, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_two_bridge_steps_compose_to_one(process: LinearProcess, eta: float) -> None:
    """Given x_0, t -> s -> r has the law of t -> r: respacing is consistent at eta 0 and 1."""
    r, s, t = (process.schedule.snap(tensor(v)) for v in (0.05, 0.4, 0.8))
    long = process.bridge_coefficients(r, t, eta)
    first, second = process.bridge_coefficients(s, t, eta), process.bridge_coefficients(r, s, eta)
    composed = (second.c0 + second.ct * first.c0, second.ct * first.ct, second.ell**2 + (second.ct * first.ell) ** 2)
    for measured, expected in zip(composed, (long.c0, long.ct, long.ell**2), strict=True):
        torch.testing.assert_close(measured, expected, rtol=1e-11, atol=1e-15)


def product_of_cosines(process: LinearProcess, times: Tensor) -> float:
    """prod cos(phi_t - phi_s), phi = arccos alpha, down to the data."""
    phi = [math.acos(min(1.0, float(process.alpha(t)))) for t in times]
    return math.prod(math.cos(b - a) for b, a in zip(phi, [*phi[1:], 0.0], strict=True))


@pytest.mark.parametrize(("steps", "variance"), [(5, 0.37786), (20, 0.82482), (100, 0.96369)])
def test_ddim_on_unit_data_is_a_product_of_cosines(steps: int, variance: float) -> None:
    """Through the sampler itself: the whole chain multiplies x by the product."""
    times = Uniform()(DDPM, steps)
    model = GaussianData(torch.zeros(1, dtype=torch.float64), tensor([[1.0]]))
    *_, last = simulate(model, DDIM(), torch.ones(1, 1, dtype=torch.float64), times, Rng.of(0, 1))
    factor = float(last.x)
    assert float(last.t) == 0
    assert factor**2 == pytest.approx(variance, abs=1e-5)
    assert factor == pytest.approx(product_of_cosines(DDPM, times), rel=1e-11)


def isotropic(model: GaussianData, variance: Variance) -> Callable[[Tensor, Tensor], Distribution]:
    """The exact mean with a variance of one's choice."""
    return lambda x, t: LocationScale(model(x, t).mean, variance(model.process, t).sqrt())


@pytest.mark.parametrize("steps", [1, 2, 20])
@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_unit_data_variance_is_exact_only_on_unit_data(process: LinearProcess, steps: int) -> None:
    """beta is the optimal variance for N(m, I), for every spacing and process, and is wrong by O(1) elsewhere."""
    times = to_data(process, steps)
    unit, half = GaussianData(MEAN, I3, process), GaussianData(MEAN, 0.5 * I3, process)
    expected = marginal_moments(process, MEAN, I3, times[-1])
    mean, cov = run(unit, times, 1.0, isotropic(unit, UnitData()))
    tolerance = 1e-12 * max(1.0, float(process.sigma(1.0)) ** 2 / 100)
    torch.testing.assert_close(mean, expected[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(cov, expected[1], rtol=0, atol=tolerance)
    wrong = (
        run(half, times, 1.0, isotropic(half, UnitData()))[1] - marginal_moments(process, MEAN, 0.5 * I3, times[-1])[1]
    )
    assert len(times) == 1 or float(wrong.abs().max()) > 1e-4


def test_zero_variance_is_exact_on_a_single_point() -> None:
    point = GaussianData(MEAN, 0 * I3)
    times = to_data(DDPM, 7)[:-1]
    mean, cov = run(point, times, 1.0, isotropic(point, Zero()))
    expected = marginal_moments(DDPM, MEAN, 0 * I3, times[-1])
    torch.testing.assert_close(mean, expected[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(cov, expected[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_isotropic_variance_is_exact_on_isotropic_data(steps: int, eta: float) -> None:
    """C = c I: sigma_t^2 c/(alpha^2 c + sigma^2) for any number of steps and eta (Bao et al. 2022)."""
    model, c = GaussianData(MEAN, 0.3 * I3), 0.3

    def posterior(x: Tensor, t: Tensor) -> LocationScale:
        alpha, sigma = DDPM.coefficients(t)
        return LocationScale(model(x, t).mean, (sigma**2 * c / (alpha**2 * c + sigma**2)).sqrt())

    mean, cov = run(model, to_data(DDPM, steps), eta, posterior)
    torch.testing.assert_close(mean, MEAN, rtol=0, atol=1e-12)
    torch.testing.assert_close(cov, 0.3 * I3, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("variance", "error"), [(Zero(), 0.27), (UnitData(), 0.042)], ids=["small", "large"])
def test_fixed_variance_errors_fall_as_one_over_steps(variance: Variance, error: float) -> None:
    """Largest error of the covariance on eigenvalues 0.9, 0.1, 0.002: .27 and .042 with 20 steps, then like 1/K."""
    model = GaussianData(MEAN, torch.diag(tensor([0.9, 0.1, 0.002])), LinearProcess(VPSDE()))
    errors = []
    for steps in (20, 40, 80, 160):
        times = to_data(model.process, steps)
        kernel = isotropic(model, variance)
        law = run(model, times[:-1], 1.0, kernel)
        last = affine(lambda x, t=times[-2]: model(x, t), 3)[0]  # the step to the data takes the mean
        errors.append(float((last @ law[1] @ last.T - model.cov).abs().max()))
    assert errors[0] == pytest.approx(error, abs=0.01)
    assert -math.log2(errors[-1] / errors[-2]) > 0.75


def test_spread_ddim_has_the_exact_covariance_for_every_eta() -> None:
    """With an exact posterior every eta has the right covariance; the point version of eta = 0 has not."""
    model, times = gaussian_data(), LogSNR()(DDPM, 6)
    expected = marginal_moments(DDPM, MEAN, COV, times[-1])
    x = Rng.of(0, 3).normal((3,), torch.float64)
    for sampler, exact in ((DDIM(0.0, spread=True), True), (DDIM(0.5, spread=True), True), (DDIM(0.5), False)):

        def posterior(x: Tensor, t: Tensor, spread: bool = sampler.spread) -> Distribution:
            law = model(x, t)
            return law if spread else Dirac(law.mean)

        mean, cov = run(model, times, sampler.eta, posterior)
        torch.testing.assert_close(mean, expected[0], rtol=0, atol=1e-12)
        assert (float((cov - expected[1]).abs().max()) < 1e-12) == exact
        # The sampler draws from exactly this kernel.
        state = sampler.step(model, State(x, times[0], index=4), times[1], Rng.of(7, 3))
        law = DDPM.reverse(posterior(x, times[0]), x, times[1], times[0], sampler.eta)
        assert torch.equal(state.x, law.sample(Rng.of(7, 3).fold("step").at(4)))


def test_ancestral_step_samples_the_reverse_kernel() -> None:
    model, times, x = gaussian_data(), Leading()(DDPM, 6), Rng.of(0, 3).normal((3,), torch.float64)
    state = Ancestral().step(model, State(x, times[2], index=2), times[3], Rng.of(7, 3))
    law = DDPM.reverse(model(x, times[2]), x, times[3], times[2])
    assert torch.equal(state.x, law.sample(Rng.of(7, 3).fold("step").at(2)))
    assert torch.equal(state.t, times[3])
    assert state.index == 3
    assert torch.equal(state.posterior.mean, model(x, times[2]).mean)


def expected_step_rates(model: GaussianData, times: Tensor) -> Tensor:
    """E KL(bridge || reverse) of every step, exactly: a cubature of degree 2 over x_0 given x_t."""
    process, d = model.process, len(model.mean)
    t, s = times[:-1].repeat_interleave(2 * d), times[1:].repeat_interleave(2 * d)
    xt = torch.zeros(len(t), d, dtype=torch.float64)  # the divergence does not depend on x_t
    posterior = model(xt, t)
    values, vectors = torch.linalg.eigh(posterior.cov)
    roots = (vectors * values.clamp_min(0).sqrt()[:, None, :]).mT  # rows: eigenvectors times standard deviations
    points = math.sqrt(d) * torch.cat([torch.eye(d), -torch.eye(d)]).double().repeat(len(times) - 1, 1)
    x0 = posterior.mean + (points[:, None, :] @ roots)[:, 0]
    return kl(process.bridge(x0, xt, s, t), process.reverse(posterior, xt, s, t)).reshape(-1, 2 * d).mean(1)


@pytest.mark.parametrize("steps", [2, 10, 1000])
def test_step_rates_sum_to_the_information(steps: int) -> None:
    """Sum of all rates down to x_1 = I(x_0; x_1) - I(x_0; x_T), I = log det(I + SNR C)/2, for every spacing."""
    model = GaussianData(MEAN, torch.diag(tensor([0.9, 0.1, 0.002])))
    times = Uniform()(DDPM, steps)
    rates = expected_step_rates(model, times)

    def information(t: Tensor) -> float:
        return 0.5 * float(torch.log1p(DDPM.logsnr(t).exp() * torch.diagonal(model.cov)).sum())

    assert float(rates.sum()) == pytest.approx(information(times[-1]) - information(times[0]), abs=1e-9)
    assert information(times[-1]) == pytest.approx(9.529039344, abs=5e-6)
    c = DDPM.bridge_coefficients(times[1:], times[:-1])
    cov = model(torch.zeros(steps - 1, 3, dtype=torch.float64), times[:-1]).cov
    closed = 0.5 * torch.linalg.slogdet(I3 + ((c.c0 / c.ell) ** 2)[:, None, None] * cov)[1]
    torch.testing.assert_close(rates, closed, rtol=1e-8, atol=1e-12)
