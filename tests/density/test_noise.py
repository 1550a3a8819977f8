"""One noise level against closed forms on normal data, autograd on mixtures, and a mixture of many dimensions."""

import math

import numpy as np
import pytest
import torch
from scipy.special import gammaln, hyp1f1
from scipy.stats import pearsonr, spearmanr
from torch import Tensor
from truth.models import COV, MEAN, IsotropicData, gaussian_data, mixture_data, tensor
from truth.proxies import assert_independent
from truth.statistics import assert_mean

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData, MixtureData
from diffprob.density.noise import DenoisingScore, NoiseNorm, ReconstructionError
from diffprob.process.linear import LinearProcess, VarianceExploding
from diffprob.process.schedule import VPSDE, Cosine, LogLinear
from diffprob.sampling.between import add_noise

X0 = tensor([0.9, -1.0, 0.4])
EYE = torch.eye(3, dtype=torch.float64)
PROCESSES = {
    "linear": LinearProcess(),
    "cosine": LinearProcess(Cosine()),
    "vp-sde": LinearProcess(VPSDE()),
    "ve": LinearProcess(LogLinear(), VarianceExploding()),
}


def coefficients(process: LinearProcess, t: float) -> tuple[float, float, Tensor]:
    """alpha, sigma and S_t of the three correlated dimensions."""
    alpha, sigma = (float(c) for c in process.coefficients(tensor(t)))
    return alpha, sigma, alpha**2 * COV + sigma**2 * EYE


def score_at(model: MixtureData, x: Tensor, t: float) -> Tensor:
    """grad log q_t(x), by automatic differentiation of the density."""
    x = x.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(model.log_prob(x, tensor(t)).sum(), x)
    return grad


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_squared_noise_norm_on_normal_data_matches_the_closed_form(process: LinearProcess) -> None:
    n, t = 3000, 0.3
    alpha, sigma, s = coefficients(process, t)
    scores = NoiseNorm(t, 1).statistics(gaussian_data(process), X0.expand(n, 3), Rng.of(0, n))[:, 0]
    inverse = torch.linalg.inv(s)
    exact = sigma**2 * (inverse @ (alpha * (X0 - MEAN))).square().sum() + sigma**4 * (inverse @ inverse).trace()
    assert_mean(scores.square(), exact)


def test_noise_norm_on_normal_data_has_the_noncentral_chi_mean() -> None:
    """sigma^2/(alpha^2 v + sigma^2) |z + alpha (x_0 - m)/sigma|: the mean of a noncentral chi distribution."""
    n, d, v, process = 1500, 12, 0.3, LinearProcess()
    alpha, sigma = (float(c) for c in process.coefficients(tensor(0.1)))
    x = torch.linspace(-1, 1, d, dtype=torch.float64)
    shift = float((alpha * (x - 0.2) / sigma).square().sum())
    chi = math.sqrt(2) * math.exp(gammaln((d + 1) / 2) - gammaln(d / 2)) * hyp1f1(-0.5, d / 2, -shift / 2)
    scores = NoiseNorm(0.1, 3).statistics(IsotropicData(0.2, v, process), x.expand(n, d), Rng.of(1, n))
    assert_mean(scores[:, 0], sigma**2 / (alpha**2 * v + sigma**2) * chi)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_noise_norm_equals_the_norm_of_the_exact_score(process: LinearProcess) -> None:
    """sigma |grad log q(x_t)|, averaged over the draws; rounding is relative to the larger of x_t and the noise."""
    model, rng, t = mixture_data(process), Rng.of(2, 5), 0.2
    x = rng.fold("x").normal((2,), torch.float64)
    sigma = process.sigma(tensor(t))
    draws = [sigma * score_at(model, add_noise(process, x, tensor(t), rng.at(k)), t).norm(dim=1) for k in range(3)]
    scores = NoiseNorm(t, 3)(model, x, rng)
    torch.testing.assert_close(scores, torch.stack(draws).mean(0), rtol=1e-9, atol=1e-9)


def many_dimensions(parts: int = 12, d: int = 64) -> tuple[MixtureData, Tensor]:
    """A mixture of flat normal laws with 2 to 59 dimensions out of 64, and the draws of 15 images of each."""
    rng = Rng.of(3, parts)
    bases = torch.linalg.qr(rng.fold("bases").normal((d, d), torch.float64))[0]
    dims = torch.linspace(2, 59, parts).round().long()
    means = 0.3 * rng.fold("means").normal((d,), torch.float64)
    flat = [0.5 * base[:, :m] for base, m in zip(bases, dims, strict=True)]
    covs = torch.stack([part @ part.T for part in flat])
    draws = rng.fold("draws").normal((15, d), torch.float64)
    x = torch.cat([mean + z[:, : part.shape[1]] @ part.T for mean, z, part in zip(means, draws, flat, strict=True)])
    return MixtureData.of(torch.ones(parts, dtype=torch.float64), means, covs, LinearProcess()), x


def test_noise_norm_grows_with_density_on_data() -> None:
    """V_0 = -sigma_1 log q_1 falls as S grows; computed for such a mixture before: Pearson -0.904, Spearman -0.912. In
    log q the sign is positive, and with it the score. The other two proxies go with log q as well."""
    model, x = many_dimensions()
    rng = Rng.of(4, len(x))
    one = tensor(0.001)
    log_q = model.log_prob(model.process.alpha(one) * x, one)
    v0 = (-model.process.sigma(one) * log_q).numpy()
    proxy = NoiseNorm(0.01, 4)
    s = proxy.statistics(model, x, rng)
    scores = proxy.score(s).numpy()
    pearson, spearman = pearsonr(v0, s[:, 0].numpy())[0], spearmanr(v0, s[:, 0].numpy())[0]
    assert -0.99 < pearson < -0.85 and -0.99 < spearman < -0.85, (pearson, spearman)
    assert pearsonr(log_q.numpy(), scores)[0] > 0.85
    # -sigma_1 log(0.5/sigma_1) = -0.039 for every dimension that S^2 finds missing; -0.039 to -0.046 published.
    assert -0.046 < np.polyfit(s[:, 0].square().numpy(), v0, 1)[0] < -0.039
    # E S^2 = d - m: a line of slope -1 through (0, d), 15 images of each dimension.
    dims = np.repeat(np.linspace(2, 59, 12).round(), 15)
    slope, intercept = np.polyfit(dims, s[:, 0].square().numpy(), 1)
    assert abs(slope + 1) < 0.05 and abs(intercept - 64) < 2, (slope, intercept)
    assert pearsonr(log_q.numpy(), ReconstructionError(0.1, 1)(model, x, rng).numpy())[0] > 0.85
    assert pearsonr(log_q.numpy(), DenoisingScore(0.05)(model, x, rng).numpy())[0] > 0.85


def test_scores_fall_with_distance_from_the_data() -> None:
    """A distance delta from a flat law: DenoisingScore is -alpha^2 delta^2/sigma^2, and S^2 gains as much."""
    cov = torch.diag(tensor([0.5, 0.5, 0.0]))
    model = GaussianData(torch.zeros(3, dtype=torch.float64), cov)
    x, n = tensor([[0.0, 0.0, delta] for delta in (0.0, 0.1, 0.3)]), 2000
    ratio = float((model.process.alpha(tensor(0.05)) / model.process.sigma(tensor(0.05))) ** 2)
    scores = DenoisingScore(0.05)(model, x, Rng.of(0, 3))
    torch.testing.assert_close(scores, -ratio * x[:, 2] ** 2, rtol=1e-12, atol=1e-12)
    near, far = (
        NoiseNorm(0.05, 1).statistics(model, point.expand(n, 3), Rng.of(6, n)).square()[:, 0] for point in (x[0], x[2])
    )
    assert_mean(far - near, ratio * 0.09)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_denoising_score_matches_the_exact_score(process: LinearProcess) -> None:
    """-s^2 |grad log q(y)|^2 at y = x_0, q the density of x_t/alpha, whose gradient in y is alpha grad log q_t."""
    model, t = mixture_data(process), 0.15
    x = Rng.of(7, 6).normal((2,), torch.float64)
    alpha, sigma = process.coefficients(tensor(t))
    exact = -((sigma / alpha) ** 2) * (alpha * score_at(model, alpha * x, t)).square().sum(1)
    torch.testing.assert_close(DenoisingScore(t)(model, x, Rng.of(0, 6)), exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("steps", [1, 3])
def test_reconstruction_error_on_normal_data_matches_the_closed_form(process: LinearProcess, steps: int) -> None:
    """DDIM is linear: the matrix M of the chain, from E = m + A_t (x - alpha m) with A_t = alpha C S^-1, gives
    E|x_0 - y_0|^2 = |(alpha M - I)(x_0 - m)|^2 + sigma^2 tr(M M^T)."""
    n, t = 3000, 0.3
    times = [t * k / steps for k in range(steps, 0, -1)]
    chain, last = EYE, None
    for now, below in zip(times, [*times[1:], None], strict=True):
        alpha, sigma, s = coefficients(process, now)
        denoise = alpha * COV @ torch.linalg.inv(s)
        if below is None:
            last = denoise
            break
        lower, less, _ = coefficients(process, below)
        chain = (lower * denoise + less * (EYE - alpha * denoise) / sigma) @ chain
    assert last is not None
    whole = last @ chain
    alpha, sigma, _ = coefficients(process, t)
    bias = (alpha * whole - EYE) @ (X0 - MEAN)
    exact = -(bias.square().sum() + sigma**2 * (whole @ whole.T).trace()) / 3
    scores = ReconstructionError(t, 2, steps).statistics(gaussian_data(process), X0.expand(n, 3), Rng.of(8, n))
    assert_mean(scores[:, 0], exact)
    if steps == 1:
        s = coefficients(process, t)[2]
        inverse = torch.linalg.inv(s)
        offset = sigma**2 * inverse @ (X0 - MEAN)
        closed = offset.square().sum() + alpha**2 * sigma**2 * (COV @ COV @ inverse @ inverse).trace()
        torch.testing.assert_close(exact, -closed / 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "proxy", [NoiseNorm(noises=3), ReconstructionError(noises=2, steps=3), DenoisingScore()], ids=repr
)
def test_scores_have_the_same_bits_in_any_batch(proxy, dtype: torch.dtype) -> None:
    assert_independent(proxy, dtype)
    assert_independent(proxy, dtype, channels=3)


def test_times_snap_to_the_training_times() -> None:
    """t = 0.0104 is not on a schedule of 1000 times: the network is asked at 0.01."""
    model, x, rng = gaussian_data(), X0.expand(2, 3), Rng.of(0, 2)
    assert torch.equal(NoiseNorm(0.0104)(model, x, rng), NoiseNorm(0.01)(model, x, rng))


def test_invalid_arguments_are_errors() -> None:
    for make, message in [
        (lambda: NoiseNorm(t=0), r"t must lie in \(0, 1\], got 0"),
        (lambda: NoiseNorm(noises=0), "noises must be at least 1, got 0"),
        (lambda: ReconstructionError(steps=0), "steps must be at least 1, got 0"),
        (lambda: DenoisingScore(1.5), r"t must lie in \(0, 1\], got 1.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(InputError, match=r"has 10 times up to t = 0.01, take at most 10 steps$"):
        ReconstructionError(0.01, 1, 20)(gaussian_data(), X0.expand(2, 3), Rng.of(0, 2))
