"""What a page says about a run, as rows of (name, text): no absolute path, no name of a machine or a user."""

import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath, PureWindowsPath
from statistics import median
from typing import Any

import torch

from diffprob import __version__
from diffprob.base.levels import kind_text
from diffprob.base.text import one_line
from diffprob.config.recipe import Recipe, parameter_count
from diffprob.config.spec import children
from diffprob.reporting.curves import series
from diffprob.reporting.material import CodedImages, Log, Material
from diffprob.runs.measurements import Measurement, against, drawn_with, interval, number
from diffprob.space.real_numbers import Reals
from diffprob.space.space import Space
from diffprob.space.units import unit_of

Rows = list[tuple[str, str]]
CODED = {"steps": "the steps", "levels": "the levels at their end", "rest": "header and checks"}


def without_paths(value: Any) -> Any:
    """A component in which every absolute path is cut to its last part, as it means nothing elsewhere."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: without_paths(child) for name, child in children(value)})
    if isinstance(value, tuple | list):
        return type(value)(without_paths(item) for item in value)
    if isinstance(value, dict):
        return {without_paths(name): without_paths(item) for name, item in value.items()}
    return last_part(value) if isinstance(value, str) and _absolute(value) else value


def last_part(path: str) -> str:
    """The name of a file or folder without those above it."""
    return (PureWindowsPath(path) if "\\" in path else PurePosixPath(path)).name or "."


def _absolute(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith(("~", "file:"))


def public(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Measurements as a page may show them."""
    return [
        replace(
            item,
            name=without_paths(item.name),
            split=without_paths(item.split),
            data=without_paths(item.data),
            details=without_paths(item.details),
        )
        for item in measurements
    ]


def shape(space: Space) -> str:
    """ "28×28, grey, 256 levels"."""
    if isinstance(space, Reals):
        return space.text.replace("x", "×")
    channels, height, width = space.shape
    return f"{height}×{width}, {kind_text(channels)}, {space.levels} levels"


def duration(seconds: float) -> str:
    """ "42 s", "3 min 5 s", "1 h 20 min", "3.5 days"."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min" if whole < 172800 else f"{seconds / 86400:.1f} days"


def seconds_training(log: Log) -> float | None:
    """Seconds that the training has taken, over all its starts; None where nothing is logged."""
    points = series(log, "seconds")
    return points[-1][1] if points else None


def in_one_line(material: Material) -> str:
    """One line: how far the training came, and the number that says most."""
    training, step, seconds = material.run.recipe.training, material.run.meta["step"], seconds_training(material.log)
    if seconds is None:
        state = "The weights come without a record of their training."
    elif step >= training.steps:
        state = f"Trained to the end: {step:,} steps of {training.batch} images in {duration(seconds)}."
    else:
        state = f"Not trained to the end: step {step:,} of {training.steps:,}, after {duration(seconds)}."
    measurement = headline(public(material.run.measurements))
    return f"{state} {'Nothing has been measured yet.' if measurement is None else sentence(measurement)}"


def headline(measurements: Sequence[Measurement]) -> Measurement | None:
    """The measurement that says most: against real images before one without, with an interval before one without, in
    features before one without, of more samples before one of fewer; the first of these."""

    def weight(item: Measurement) -> tuple[bool, bool, bool, int]:
        return item.reference is not None, item.low is not None, bool(item.features), item.n

    return max(measurements, key=weight, default=None)


def sentence(item: Measurement) -> str:
    """A measurement in one sentence, with what it takes to understand it."""
    details = [f"95%: {interval(item)}"] if interval(item) else []
    details += [f"n = {item.n:,}", *([f"in {item.features}"] if item.features else [])]
    details += [f"against {against(item)}"] if against(item) else []
    details += [drawn_with(item)] if drawn_with(item) else []
    name = item.name[:1].upper() + item.name[1:]
    real = "" if item.reference is None else f"; real images have {number(item.reference)}"
    return f"{name}: {number(item.value)} ({'; '.join(details)}){real}."


def _sizes(space: Space) -> Rows:
    """What one datum is."""
    if isinstance(space, Reals):
        return [(space.kind.capitalize(), shape(space)), ("Unit of densities", unit_of(space).name)]
    channels, height, width = space.shape
    return [
        ("Images", f"{height}×{width}" + ("" if channels == 1 else f"×{channels}")),
        ("Grey levels" if channels == 1 else "Levels", str(space.levels)),
    ]


def overview(material: Material) -> Rows:
    """The few numbers under the title."""
    recipe = material.run.recipe
    seconds = seconds_training(material.log)
    return [
        *_sizes(recipe.space),
        ("Parameters", f"{parameter_count(recipe):,}"),
        ("Step", f"{material.samples.step:,}"),
        ("Trained for", "not known" if seconds is None else duration(seconds)),
        ("Weights", material.samples.model_sha256[:12]),
    ]


def configuration(recipe: Recipe) -> Rows:
    """The recipe in a few rows; the whole of it is its repr."""
    process, training, network = recipe.process, recipe.training, recipe.network
    rate = f"learning rate {training.lr:g}, {training.warmup:,} steps of rise"
    rate += f", {training.cooldown:,} of fall" if training.cooldown else ""
    return [
        ("Images", shape(recipe.space)),
        ("Network", f"{type(network).__name__}, {parameter_count(recipe):,} parameters, widths {network.widths!r}"),
        ("Schedule", repr(process.schedule)),
        ("Process", _process_text(process)),
        ("Objective", repr(recipe.objective)),
        ("Prediction", f"{recipe.prediction!r}, {recipe.clock!r}, {recipe.variance!r}"),
        ("Training", f"{training.steps:,} steps of {training.batch} images, {rate}"),
        ("Averaging", f"EMA {training.ema:g} of the weights; these are what is sampled and measured"),
        ("Precision", f"{training.precision} while training"),
        ("Augmentation", ", ".join(map(repr, training.augment)) or "none"),
        ("Seed", str(training.seed)),
    ]


def _process_text(process: Any) -> str:
    """What the process is beside its schedule."""
    if process.is_linear:
        return f"{process.scaling!r}, {process.law!r}"
    return f"{process.levels} levels and a mask" if hasattr(process, "mask") else f"{process.levels} levels drawn anew"


def data_rows(material: Material) -> Rows:
    """Where the images come from, and how many there are."""
    recipe, images = without_paths(material.run.recipe), material.images
    rows = [("Source", repr(recipe.data)), ("SHA-256", material.run.meta["data"] or "not known")]
    if images is not None:
        kind = getattr(recipe.space, "kind", "images")
        rows.append((kind.capitalize(), f"{len(images):,} of {shape(recipe.space)}"))
        if images.labels is not None:
            rows.append(("Classes", f"{len(images.occurring):,}: {one_line(', '.join(images.occurring))}"))
        rows += [("Note", note) for note in images.notes]
    else:
        count = _images_of_log(material)
        rows.append(("Images", f"{count}, {shape(recipe.space)}"))
        rows.append(("Real images", f"not shown: {material.data_note}"))
    return rows


def _images_of_log(material: Material) -> str:
    """How many images an epoch had."""
    epochs = series(material.log, "epoch")
    if not epochs or epochs[-1][1] < 0.01:
        return "number not known"
    step, epoch = epochs[-1]
    return f"about {round(step * material.run.recipe.training.batch / epoch):,} (from the log)"


def coded_rows(code: CodedImages) -> Rows:
    """What images as bytes cost, and on what."""
    per_dim = {name: bits / (code.n * code.dimensions) for name, bits in code.bits.items()}
    parts = ", ".join(f"{what} {number(per_dim[name])}" for name, what in CODED.items())
    return [
        ("File", f"{code.size:,} bytes, {number(8 * code.size / (code.n * code.dimensions))} bits/dim"),
        ("Bits/dim of", parts),
        ("Code", f"{code.coder}, {code.steps} times"),
        ("Encoded", f"in {duration(code.seconds['encode'])}, decoded in {duration(code.seconds['decode'])}, every bit"),
    ]


def timings(material: Material) -> Rows:
    """How long training took, by its log, and drawing the samples of this page."""
    points, samples = series(material.log, "seconds"), material.samples
    rows = []
    if points:
        step, seconds = points[-1]
        steady = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(points) if b[0] > a[0]]
        per_step = median(steady) if steady else seconds / max(step, 1)
        rows.append(("Training", f"{duration(seconds)} for {step:,.0f} steps"))
        if per_step > 0:
            rate = material.run.recipe.training.batch / per_step
            rows.append(("A training step", f"{number(1000 * per_step)} ms (median), {number(rate)} images/s"))
    else:
        rows.append(("Training", "not logged"))
    total = samples.evaluations * len(samples)
    rate = f", {number(total / samples.seconds)} image evaluations/s" if samples.seconds > 0 else ""
    size = f"{len(samples)} × {samples.evaluations:g} steps"
    rows.append(("Samples of this page", f"{duration(samples.seconds)} for {size}{rate}"))
    return rows


def environment(device: str) -> Rows:
    """Where this page's samples were drawn: software and kind of machine."""
    where = torch.device(device)
    name = f" ({torch.cuda.get_device_name(where)})" if where.type == "cuda" and torch.cuda.is_available() else ""
    return [
        ("diffprob", __version__),
        ("PyTorch", torch.__version__),
        ("Python", platform.python_version()),
        ("Device", f"{where}{name}"),
        ("Threads", str(torch.get_num_threads())),
        ("System", f"{platform.system()} {platform.machine()}"),
    ]


def fields_of(values: Sequence[Any], path: str = "") -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """(path, text of the field in each component, whether they are equal) of every field, the deepest first reached.

    Components of different classes are one field: their fields do not correspond.
    """
    first = values[0]
    if is_dataclass(first) and not isinstance(first, type) and all(type(value) is type(first) for value in values):
        names = [name for name, _ in children(first)]
        if names:
            for name in names:
                here = f"{path}.{name}" if path else name
                yield from fields_of([getattr(value, name) for value in values], here)
            return
    yield path, tuple(map(_literal, values)), all(type(value) is type(first) and value == first for value in values)


def _literal(value: Any) -> str:
    return "inf" if isinstance(value, float) and math.isinf(value) else repr(value)
