"""Time grids: which noise levels a chain visits.

``grid(process, n)`` is a 1-D float64 tensor of n decreasing noisy times, from 1 down to the schedule's last noisy time.
A chain on it calls the network n times: n - 1 steps and the reconstruction. A discrete schedule's times are snapped to
multiples of 1/T.
"""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Protocol

import torch
from torch import Tensor

from diffprob.base.checks import MOST_STEPS, real, shown, whole
from diffprob.process.linear import LinearProcess


class Grid(Protocol):
    """A rule for spacing times (frozen dataclass: its repr is its configuration)."""

    def __call__(self, process: LinearProcess, n: int) -> Tensor:
        """n decreasing noisy times, float64 (n,).

        Raises:
            ValueError: no whole number, fewer than 1, or more times than a discrete schedule or, at most 10^6, any has.
        """
        ...


def _finish(process: LinearProcess, times: Tensor) -> Tensor:
    """Snap to the schedule; where two times meet, push them apart without leaving the grid."""
    n = len(times)
    schedule = process.schedule
    times = schedule.snap(times)
    if schedule.steps is None:
        return times
    if torch.any(times[:-1] <= times[1:]):
        index = (times * schedule.steps).round()
        offset = torch.arange(n, dtype=torch.float64)
        # Ascending indices minus their rank must not decrease: a running maximum from below, then one from above.
        up = torch.cummax(index.flip(0) - offset, 0).values + offset
        limit = index[0] - offset.flip(0)
        times = schedule.snap(torch.minimum(up, limit).flip(0) / schedule.steps)
    return times


def _check(process: LinearProcess, n: int) -> None:
    """Refuse a number of times before anything of that size is made."""
    count, steps = int(n) if isinstance(n, Integral) and not isinstance(n, bool) else n, process.schedule.steps
    if steps is not None and isinstance(count, int) and count > steps:
        raise ValueError(f"{process.schedule!r} has {steps} times, {shown(count)} were asked for")
    whole("the number of times", count, 1, MOST_STEPS)


def _bent(v: Tensor, bend: float) -> Tensor:
    """v + bend v (1 - v): 0 and 1 stay, the slopes there are 1 + bend and 1 - bend."""
    return v + bend * v * (1 - v)


def _spread(n: int) -> Tensor:
    """1 down to 0 in n evenly spaced numbers; a single one is 1."""
    return torch.linspace(1, 0, n, dtype=torch.float64) if n > 1 else torch.ones(1, dtype=torch.float64)


@dataclass(frozen=True)
class Uniform:
    """Evenly spaced times from 1 to the last noisy time; on a discrete schedule round(1 + k (T-1)/(n-1)) (Bao et al.
    2022, app. G).

    With n = T on a discrete schedule this is the native grid i/T.
    """

    def __call__(self, process: LinearProcess, n: int) -> Tensor:
        """n decreasing noisy times, float64 (n,)."""
        _check(process, n)
        start = process.schedule.start
        return _finish(process, start + (1 - start) * _spread(n))


@dataclass(frozen=True)
class Native:
    """Every time of a discrete schedule: 1, (T-1)/T, ..., 1/T (Ho et al. 2020, algorithm 2)."""

    def __call__(self, process: LinearProcess, n: int) -> Tensor:
        """All T times, float64 (T,); n must be T."""
        if process.schedule.steps is None:
            raise ValueError(f"{process.schedule!r} is continuous and has no native grid; use Uniform()")
        _check(process, n)
        if n != process.schedule.steps:
            raise ValueError(f"the native grid of {process.schedule!r} has {process.schedule.steps} times, not {n}")
        return _finish(process, torch.arange(n, 0, -1, dtype=torch.float64) / n)


@dataclass(frozen=True)
class QuadraticTimes:
    """Squares of evenly spaced numbers, from t = 1: denser near the data (Song et al. 2021, DDIM, app. D.2)."""

    def __call__(self, process: LinearProcess, n: int) -> Tensor:
        """n decreasing noisy times, float64 (n,)."""
        _check(process, n)
        root = process.schedule.start**0.5
        return _finish(process, _pin(process, (root + (1 - root) * _spread(n)) ** 2))


@dataclass(frozen=True)
class LogSNR:
    """Evenly spaced log-SNR (Lu et al. 2022, sec. 3.3)."""

    def __call__(self, process: LinearProcess, n: int) -> Tensor:
        """n decreasing noisy times, float64 (n,)."""
        _check(process, n)
        first, last = _finite_logsnr(process)
        spread = _spread(n)
        times = process.schedule.time(first * spread + last * (1 - spread))
        return _finish(process, _pin(process, times))


@dataclass(frozen=True)
class Karras:
    """sigma/alpha evenly spaced in its power 1/rho (Karras et al. 2022, eq. 5)."""

    rho: float = 7.0

    def __post_init__(self) -> None:
        real("rho", self.rho, "[0.1, 1000]")

    def __call__(self, process: LinearProcess, n: int) -> Tensor:
        """n decreasing noisy times, float64 (n,)."""
        _check(process, n)
        first, last = (torch.exp(-0.5 * value / self.rho) for value in _finite_logsnr(process))
        spread = _spread(n)
        times = process.schedule.time(-2 * self.rho * torch.log(first * spread + last * (1 - spread)))
        return _finish(process, _pin(process, times))


@dataclass(frozen=True)
class GrainGrid:
    """u = asinh(extent alpha/s) evenly spaced from t = 1 on, so that the next value would be that of the data.

    s^2 = sigma^2 + grain^2 alpha^2 (`diffprob.sampling.grain`): the noise levels of `LogSNR` near the data, few above
    the extent of the data, where little is decided. With so many times that the last would lie below the schedule's
    last noisy time, they end there.

    Args:
        grain: standard deviation of the finest detail of the data, in its units.
        extent: of the data.
        bend: u goes as v + bend v (1 - v) + dwell v (1 - v) (1 - 2 v), v going evenly from 0 to 1: a negative bend
            makes the first steps shorter and the last ones longer.
        dwell: makes the steps in the middle shorter, where a mixture decides for a mode, and those at both ends longer;
            at least 0 and below 1. The slopes are 1 + bend + dwell, 1 - dwell/2 and 1 - bend + dwell.
    """

    grain: float = 0.06
    extent: float = 1.2
    bend: float = 0.0
    dwell: float = 0.0

    def __post_init__(self) -> None:
        real("grain", self.grain, "[1e-6, 1000]")
        real("extent", self.extent, "[1e-6, 1000]")
        real("bend", self.bend, "(-1, 1)")
        real("dwell", self.dwell, "[0, 1)")

    def __call__(self, process: LinearProcess, n: int) -> Tensor:
        """n decreasing noisy times, float64 (n,)."""
        _check(process, n)
        ends = torch.stack([process.logsnr(1.0), process.logsnr(process.schedule.start)])
        first, last = torch.asinh(self.extent / (torch.exp(-ends) + self.grain**2).sqrt())
        data = torch.full_like(first, math.asinh(self.extent / self.grain))
        u = torch.lerp(first, data, self._shaped(1 - _spread(n + 1)))[:-1]
        crowded = n > 1 and bool(u[-1] > last)
        if crowded:
            u = torch.lerp(first, last, self._shaped(1 - _spread(n)))
        times = process.schedule.time(-torch.log((self.extent / torch.sinh(u)) ** 2 - self.grain**2))
        times[0] = 1.0
        return _finish(process, _pin(process, times) if crowded else times)

    def _shaped(self, v: Tensor) -> Tensor:
        return _bent(v, self.bend) + self.dwell * v * (1 - v) * (1 - 2 * v)


@dataclass(frozen=True)
class Trailing:
    """1, 1 - 1/n, ..., 1/n: starts exactly at the noise ("trailing" of Lin et al. 2024, table 2).

    Args:
        bend: the distance from t = 1 is bent from v to v + bend v (1 - v): negative values make the first steps shorter
            and the last ones longer, and end the grid earlier.
    """

    bend: float = 0.0

    def __post_init__(self) -> None:
        real("bend", self.bend, "(-1, 1)")

    def __call__(self, process: LinearProcess, n: int) -> Tensor:
        """n decreasing noisy times, float64 (n,)."""
        _check(process, n)
        return _finish(process, 1 - _bent(torch.arange(n, dtype=torch.float64) / n, self.bend))


@dataclass(frozen=True)
class Leading:
    """start, start + (1 - start)/n, ...: ends at the last noisy time but starts below t = 1 ("uniform" of Song et al.
    2021, DDIM).

    On a discrete schedule the indices 1, 1 + T//n, 1 + 2 (T//n), ...

    The chain is started from the prior although x at its first time is not pure noise: a mismatch that other grids do
    not have.
    """

    def __call__(self, process: LinearProcess, n: int) -> Tensor:
        """n decreasing noisy times, float64 (n,)."""
        _check(process, n)
        start = process.schedule.start
        steps = process.schedule.steps
        stride = (1 - start) / n if steps is None else (steps // n) / steps
        return _finish(process, (start + stride * torch.arange(n, dtype=torch.float64)).flip(0))


def _finite_logsnr(process: LinearProcess) -> tuple[Tensor, Tensor]:
    """logsnr at t = 1 and at the last noisy time; a straight path has -inf at t = 1 and is cut at t = 0.999."""
    first, last = process.logsnr(1.0), process.logsnr(process.schedule.start)
    return (first if torch.isfinite(first) else process.logsnr(0.999)), last


def _pin(process: LinearProcess, times: Tensor) -> Tensor:
    """Put the end points where they belong to the last bit."""
    times = times.clone()
    times[0] = 1.0
    if len(times) > 1:
        times[-1] = process.schedule.start
    return times
