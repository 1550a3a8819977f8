"""Curves as numbers: where a value stands, which ticks there are, what survives the thinning."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffprob.reporting.curves import SHOWN, SIZE, chart, nice, series, smooth


def places(line):
    return [tuple(map(float, pair.split(","))) for pair in line.path.split()]


def test_values_are_plotted_at_their_coordinates():
    drawn = chart("Rate", {"": [(0, 0.0), (50, 0.5), (100, 1.0)]})
    assert not drawn.logarithmic
    top = 1.06  # a little room above
    expected = [(0, SIZE), (SIZE / 2, SIZE * (1 - 0.5 / top)), (SIZE, SIZE * (1 - 1 / top))]
    for place, wanted in zip(places(drawn.lines[0]), expected, strict=True):
        assert place == pytest.approx(wanted, rel=1e-3)
    assert [text for _, text in drawn.x_ticks] == ["0", "25", "50", "75", "100"]
    assert [at for at, _ in drawn.x_ticks] == [0, 25, 50, 75, 100]
    assert [text for _, text in drawn.y_ticks] == ["0", "0.25", "0.5", "0.75", "1"]
    assert drawn.note == "1 at step 100"


def test_falling_loss_is_logarithmic_and_smoothed():
    points = [(k, 1 / k) for k in range(1, 201)]
    drawn = chart("Loss", {"": points}, smoothed=True)
    assert drawn.logarithmic and drawn.legend
    assert [line.faint for line in drawn.lines] == [True, False]
    low, high = points[-1][1], 1.0
    heights = {text: at for at, text in drawn.y_ticks}
    gap = heights["0.1"] - heights["1"]
    span = math.log(high / low) * 1.12 / math.log(10)  # decades of the axis, with its room, about
    assert gap == pytest.approx(100 / span, rel=0.05)
    assert not chart("Loss", {"": [(1, 1.0), (2, 2.0)]}, smoothed=True).logarithmic
    assert not chart("Loss", {"": [(1, -1.0), (2, 100.0)]}, smoothed=True).logarithmic


def test_curves_have_different_colours():
    drawn = chart("Loss", {"a": [(1, 1.0), (2, 0.9)], "empty": [], "b": [(1, 2.0)]}, smoothed=True)
    assert [(line.label, line.colour, line.faint) for line in drawn.lines] == [("a", 0, False), ("b", 1, False)]
    assert "a: " in drawn.note and "b: 2 at step 1" in drawn.note
    assert chart("Loss", {"": []}) is None


def test_series_keeps_only_finite_numbers():
    log = [{"step": 1, "loss": 2}, {"step": 2, "loss": "nan"}, {"loss": 1.0}, {"step": 3, "loss": float("inf")}]
    assert series([*log, {"step": 4, "loss": True}, {"step": 5, "loss": 0.5}], "loss") == [(1, 2), (5, 0.5)]


def test_long_logs_are_thinned_keeping_extremes():
    points = [(k, 1.0) for k in range(100_000)]
    points[54_321] = (54_321, 9.0)
    drawn = chart("Gradient norm", {"": points}, smoothed=True)
    raw, line = drawn.lines
    assert len(places(raw)) <= 2 * SHOWN
    assert len(places(line)) <= SHOWN + 1
    assert min(y for _, y in places(raw)) < -20, "the spike leaves the area at the top"
    assert len(places(chart("x", {"": [(5, 1.0)]}).lines[0])) == 2, "one point can be seen too"
    assert places(line)[-1][0] == SIZE
    assert len(smooth(points)) <= 1500
    assert smooth([]) == []


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_are_round_and_in_range(low, span, most):
    ticks = nice(low, low + span, most)
    assert len(ticks) <= most + 1
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)
    steps = {f"{b - a:.6g}" for a, b in pairwise(ticks)}
    assert len(steps) <= 1 or span < 1e-3
    whole = nice(0, max(1, span), most, whole=True)
    assert all(tick == round(tick) for tick in whole)
