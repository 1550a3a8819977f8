"""Parts of a training's loss: times that have the law they say, and weights of the error at a time."""

import math
from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.rng import Rng
from diffprob.conform.expectations import check_frozen, expect, made, said_of
from diffprob.process.linear import LinearProcess

DRAWS = 40_000
# Dvoretzky, Kiefer & Wolfowitz with Massart's constant: a right law is farther off once in a million times.
FARTHEST = math.sqrt(math.log(2 / 1e-6) / (2 * DRAWS))


def check_times(times: Any, process: LinearProcess | None = None) -> None:
    """Whether times for training are drawn from the law that their distribution function says.

    They lie between the schedule's last noisy time and 1 and are those of a discrete schedule; each depends on its own
    stream alone; their distribution function rises from 0 to 1, and 40,000 draws follow it (Kolmogorov and Smirnov's
    distance, which a right law exceeds once in a million times).

    Args:
        times: a component of the family "times"; a class is made with its defaults.
        process: whose times; None: those of the default process.

    Raises:
        ConformanceError: the first thing that does not hold, in one sentence.
    """
    times, process = made(times), process or LinearProcess()
    with said_of(times, "as times of a training"):
        check_frozen(times)
        drawn_times(times, process)
        law_of_times(times, process)


def drawn_times(times: Any, process: LinearProcess) -> None:
    """float64 times of the schedule's own, one for each stream and of nothing else."""
    who, schedule, rng = shown(times), process.schedule, Rng.of(3, 500)
    t = times(process, rng)
    expect(t.dtype == torch.float64 and t.shape == (500,), f"{who}: times are {t.dtype} {tuple(t.shape)}")
    expect(((t >= schedule.start) & (t <= 1)).all(), f"{who}: a time lies outside [{schedule.start:g}, 1]")
    expect(torch.equal(schedule.snap(t), t), f"{who}: a time is none of the schedule's own")
    expect(torch.equal(times(process, rng), t), f"{who}: other times for the same streams")
    alone = times(process, rng.select(slice(7, 8)))
    expect(torch.equal(alone, t[7:8]), f"{who}: the time of an image depends on its companions")


def law_of_times(times: Any, process: LinearProcess) -> None:
    """The distribution function rises from 0 to 1, and draws follow it."""
    who, start = shown(times), process.schedule.start
    # Between the times of any schedule of up to 5,000 steps.
    points = (torch.arange(10_001, dtype=torch.float64) / 10_000 + 3e-5).clamp(0, 1)
    function = times.cdf(process, points)
    precise = function.dtype == torch.float64 and function.shape == points.shape
    expect(precise, f"{who}: the distribution function is {function.dtype} {tuple(function.shape)}")
    rises = (function.diff() >= -1e-12).all() and float(function[-1]) == 1
    expect(rises, f"{who}: its distribution function does not rise to 1")
    below = float(times.cdf(process, torch.tensor(start * (1 - 1e-6) - 1e-9, dtype=torch.float64)))
    expect(below < 1e-6, f"{who}: it has times below the last noisy one")
    drawn = times(process, Rng.of(11, DRAWS)).sort().values
    share = torch.searchsorted(drawn, points, right=True).double() / DRAWS
    distance = float((share - function).abs().max())
    expect(
        distance < FARTHEST,
        f"{who}: the distribution of {DRAWS:,} draws is {distance:.3g} away from its distribution function",
    )


def weighs(weight: Any, process: LinearProcess, prediction: Any) -> None:
    """A factor for each time, float64, finite and at least 0, that does not depend on the other times."""
    who, schedule = shown(weight), process.schedule
    t: Tensor = torch.linspace(schedule.start, 1, 33, dtype=torch.float64).clamp_min(1e-6)
    if not bool(torch.isfinite(prediction.coefficients(process, t)[1]).all()):
        t = t[:-1]  # without a signal some predictions say nothing of x_0
    factor = weight.factor(process, prediction, t)
    expect(factor.dtype == torch.float64 and factor.shape == t.shape, f"{who}: factors are {factor.dtype}")
    expect((torch.isfinite(factor) & (factor >= 0)).all(), f"{who}: a factor is negative or not finite")
    one = weight.factor(process, prediction, t[5])
    expect(torch.allclose(one, factor[5], rtol=1e-12), f"{who}: the factor of a time depends on the other times")
