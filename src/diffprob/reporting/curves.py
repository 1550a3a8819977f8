"""Curves as numbers on a page: ticks, axes, polylines; the template draws them, in the colours of the page."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeGuard

from diffprob.reporting.figures import running_median
from diffprob.runs.measurements import number

SIZE = 1000  # of the drawing's square, which the page stretches to the room there is
MOST = 1500  # points that are smoothed
SHOWN = 400  # points of a line as drawn
DOT = 6  # half the length of what stands for a single point
TICKS = 5

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        label: for the legend.
        path: ``points`` of an SVG polyline.
        colour: number of the colour, from 0.
        faint: a line in the background.
    """

    label: str
    path: str
    colour: int = 0
    faint: bool = False


@dataclass(frozen=True)
class Chart:
    """What the template draws; positions are per cent of the plotting area, from its left and its top.

    Args:
        title: of the chart.
        note: what the lines are, in a sentence: the text in the place of the picture.
        lines: in drawing order.
        x_ticks, y_ticks: (position, label).
        legend: whether the lines need one.
        logarithmic: whether the vertical axis is.
    """

    title: str
    note: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    legend: bool = False
    logarithmic: bool = False


def series(log: Iterable[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value) of the records of a training log that have both, as finite numbers."""
    pairs = [(record.get("step"), record.get(key)) for record in log]
    return [(float(x), float(y)) for x, y in pairs if _is_number(x) and _is_number(y)]


def smooth(points: Points) -> list[tuple[float, float]]:
    """The running median over about a twelfth of the points; many points are first replaced by medians of a few."""
    every = max(1, math.ceil(len(points) / MOST))
    pieces = [points[k : k + every] for k in range(0, len(points), every)]
    xs = [piece[-1][0] for piece in pieces]
    ys = [median(y for _, y in piece) for piece in pieces]
    return list(zip(xs, running_median(ys, max(3, len(ys) // 24 * 2 + 1)), strict=True)) if xs else []


def chart(title: str, curves: Mapping[str, Points], smoothed: bool = False) -> Chart | None:
    """A chart of the curves by name, or None where none has a point.

    The vertical axis of smoothed curves is logarithmic when they span more than a factor of four.

    Args:
        title: for instance "Loss".
        curves: (step, value) by name; one curve needs no name.
        smoothed: draw the running median, over the values themselves where there is one curve.
    """
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return None
    drawn = {name: smooth(points) if smoothed else list(points) for name, points in curves.items()}
    scale = _Scale.of([point for points in drawn.values() for point in points], smoothed)
    lines = []
    if smoothed and len(curves) == 1:
        raw = next(iter(curves.values()))
        lines.append(Line("as logged", scale.path(_envelope(raw)), 0, True))
    for k, (name, points) in enumerate(drawn.items()):
        lines.append(Line(name or ("running median" if smoothed else title), scale.path(_thin(points)), k))
    notes = []
    for name, points in drawn.items():
        prefix = f"{name}: " if len(drawn) > 1 else ""
        last, lowest = points[-1], min(points, key=lambda point: point[1])
        least = f", lowest {number(lowest[1])} at step {lowest[0]:,.0f}" if smoothed and lowest is not last else ""
        notes.append(f"{prefix}{number(last[1])} at step {last[0]:,.0f}{least}")
    note = ("Running median: " if smoothed else "") + "; ".join(notes)
    return Chart(title, note, tuple(lines), scale.x_ticks(), scale.y_ticks(), len(lines) > 1, scale.logarithmic)


@dataclass(frozen=True)
class _Scale:
    """From steps and values to the drawing."""

    left: float
    right: float
    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, points: Points, logarithmic: bool) -> "_Scale":
        xs, ys = [x for x, _ in points], [y for _, y in points]
        low, high = min(ys), max(ys)
        logarithmic = logarithmic and 0 < 4 * low < high
        if logarithmic:
            room = (high / low) ** 0.06
            low, high = low / room, high * room
        else:
            room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
            from_zero = 0 <= low < max(room, 0.3 * high)
            low, high = 0.0 if from_zero else low - room, high + room
        right = max(xs) if max(xs) > min(xs) else min(xs) + 1
        return cls(min(0.0, *xs), right, low, high, logarithmic)

    def x(self, value: float) -> float:
        return (value - self.left) / (self.right - self.left)

    def y(self, value: float) -> float:
        """0 at the top."""
        if not self.logarithmic:
            return (self.high - value) / (self.high - self.low)
        return math.log(self.high / max(value, 1e-300)) / math.log(self.high / self.low)

    def path(self, points: Points) -> str:
        """Clipped a little outside the area, where the page cuts it off; a single point becomes a short line."""
        places = [(SIZE * self.x(x), SIZE * min(max(self.y(y), -0.05), 1.05)) for x, y in points]
        if len(places) == 1:
            x, y = places[0]
            places = [(x - DOT, y), (x + DOT, y)]
        return " ".join(f"{x:.4g},{y:.4g}" for x, y in places)

    def x_ticks(self) -> tuple[tuple[float, str], ...]:
        return tuple(
            (round(100 * self.x(tick), 2), f"{tick:,.0f}") for tick in nice(self.left, self.right, 4, whole=True)
        )

    def y_ticks(self) -> tuple[tuple[float, str], ...]:
        ticks = _decades(self.low, self.high) if self.logarithmic else nice(self.low, self.high, TICKS)
        return tuple((round(100 * self.y(tick), 2), f"{tick:g}") for tick in ticks)


def nice(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """At most ``most`` + 1 round numbers within [low, high], the same distance apart.

    Args:
        whole: only whole numbers.
    """
    span = (high - low) / most
    power = 10 ** math.floor(math.log10(span))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= span * (1 - 1e-9))
    if whole:
        step = float(max(1, math.ceil(step - 1e-9)))
    first = math.ceil(low / step - 1e-9)
    ticks = [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]
    # 0.1 * 3 is 0.30000000000000004
    return [round(tick, 12 - math.floor(math.log10(step))) for tick in ticks]


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten within [low, high]; powers alone, thinned, where these are too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(ticks) <= TICKS + 1:
            return ticks
    return ticks[:: math.ceil(len(ticks) / TICKS)]


def _thin(points: Points) -> Points:
    every = math.ceil(len(points) / SHOWN)
    return points if every == 1 else [*points[:-1:every], points[-1]]


def _envelope(points: Points) -> Points:
    """As many points as can be seen, with the lowest and the highest of each stretch kept."""
    every = math.ceil(2 * len(points) / SHOWN)
    if every <= 2:
        return points
    kept = []
    for k in range(0, len(points), every):
        piece = points[k : k + every]
        kept += sorted({min(piece, key=lambda point: point[1]), max(piece, key=lambda point: point[1])})
    return kept


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
