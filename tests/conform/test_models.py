"""Every prediction, variance and clock of the tables, on every process."""

import dataclasses

import pytest
import torch
from conform.components import CLOCKS, PREDICTIONS, PROCESSES, VARIANCES, name
from truth.models import net_denoiser, tensor

from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.prediction import Epsilon

over_predictions = pytest.mark.parametrize("prediction", PREDICTIONS, ids=name)
over_processes = pytest.mark.parametrize("process", PROCESSES, ids=name)
over_variances = pytest.mark.parametrize("variance", VARIANCES, ids=name)
over_clocks = pytest.mark.parametrize("clock", CLOCKS, ids=name)


def times(process, n: int = 8) -> torch.Tensor:
    """Times with signal and noise: a straight path has no signal at t = 1."""
    end = 1.0 if torch.isfinite(process.logsnr(1.0)) else 0.999
    return torch.linspace(process.schedule.start, end, n, dtype=torch.float64)


@pytest.mark.parametrize("component", [*PREDICTIONS, *VARIANCES, *CLOCKS], ids=name)
def test_is_a_frozen_dataclass(component) -> None:
    assert dataclasses.is_dataclass(component)
    assert component == dataclasses.replace(component)
    with pytest.raises(dataclasses.FrozenInstanceError):
        component.anything = 1


@over_processes
@over_predictions
def test_prediction_inverts(prediction, process) -> None:
    """to_x0 and from_x0 undo each other, and the target stands for x_0: to 1e-12 of what is subtracted."""
    t = times(process)
    x0, noise, out = (Rng.of(i, len(t)).normal((2, 3), torch.float64) for i in range(3))
    alpha, sigma = (c.reshape(-1, 1, 1) for c in process.coefficients(t))
    xt = alpha * x0 + sigma * noise
    a, b = (c.reshape(-1, 1, 1) for c in prediction.coefficients(process, t))
    assert a.dtype == torch.float64
    assert torch.isfinite(a).all()
    assert torch.isfinite(b).all()
    assert (b != 0).all()

    def close(measured: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor) -> None:
        worst = ((measured - expected).abs() / (1 + scale.abs())).max()
        assert worst < 1e-12, float(worst)

    target = prediction.target(process, x0, noise, t)
    close(prediction.from_x0(process, xt, t, prediction.to_x0(process, xt, t, out)), out, a / b * xt)
    close(prediction.to_x0(process, xt, t, prediction.from_x0(process, xt, t, x0)), x0, a * xt)
    close(prediction.to_x0(process, xt, t, target), x0, (a * xt).abs() + (b * target).abs())
    close(prediction.from_x0(process, xt, t, x0), target, (a / b * xt).abs() + (x0 / b).abs())


@over_predictions
def test_prediction_at_one_time_and_per_sample(prediction) -> None:
    process = PROCESSES[0]
    t = tensor([0.1, 0.1, 0.1])
    x = Rng.of(0, 3).normal((2, 2))
    out = Rng.of(1, 3).normal((2, 2))
    for method in (prediction.to_x0, prediction.from_x0):
        both = method(process, x, t, out), method(process, x, t[0], out)
        assert torch.equal(*both)
        assert both[0].dtype == torch.float32


@over_predictions
def test_every_prediction_gives_the_same_posterior(prediction) -> None:
    """A network that says the same thing in another parameterisation is the same denoiser."""
    process = PROCESSES[0]
    base = net_denoiser(process).double()
    x, t = Rng.of(0, 4).normal((1, 8, 8), torch.float64), tensor([0.05, 0.3, 0.7, 1.0])
    expected = base(x, t).mean

    class Translated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = base.net

        def forward(self, x, label):
            out = self.inner(x, label)
            x0 = Epsilon().to_x0(process, x, t, out.main)
            return out._replace(main=prediction.from_x0(process, x, t, x0))

    translated = NetDenoiser(Translated(), process, prediction)(x, t).mean
    torch.testing.assert_close(translated, expected, rtol=1e-9, atol=1e-9)


@over_processes
@over_variances
def test_variance_is_one(variance, process) -> None:
    """Float64, shaped like t, non-negative, finite, and at most what is left of the noise: sigma^2/alpha^2."""
    t = times(process)
    value = variance(process, t)
    assert value.dtype == torch.float64
    assert value.shape == t.shape
    assert variance(process, t[3]).shape == ()
    assert torch.isfinite(value).all()
    assert (value >= 0).all()
    alpha, sigma = process.coefficients(t)
    assert (value <= (sigma / alpha) ** 2 * (1 + 1e-12)).all()
    model = NetDenoiser(net_denoiser().net, process, variance=variance)
    std = model(torch.zeros(len(t), 1, 8, 8), t).std
    torch.testing.assert_close((std**2).flatten().double(), value, rtol=1e-5, atol=1e-12)


@over_clocks
def test_clock_increases(clock) -> None:
    t = torch.linspace(0.001, 1, 1000, dtype=torch.float64)
    label = clock(t)
    assert label.dtype == torch.float64
    assert label.shape == t.shape
    assert clock(t[5]).shape == ()
    assert (label.diff() > 0).all()
    assert (label.float().diff() > 0).all(), "two times get one label in float32"
