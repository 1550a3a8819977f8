"""What several proxies measure with: noised images, predicted noises, chains down."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, one_for_each
from diffprob.base.shapes import check_points
from diffprob.denoise.denoiser import Denoiser
from diffprob.process.linear import LinearProcess
from diffprob.sampling.between import add_noise

MOST_NOISES = 10_000  # drawn for one image


def time(process: LinearProcess, t: float) -> Tensor:
    """t, float64 (), as a network was trained with it: the nearest of a discrete schedule's times."""
    return process.schedule.snap(torch.tensor(t, dtype=torch.float64))


def descent(process: LinearProcess, t: float, steps: int, owner: Any) -> Tensor:
    """t, t (steps - 1)/steps, ..., t/steps: the times of a chain down from t, float64 (steps,).

    Raises:
        InputError: a discrete schedule has fewer times up to t.
    """
    times = process.schedule.snap(t * torch.arange(steps, 0, -1, dtype=torch.float64) / steps)
    if bool((times.diff() >= 0).any()):
        least = round(float(times[0]) * (process.schedule.steps or 0))
        raise InputError(
            f"{owner!r}: {process.schedule!r} has {least} times up to t = {t:g}, take at most {least} steps"
        )
    return times


def states(process: LinearProcess, x: Tensor, t: Tensor, noises: int, rng: Rng) -> Iterator[Tensor]:
    """x_t = alpha x_0 + sigma z, (B, *event), for so many noises z; with none alpha x_0 itself, once."""
    check_points(x, "an image")
    one_for_each(rng, x)
    if not noises:
        yield process.marginal(x, t).mean
    for k in range(noises):
        yield add_noise(process, x, t, rng.at(k))


def noise(model: Denoiser, xt: Tensor, t: Tensor) -> Tensor:
    """eps = (x_t - alpha E[x_0|x_t])/sigma, float64 (B, *event): what of the noise the model can tell."""
    return model.process.predicted_noise(model(xt, t).mean, xt.double(), t)
