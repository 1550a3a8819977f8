"""Translation of images: laws that stay, bits that agree, and the exact flow from one normal to another."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from truth.models import IsotropicData, gaussian_data, net_denoiser, tensor
from truth.order import assert_order
from truth.statistics import assert_mean, assert_moments

from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData
from diffprob.guidance.egsde import FaithfulnessEnergy, LowPass
from diffprob.guidance.energy import EnergyGuided
from diffprob.process.grids import LogSNR, Uniform
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import VPSDE
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.between import add_noise, sample_from
from diffprob.sampling.exponential import DPMppSDE, UniPC
from diffprob.sampling.translate import ddib, egsde, sdedit

PROCESS, DDPM = LinearProcess(VPSDE()), LinearProcess()
SHAPE = (1, 4, 4)
KERNEL = Rng.of(4, 5).normal((1, 3, 3))


def features(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(F.conv2d(x, KERNEL.to(x), padding=1) + t.reshape(-1, 1, 1, 1).to(x))


@pytest.mark.parametrize(("t0", "repeats"), [(0.3, 1), (1.0, 1), (0.3, 2)])
def test_sdedit_of_samples_of_the_model_keeps_their_law(t0: float, repeats: int) -> None:
    """x ~ q(x_0) noised and drawn again has the law q(x_0), but for Cov[x_0|x_t1] < 1e-4 of the last mean."""
    data, n = gaussian_data(PROCESS), 3000
    values, vectors = torch.linalg.eigh(data.cov)
    source = data.mean + Rng.of(7, n).normal((3,), torch.float64) * values.sqrt() @ vectors.T
    translated = sdedit(data, source, t0, Ancestral(), LogSNR()(PROCESS, 12), Rng.of(0, n), repeats)
    assert_moments(translated, data.mean, data.cov)
    assert float((translated - source).std(0).max()) > 0.3


def test_sdedit_equals_the_chain_from_the_noised_image() -> None:
    model, rng, times = net_denoiser(DDPM, chunk=2), Rng.of(3, 2), Uniform()(DDPM, 6)
    source = Rng.of(0, 2).normal(SHAPE)
    translated = sdedit(model, source, 0.4004, DPMppSDE(), times, rng)
    *_, last = sample_from(model, DPMppSDE(), add_noise(DDPM, source, 0.4, rng), 0.4, times, rng)
    assert torch.equal(translated, last.x)
    assert torch.equal(sdedit(model, source[1:], 0.4004, DPMppSDE(), times, rng.select(slice(1, 2))), translated[1:])


def test_sdedit_with_less_noise_stays_closer_to_the_source() -> None:
    model, times = IsotropicData(0.0, 0.3, PROCESS), LogSNR()(PROCESS, 20)
    source = Rng.of(0, 50).normal(SHAPE, torch.float64)
    distance = [
        float((sdedit(model, source, t, Ancestral(), times, Rng.of(1, 50)) - source).square().mean())
        for t in (0.05, 0.2, 0.6)
    ]
    assert distance == sorted(distance)


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(), UniPC(2)], ids=repr)
def test_egsde_without_energies_gives_the_bits_of_sdedit(sampler) -> None:
    model, rng, times = net_denoiser(DDPM, chunk=2), Rng.of(3, 2), Uniform()(DDPM, 6)
    source = Rng.of(0, 2).normal(SHAPE)
    plain = sdedit(model, source, 0.5, sampler, times, rng)
    translated = egsde(model, source, 0.5, sampler, times, rng, features, LowPass(2), 0.0, 0.0)
    assert torch.equal(translated, plain)
    guided = egsde(model, source, 0.5, sampler, times, rng, features, LowPass(2), 0.5, 0.02)
    assert float((guided - plain).abs().max()) > 1e-3
    assert bool(torch.isfinite(guided).all())


def test_each_energy_lowers_its_own_distance() -> None:
    """Two normal domains: the faithful one brings the coarse part nearer the source, the realistic one lowers S_s."""
    data, n = IsotropicData(0.5, 0.3, PROCESS), 40
    times, rng = LogSNR()(PROCESS, 20), Rng.of(1, n)
    source = -0.5 + 0.3**0.5 * Rng.of(0, n).normal(SHAPE, torch.float64)

    def made(realistic: float, faithful: float) -> Tensor:
        return egsde(data, source, 0.5, Ancestral(), times, rng, features, LowPass(2), realistic, faithful)

    def coarse(x: Tensor) -> Tensor:
        return LowPass(2)(x - source).square().sum((1, 2, 3))

    def alike(x: Tensor) -> Tensor:
        t = tensor(0.1)
        return F.cosine_similarity(features(x, t), features(source, t), dim=1).mean((1, 2))

    plain, faithful, realistic = made(0, 0), made(0, 0.5), made(4.0, 0)
    for change in (coarse(faithful) - coarse(plain), alike(realistic) - alike(plain)):
        assert float(change.mean()) < -4 * float(change.std()) / n**0.5


def test_energies_use_a_separate_random_stream() -> None:
    """One for all times, another than the start's: the energy of the chain's start is |sigma LP(e - e')|^2."""
    rng, source = Rng.of(3, 4), Rng.of(0, 4).normal(SHAPE, torch.float64)
    faithful = FaithfulnessEnergy(LowPass(2), source, PROCESS, rng, 1.0)
    start = add_noise(PROCESS, source, 0.5, rng)
    alpha, sigma = PROCESS.coefficients(0.5)
    other = rng.fold("egsde").normal(SHAPE, torch.float64)
    expected = LowPass(2)((start - alpha * source) - sigma * other).square().sum((1, 2, 3))
    torch.testing.assert_close(faithful(start, start, tensor(0.5)), expected)
    assert float(expected.min()) > 0.01


def flow(data: GaussianData, x: Tensor, t: float, back: bool) -> Tensor:
    """The probability flow of N(m, C) between 0 and t: alpha m + ((alpha^2 c + sigma^2)/c)^(1/2) (x_0 - m)."""
    values, vectors = torch.linalg.eigh(data.cov)
    alpha, sigma = PROCESS.coefficients(t)
    grown = ((alpha**2 * values + sigma**2) / values).sqrt()
    if back:
        return data.mean + ((x - alpha * data.mean) @ vectors / grown) @ vectors.T
    return alpha * data.mean + ((x - data.mean) @ vectors * grown) @ vectors.T


A = GaussianData(tensor([0.3, -0.5]), tensor([[0.5, 0.2], [0.2, 0.3]]), PROCESS)
B = GaussianData(tensor([-0.6, 0.4]), tensor([[0.3, -0.1], [-0.1, 0.6]]), PROCESS)


@pytest.mark.parametrize("top", [1.0, 0.4])
def test_ddib_between_two_normals_matches_the_flows(top: float) -> None:
    x, steps = tensor([[0.8, -0.7], [-0.5, 0.1]]), [20, 40, 80, 160]
    errors = []
    for n in steps:
        times = LogSNR()(PROCESS, 2 * n)
        times = times[times <= top]
        exact = flow(B, flow(A, x, float(times[0]), False), float(times[0]), True)
        errors.append(float((ddib(A, B, x, times) - exact).abs().max()))
    assert_order(1, steps, errors)
    assert errors[-1] < 0.06
    assert float((flow(B, flow(A, x, top, False), top, True) - x).abs().max()) > 0.3


def test_ddib_to_the_same_model_returns_the_source() -> None:
    x = tensor([[0.8, -0.7], [-0.5, 0.1]])
    assert float((ddib(A, A, x, LogSNR()(PROCESS, 400)) - x).abs().max()) < 0.02


def test_ddib_with_noise_at_the_last_time() -> None:
    """Draws of A become draws of B: the mean within 4 errors and the bias of 1/n."""
    n = 2000
    values, vectors = torch.linalg.eigh(A.cov)
    source = A.mean + Rng.of(7, n).normal((2,), torch.float64) * values.sqrt() @ vectors.T
    translated = ddib(A, B, source, LogSNR()(PROCESS, 200), Rng.of(0, n))
    assert_mean(translated - B.mean, (translated - B.mean).mean(0).clamp(-0.01, 0.01))
    assert not translated.requires_grad


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: sdedit(A, A.mean[None], 0.0, DDIM(), tensor([1.0, 0.5]), Rng.of(0, 1)), "t must lie in"),
        (lambda: sdedit(A, A.mean[None], 0.5, DDIM(), tensor([1.0]), Rng.of(0, 1), 0), "repeats must be at least 1"),
        (lambda: sdedit(A, A.mean[None], 0.5, DDIM(), tensor([1.0]), Rng.of(0, 2)), "2 random streams"),
        (lambda: ddib(A, gaussian_data(DDPM), A.mean[None], tensor([1.0])), "one process for both"),
        (
            lambda: EnergyGuided(A, FaithfulnessEnergy(LowPass(), A.mean[None], PROCESS, Rng.of(0, 2))),
            "2 random streams for 1",
        ),
    ],
)
def test_invalid_arguments_are_errors(act, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()
