"""Chains from one noised image, and mixtures of two: frequencies, variances and bits."""

import math

import numpy as np
import pytest
import torch
from conform.components import SAMPLERS, name
from torch import Tensor
from truth.models import gaussian_data, mixture_data, net_denoiser, tensor
from truth.statistics import assert_frequencies, assert_mean, assert_moments, assert_uncorrelated

from diffprob.base.rng import Rng
from diffprob.denoise.ideal import MixtureData
from diffprob.process.grids import Karras, LogSNR, Trailing, Uniform
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import VPSDE, LogLinear, Straight
from diffprob.sampling.ancestral import Ancestral
from diffprob.sampling.between import NOISES, add_noise, interpolate_noised, mix, sample_from, slerp, times_from
from diffprob.sampling.exponential import DPMppSDE
from diffprob.sampling.simulate import simulate

DDPM = LinearProcess()
PROCESSES = [DDPM, LinearProcess(LogLinear(), VarianceExploding()), LinearProcess(Straight(), StraightScaling())]
SHAPE = (1, 8, 8)
WEIGHTS = tensor([0.0, 0.25, 0.5, 0.9, 1.0])


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_noised_images_have_the_marginal_moments(process: LinearProcess) -> None:
    x0 = tensor([[0.3, -0.8]])
    alpha, sigma = process.coefficients(0.4)
    drawn = add_noise(process, x0.expand(20_000, 2), 0.4, Rng.of(1, 20_000))
    assert_moments(drawn, alpha * x0[0], sigma**2 * torch.eye(2))


def test_one_stream_gives_every_image_the_same_noise() -> None:
    x0 = tensor([[0.3, -0.8], [0.1, 0.9]])
    alone = [add_noise(DDPM, x[None], 0.4, Rng.of(7, 1)) for x in x0]
    assert torch.equal(add_noise(DDPM, x0, 0.4, Rng.of(7, 1)), torch.cat(alone))
    with pytest.raises(ValueError, match="3 random streams for a batch of 2"):
        add_noise(DDPM, x0, 0.4, Rng.of(7, 3))


def modes(means: Tensor, deviation: float, process: LinearProcess) -> MixtureData:
    covs = deviation**2 * torch.eye(2, dtype=torch.float64).expand(len(means), 2, 2)
    return MixtureData.of(tensor([0.5, 0.3, 0.2]), means, covs, process)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize("logsnr", [-0.5, 0.3, 1.0])
def test_modes_are_drawn_at_their_posterior_frequencies(process: LinearProcess, logsnr: float) -> None:
    """METHOD: p(mode | x_t) = w_k N(x_t; alpha m_k, alpha^2 c + sigma^2) over their sum; the modes do not overlap."""
    means, deviation, n = tensor([[-1.0, 0.4], [0.7, 0.6], [0.1, -0.9]]), 0.1, 2000
    model = modes(means, deviation, process)
    t = float(process.schedule.snap(process.schedule.time(tensor(logsnr))))
    xt = add_noise(process, tensor([[0.1, 0.3]]), t, Rng.of(3, 1))
    alpha, sigma = (float(c) for c in process.coefficients(t))
    gap = ((xt - alpha * means) ** 2).sum(1).numpy()
    joint = np.array([0.5, 0.3, 0.2]) * np.exp(-gap / (2 * (alpha**2 * deviation**2 + sigma**2)))
    expected = joint / joint.sum()
    assert expected.max() < 0.98, "nothing to see"
    *_, last = sample_from(model, Ancestral(), xt.expand(n, 2), t, LogSNR()(process, 7), Rng.of(5, n))
    distance, nearest = torch.cdist(last.x, means).min(1)
    assert float(distance.max()) < 6 * deviation
    assert_frequencies(torch.bincount(nearest, minlength=3).numpy(), expected)


def test_draws_from_one_noised_image_have_the_posterior_moments() -> None:
    model, n = mixture_data(), 5000
    xt = add_noise(DDPM, tensor([[0.1, 0.3]]), 0.3, Rng.of(3, 1)).expand(n, 2)
    posterior = model(xt[:1], tensor(0.3))
    *_, before, _ = sample_from(model, Ancestral(), xt, 0.3, Uniform()(DDPM, 30), Rng.of(5, n))
    alpha, sigma = DDPM.coefficients(before.t)
    assert_mean(before.x, alpha * posterior.mean[0])
    spread = alpha**2 * posterior.variance[0] + sigma**2
    assert_mean((before.x - alpha * posterior.mean[0]) ** 2, spread)


@pytest.mark.parametrize("sampler", [Ancestral(), DPMppSDE()], ids=name)
def test_sample_depends_only_on_its_own_seed(sampler: object) -> None:
    model, xt = net_denoiser(chunk=4), Rng.of(9, 1).normal(SHAPE)

    def drawn(n: int, first: int = 0) -> Tensor:
        *_, last = sample_from(model, sampler, xt.expand(n, *SHAPE), 0.6, Uniform()(DDPM, 8), Rng.of(5, n, first))
        return last.x

    eight = drawn(8)
    assert torch.equal(drawn(3), eight[:3])
    assert torch.equal(drawn(2, 5), eight[5:7])
    assert len({row.numpy().tobytes() for row in eight}) == 8


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name)
def test_every_sampler_starts_from_a_noised_image(sampler: object) -> None:
    process = LinearProcess(VPSDE())
    model, xt = gaussian_data(process), tensor([[0.2, -0.4, 0.3]]).expand(4, 3)
    *_, last = sample_from(model, sampler, xt, 0.37, LogSNR()(process, 12), Rng.of(0, 4))
    assert float(last.t) == 0
    assert float((last.x - model.mean).abs().max()) < 6


def test_remaining_times_start_at_the_given_time() -> None:
    process, times = LinearProcess(VPSDE()), tensor([1.0, 0.75, 0.5, 0.25])
    assert times_from(process, times, 1.0).tolist() == [1, 0.75, 0.5, 0.25]
    assert times_from(process, times, 0.5).tolist() == [0.5, 0.25]
    assert times_from(process, times, 0.7).tolist() == [0.7, 0.5, 0.25]
    assert times_from(process, times, 0.51).tolist() == [0.51, 0.25], "0.51 takes the place of 0.5"
    assert times_from(process, times, 0.26).tolist() == [0.26, 0.25], "the last time stays"
    assert times_from(process, times, 0.1).tolist() == [0.1]
    for t in (0.25, 0.5, 0.75, 1.0):
        whole = Trailing()(DDPM, 20)
        assert torch.equal(times_from(DDPM, whole, t), whole[whole <= t])
    assert float(times_from(DDPM, times, 0.1234)[0]) == 0.123, "snapped"
    assert float(times_from(LinearProcess(Straight(), StraightScaling()), times, 1.0)[1]) == 0.75, "alpha = 0 at t = 1"
    for t in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"t must lie in|a time in \[0, 1\]"):
            times_from(process, times, t)


def test_chain_from_pure_noise_equals_the_whole_chain() -> None:
    model, rng, times = net_denoiser(chunk=4), Rng.of(5, 3), Uniform()(DDPM, 6)
    x = rng.normal(SHAPE)
    whole = [state.x for state in simulate(model, DPMppSDE(), x, times, rng)]
    assert all(
        torch.equal(a, b.x) for a, b in zip(whole, sample_from(model, DPMppSDE(), x, 1.0, times, rng), strict=True)
    )


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize("noise", NOISES)
def test_interpolated_noised_images_have_the_expected_variance(noise: str, process: LinearProcess) -> None:
    """sigma^2 for shared and rescaled noise, sigma^2 ((1 - l)^2 + l^2) for independent noises."""
    elements, t = 20_000, 0.4
    x0, y0 = (torch.full((1, elements), value, dtype=torch.float64) for value in (0.7, -0.4))
    alpha, sigma = process.coefficients(t)
    drawn = interpolate_noised(process, x0, y0, t, WEIGHTS, Rng.of(2, 1), noise)
    factor = (1 - WEIGHTS) ** 2 + WEIGHTS**2 if noise == "independent" else torch.ones(5)
    offset = drawn - alpha * (0.7 * (1 - WEIGHTS) - 0.4 * WEIGHTS)[:, None]
    assert_mean(offset.T, 0.0)
    assert_mean(offset.T**2, sigma**2 * factor)
    ends = torch.stack([offset[0], offset[-1]])
    if noise == "shared":
        torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-12 * float(alpha + sigma))
    else:
        assert_uncorrelated(ends[0], ends[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", NOISES)
def test_interpolation_ends_are_the_noised_images(noise: str, dtype: torch.dtype) -> None:
    x0, y0 = (Rng.of(k, 1).normal(SHAPE, dtype) for k in (1, 2))
    drawn = interpolate_noised(DDPM, x0, y0, 0.5, WEIGHTS, Rng.of(3, 1), noise)
    assert drawn.dtype == dtype
    assert torch.equal(drawn[:1], add_noise(DDPM, x0, 0.5, Rng.of(3, 1)))
    back = interpolate_noised(DDPM, y0, x0, 0.5, WEIGHTS.flip(0), Rng.of(3, 1), noise)
    if noise == "shared":
        assert torch.equal(drawn[-1:], add_noise(DDPM, y0, 0.5, Rng.of(3, 1)))
        assert torch.equal(drawn[0], back[0])
    else:
        assert torch.equal(drawn[-1:], add_noise(DDPM, y0, 0.5, Rng.of(3, 1).at(1)))
    assert torch.equal(mix(x0, y0, WEIGHTS)[[0, -1]], torch.cat([x0, y0]))


def test_unknown_noise_mode_is_an_error() -> None:
    with pytest.raises(ValueError, match="noise must be one of shared, independent, rescaled, got 'pink'"):
        interpolate_noised(DDPM, torch.zeros(1, 2), torch.zeros(1, 2), 0.5, WEIGHTS, Rng.of(0, 1), "pink")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slerp_is_linear_in_angle_and_norm(dtype: torch.dtype) -> None:
    a, b = Rng.of(1, 1).normal(SHAPE, dtype), 3 * Rng.of(2, 1).normal(SHAPE, dtype)
    between = slerp(a, b, WEIGHTS)
    assert between.dtype == dtype
    assert torch.equal(between[[0, -1]], torch.cat([a, b]))
    flat, first, last = (x.double().flatten(1) for x in (between, a, b))
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-3}
    norms = (1 - WEIGHTS) * first.norm() + WEIGHTS * last.norm()
    torch.testing.assert_close(flat.norm(dim=1), norms, **tolerance)

    def angle(x: Tensor, y: Tensor) -> Tensor:
        return torch.acos(torch.cosine_similarity(x, y).clamp(-1, 1))

    whole = angle(first, last)
    torch.testing.assert_close(angle(flat[1:], first), WEIGHTS[1:] * whole, **tolerance)
    torch.testing.assert_close(angle(flat[:-1], last), (1 - WEIGHTS[:-1]) * whole, **tolerance)


def test_slerp_of_parallel_and_opposite_vectors() -> None:
    a = tensor([[3.0, 4.0]])
    torch.testing.assert_close(slerp(a, 2 * a, tensor([0.5])), 1.5 * a, rtol=1e-15, atol=0)
    nearly = a + 1e-9 * tensor([[-4.0, 3.0]])
    torch.testing.assert_close(slerp(a, nearly, tensor([0.5])), (a + nearly) / 2, rtol=1e-15, atol=0)
    quarter = slerp(tensor([[1.0, 0.0]]), tensor([[0.0, 1.0]]), tensor([1 / 3]))
    torch.testing.assert_close(quarter, tensor([[3**0.5 / 2, 0.5]]), rtol=1e-15, atol=0)
    with pytest.raises(ValueError, match="opposite"):
        slerp(a, -2 * a, tensor([0.5]))
    with pytest.raises(ValueError, match="zero"):
        slerp(a, 0 * a, tensor([0.5]))


def test_remaining_karras_times_decrease_without_tiny_steps() -> None:
    """Whatever the grid: times fall from t, and no step in log-SNR is less than half the next."""
    process = LinearProcess(VPSDE())
    for t in np.linspace(0.05, 1, 40):
        path = times_from(process, Karras()(process, 12), float(t))
        steps = process.logsnr(path).diff()
        assert float(path[0]) == t
        assert bool((path.diff() < 0).all())
        if len(steps) > 1:
            assert float(steps[0]) >= float(steps[1]) / 2
