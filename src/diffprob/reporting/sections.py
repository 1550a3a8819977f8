"""The sections of a report: each a function from the material to HTML, and a line in `SECTIONS`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffprob.base.rng import Rng, permutation
from diffprob.config.spec import render
from diffprob.data.images import Images
from diffprob.reporting import pictures, repeat, summary
from diffprob.reporting.curves import chart, series
from diffprob.reporting.flat import FLAT, is_flat, is_point
from diffprob.reporting.html import fill
from diffprob.reporting.material import CodedImages, Log, Material
from diffprob.runs.measurements import NOTHING, NUMBERS, plain, tables

if TYPE_CHECKING:
    from markupsafe import Markup

NOISED = 3  # images on their way to noise
NOISING_TIMES = tuple(k / 10 for k in range(11))
REAL = 32  # real images beside the samples
POINTS = 500  # points of the plane, of which many are seen in one picture
METRIC = "metric/"  # what a metric's name begins with in log.jsonl


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        id: for links.
        title: its heading.
        render: its HTML; None where there is nothing to show.
    """

    id: str
    title: str
    render: "Callable[[Material], Markup | None]"


def samples(material: Material) -> "Markup":
    """A grid of samples, the class or the seed under each."""
    drawn = material.samples
    alts = [f"Sample of {drawn.called(k)}" for k in range(len(drawn))]
    tiles = pictures.tiles(drawn.levels, material.run.space.levels, alts, drawn.captions)
    values = {"drawn": drawn, "tiles": tiles, "wide": _is_wide(material), "named": not tiles[0].whole}
    return fill("samples", values)


def progression(material: Material) -> "Markup | None":
    """The predicted image along the chain."""
    drawn, space = material.samples, material.run.space
    if not drawn.frames:
        return None
    names = [drawn.called(k) for k in range(len(drawn.frames[0]))]
    process = material.run.process
    strip = pictures.strip(drawn.frames, drawn.times, process, space.levels, names, "Predicted image")
    return fill("progression", {"strip": strip, "drawn": drawn})


def noising(material: Material) -> "Markup":
    """Images on their way to noise: real ones where the data is here."""
    space, process, drawn = material.run.space, material.run.process, material.samples
    seed = drawn.seed
    most = _many(space.shape, NOISED)
    if material.images is None:
        first = drawn.levels[:most]
        names = [f"sample of {drawn.called(k)}" for k in range(len(first))]
    else:
        chosen = permutation(seed, 0, len(material.images))[:most]
        first, names = material.images.take(chosen), [_called(material.images, index) for index in chosen]
    streams = Rng.of(seed, len(first))
    frames, times = pictures.noising(first, NOISING_TIMES, process, space, streams)
    strip = pictures.strip(frames, times, process, space.levels, names, "Noised copy")
    return fill(
        "noising",
        {
            "strip": strip,
            "real": material.images is not None,
            "scaling": repr(process.scaling) if process.is_linear else None,
            "masks": hasattr(process, "mask"),
            "points": is_point(space.shape),
            "kind": getattr(space, "kind", "images"),
        },
    )


def measurements(material: Material) -> "Markup":
    """Everything measured, one table for each kind of features."""
    shown = summary.public(material.run.measurements)
    values = {
        "tables": tables(shown),
        "numbers": NUMBERS,
        "nothing": NOTHING,
        "references": any(item.reference is not None for item in shown),
        "biased": any("bias" in item.details for item in shown),
    }
    return fill("measurements", values)


def training(material: Material) -> "Markup":
    """Loss, gradient norm, learning rate, and every metric recorded while training."""
    log = material.log
    charts = [
        chart("Loss", {"": series(log, "loss")}, smoothed=True),
        chart("Gradient norm", {"": series(log, "gradient_norm")}, smoothed=True),
        chart("Learning rate", {"": series(log, "lr")}),
        *(chart(title, {"": points}) for title, points in metric_curves(log)),
    ]
    return fill("training", {"charts": [item for item in charts if item is not None]})


def metric_curves(log: Log) -> list[tuple[str, list[tuple[float, float]]]]:
    """(title, points) of every metric recorded while training: one curve for each way in which it was measured.

    A training that goes on with other features does not go on with the same curve.
    """
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record in log:
        settings = plain(summary.without_paths(record["measured"])).strip("()") if "measured" in record else ""
        for key in record:
            if key.startswith(METRIC):
                curves.setdefault((key.removeprefix(METRIC), settings), []).extend(series([record], key))
    return [(f"{name} ({settings})" if settings else name, points) for (name, settings), points in curves.items()]


def configuration(material: Material) -> "Markup":
    """The recipe: in rows, and whole."""
    recipe = summary.without_paths(material.run.recipe)
    return fill("configuration", {"rows": summary.configuration(recipe), "text": render(recipe)})


def coded(material: Material) -> "Markup | None":
    """Images as bytes, as they are known after the first of them."""
    code = material.coded
    if not isinstance(code, CodedImages):
        return None if code is None else fill("coded", {"why": code.rstrip("."), "strip": None})
    levels, names = material.run.space.levels, [f"image {k + 1}" for k in range(code.n)]
    heads = tuple((f"{share:.0%}", f"{size:.0f}") for share, size in zip(code.shares, code.bytes, strict=True))
    what = [f"after {share} of its bytes" for share, _ in heads]
    rows = tuple(
        (name, pictures.tiles(np.stack([frame[k] for frame in code.frames]), levels, [f"{name} {at}" for at in what]))
        for k, name in enumerate(names)
    )
    return fill("coded", {"strip": pictures.Strip(heads, rows), "n": code.n, "rows": summary.coded_rows(code)})


def data(material: Material) -> "Markup":
    """Where the images come from, and some of them where they are here."""
    images, real, chosen = material.images, (), ()
    if images is not None:
        chosen = permutation(material.samples.seed, 0, len(images))[: _many(images.event_shape, REAL)]
        alts, labels = zip(
            *[(f"I{_called(images, index)[1:]}", _label(images, index)) for index in chosen], strict=True
        )
        real = pictures.tiles(images.take(chosen), images.levels, alts, labels)
    values = {"rows": summary.data_rows(material), "tiles": real, "shown": len(chosen), "wide": _is_wide(material)}
    values["kind"] = getattr(material.run.space, "kind", "images")
    return fill("data", values)


def timings(material: Material) -> "Markup":
    """How long things took, and on what."""
    where = summary.environment(material.samples.device)
    return fill("timings", {"timings": summary.timings(material), "environment": where})


def reproduce(material: Material) -> "Markup":
    """Commands that make the run and the samples again."""
    commands = [
        *repeat.to_train(summary.without_paths(material.run.recipe)),
        *repeat.to_sample(material.command_name, material.samples),
    ]
    return fill("commands", {"commands": commands, "kind": "reproduce"})


def measure(material: Material) -> "Markup | None":
    """Commands for what is not measured yet."""
    commands = repeat.to_measure(material, material.run.measurements)
    return fill("commands", {"commands": commands, "kind": "measure"}) if commands else None


SECTIONS = (
    Section("samples", "Samples", samples),
    Section("progression", "From noise to image", progression),
    Section("noising", "From image to noise", noising),
    Section("measurements", "Measurements", measurements),
    Section("training", "Training", training),
    Section("coded", "As bytes", coded),
    Section("configuration", "Configuration", configuration),
    Section("data", "Data", data),
    Section("timings", "Timings and environment", timings),
    Section("reproduce", "How to reproduce", reproduce),
    Section("measure", "How to measure the rest", measure),
)


def _many(shape: Sequence[int], images: int) -> int:
    """How many are shown where ``images`` of those with height are."""
    return POINTS if is_point(shape) else FLAT if is_flat(shape) else images


def _label(images: Images, index: int) -> str:
    return "" if images.labels is None else images.class_names[int(images.labels[index])]


def _called(images: Images, index: int) -> str:
    """An image of the data in words: its number, and its class if it has one."""
    label = _label(images, index)
    return f"image {index} of the data" + (f", class {label}" if label else "")


def _is_wide(material: Material) -> bool:
    """Whether images need more room than small ones."""
    return max(material.run.space.shape[1:], default=0) > 48
