"""Every schedule, scaling, law and grid of the tables."""

import dataclasses

import pytest
import torch
from conform.components import GRIDS, LAWS, PROCESSES, SCALINGS, SCHEDULES, name
from truth.models import tensor
from truth.quadrature import integral, integrates_to_one, line
from truth.statistics import assert_mean

from diffprob.base.rng import Rng
from diffprob.process.linear import LinearProcess

over_schedules = pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
over_scalings = pytest.mark.parametrize("scaling", SCALINGS, ids=name)
over_processes = pytest.mark.parametrize("process", PROCESSES, ids=name)
over_laws = pytest.mark.parametrize("law", LAWS, ids=name)
over_grids = pytest.mark.parametrize("grid", GRIDS, ids=name)


def noisy_times(schedule, n: int = 401, end: float = 1.0) -> torch.Tensor:
    """Rising times from the last noisy one."""
    return torch.linspace(schedule.start, end, n, dtype=torch.float64)


@pytest.mark.parametrize("component", [*SCHEDULES, *SCALINGS, *LAWS, *GRIDS], ids=name)
def test_is_a_frozen_dataclass(component) -> None:
    assert dataclasses.is_dataclass(component)
    assert component == dataclasses.replace(component)
    assert hash(component) == hash(dataclasses.replace(component))
    with pytest.raises(dataclasses.FrozenInstanceError):
        component.anything = 1


@over_schedules
def test_schedule_decreases_from_data_to_noise(schedule) -> None:
    logsnr = schedule.logsnr(noisy_times(schedule))
    assert (logsnr.diff() < 0).all()
    assert torch.isfinite(logsnr[:-1]).all()
    assert logsnr[-1] < 0, "more signal than noise at t = 1"
    assert schedule.logsnr(tensor(0.0)) >= logsnr[0]
    assert 0 <= schedule.start < 1


@over_schedules
def test_schedule_inverts(schedule) -> None:
    """time(logsnr(t)) = t, to a few ulps of the logsnr divided by its slope."""
    t = noisy_times(schedule, end=0.9999)
    logsnr = schedule.logsnr(t)
    slope = (torch.gradient(logsnr, spacing=(t,))[0]).abs()
    error = (schedule.time(logsnr) - t).abs()
    assert (error <= 1e-14 + 1e-14 * (1 + logsnr.abs()) / slope).all(), float(error.max())
    middle = torch.linspace(float(logsnr[0]), float(logsnr[-1]), 101, dtype=torch.float64)
    torch.testing.assert_close(schedule.logsnr(schedule.time(middle)), middle, rtol=1e-11, atol=1e-11)


@over_schedules
def test_schedule_keeps_shape_and_precision(schedule) -> None:
    for shape in ((), (1,), (3,)):
        t = torch.full(shape, 0.37, dtype=torch.float64)
        value = schedule.logsnr(t)
        assert value.dtype == schedule.time(value).dtype == torch.float64
        assert value.shape == schedule.time(value).shape == schedule.snap(t).shape == shape
        assert torch.equal(value, schedule.logsnr(tensor(0.37)).expand(shape))


@over_schedules
def test_schedule_snaps_to_its_own_times(schedule) -> None:
    t = noisy_times(schedule, 777)
    snapped = schedule.snap(t)
    assert torch.equal(schedule.snap(snapped), snapped)
    if schedule.steps is None:
        assert torch.equal(snapped, t)
        return
    assert schedule.start == 1 / schedule.steps
    assert torch.equal((snapped * schedule.steps).round() / schedule.steps, snapped)
    assert (snapped - t).abs().max() <= 0.5 / schedule.steps + 1e-12
    assert float(schedule.snap(tensor(0.0))) == schedule.start
    assert float(schedule.snap(tensor(1.0))) == 1
    i = torch.arange(1, schedule.steps + 1, dtype=torch.float64)
    assert torch.equal(schedule.snap(i / schedule.steps), i / schedule.steps)


@over_scalings
def test_scaling_has_the_ratio(scaling) -> None:
    logsnr = torch.linspace(-15, 20, 141, dtype=torch.float64)
    alpha, sigma = scaling.coefficients(logsnr)
    assert alpha.dtype == sigma.dtype == torch.float64
    assert (alpha > 0).all()
    assert (sigma > 0).all()
    torch.testing.assert_close(2 * (alpha.log() - sigma.log()), logsnr, rtol=1e-12, atol=1e-12)
    assert (alpha.diff() >= 0).all()
    assert (sigma.diff() <= 0).all()


@over_scalings
@over_schedules
def test_bridge_keeps_the_marginal(schedule, scaling) -> None:
    process = LinearProcess(schedule, scaling)
    # Without any signal at t = 1 an exploding variance is infinite there.
    t = noisy_times(schedule, 12, end=1.0 if torch.isfinite(schedule.logsnr(tensor(1.0))) else 0.999)
    s, t = torch.cartesian_prod(t, t).T
    s, t = s[s < t], t[s < t]
    (alpha_s, sigma_s), (alpha_t, sigma_t) = process.coefficients(s), process.coefficients(t)
    for eta in (0.0, 0.4, 1.0):
        c = process.bridge_coefficients(s, t, eta)
        torch.testing.assert_close(c.c0 + c.ct * alpha_t, alpha_s, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(c.ct**2 * sigma_t**2 + c.ell**2, sigma_s**2, rtol=1e-12, atol=0)
        assert (c.ell > 0).all() == (eta > 0)


@over_processes
def test_noise_density_integrates_to_one(process) -> None:
    x0 = tensor([[0.7]])
    for t in (process.schedule.start, 0.5, 1.0):
        std = float(process.sigma(t))
        for law in (process.marginal(x0, t), process.prior(x0), process.bridge(x0, x0, 0.5 * t, t) if t < 1 else None):
            if law is None or float(law.std) == 0:
                continue
            reach = 14 * max(float(law.std), 1e-9)
            centre = float(law.mean)
            integrates_to_one(law.log_prob, 1, centre - reach, centre + reach, 2001)
        assert std > 0


@over_laws
def test_law_is_standardised(law) -> None:
    """A density of mean 0 and variance 1, whose samples and distribution function belong to it."""
    integrates_to_one(lambda x: law.log_density(x)[:, 0], 1, -40, 40, 20_001, 1e-8)
    points, weight = line(-40, 40, 20_001)
    for power, expected in ((1, 0), (2, 1)):
        moment = integral(lambda x, power=power: x**power * law.log_density(x).exp(), points, weight)
        assert moment == pytest.approx(expected, abs=1e-7)
    z = law.sample(Rng.of(0, 30_000), (1,), torch.float64)
    assert z.shape == (30_000, 1)
    assert z.dtype == torch.float64
    for power in (1, 2, 3):
        moment = integral(lambda x, power=power: x**power * law.log_density(x).exp(), points, weight)
        assert_mean(z**power, moment)
    edges = torch.linspace(-4, 4, 81, dtype=torch.float64)
    h = 1e-5
    slope = (law.log_cdf(edges + h).exp() - law.log_cdf(edges - h).exp()) / (2 * h)
    torch.testing.assert_close(slope, law.log_density(edges).exp(), rtol=1e-5, atol=1e-8)


def lengths(grid, schedule) -> list[int]:
    """Lengths that a grid accepts, among a few; a grid may insist on the schedule's own number."""
    wanted = {1, 2, 3, 7, 10, 33, schedule.steps or 100}
    accepted = []
    for n in sorted(n for n in wanted if schedule.steps is None or n <= schedule.steps):
        try:
            grid(LinearProcess(schedule), n)
        except ValueError:
            continue
        accepted.append(n)
    return accepted


@over_processes
@over_grids
def test_grid_descends_within_the_schedule(grid, process) -> None:
    schedule = process.schedule
    accepted = lengths(grid, schedule)
    assert accepted or schedule.steps is None, "a grid must work at least for a table's own length"
    for n in accepted:
        times = grid(process, n)
        assert times.shape == (n,)
        assert times.dtype == torch.float64
        assert (times.diff() < 0).all()
        assert times[0] <= 1
        assert times[-1] >= schedule.start
        assert torch.equal(schedule.snap(times), times)
        assert torch.equal(times, grid(process, n))
    for bad in (0, -1, *([schedule.steps + 1] if schedule.steps else [])):
        with pytest.raises(ValueError):
            grid(process, bad)
