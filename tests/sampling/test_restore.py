"""Restoring images, against the Wiener filter, exact conditionals and two other estimates of noise."""

import itertools

import numpy as np
import pytest
import torch
from conform.components import SAMPLERS, name
from scipy.signal import convolve2d
from scipy.stats import truncnorm
from torch import Tensor
from truth.models import IsotropicData, gaussian_data, net_denoiser, tensor
from truth.statistics import assert_mean, assert_moments, assert_uncorrelated

from diffprob.base.distributions import LocationScale
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData
from diffprob.guidance.energy import EnergyGuided, ReconstructionGuidance
from diffprob.process.grids import LogSNR, Uniform
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import VPSDE, LinearBetas, LogLinear, Straight
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.exponential import DPMpp
from diffprob.sampling.restore import RePaint, beyond, denoised, draw_denoised, estimate_noise, level_time, unclip
from diffprob.sampling.simulate import State, cost, draw, simulate

PROCESS, DDPM = LinearProcess(VPSDE()), LinearProcess()
PROCESSES = {
    "VP": PROCESS,
    "DDPM": DDPM,
    "VE": LinearProcess(LogLinear(), VarianceExploding()),
    "straight": LinearProcess(Straight(), StraightScaling()),
}


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_level_time_has_the_given_noise_level(process: LinearProcess) -> None:
    for std in (0.02, 0.1, 0.7, 2.0):
        alpha, sigma = process.coefficients(level_time(process, std))
        assert float(sigma / alpha) == pytest.approx(std, rel=1e-9)
    both = level_time(process, tensor([0.1, 0.7]))
    torch.testing.assert_close(both, torch.stack([level_time(process, 0.1), level_time(process, 0.7)]))


def wiener(data: GaussianData, y: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x_0 given y = x_0 + std z, by solving with the covariance of y."""
    noisy = data.cov + std**2 * torch.eye(len(data.cov)).double()
    gain = torch.linalg.solve(noisy, data.cov).T
    return data.mean + (y - data.mean) @ gain.T, data.cov - gain @ data.cov


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_denoising_normal_data_matches_the_wiener_filter(process: LinearProcess) -> None:
    data, y = gaussian_data(process), Rng.of(0, 5).normal((3,), torch.float64)
    for std in (0.02, 0.3, 1.7):
        mean, cov = wiener(data, y, std)
        estimate = denoised(data, y, std)
        torch.testing.assert_close(estimate.mean, mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(estimate.cov[0], cov, rtol=1e-7, atol=1e-9)
    stds = tensor([0.02, 0.3, 1.7, 0.3, 0.5])
    rows = torch.cat([wiener(data, y[k : k + 1], float(stds[k]))[0] for k in range(5)])
    torch.testing.assert_close(denoised(data, y, stds).mean, rows, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("process", [PROCESS, DDPM], ids=["VP", "DDPM"])
@pytest.mark.parametrize("std", [0.3, 1.0007])
def test_denoised_draws_match_the_wiener_posterior(process: LinearProcess, std: float) -> None:
    """Normal with the Wiener filter's mean and covariance, on a discrete schedule too, where 1.0007 is no level."""
    data, y, n = gaussian_data(process), tensor([[0.9, -0.2, 0.6]]), 4000
    mean, cov = wiener(data, y, std)
    samples = draw_denoised(data, Ancestral(), y.expand(n, 3), std, LogSNR()(process, 10), Rng.of(0, n))
    assert_moments(samples, mean[0], cov)


@pytest.mark.parametrize("std", [0.0, 0.003])
def test_draws_below_the_least_noise_level_match_the_posterior(std: float) -> None:
    """The first level of the DDPM schedule is 0.01: noise is added up to that, and y drawn again from there."""
    data, n = gaussian_data(DDPM), 4000
    y = tensor([[0.9, -0.2, 0.6]])
    samples = draw_denoised(data, Ancestral(), y.expand(n, 3), std, LogSNR()(DDPM, 10), Rng.of(0, n))
    level = float(DDPM.sigma(0.001) / DDPM.alpha(0.001))
    assert_mean(samples, wiener(data, y, level)[0][0])
    gain = torch.linalg.solve(data.cov + level**2 * torch.eye(3).double(), data.cov).T
    assert_moments(samples, wiener(data, y, level)[0][0], (level**2 - std**2) * gain @ gain.T)


@pytest.mark.parametrize("std", [0.0, 0.05, 0.35, 0.36, 1.0, 3.0])
def test_chain_starts_at_the_next_level_with_the_missing_noise_added(std: float) -> None:
    """At the first of ten levels above the noise, to which the missing noise is added: variances, not deviations."""
    process, times_seen = LinearProcess(LinearBetas(10, 0.01, 0.5)), []

    class Watched(IsotropicData):
        def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
            times_seen.append((xt, t))
            return super().__call__(xt, t)

    y = Rng.of(0, 1).normal((20_000,), torch.float64)
    draw_denoised(Watched(0.0, 1.0, process), DDIM(), y, std, Uniform()(process, 10), Rng.of(1, 1))
    xt, t = times_seen[0]
    levels = torch.stack([process.sigma(k / 10) / process.alpha(k / 10) for k in range(1, 11)])
    assert float(t) == pytest.approx(float((levels < std).sum() + 1) / 10)
    alpha, sigma = process.coefficients(t)
    added = (xt - alpha * y).flatten()
    assert_mean(added**2, sigma**2 - (alpha * std) ** 2)
    assert_uncorrelated(added, y)


def test_no_noise_is_added_at_an_exact_level() -> None:
    process = LinearProcess(LinearBetas(10, 0.01, 0.5))
    std = float(process.sigma(0.3) / process.alpha(0.3))
    y, data = Rng.of(0, 4).normal((3,), torch.float64), IsotropicData(0.1, 0.5, process)
    samples = draw_denoised(data, DDIM(), y, std, tensor([0.3]), Rng.of(1, 4))
    torch.testing.assert_close(samples, denoised(data, y, std).mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("std", [0.009, 200.0, float("nan")])
def test_noise_outside_the_models_range_is_an_error(std: float) -> None:
    with pytest.raises(InputError, match=r"noise of std .*: the model knows stds from 0.01 to 157"):
        denoised(gaussian_data(DDPM), torch.zeros(1, 3).double(), std)


def picture(size: int) -> Tensor:
    """Straight along one axis everywhere: a ramp, stripes and an edge, (1, 1, size, size)."""
    place = torch.linspace(-1, 1, size, dtype=torch.float64)
    return (0.4 * place[:, None] + 0.3 * torch.sin(9 * place) + 0.2 * (place > 0.3))[None, None]


@pytest.mark.parametrize("std", [0.02, 0.1, 0.5])
def test_noise_estimate_is_unbiased(std: float) -> None:
    """Without bias where the mask sees nothing of the image. Its error is 1.77 std/sqrt(responses): the indicator of
    |r| < median has Hermite coefficients, which weigh the powers of the responses' correlations."""
    n, size = 400, 32
    images = picture(size) + std * Rng.of(0, n).normal((1, size, size), torch.float64)
    estimate = estimate_noise(images)
    # The error of a standard deviation is 1/sqrt(2 n) = 3.5 %; that of a median has a bias of about 1/responses.
    assert abs(float(estimate.mean()) - std) < (4 * 1.77 / (30 * n**0.5) + 2 / 900) * std
    assert float(estimate.std()) == pytest.approx(1.77 * std / 30, rel=4 * 0.035)
    assert torch.equal(estimate_noise(images[5:6]), estimate[5:6])


def test_noise_estimate_without_noise_is_zero() -> None:
    assert float(estimate_noise(picture(32))) < 1e-14


def test_noise_estimate_on_a_textured_image() -> None:
    """Waves and discs that the mask sees: within 10 %, and so is the wavelet estimate of the same noise."""
    place = torch.linspace(-1, 1, 96, dtype=torch.float64)
    rows, columns = place[:, None], place
    image = 0.4 * torch.sin(8 * rows * columns) + 0.5 * ((rows**2 + columns**2) < 0.4)
    for std in (0.05, 0.2):
        noisy = image + std * Rng.of(1, 1).normal((1, 96, 96), torch.float64)
        estimate = float(estimate_noise(noisy))
        assert estimate == pytest.approx(std, rel=0.1)
        assert wavelet_estimate(noisy[0, 0].numpy()) == pytest.approx(estimate, rel=0.1)


def wavelet_estimate(image: np.ndarray) -> float:
    """Donoho & Johnstone's: median |d|/0.6745 of the finest diagonal coefficients of Daubechies' wavelet of 4 taps."""
    root = 3**0.5
    low = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * 2**0.5)
    high = low[::-1] * np.array([1, -1, 1, -1])
    detail = convolve2d(image, np.outer(high, high), mode="valid")[::2, ::2]
    return float(np.median(np.abs(detail)) / 0.67448975)


def test_noise_estimate_matches_the_formula() -> None:
    images = Rng.of(3, 2).normal((3, 9, 7), torch.float64)
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
    assert np.linalg.norm(mask) == pytest.approx(1)
    for image, estimate in zip(images.numpy(), estimate_noise(images), strict=True):
        responses = [np.abs(convolve2d(channel, mask, mode="valid")).ravel() for channel in image]
        assert float(estimate) == pytest.approx(np.median(np.concatenate(responses)) / 0.67448975, rel=1e-8)
    with pytest.raises(ValueError, match="at least 3x3"):
        estimate_noise(torch.zeros(1, 1, 2, 8))


@pytest.mark.parametrize(("mean", "std"), [(-1.0, 0.4), (-0.8, 0.2), (0.9, 0.5), (0.0, 1.5)])
def test_values_beyond_the_limits_match_truncated_normals(mean: float, std: float) -> None:
    """Normal beyond the limits, as scipy's truncated normals are; elsewhere not touched."""
    n, low, high = 20_000, -0.9, 0.7
    centre = torch.full((3, n), mean, dtype=torch.float64)
    cut = tensor([low, 0.2, high])[:, None].expand(3, n)
    values = beyond(cut, centre, std, Rng.of(0, 3), low, high)
    assert torch.equal(values[1], cut[1])
    ends = truncnorm(-np.inf, (low - mean) / std, mean, std), truncnorm((high - mean) / std, np.inf, mean, std)
    for row, law in zip((values[0], values[2]), ends, strict=True):
        assert_moments(row[:, None], tensor([law.mean()]), tensor([[law.var()]]))
    assert float(values[0].max()) <= low
    assert float(values[2].min()) >= high
    assert torch.equal(beyond(cut[2:], centre[2:], std, Rng.of(2, 1), low, high), values[2:])


def test_impossible_clipping_returns_the_limit() -> None:
    values = beyond(tensor([[-1.0, 1.0]]), tensor([[1.0, -1.0]]), 1e-3, Rng.of(0, 1))
    assert values.tolist() == [[-1.0, 1.0]]


def test_unclipping_with_a_known_image_restores_normal_noise() -> None:
    """A file cuts it at -1 and 1; with x_0 = -0.9 or 0.5 known, y is N(x_0, std^2) again."""
    std, elements = 0.4, 20_000
    for x0 in (-0.9, 0.5):
        model = IsotropicData(x0, 0.0, PROCESS)
        y = x0 + std * Rng.of(0, 1).normal((elements,), torch.float64)
        unclipped, size = unclip(model, y.clamp(-1, 1), std, Rng.of(1, 1))
        assert_moments(unclipped.T, tensor([x0]), tensor([[std**2]]))
        inside = y.abs() < 1
        assert torch.equal(unclipped[inside], y[inside])
        assert size.tolist() == [std]


def test_estimate_of_clipped_noise_is_unbiased() -> None:
    """On black, where half of it is: an estimate of half of it becomes one without bias, within 4 standard errors and
    what 10 turns leave of the difference, each of which leaves about half."""
    std, n, side = 0.3, 40, 32
    cut = (std * Rng.of(0, n).normal((1, side, side), torch.float64) - 1).clamp(-1, 1)
    model = IsotropicData(-1.0, 0.0, PROCESS)
    _, after = unclip(model, cut, None, Rng.of(1, n), rounds=10)
    assert float(estimate_noise(cut).mean()) < 0.6 * std
    assert float(after.mean()) == pytest.approx(std, rel=4 * 1.77 / (30 * n**0.5) + 2 / 900 + 2**-10)


def test_unclipped_images_make_no_model_call() -> None:
    y = 0.1 * Rng.of(0, 3).normal((1, 8, 8), torch.float64)
    for std, sizes in ((0.1, tensor([0.1] * 3)), (None, estimate_noise(y))):
        unclipped, size = unclip(None, y, std, Rng.of(1, 3))  # pyright: ignore[reportArgumentType]
        assert torch.equal(unclipped, y)
        assert torch.equal(size, sizes)


def test_unclipping_recovers_the_denoising_error() -> None:
    """Dark images whose pixels all have one value, so that the mean has 64 times as many to go by as it has noise: cut
    at -1 they look brighter than they are."""
    n, std, pixels = 500, 0.5, 64
    data = GaussianData(torch.full((pixels,), -0.8).double(), torch.full((pixels, pixels), 0.04).double(), PROCESS)
    x0 = (-0.8 + 0.2 * Rng.of(0, n).normal((1,), torch.float64)).expand(n, pixels)
    y = x0 + std * Rng.of(1, n).normal((pixels,), torch.float64)

    def error(noisy: Tensor) -> float:
        return float(((denoised(data, noisy, std).mean - x0) ** 2).mean())

    whole, _ = unclip(data, y.clamp(-1, 1), std, Rng.of(2, n), rounds=8)
    assert error(whole) < 1.5 * error(y)
    assert error(y.clamp(-1, 1)) > 5 * error(y)


MEAN = tensor([0.3, -0.2, 0.1])
COV = tensor([[1.0, 0.6, -0.3], [0.6, 1.0, 0.1], [-0.3, 0.1, 1.0]])
DATA = GaussianData(MEAN, COV, PROCESS)
MASK, KNOWN = tensor([1.0, 0.0, 0.0]), tensor([1.5, 99.0, -99.0])


def conditional() -> Tensor:
    """E[x_0 | its first pixel]."""
    mean = MEAN + COV[:, 0] / COV[0, 0] * (KNOWN[0] - MEAN[0])
    return torch.cat([KNOWN[:1], mean[1:]])


def repainted(start: Tensor, times: Tensor, jumps: int) -> Tensor:
    """The mean of the chain with DDIM, written out: every step is affine in x, the noise has mean zero."""

    def image(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = PROCESS.coefficients(t)
        noised = alpha**2 * COV + sigma**2 * torch.eye(3).double()
        return MEAN + alpha * COV @ torch.linalg.solve(noised, x - alpha * MEAN)

    m = start
    for t, s in itertools.pairwise(times):
        (at, st), (a, sd) = PROCESS.coefficients(t), PROCESS.coefficients(s)
        for k in range(jumps + 1):
            d = image(m, t)
            low = a * d + sd * (m - at * d) / st
            low[0] = a * KNOWN[0]
            m = low if k == jumps else at / a * low
    return torch.cat([KNOWN[:1], image(m, times[-1])[1:]])


@pytest.mark.parametrize("jumps", [0, 3])
def test_inpainting_chain_mean_matches_the_recursion(jumps: int) -> None:
    n, times = 3000, LogSNR()(PROCESS, 12)
    start = Rng.of(0, 1).normal((3,), torch.float64)
    sampler = RePaint(DDIM(), MASK, KNOWN, jumps)
    *_, last = simulate(DATA, sampler, start.expand(n, 3), times, Rng.of(0, n))
    assert bool((last.x[:, 0] == KNOWN[0]).all())
    assert_mean(last.x[:, 1:], repainted(start[0], times, jumps)[1:])
    assert cost(sampler, 12) == 11 * (jumps + 1) + 1


def test_inpainting_jump_adds_the_noise_of_the_step() -> None:
    """x_t ~ N(alpha_t/alpha_s x_s, sigma_t^2 - (alpha_t/alpha_s sigma_s)^2), seen by a sampler that answers 1."""
    seen = []

    class Still:
        order, evaluations = None, 1

        def step(self, model: object, state: State, s: Tensor, rng: Rng) -> State:
            seen.append(state.x)
            return State(torch.ones_like(state.x), s, state.index + 1)

    t, s, elements = tensor(0.6), tensor(0.35), 20_000
    sampler = RePaint(Still(), torch.arange(elements) < 10_000, tensor(0.5), 2)
    first = torch.zeros(1, elements).double()
    last = sampler.step(DATA, State(first, t), s, Rng.of(0, 1))
    assert (len(seen), last.index, float(last.t)) == (3, 1, 0.35)
    assert seen[0] is first
    (at, st), (a, sd) = PROCESS.coefficients(t), PROCESS.coefficients(s)
    between = st**2 - (at / a * sd) ** 2
    for x in seen[1:]:
        known, made = x.flatten().split(10_000)
        assert_mean((made - at / a)[:, None], 0.0)
        assert_mean((made - at / a)[:, None] ** 2, between)
        assert_mean((known - 0.5 * at)[:, None], 0.0)
        assert_mean((known - 0.5 * at)[:, None] ** 2, st**2)
    assert_uncorrelated(seen[1], seen[2])
    known, made = last.x.flatten().split(10_000)
    assert bool((made == 1).all())
    assert_mean((known - 0.5 * a)[:, None] ** 2, sd**2)


def test_inpainting_with_many_jumps_approaches_the_conditional_mean() -> None:
    """Within 4 errors and 0.03; without jumps the new pixels hardly heed the known one."""
    n, times, exact = 1000, LogSNR()(PROCESS, 16), conditional()
    errors = []
    for jumps in (0, 20):
        samples = draw(DATA, RePaint(DDIM(eta=1.0), MASK, KNOWN, jumps), times, Rng.of(0, n), (3,), torch.float64)
        errors.append((samples.mean(0) - exact)[1:].abs().max())
    assert float(errors[0]) > 0.15
    assert float(errors[1]) < 0.03 + 4 * n**-0.5


def test_reconstruction_guidance_approaches_the_conditional_mean() -> None:
    """Of the affine DDIM chain from the mean of x_1, which ends at the mean of all: near E[x_0|known], since v_t takes
    known pixels for uncorrelated with the others."""
    times, exact = LogSNR()(PROCESS, 200), conditional()
    start = PROCESS.alpha(1.0) * MEAN[None]
    *_, last = simulate(
        EnergyGuided(DATA, ReconstructionGuidance(MASK, KNOWN, PROCESS)), DDIM(), start, times, Rng.of(0, 1)
    )
    assert float((exact - MEAN).abs().max()) > 0.7
    assert float((last.x[0] - exact).abs().max()) < 0.1
    loose = EnergyGuided(DATA, ReconstructionGuidance(MASK, KNOWN, PROCESS, scale=0.1))
    *_, less = simulate(loose, DDIM(), start, times, Rng.of(0, 1))
    assert float(MEAN[0]) < float(less.x[0, 0]) < float(last.x[0, 0])


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name)
def test_inpainting_without_known_pixels_equals_the_sampler(sampler) -> None:
    times, rng = LogSNR()(PROCESS, 8), Rng.of(2, 3)
    x = rng.normal((3,), torch.float64)
    inpaint = RePaint(sampler, torch.zeros(3), torch.zeros(3))
    chains = [[state.x for state in simulate(DATA, chosen, x, times, rng)] for chosen in (sampler, inpaint)]
    assert all(torch.equal(a, b) for a, b in zip(*chains, strict=True))
    known = RePaint(sampler, torch.ones(3), KNOWN, 1)
    *_, last = simulate(DATA, known, x, times, rng)
    assert torch.equal(last.x, KNOWN.expand(3, 3))


def test_sample_depends_only_on_its_own_seed() -> None:
    model, times = net_denoiser(DDPM, chunk=4), Uniform()(DDPM, 5)
    mask = (Rng.of(1, 1).normal((1, 8, 8)) > 0).float()
    image = Rng.of(2, 1).normal((1, 8, 8))

    def made(n: int, first: int = 0) -> Tensor:
        return draw(model, RePaint(DPMpp(2), mask, image, 2), times, Rng.of(5, n, first), (1, 8, 8))

    six = made(6)
    assert torch.equal(made(2, 3), six[3:5])
    assert len({row.numpy().tobytes() for row in six}) == 6
    with pytest.raises(ValueError, match="jumps must be at least 0"):
        RePaint(DDIM(), mask, image, -1)
