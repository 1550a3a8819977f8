"""Several noise levels on normal data, where everything is linear, and the fitted densities against other libraries."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde, multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import KernelDensity
from torch import Tensor
from truth.models import COV, MEAN, gaussian_data, mixture_data, tensor
from truth.proxies import assert_independent
from truth.statistics import assert_mean

from diffprob.base.distributions import Dirac
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.density.calibrate import fit_kernel, fit_normal, kernel_log_density, normal_log_density
from diffprob.density.path import PathStatistics, Scoped, ScoreNorms
from diffprob.density.proxy import Proxy
from diffprob.evaluation.detection import auroc
from diffprob.likelihood.flow import Exact, Hutchinson
from diffprob.process.grids import Leading
from diffprob.process.linear import LinearProcess, VarianceExploding
from diffprob.process.schedule import Cosine, LinearBetas, LogLinear

EYE = torch.eye(3, dtype=torch.float64)
PROCESSES = {
    "linear": LinearProcess(),
    "cosine": LinearProcess(Cosine()),
    "ve": LinearProcess(LogLinear(), VarianceExploding()),
}
over_processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


@dataclass(frozen=True)
class Columns(Proxy):
    """A proxy of so many columns, to be fitted."""

    k: int = 3
    needs_fit: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"column {i}" for i in range(self.k))

    def statistics(self, model, x: Tensor, rng: Rng) -> Tensor:
        return x.double()


def inside(n: int = 400, noise: int = 0) -> Tensor:
    """Images (n, 3) of the three correlated dimensions."""
    z = Rng.of(noise, n).fold("inside").normal((3,), torch.float64)
    return MEAN + z @ torch.linalg.cholesky(COV).T


def columns(n: int, k: int) -> np.ndarray:
    """Correlated columns of very different sizes, with heavy tails."""
    rng = np.random.default_rng(k)
    values = rng.standard_t(6, size=(n, k)) @ rng.normal(size=(k, k))
    return values * 10.0 ** (np.arange(-2, k - 2) / 2) + 5.0


def moments(process: LinearProcess, t: Tensor) -> tuple[float, float, Tensor]:
    """alpha, sigma and S_t."""
    alpha, sigma = (float(c) for c in process.coefficients(t))
    return alpha, sigma, alpha**2 * COV + sigma**2 * EYE


@pytest.mark.parametrize(("n", "k"), [(60, 6), (500, 3), (80, 1)])
def test_normal_fit_matches_ledoit_wolf(n: int, k: int) -> None:
    values, others = columns(n, k), columns(20, k) * 1.7
    mean, std = values.mean(0), values.std(0, ddof=1)
    cov = LedoitWolf().fit((values - mean) / std).covariance_ * np.outer(std, std)
    if k > 1:
        assert np.abs(cov / np.cov(values.T, ddof=0) - 1).max() > 1e-3, "nothing was shrunk"
    fitted = fit_normal(torch.from_numpy(values), Columns(k))
    exact = multivariate_normal(mean, cov).logpdf(others)
    np.testing.assert_allclose(normal_log_density(fitted, torch.from_numpy(others)), exact, rtol=1e-9)


def test_kernel_density_matches_scipy_and_scikit_learn() -> None:
    values, others = columns(70, 1), columns(9, 1)
    log_density = kernel_log_density(fit_kernel(torch.from_numpy(values), Columns(1)), torch.from_numpy(others))
    np.testing.assert_allclose(log_density, gaussian_kde(values[:, 0]).logpdf(others[:, 0]), rtol=1e-10)
    values, others = columns(70, 4), columns(9, 4)
    std = values.std(0, ddof=1)
    kernel = KernelDensity(bandwidth=70 ** (-1 / 8), rtol=1e-12).fit(values / std)
    log_density = kernel_log_density(fit_kernel(torch.from_numpy(values), Columns(4)), torch.from_numpy(others))
    np.testing.assert_allclose(log_density, kernel.score_samples(others / std) - np.log(std).sum(), rtol=1e-9)
    # Far away it is the nearest kernel, not the logarithm of 0.
    assert torch.isfinite(kernel_log_density(fit_kernel(torch.from_numpy(values), Columns(4)), tensor([[1e6] * 4])))


def test_unfittable_statistics_are_errors() -> None:
    with pytest.raises(InputError, match=r"fitted to at least 50 images that belong, got 49$"):
        fit_normal(torch.randn(49, 3), Columns())
    same = torch.cat([torch.randn(60, 2), torch.ones(60, 1)], 1)
    for fit in (fit_normal, fit_kernel):
        with pytest.raises(InputError, match="column 2 is the same for all images that belong"):
            fit(same, Columns())
    for proxy in (ScoreNorms(), PathStatistics(), Scoped()):
        assert proxy.needs_fit
        with pytest.raises(InputError, match="has to be fitted to images that belong first"):
            proxy.score(torch.zeros(2, len(proxy.columns)))


@over_processes
def test_score_norms_of_normal_data_match_the_closed_form(process: LinearProcess) -> None:
    """sigma |S_t^-1 alpha (x_0 - m)| at sigma/alpha of the levels; with noise E of the square gains sigma^4 tr S^-2."""
    proxy, x = ScoreNorms(4, 0.05, 1.5), inside(5)
    times = proxy.times(process)
    statistics = proxy.statistics(gaussian_data(process), x, Rng.of(0, 5))
    for k, t in enumerate(times):
        alpha, sigma, s = moments(process, t)
        assert sigma / alpha == pytest.approx(0.05 * 30 ** (k / 3), rel=0.05)  # as near as 1000 times come
        exact = sigma * (alpha * (x - MEAN) @ torch.linalg.inv(s)).norm(dim=1)
        torch.testing.assert_close(statistics[:, k], exact, rtol=1e-8, atol=1e-10)
    n = 2000
    noisy = ScoreNorms(2, 0.3, 1.5, 1).statistics(gaussian_data(process), x[:1].expand(n, 3), Rng.of(1, n))
    alpha, sigma, s = moments(process, ScoreNorms(2, 0.3, 1.5).times(process)[0])
    inverse = torch.linalg.inv(s)
    exact = sigma**2 * (alpha * inverse @ (x[0] - MEAN)).square().sum() + sigma**4 * (inverse @ inverse).trace()
    assert_mean(noisy[:, 0].square(), exact)


def test_noise_levels_outside_the_process_are_errors() -> None:
    model = gaussian_data()
    with pytest.raises(InputError, match=r"the process has noise levels from 0\.01 to 157"):
        ScoreNorms(least=0.001).statistics(model, inside(2), Rng.of(0, 2))
    coarse = LinearProcess(LinearBetas(20, 0.0001, 0.5))
    with pytest.raises(InputError, match="two levels fall on one time"):
        ScoreNorms(10, 0.02, 0.2).statistics(gaussian_data(coarse), inside(2), Rng.of(0, 2))


def images_of(path: PathStatistics, x: Tensor, process: LinearProcess) -> Tensor:
    """The six sums, from the matrices of DDIM upwards."""
    times = Leading()(process, path.steps).flip(0)
    state, all_noises = float(process.alpha(times[0])) * x, []
    for k, t in enumerate(times):
        alpha, sigma, s = moments(process, t)
        offset = state - alpha * MEAN
        eps = sigma * offset @ torch.linalg.inv(s)
        all_noises.append(eps)
        if k + 1 < len(times):
            above = times[k + 1]
            denoised = MEAN + alpha * offset @ torch.linalg.inv(s) @ COV
            state = float(process.alpha(above)) * denoised + float(process.sigma(above)) * eps
    eps = torch.stack(all_noises, 1)
    rates = eps.diff(dim=1) / times.diff()[:, None]
    return torch.stack([(v**p).sum((1, 2)) for v in (eps, rates) for p in (1, 2, 3)], 1)


@over_processes
def test_path_statistics_of_normal_data_match_the_closed_form(process: LinearProcess) -> None:
    proxy, x = PathStatistics(7), inside(6)
    statistics = proxy.statistics(gaussian_data(process), x, Rng.of(0, 6))
    torch.testing.assert_close(statistics, images_of(proxy, x, process), rtol=1e-8, atol=1e-8)


@dataclass
class Constant:
    """A model that predicts one image whatever it sees: eps changes along the path only at its first step."""

    process: LinearProcess

    def __call__(self, xt: Tensor, t: Tensor) -> Dirac:
        return Dirac(torch.full_like(xt, 0.5))


def test_path_of_constant_noise_has_zero_rate() -> None:
    process = LinearProcess()
    scores = PathStatistics(5).statistics(Constant(process), tensor([[0.25, 1.0]]), Rng.of(0, 1))
    alpha, sigma = process.coefficients(tensor(0.001))
    eps = alpha * (tensor([[0.25, 1.0]]) - 0.5) / sigma
    exact = torch.cat([5 * torch.stack([(eps**p).sum() for p in (1, 2, 3)]), torch.zeros(3)])[None]
    torch.testing.assert_close(scores, exact, rtol=1e-9, atol=1e-6)


@over_processes
def test_scoped_ratio_on_normal_data_matches_the_closed_form(process: LinearProcess) -> None:
    """Without noise |S^-1 (alpha x_0 - alpha m)|^2 / tr S^-1; with it E of the numerator over data is the trace."""
    proxy, x = Scoped((0.01, 0.4), 0, Exact()), inside(5)
    statistics = proxy.statistics(gaussian_data(process), x, Rng.of(0, 5))
    for k, t in enumerate(proxy.times):
        alpha, _, s = moments(process, tensor(t))
        inverse = torch.linalg.inv(s)
        exact = (alpha * (x - MEAN) @ inverse).square().sum(1) / inverse.trace()
        torch.testing.assert_close(statistics[:, k], exact, rtol=1e-8, atol=1e-10)
    n = 2000
    typical = Scoped((0.3,), 1, Exact()).statistics(gaussian_data(process), inside(n), Rng.of(1, n))
    assert_mean(typical[:, 0], 1.0)


def test_scoped_probes_estimate_the_trace_and_draws_are_combined() -> None:
    """On a mixture: 1/T averaged over probes is tr/|score|^2, here by d exact directions; two draws give the ratio of
    sums, not the mean of ratios."""
    model, n, t = mixture_data(), 1500, 0.2
    x = tensor([[0.1, 0.2]]).expand(n, 2)
    exact = Scoped((t,), 0, Exact()).statistics(model, x[:1], Rng.of(0, 1))[0, 0]
    for law in ("rademacher", "gaussian"):
        probed = Scoped((t,), 0, Hutchinson(1, law)).statistics(model, x, Rng.of(0, n))[:, 0]
        assert_mean(1 / probed, float(1 / exact))
        assert probed.std() > 0
    rng = Rng.of(3, 4)
    both = Scoped((t,), 2, Exact()).statistics(model, x[:4], rng)[:, 0]
    parts = []
    process, at = model.process, tensor(t)
    for k in range(2):
        z = rng.fold("time 0").at(k).fold("noised").normal((2,), torch.float64)
        y = (process.alpha(at) * x[:4] + process.sigma(at) * z).requires_grad_(True)
        (score,) = torch.autograd.grad(model.log_prob(y, at).sum(), y, create_graph=True)
        trace = sum(torch.autograd.grad(score[:, i].sum(), y, retain_graph=True)[0][:, i] for i in range(2))
        parts.append((score.square().sum(1).detach(), -trace))
    torch.testing.assert_close(both, (parts[0][0] + parts[1][0]) / (parts[0][1] + parts[1][1]), rtol=1e-8, atol=0)


def test_model_without_a_gradient_is_an_error() -> None:
    with pytest.raises(ValueError, match="no gradient with respect to the state"):
        Scoped().statistics(Constant(LinearProcess()), inside(2), Rng.of(0, 2))


@pytest.mark.parametrize("proxy", [ScoreNorms(5), PathStatistics(6), Scoped((0.01, 0.3), 1, Exact())], ids=repr)
def test_inside_images_score_above_outside_images(proxy) -> None:
    """Of three correlated dimensions the smallest has variance 0.002: images with that correlation broken stand out,
    though each of their coordinates is usual. Fitted on other images than those that are compared."""
    model = gaussian_data()
    broken = torch.stack([inside(150, k)[:, k - 1] for k in (1, 2, 3)], 1)
    fitted = proxy.fit(proxy.statistics(model, inside(300, 4), Rng.of(0, 300)))
    rng = Rng.of(1000, 150)
    assert auroc(proxy(model, inside(150, 5), rng, fitted), proxy(model, broken, rng, fitted)).value > 0.8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("proxy", [ScoreNorms(3), ScoreNorms(2, noises=2), PathStatistics(4), Scoped()], ids=repr)
def test_scores_have_the_same_bits_in_any_batch(proxy, dtype: torch.dtype) -> None:
    assert_independent(proxy, dtype, channels=3 if dtype == torch.float32 else 1)


def test_invalid_arguments_are_errors() -> None:
    for make, message in [
        (lambda: ScoreNorms(1), "levels must be at least 2, got 1"),
        (lambda: ScoreNorms(least=3.0), "least must lie between 0 and most, got 3.0 and 2.0"),
        (lambda: ScoreNorms(most=math.inf), r"most must lie in \(0, 1e6\], got inf"),
        (lambda: PathStatistics(1), "steps must be at least 2, got 1"),
        (lambda: Scoped(()), "times must have 1 to 1000 entries"),
        (lambda: Scoped((0.1, 2)), r"times\[1\] must lie in \(0, 1\], got 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(InputError, match="has 20 times"):
        PathStatistics(30).statistics(gaussian_data(LinearProcess(LinearBetas(20))), inside(2), Rng.of(0, 2))
