"""The times of a chain: which there are, and in which order; what was meant where something else was given."""

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.process.process import Process
from diffprob.process.times import as_time


def nearest(process: Process, t: Tensor | float) -> Tensor:
    """The noisy time of a discrete schedule that is nearest to t, float64 shaped like t; of a continuous one t itself.

    Raises:
        ValueError: t is no time, or 0, the data, which no schedule has among its noisy times.
    """
    time = as_time(t, process.schedule.steps)
    if bool((time == 0).any()):
        raise ValueError("t must lie in (0, 1], got 0: that is the data, without noise")
    return process.schedule.snap(time)


def noisy_times(process: Process, times: Tensor) -> Tensor:
    """The times of a chain, float64 (n,): decreasing within [0, 1], the last one with noise left to remove.

    Raises:
        ValueError: anything else, with what would be right.
    """
    times = _grid(process, times)
    (rising,) = torch.nonzero(times.diff() >= 0, as_tuple=True)
    if len(rising):
        at, whole = int(rising[0]), len(rising) == len(times) - 1 and bool((times.diff() > 0).all())
        hint = "; times.flip(0) would be right" if whole else ""
        raise ValueError(f"times must decrease: {float(times[at]):g} is followed by {float(times[at + 1]):g}{hint}")
    if float(process.logsnr(times[-1])) == float("inf"):
        end, start = float(times[-1]), process.schedule.start
        raise ValueError(
            f"times end at {end:g}, where {process.schedule!r} has no noise: the way from the last noisy time to the "
            f"data is the reconstruction; an end at {start:g}, as of Uniform(), would be right"
        )
    return times


def rising_times(process: Process, times: Tensor) -> Tensor:
    """The times of a table, float64 (n,): increasing within [0, 1], the first one with noise.

    Raises:
        ValueError: anything else.
    """
    times = _grid(process, times)
    if not bool((times.diff() > 0).all()):
        raise ValueError(f"times must increase, got {shown(times.tolist())}")
    if float(process.logsnr(times[0])) == float("inf"):
        raise ValueError(f"times begin at {float(times[0]):g}, where {process.schedule!r} has no noise")
    return times


def _grid(process: Process, times: Tensor) -> Tensor:
    times = as_time(torch.as_tensor(times), process.schedule.steps)
    if times.ndim != 1 or not len(times):
        raise ValueError(f"times must be a grid (n,) of at least one time, got the shape {tuple(times.shape)}")
    return times
