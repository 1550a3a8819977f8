"""The model card of a run: its README.md, filled in from what was measured and from nothing else."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.recipe.recipe import Recipe, parameter_count
from diffprob.recipe.spec import render

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
        details: everything else (sampler, reference value, unit, standard error, ...), JSON literals by name.

    Raises:
        ValueError: no name, a value that is not finite, or n below 1.
    """

    name: str
    value: float
    n: int
    seed: int | None = None
    step: int | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or not math.isfinite(self.value):
            raise ValueError(f"a measurement needs a name and a finite value, got {self.name!r} = {self.value!r}")
        if self.n < 1:
            raise ValueError(f"n must be at least 1, got {self.n!r}")


def read_measurements(folder: Path) -> list[Measurement]:
    """What was measured on the run in ``folder``; empty when nothing was.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / MEASURED
    try:
        return [Measurement(**record) for record in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: it is not a list of measurements") from error


def dump_measurements(measurements: Sequence[Measurement]) -> bytes:
    """The contents of ``measured.json``."""
    return (json.dumps([asdict(item) for item in measurements], indent=1, allow_nan=False) + "\n").encode()


def add_measurement(measurements: Sequence[Measurement], new: Measurement) -> list[Measurement]:
    """The list with ``new`` in it, in place of an older one of the same name, n and seed."""
    key = (new.name, new.n, new.seed)
    return [*(item for item in measurements if (item.name, item.n, item.seed) != key), new]


def write_model_card(recipe: Recipe, meta: dict[str, Any], measurements: Sequence[Measurement]) -> str:
    """The text of README.md.

    Args:
        recipe: the run's recipe.
        meta: step, library version and data digest, as in `Run.meta`.
        measurements: what is known about the model.
    """
    channels, height, width = recipe.space.shape
    step, digest = meta.get("step", 0), meta.get("data")
    trained = f"{step:,} of {recipe.training.steps:,} steps of {recipe.training.batch} images"
    channel = f"{channels} channel{'s' if channels > 1 else ''}"
    facts = [
        ("images", f"{height}x{width}, {channel}, {recipe.space.levels} grey levels"),
        ("data", f"`{recipe.data!r}`"),
        ("SHA-256 of the data", f"`{digest}`" if digest else "not known"),
        ("network", f"{type(recipe.network).__name__}, {parameter_count(recipe):,} parameters"),
        ("process", f"`{recipe.process.schedule!r}`"),
        ("trained", trained if step else "not yet"),
        ("made with", f"diffprob {meta.get('library', '(version not known)')}"),
    ]
    lines = [
        f"# {recipe.name}",
        "",
        f"A diffusion model of {height}x{width} images, trained with diffprob. `model.safetensors` holds the averaged",
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
        "```sh",
        "diffprob sample PATH_OF_THIS_FOLDER -n 64 --seed 0 --out samples.png",
        "```",
        "",
        "```python",
        "from diffprob.recipe.checkpoint import Run",
        "",
        'model = Run.open("PATH_OF_THIS_FOLDER").load()  # model(xt, t) is p(x_0 | x_t)',
        "```",
        "",
        "## Limits",
        "",
        "The model knows the images it was trained on and nothing else; what is not measured above is not known. Its",
        "samples may repeat training images, and inherit whatever bias and licence the data has.",
        "",
        "## Recipe",
        "",
        "```python",
        render(recipe),
        "```",
        "",
    ]
    return "\n".join(lines)


def _measured(measurements: Sequence[Measurement]) -> list[str]:
    if not measurements:
        return ["Nothing yet."]
    rows = [
        (
            item.name,
            f"{item.value:.4g}",
            f"{item.n:,}",
            "-" if item.seed is None else str(item.seed),
            "-" if item.step is None else f"{item.step:,}",
            ", ".join(f"{name} {value}" for name, value in item.details.items()),
        )
        for item in measurements
    ]
    return _table(("what", "value", "n", "seed", "at step", "details"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(row) + " |" for row in cells]
