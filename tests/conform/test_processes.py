"""Every schedule, scaling and law of the tables by the checks of `diffprob.conform.process`, and every grid."""

import pytest
import torch
from conform.components import GRIDS, LAWS, PROCESSES, SCALINGS, SCHEDULES, SURVIVALS, name

from diffprob.conform import process as checks
from diffprob.conform.expectations import check_frozen
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.linear import LinearProcess
from diffprob.process.multinomial import MultinomialProcess

over_schedules = pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
over_scalings = pytest.mark.parametrize("scaling", SCALINGS, ids=name)
over_processes = pytest.mark.parametrize("process", PROCESSES, ids=name)
over_laws = pytest.mark.parametrize("law", LAWS, ids=name)
over_grids = pytest.mark.parametrize("grid", GRIDS, ids=name)


@pytest.mark.parametrize("component", [*SCHEDULES, *SCALINGS, *LAWS, *GRIDS], ids=name)
def test_is_a_frozen_dataclass(component) -> None:
    check_frozen(component)


@over_schedules
def test_schedule_decreases_from_data_to_noise(schedule) -> None:
    checks.falling(schedule)


@over_schedules
def test_schedule_inverts(schedule) -> None:
    checks.inversion(schedule)


@over_schedules
def test_schedule_keeps_shape_and_precision(schedule) -> None:
    checks.shape_and_precision(schedule)


@over_schedules
def test_schedule_snaps_to_its_own_times(schedule) -> None:
    checks.snapping(schedule)


@over_scalings
def test_scaling_has_the_signal_to_noise_ratio(scaling) -> None:
    checks.ratio(scaling)


@over_scalings
@over_schedules
def test_bridge_keeps_the_marginal(schedule, scaling) -> None:
    checks.bridge(LinearProcess(schedule, scaling))


@over_processes
def test_noise_density_integrates_to_one(process) -> None:
    checks.densities(process)


@pytest.mark.parametrize("levels", [2, 5])
@pytest.mark.parametrize("survival", SURVIVALS, ids=name)
def test_absorbing_process(survival, levels: int) -> None:
    checks.check_process(AbsorbingProcess(levels, survival))
    checks.check_process(survival)


@pytest.mark.parametrize("schedule", [*SCHEDULES, *SURVIVALS], ids=name)
def test_multinomial_process(schedule) -> None:
    checks.check_process(MultinomialProcess(3, schedule, (0.2, 0.7, 0.1)))


@pytest.mark.parametrize("levels", [2, 5])
def test_multinomial_process_of_other_levels(levels: int) -> None:
    checks.check_process(MultinomialProcess(levels))


@over_laws
def test_law_is_standardised(law) -> None:
    checks.standardised(law)


@over_laws
def test_noise_of_every_time_has_mean_0_and_variance_1(law) -> None:
    checks.noise_of_times(law)


@over_laws
def test_density_of_the_noise_of_a_time_integrates_to_one(law) -> None:
    """Of a sum of mixtures there is none in closed form, and that of few gamma steps is infinite at its end."""
    if getattr(law, "reading", "") != "markov" and getattr(law, "theta", 0) < 0.01:
        checks.densities(LinearProcess(law=law))


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
