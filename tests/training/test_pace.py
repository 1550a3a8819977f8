"""Trainings that end on time, by a clock that the test moves."""

import numpy as np
import pytest

from diffprob.training.optimise import Optimiser
from diffprob.training.pace import Pace, seconds_of
from diffprob.training.settings import Training


class Machine:
    """Takes ``cost(seconds)`` seconds for a step."""

    def __init__(self, cost):
        self.cost, self.now = cost, 1000.0

    def clock(self):
        return self.now


def rate(settings, step):
    """The learning rate of a step, by the trainer's own formula."""
    optimiser = Optimiser.__new__(Optimiser)
    optimiser.settings = settings
    return optimiser.rate(step)


def train(machine, seconds, settings=Training(10, lr=1.0, warmup=0), step=0, state=None, kill=None):
    """(pace, settings, step, learning rates) when the training ends, or after ``kill`` seconds."""
    pace = Pace(seconds, clock=machine.clock)
    settings, began, rates = pace.start(settings, step, state), machine.now, []
    while step < settings.steps and (kill is None or machine.now - began < kill):
        rates.append((machine.now - began, rate(settings, step + 1)))
        machine.now += machine.cost(machine.now - began)
        step += 1
        settings = pace(settings, step)
    machine.now += pace.reserve if step == settings.steps else 0
    return pace, settings, step, rates


@pytest.mark.parametrize(
    "cost",
    [
        lambda _: 0.5,
        lambda s: 0.5 if s < 300 else 1.5,  # a busy machine from the middle on
        lambda s: 2.0 if s < 400 else 0.2,  # or one that becomes free
        lambda s: 0.5 if s < 540 else 2.0,  # slower when the end is near
        lambda s: 0.5 + 4.0 * (int(s) % 60 == 0),  # pictures and checkpoints
        lambda _: 7.0,  # few steps
        lambda _: 0.01,  # many
    ],
    ids=["steady", "slower", "faster", "slower late", "pauses", "few", "many"],
)
def test_ends_within_five_percent_with_the_rate_at_zero(cost):
    machine = Machine(cost)
    _, settings, step, rates = train(machine, 600)
    assert abs(machine.now - 1600) <= 30
    assert step == settings.steps
    assert rates[-1][1] <= 0.05
    flat = [r for s, r in rates if 20 < s < 400]
    assert min(flat) > 0.95  # the rate does not fall before its time
    falling = [(s, r) for s, r in rates if s > 420]
    # by the clock the fall is a straight line from 1 at 70% of the time to 0 at its end
    assert max(abs(r - min(1, (600 - s) / 180)) for s, r in falling) < (0.3 if cost(0) == 7 else 0.12)


@pytest.mark.parametrize("slower", [1.0, 2.0], ids=["steady", "slower late"])
def test_uneven_steps_of_a_fortieth_of_the_time_end_within_five_percent(slower):
    """A busy machine: the seconds of a step differ by 40%, log-normal, where all becomes slower late by 20%."""
    deviation, ends = 0.4 if slower == 1 else 0.2, []
    for seed in range(100):
        draw = np.random.default_rng(seed)
        machine = Machine(lambda s, draw=draw: 14 * draw.lognormal(0, deviation) * (slower if s > 400 else 1))
        train(machine, 600)
        ends.append((machine.now - 1600) / 600)
    assert sum(abs(end) < 0.05 for end in ends) >= 97 and max(map(abs, ends)) < 0.1


def test_steps_of_a_tenth_of_the_time_end_within_half_a_step():
    for seconds in (40, 55, 70, 100):
        machine = Machine(lambda _, seconds=seconds: seconds)
        train(machine, 600)
        assert abs(machine.now - 1600) <= seconds / 2


def test_a_training_goes_on_with_the_time_that_was_left_after_an_interruption():
    machine = Machine(lambda _: 1.0)
    pace, settings, step, _ = train(machine, 600, kill=250)
    state, before = pace.state(), machine.now
    machine.now += 5000  # nobody trained meanwhile
    _, settings, step, _ = train(machine, 600, settings=settings, step=step, state=state)
    assert abs(machine.now - 5000 - before - 350) <= 20
    assert abs(step - 600) <= 20


def test_an_interrupted_fall_goes_on_from_its_rate():
    machine = Machine(lambda _: 1.0)
    pace, settings, step, rates = train(machine, 600, kill=500)
    _, _, _, more = train(machine, 600, settings=settings, step=step, state=pace.state())
    assert more[0][1] == pytest.approx(rates[-1][1], abs=0.03)
    assert more[-1][1] < 0.05


def test_the_same_time_again_after_the_end_is_more_time():
    machine = Machine(lambda _: 1.0)
    pace, settings, step, _ = train(machine, 600)
    began = machine.now
    _, settings, more, rates = train(machine, 600, settings=settings, step=step, state=pace.state())
    assert abs(machine.now - began - 600) <= 30 and more == pytest.approx(2 * step, rel=0.05)
    assert rates[5][1] == 1.0 and rates[-1][1] < 0.05


def test_another_time_begins_anew():
    machine = Machine(lambda _: 1.0)
    pace, settings, step, _ = train(machine, 600, kill=300)
    began = machine.now
    train(machine, 100, settings=settings, step=step, state=pace.state())
    assert abs(machine.now - began - 100) <= 5


def test_bad_numbers_are_named():
    for fields in ({"seconds": 0.0}, {"fall": 1.5}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            Pace(**{"seconds": 1.0, **fields})


def test_checkpoints_and_pictures_are_spaced_by_the_clock():
    _, settings, _, _ = train(Machine(lambda _: 0.5), 600)
    # 128 images in half a second: a sample of a picture takes 50 / 3 / 256 s, so that 6% of 600 s are 92 for each of 6
    assert (settings.checkpoint_every, settings.sample_every, settings.samples) == (40, 240, 64)
    _, settings, _, _ = train(Machine(lambda _: 0.5), 600, settings=Training(10, sample_every=0))
    assert settings.sample_every == 0


@pytest.mark.parametrize(("cost", "warmup"), [(0.1, 500), (1.0, 30), (60.0, 1)])
def test_the_warm_up_is_at_most_a_twentieth_of_the_steps(cost, warmup):
    _, settings, _, rates = train(Machine(lambda _: cost), 600, Training(10, lr=1.0, warmup=500))
    assert settings.warmup == pytest.approx(min(warmup, 300), rel=0.05)
    assert max(r for _, r in rates) > 0.9


def test_a_slow_machine_draws_one_small_picture_at_the_end():
    pace, settings, step, _ = train(Machine(lambda _: 10.0), 600)
    assert settings.sample_every == step == settings.steps and 4 <= settings.samples <= 64
    assert pace.reserve == pytest.approx(settings.samples * 50 / 3 / 12.8)


def test_what_follows_the_last_step_has_its_time():
    machine = Machine(lambda _: 0.5)
    pace = Pace(600, clock=machine.clock)
    settings, step = pace.start(Training(10), 0), 0
    while step < settings.steps:
        machine.now += 0.5
        step += 1
        settings = pace(settings, step)
        pace.reserve = 40.0
    assert abs(machine.now - 1560) <= 10


@pytest.mark.parametrize("drawn", [False, True])
def test_what_is_made_of_the_run_afterwards_has_its_share(drawn):
    """Asked with what a network call on one image takes: a third of an image in training, or as pictures took."""
    machine, asked = Machine(lambda _: 0.5), []
    pace = Pace(600, clock=machine.clock, share=lambda call, _: asked.append(call) or 3000 * call)
    settings, step = pace.start(Training(10, batch=10), 0), 0
    while step < settings.steps:
        machine.now += 0.5
        step += 1
        settings = pace(settings, step)
        pace.reserve = 0.0
        if drawn:
            pace.drew(0.0, 4)
            pace.call = 0.05
    share = 3000 * (0.05 if drawn else 0.5 / 10 / 3)
    assert asked[-1] == pytest.approx(share / 3000)
    assert abs(machine.now - (1600 - share)) <= 10 and pace.ends == 1600
    assert settings.cooldown == pytest.approx(0.3 * (600 - share) / 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("text", "seconds"), [("20m", 1200), ("2h", 7200), ("30s", 30), ("1h30m", 5400), (" 1.5 h", 5400), (90, 90)]
)
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["20", "m", "20x", "-5m", "5m and", "", "0s", 0, -1.0, float("nan"), float("inf")])
def test_invalid_duration_is_an_error(text):
    with pytest.raises(ValueError, match=r"30s, 20m, 2h or 1h30m|duration"):
        seconds_of(text)


@pytest.mark.parametrize("elapsed", [float("nan"), float("inf"), -1e9, 1e9, None])
def test_an_odd_record_of_the_time_begins_anew(elapsed):
    state = {"seconds": 100.0} if elapsed is None else {"seconds": 100.0, "elapsed": elapsed}
    machine = Machine(lambda _: 1.0)
    train(machine, 100, settings=Training(50, lr=1.0, warmup=0), step=10, state=state)
    assert abs(machine.now - 1100) <= 5


def test_no_training_ends_at_once_because_more_is_to_be_made_of_it():
    """What follows may take more time while the rate has not begun to fall, a fifth more afterwards."""
    machine, most = Machine(lambda _: 0.5), []

    def share(_, seconds):
        most.append((machine.now - 1000, seconds))
        return min(seconds, 40.0 if machine.now < 1450 else 240.0)

    pace = Pace(600, clock=machine.clock, share=share, picture=False)
    settings, step = pace.start(Training(10, batch=10), 0), 0
    while step < settings.steps:
        machine.now += 0.5
        step += 1
        settings = pace(settings, step)
    assert pace.reserve == 0 and most[0][1] == pytest.approx(600, abs=5)
    early = [seconds for now, seconds in most if now < 380]
    assert early == sorted(early, reverse=True)
    assert all(seconds >= 0 for _, seconds in most)
    assert settings.steps > 2 * 420 and settings.cooldown > 1, "without a bound 360 s of 0.5 s each would be left"


def test_a_time_that_is_over_at_once_has_a_step_yet():
    machine = Machine(lambda _: 1.0)
    _, settings, step, _ = train(machine, 60)
    pace = Pace(60, clock=machine.clock, began=machine.now - 100)
    assert pace.start(settings, step).steps == step + 1
