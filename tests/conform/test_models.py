"""Every prediction, variance and clock of the tables, on every process."""

import dataclasses

import pytest
import torch
from conform.components import CLOCKS, PREDICTIONS, PROCESSES, VARIANCES, name
from truth.models import net_denoiser, tensor

from diffprob.base.rng import Rng
from diffprob.conform.expectations import check_frozen
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange, native_step
from diffprob.denoise.moments import NoiseMoments
from diffprob.denoise.prediction import Epsilon
from diffprob.denoise.variance import Analytic, UnitData, Zero

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
    check_frozen(component)


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


@over_processes
@over_predictions
def test_scale_of_the_input_keeps_what_is_shown_near_unit_size(prediction, process) -> None:
    """None, or a positive number for each time that keeps data of variance 1 and its noise between 1/4 and 4."""
    t = times(process)
    scale = prediction.input_scale(process, t)
    if scale is None:
        return
    alpha, sigma = process.coefficients(t)
    size = scale * torch.hypot(alpha, sigma)
    assert scale.dtype == torch.float64 and scale.shape == t.shape
    assert ((size > 1 / 4) & (size < 4)).all()
    torch.testing.assert_close(prediction.input_scale(process, t[3]), scale[3])


@over_predictions
def test_prediction_accepts_one_time_or_one_per_sample(prediction) -> None:
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
            scale = prediction.input_scale(process, t)
            x = x if scale is None else x / scale.reshape(-1, 1, 1, 1)  # what it is shown, undone
            out = self.inner(x, label)
            x0 = Epsilon().to_x0(process, x, t, out.main)
            return out._replace(main=prediction.from_x0(process, x, t, x0))

    translated = NetDenoiser(Translated(), process, prediction)(x, t).mean
    torch.testing.assert_close(translated, expected, rtol=1e-9, atol=1e-9)


def fitted_to_unit_data(variance, process, t):
    """The variance with what a fit to N(0, I) would have found, and the network's second output."""
    if isinstance(variance, Analytic):
        knots = times(process, 40)
        one, none = torch.ones_like(knots), torch.zeros_like(knots)
        return dataclasses.replace(variance, moments=NoiseMoments(knots, one, none, one, none, 1)), None
    extra = torch.ones(len(t), 1, 8, 8, dtype=torch.float64)
    if isinstance(variance, LearnedDiagonal):
        s, native = native_step(process, t)
        bridge = process.bridge_coefficients(s, native)
        step = bridge.ell**2 + bridge.c0**2 * UnitData()(process, native)
        extra = step.log().reshape(-1, 1, 1, 1) * extra
    return variance, extra


@over_processes
@over_variances
def test_variance_has_the_shape_and_value_for_unit_data(variance, process) -> None:
    """Shaped like the mean, non-negative, finite; for unit data sigma^2/(alpha^2 + sigma^2), unless fixed at zero."""
    t = times(process)[1:]  # the step that ends at the first time has no variance of its own
    mean = Rng.of(0, len(t)).normal((1, 8, 8), torch.float64)
    bound, extra = fitted_to_unit_data(variance, process, t)
    posterior = bound.posterior(process, t, mean, extra)
    assert torch.equal(posterior.mean, mean)
    value = posterior.variance + torch.zeros_like(mean)
    unit = UnitData()(process, t).reshape(-1, 1, 1, 1).expand_as(mean)
    if not isinstance(variance, LearnedRange | LearnedDiagonal):  # theirs is that of a step, see test_variance
        wanted = torch.zeros_like(unit) if isinstance(variance, Zero) else unit
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-14)
    assert (value >= 0).all() and torch.isfinite(value).all()
    one = bound.posterior(process, t[3], mean, extra)
    assert (one.variance >= 0).all() and torch.isfinite(one.variance).all()


@over_clocks
def test_clock_increases_or_says_the_same_at_all_times(clock) -> None:
    t = torch.linspace(0.001, 1, 1000, dtype=torch.float64)
    process = PROCESSES[0]
    label = clock.label(process, t)
    assert label.dtype == torch.float64
    assert label.shape == t.shape
    assert clock.label(process, t[5]).shape == ()
    if (label == label[0]).all():
        return
    assert (label.diff() > 0).all()
    assert (label.float().diff() > 0).all(), "two times get one label in float32"
