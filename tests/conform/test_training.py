"""Every law of times and every loss weight of the tables, on every process."""

import pytest
from conform.components import LOSS_WEIGHTS, PREDICTIONS, PROCESSES, TIMES, name

from diffprob.conform.expectations import check_frozen
from diffprob.conform.training import drawn_times, law_of_times, weighs
from diffprob.process.learned import Learned

KNOWN = [process for process in PROCESSES if not isinstance(process.schedule, Learned)]  # such a curve has no inverse
over_processes = pytest.mark.parametrize("process", KNOWN, ids=name)
over_times = pytest.mark.parametrize("times", TIMES, ids=name)
over_weights = pytest.mark.parametrize("weight", LOSS_WEIGHTS, ids=name)


@pytest.mark.parametrize("component", [*TIMES, *LOSS_WEIGHTS], ids=name)
def test_is_a_frozen_dataclass(component) -> None:
    check_frozen(component)


@over_processes
@over_times
def test_times_are_the_schedules_own_and_depend_on_their_stream_alone(times, process) -> None:
    drawn_times(times, process)


@over_processes
@over_times
def test_times_have_the_law_that_they_say(times, process) -> None:
    law_of_times(times, process)


@over_processes
@over_weights
def test_weight_is_finite_for_every_prediction(weight, process) -> None:
    for prediction in PREDICTIONS:
        weighs(weight, process, prediction)
