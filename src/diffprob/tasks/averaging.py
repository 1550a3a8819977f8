"""A run whose weights are averaged over more or less of its training than it was, chosen when it is over."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffprob.base.checks import real, text, whole
from diffprob.base.errors import InputError
from diffprob.runs.files import AVERAGE
from diffprob.runs.folder import Run
from diffprob.runs.publish import write_run
from diffprob.storage import tensors
from diffprob.storage.files import expanded
from diffprob.tasks.options import option
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.training.averages import WIDEST, combine

FAR = 0.05  # of a profile's norm: from here on a note says that the average is only near the one that was asked for


@dataclass(frozen=True, kw_only=True)
class AverageRequest:
    """Which average.

    Args:
        length: standard deviation of its profile over the length of the training, such as 0.08.
        out: the folder of the new run.
        step: at which the training is taken to end; None: the last one kept.

    Raises:
        FieldError: a number out of its range.
    """

    length: float
    out: str
    step: int | None = None

    def __post_init__(self) -> None:
        real("length", self.length, f"[0.001, {WIDEST}]")
        text("out", self.out)
        whole("step", self.step, 1, none=True)


@dataclass(frozen=True)
class AverageResult:
    """What the average was made of.

    Args:
        run: the folder of the new run.
        length, step: of the average.
        error: distance between its profile and the one asked for, relative to the latter's norm.
        kept: how many averages it was put together from.
    """

    run: str
    length: float
    step: int
    error: float
    kept: int

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return dict(vars(self))

    def __repr__(self) -> str:
        what = f"average of length {self.length:g} at step {self.step:,}"
        return f"{self.run}: {what}, {self.error:.2g} off, from {self.kept}"


def average(run: Run, request: AverageRequest, reporter: Reporter = SILENT) -> AverageResult:
    """Write a run with the weights of `run` averaged over another length, put together from the averages that its
    training kept (``training.averages``), by least squares of their profiles.

    What a training leaves fixed, and running statistics, are those of the run's own weights.

    Raises:
        InputError: the training kept no averages, none up to that step, a damaged file, or a folder that is not empty.
    """
    step, _ = kept_averages(run, request.step)
    made = average_at(run, request.length, step, reporter)
    write_run(request.out, run.recipe, made.weights, run.meta.get("data"), step)
    return AverageResult(str(expanded(request.out)), request.length, step, made.error, made.kept)


class Average(NamedTuple):
    """An average of weights, by name; how far its profile is off, as `AverageResult` says; from how many."""

    weights: dict[str, Tensor]
    error: float
    kept: int


def kept_averages(run: Run, step: int | None) -> tuple[int, list[int]]:
    """The step at which an average is to stand, None for the last one, and those at which the training kept some.

    Raises:
        InputError: it kept none, or none up to there.
    """
    steps = sorted(int(match[1]) for name in run.manifest.files if (match := AVERAGE.fullmatch(name)))
    if not steps:
        keep = option("overrides", {"training.averages": (0.05, 0.1)})
        raise InputError(f"{run.place} kept no averages to make others of: train it with {keep}")
    if step is not None and step > steps[-1]:
        raise InputError(f"{option('step', step)}: {run.place} kept averages up to step {steps[-1]:,}")
    return steps[-1] if step is None else step, steps


def average_at(run: Run, length: float, step: int, reporter: Reporter = SILENT) -> Average:
    """The average of such a length at ``step``; what a training leaves fixed is that of the run's own weights."""
    widths, (_, steps) = run.recipe.training.averages, kept_averages(run, step)
    kept = [(width, at) for at in steps for width in widths]
    factors, error = combine(kept, length, step)
    if error > FAR:
        reporter.note(
            f"the profile is {error:.2g} of its size away from the length {length:g} at step {step:,}: the "
            f"training kept {', '.join(f'{width:g}' for width in widths)} at {len(steps)} steps"
        )
    total: dict[str, Tensor] = {}
    for (width, at), factor in zip(kept, factors.tolist(), strict=True):
        for name, value in _one(run, at, width):
            total[name] = total.get(name, torch.zeros((), dtype=torch.float64)) + factor * value.double()
    weights = run.weights()
    return Average(weights | {name: value.to(weights[name].dtype) for name, value in total.items()}, error, len(kept))


def _one(run: Run, step: int, width: float) -> Iterator[tuple[str, Tensor]]:
    """The weights of one kept average, by name."""
    name = f"average-{step:08d}.safetensors"
    run.manifest.verify([name])
    prefix = f"{width!r}/"
    for key, value in tensors.read(run.path / name).items():
        if key.startswith(prefix):
            yield key.removeprefix(prefix), value
