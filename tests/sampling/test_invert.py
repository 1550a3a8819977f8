"""DDIM upwards: against the exact flow of normal data, and there and back."""

import pytest
import torch
from torch import Tensor
from truth.models import net_denoiser, tensor
from truth.order import assert_order, slopes

from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData
from diffprob.process.grids import LogSNR, Trailing, Uniform
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import VPSDE, LogLinear, Straight
from diffprob.sampling.ancestral import DDIM
from diffprob.sampling.between import add_noise
from diffprob.sampling.invert import invert
from diffprob.sampling.simulate import simulate

MEAN, VARIANCES = tensor([0.3, -0.5, 0.1]), tensor([0.9, 0.3, 0.1])
ROTATION = torch.linalg.qr(tensor([[1.0, 2.0, 0.5], [-0.3, 1.0, 2.0], [0.7, -1.0, 1.0]]))[0]
X0 = MEAN + tensor([[0.5, -0.2, 0.3], [-0.8, 0.4, 0.1]])
STEPS = [40, 80, 160, 320]
PROCESSES = {
    "VP": LinearProcess(VPSDE()),
    "VE": LinearProcess(LogLinear(), VarianceExploding()),
    "straight": LinearProcess(Straight(), StraightScaling()),
}


def data(process: LinearProcess) -> GaussianData:
    return GaussianData(MEAN, (ROTATION * VARIANCES) @ ROTATION.T, process)


def back(model: object, latent: Tensor, times: Tensor) -> Tensor:
    *_, last = simulate(model, DDIM(), latent, times, Rng.of(0, len(latent)))
    return last.x


def exact(process: LinearProcess, t: float) -> Tensor:
    """The flow of N(m, C) from t = 0: in the basis of C, alpha m + ((alpha^2 c + sigma^2)/c)^(1/2) (x_0 - m)."""
    alpha, sigma = process.coefficients(t)
    grown = ((alpha**2 * VARIANCES + sigma**2) / VARIANCES).sqrt()
    return alpha * MEAN + ((X0 - MEAN) @ ROTATION * grown) @ ROTATION.T


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_latent_converges_to_the_exact_flow(process: LinearProcess) -> None:
    errors = [
        float((invert(data(process), X0, Uniform()(process, n)) - exact(process, 1.0)).abs().max()) for n in STEPS
    ]
    assert_order(1, STEPS, errors)
    assert errors[-1] < 0.03 * float(exact(process, 1.0).abs().max())


@pytest.mark.parametrize("grid", [Uniform(), LogSNR()], ids=repr)
def test_round_trip_error_falls_with_the_step(grid: object) -> None:
    process = PROCESSES["VP"]
    errors = []
    for n in STEPS:
        times = grid(process, n)
        model = data(process)
        errors.append(float((back(model, invert(model, X0, times), times) - X0).abs().max()))
    assert_order(1, STEPS, errors)
    assert slopes(STEPS, errors)[-1] < 1.3, "of first order, not more: the down and the up step are no exact inverses"
    assert errors[-1] < 0.02


def test_inversion_of_part_of_the_times_matches_the_flow() -> None:
    process = PROCESSES["VP"]
    times = Uniform()(process, 800)
    latent = invert(data(process), X0, times[times <= 0.4])
    torch.testing.assert_close(latent, exact(process, float(times[times <= 0.4][0])), rtol=0, atol=5e-3)


def test_inversion_of_point_data_is_exact() -> None:
    """A model that always says m: x_0 = m has no noise, and every latent is alpha m."""

    process = PROCESSES["VP"]
    model = GaussianData(MEAN, torch.zeros(3, 3, dtype=torch.float64), process)
    for n in (1, 3):
        times = Uniform()(process, n)
        latent = invert(model, MEAN[None], times)
        torch.testing.assert_close(latent, process.alpha(1.0) * MEAN[None], rtol=0, atol=1e-12)
        torch.testing.assert_close(back(model, latent, times), MEAN[None], rtol=0, atol=1e-12)


def test_noisy_latents_of_point_data_are_normal() -> None:
    """On one point the noise of the last time is carried up unchanged: the latent is x_1 with that noise."""
    process, n = PROCESSES["VP"], 2000
    model = GaussianData(MEAN, torch.zeros(3, 3, dtype=torch.float64), process)
    times, rng, x0 = Uniform()(process, 5), Rng.of(1, n), MEAN.expand(n, 3)
    latent = invert(model, x0, times, rng)
    torch.testing.assert_close(latent, add_noise(process, x0, 1.0, rng), rtol=0, atol=1e-9)


def test_inversion_costs_one_evaluation_a_time_and_ignores_the_batch() -> None:
    net = net_denoiser(chunk=4)
    x0 = Rng.of(3, 5).normal((1, 8, 8))
    times = Trailing()(net.process, 6)
    latents = invert(net, x0, times)
    assert len(net.net.calls) == 2 * 6, "two chunks of four"
    assert torch.equal(invert(net, x0[2:3], times), latents[2:3])
    assert latents.dtype == torch.float32
    assert not latents.requires_grad
