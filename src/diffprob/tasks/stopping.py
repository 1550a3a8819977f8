"""Measuring image after image until the standard error of their mean is small enough."""

import math

import numpy as np

from diffprob.base.rng import subset
from diffprob.tasks.bounds import LikelihoodSetup
from diffprob.tasks.drawing import slices
from diffprob.tasks.options import option
from diffprob.tasks.reporter import Reporter

# Images before a standard error is believed: the spread of n normal numbers is off by 1/sqrt(2 (n - 1)) of itself, 9%
# at 64; and whoever stops at the first small error stops rather where the spread came out too small.
LEAST = 64
STOPPED, EXHAUSTED = "stopped", "all images used"


def batches(setup: LikelihoodSetup, until: float | None) -> list[np.ndarray]:
    """Indices of the images that are measured between two looks at the error, each increasing, int64.

    Without a bound on the error all of them at once; else `LEAST`, rounded up to whole network calls, in the seed's
    order: the first k batches are what is chosen by the seed where so many images are asked for.
    """
    if until is None:
        return [setup.chosen]
    count = len(setup.selection)
    order = subset(count, count, setup.settings["seed"], "images")
    order = order[np.isin(order, setup.chosen)]
    return [np.sort(order[part]) for part in slices(len(order), setup.chunk * math.ceil(LEAST / setup.chunk))]


def merge(parts: list[tuple[np.ndarray, list[np.ndarray]]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The indices of all batches, increasing, and every column in that order.

    Args:
        parts: of each batch its indices (n,) and its columns (..., n).
    """
    index = np.concatenate([batch for batch, _ in parts])
    order = np.argsort(index)
    columns = zip(*(columns for _, columns in parts), strict=True)
    return index[order], [np.concatenate(column, -1)[..., order] for column in columns]


def needed(n: int, error: float, until: float) -> int:
    """How many images would have the error, if their spread is that of the n that have another."""
    return max(LEAST, math.ceil(n * (error / until) ** 2))


def ending(n: int, error: float | None, until: float, most: int, reporter: Reporter) -> str:
    """How a measurement of n images ended, with a note where the error is not small enough.

    Args:
        n: images that were measured.
        error: of their mean; None: one image, which has no spread.
        until: what it should be.
        most: images that there are.
        reporter: who hears the note.
    """
    if error is not None and error <= until:
        return STOPPED
    what = "one image has no standard error"
    if error is not None:
        wanted = needed(n, error, until)
        instead = f"{option('n', wanted)} would do" if wanted <= most else f"about {wanted:,} images would do"
        what = f"a standard error of {error:.4f} is above {until:g}; {instead}"
    reporter.note(f"{EXHAUSTED}, {n:,} of the {most:,} that there are: {what}")
    return EXHAUSTED
