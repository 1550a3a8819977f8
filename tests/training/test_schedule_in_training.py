"""A schedule in training is the one that the network's inputs are made of too: no component reads the last table."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import LogNoise, NetDenoiser
from diffprob.denoise.prediction import EDM, V
from diffprob.net.layers import Output
from diffprob.process.learned import Learned, LearnedBetas
from diffprob.process.linear import LinearProcess
from diffprob.training.bound import VariationalBound
from diffprob.training.continuous import ContinuousBound

N = 64
CASES: list[tuple[Any, Any]] = [
    (Learned(6.0, -5.0, 8), ContinuousBound()),
    (LearnedBetas(6, 0.01), VariationalBound(256)),
]


class Wave(nn.Module):
    """What it sees, and when, both matter."""

    def forward(self, x: Tensor, t: Tensor) -> Output:
        return Output(torch.sin(2 * x + t[:, None]))


def model_of(schedule: Any, prediction: Any) -> NetDenoiser:
    """With a curve that was trained since it last became a table; in float64."""
    model = NetDenoiser(Wave(), LinearProcess(schedule), prediction, LogNoise(2.0)).double()
    assert model.curve is not None
    model.net.weight = nn.Parameter(torch.ones((), dtype=torch.float64))  # it says the network's dtype
    with torch.no_grad():
        for parameter in model.curve.parameters():
            parameter += 0.7 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model


def loss_of(model: NetDenoiser, objective: Any) -> Tensor:
    return objective(model, 0.5 * Rng.of(5, N).fold("data").normal((3,), torch.float64), Rng.of(0, N))


@pytest.mark.parametrize("prediction", [EDM(0.5), V()], ids=repr)
@pytest.mark.parametrize(("schedule", "objective"), CASES)
def test_loss_is_that_of_the_schedule_as_it_stands(schedule: Any, objective: Any, prediction: Any) -> None:
    """The same before and after the curve becomes a table again, up to the lines between its 1,024 knots."""
    model = model_of(schedule, prediction)
    before = loss_of(model, objective)
    model.tabulate_schedule()
    torch.testing.assert_close(before, loss_of(model, objective), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("schedule", "objective"), CASES)
def test_gradient_goes_through_what_the_network_sees(schedule: Any, objective: Any) -> None:
    """A continuous curve descends on the sum of loss^2, rates on that of the loss: against finite differences."""
    model = model_of(schedule, EDM(0.5))
    assert model.curve is not None
    weights = [p for p in model.curve.parameters() if p.requires_grad]
    power = 2 if isinstance(schedule, Learned) else 1
    gradients = torch.autograd.grad(loss_of(model, objective).sum(), weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        place, step, sums = (0,) * weight.ndim, 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * step
                sums.append(float((loss_of(model, objective) ** power).sum()))
                weight[place] -= sign * step
        numeric = (sums[0] - sums[1]) / (2 * step)
        assert float(gradient[place]) == pytest.approx(numeric, rel=1e-4, abs=1e-6)
