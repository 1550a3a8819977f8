"""The model card of a run: its README.md, filled in from what was measured and from nothing else."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.base.text import printable
from diffprob.config.classes import classes_text
from diffprob.config.kinds import Kind, Recogniser
from diffprob.config.recipe import Recipe, parameter_count
from diffprob.config.spec import render
from diffprob.runs.measurements import tables
from diffprob.storage.files import kind_of
from diffprob.storage.records import read_json, record

MEASURED = "measured.json"


@dataclass(frozen=True)
class Measurement:
    """One number about a model, with what it takes to understand it.

    Args:
        name: what was measured, for instance "sliced W2 to held-out digits".
        value: the number.
        n: how many samples or images it rests on.
        seed: the seed of the samples, or None where no randomness was involved.
        step: training step of the weights; filled in when it is recorded.
        details: everything else (sampler, evaluations, unit, estimated bias, ...), JSON literals by name.
        low, high: ends of a 95% interval, or None where none is known.
        features: what the number was measured in, with its hash; "" where no features are involved. Numbers in
            different features are not comparable and never share a column.
        split: the part of the data that it was measured against, such as "test".
        reference: the same number for real images in the place of samples, or None.
        role: what that data is to the run: "train", "test" (its own held-out images) or "other data"; "" where no data
            is involved, and in records of older versions, whose split says it.
        data: which data it is, without private folders.
        digest: SHA-256 of these images.
        converted: what was done to bring them into the run's shape, or "".

    Raises:
        ValueError: no name, a value that is not finite, an empty interval, or n below 1.
    """

    name: str
    value: float
    n: int
    seed: int | None = None
    step: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    features: str = ""
    split: str = ""
    reference: float | None = None
    role: str = ""
    data: str = ""
    digest: str = ""
    converted: str = ""

    def __post_init__(self) -> None:
        numbers = [x for x in (self.value, self.low, self.high, self.reference) if x is not None]
        if not self.name or not all(math.isfinite(x) for x in numbers):
            raise ValueError(f"a measurement needs a name and finite numbers, got {self.name!r} = {numbers}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval of {self.name!r} is empty: {self.low} to {self.high}")
        if self.n < 1:
            raise ValueError(f"n must be at least 1, got {self.n!r}")


def read_measurements(folder: Path) -> list[Measurement]:
    """What was measured on the run in ``folder``; empty when nothing was.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / MEASURED
    if kind_of(path) is None:
        return []
    found = read_json(path)
    if not isinstance(found, list):
        raise InputError(f"{path} is damaged: it is not a list of measurements")
    return [record(Measurement, each, path) for each in found]


def dump_measurements(measurements: Sequence[Measurement]) -> bytes:
    """The contents of ``measured.json``."""
    return (json.dumps([asdict(item) for item in measurements], indent=1, allow_nan=False) + "\n").encode()


def add_measurement(measurements: Sequence[Measurement], new: Measurement) -> list[Measurement]:
    """The list with ``new`` in it, in place of an older one made in the same way."""
    return [*(item for item in measurements if _way(item) != _way(new)), new]


def _way(item: Measurement) -> tuple[Any, ...]:
    """What tells one measurement from another; its value and the step of the weights do not."""
    drawn = tuple(item.details.get(name) for name in ("sampler", "evaluations", "grid", "variance", "clip"))
    against = (item.split, "") if item.role in ("", item.split) else (item.role, item.digest)
    return item.name, item.n, item.seed, item.features, *against, *drawn


_DENOISER = (
    *("```sh", "diffprob sample PATH_OF_THIS_FOLDER -n 64 --seed 0 --out samples.png", "```", ""),
    *("```python", "from diffprob.runs.folder import Run", ""),
    *('model = Run.open("PATH_OF_THIS_FOLDER").load()  # model(xt, t) is p(x_0 | x_t)', "```"),
)
_CLASSIFIER = ("```sh", "diffprob translate RUN IMAGES --recogniser PATH_OF_THIS_FOLDER --out FOLDER", "```")
_DENSITY = ("```sh", "diffprob detect RUN --outside IMAGES --with PATH_OF_THIS_FOLDER", "```")


def write_model_card(recipe: Kind, meta: dict[str, Any], measurements: Sequence[Measurement]) -> str:
    """The text of README.md.

    Args:
        recipe: the run's recipe.
        meta: step, library version and data digest, as in `Run.meta`.
        measurements: what is known about the model.
    """
    channels, height, width = recipe.space.shape
    kind, use = type(recipe.network).__name__.removesuffix("Spec") + " (a baseline)", _DENSITY
    if isinstance(recipe, Recipe):
        kind, use = "diffusion model", _DENOISER
    elif isinstance(recipe, Recogniser):
        kind, use = f"noise-aware classifier ({recipe.condition.classes} classes)", _CLASSIFIER
    process = getattr(recipe, "process", None)
    step, digest = meta.get("step", 0), meta.get("data")
    trained = f"{step:,} of {recipe.training.steps:,} steps of {recipe.training.batch} images"
    channel = f"{channels} channel{'s' if channels > 1 else ''}"
    facts = [
        ("images", f"{height}x{width}, {channel}, {recipe.space.levels} grey levels"),
        ("data", _code(repr(recipe.data))),
        ("SHA-256 of the data", f"`{digest}`" if digest else "not known"),
        *([("classes", _text(classes_text(recipe)))] if classes_text(recipe) else []),
        ("network", f"{type(recipe.network).__name__}, {parameter_count(recipe):,} parameters"),
        *([] if process is None else [("process", _code(repr(process.schedule)))]),
        ("trained", trained if step else "not yet"),
        ("made with", _text(f"diffprob {meta.get('library', '(version not known)')}")),
    ]
    text = "\n".join(map(printable, render(recipe).splitlines()))
    fence = "`" * max(3, _longest(text) + 1)
    lines = [
        f"# {_text(recipe.name)}",
        "",
        f"A {kind} of {height}x{width} images, trained with diffprob. `model.safetensors` holds the averaged",
        "(EMA) weights, `manifest.json` the SHA-256 of every file here.",
        "",
        *_table(("", ""), facts),
        "",
        "## Measured",
        "",
        *_measured(measurements),
        "",
        "## Use",
        "",
        *use,
        "",
        "## Limits",
        "",
        "The model knows the images it was trained on and nothing else; what is not measured above is not known. Its",
        "samples may repeat training images, and inherit whatever bias and licence the data has.",
        "",
        "## Recipe",
        "",
        f"{fence}python",
        text,
        fence,
        "",
    ]
    return "\n".join(lines)


def _measured(measurements: Sequence[Measurement]) -> list[str]:
    """A table for each kind of features, under a heading that names them."""
    if not measurements:
        return ["Nothing yet."]
    found, lines = tables(measurements), []
    for table in found:
        if len(found) > 1 or table.features:
            lines += [f"### {_text(table.title)}", ""]
        lines += [*_table(table.head, [[_text(cell) for cell in row] for row in table.rows]), ""]
        lines += [_text(table.said), ""] if table.said else []
    if any(item.reference is not None for item in measurements):
        lines += ['"real images" is the same number with real images in the place of samples.', ""]
    return lines[:-1]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(row) + " |" for row in cells]


def _text(text: str) -> str:
    """Text that Markdown shows as it is: names and details may hold anything, even half of a surrogate pair."""
    text = printable(" ".join(text.split()))
    return re.sub(r"[\\`\[\]*]", r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;"))


def _code(text: str) -> str:
    """A code span, fenced by more backticks than the text has in a row."""
    text = printable(text)
    fence = "`" * (1 + _longest(text))
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"


def _longest(text: str) -> int:
    """Backticks in a row."""
    return max(map(len, re.findall("`+", text)), default=0)
