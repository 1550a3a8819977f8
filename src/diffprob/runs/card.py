"""The model card of a run: its README.md, filled in from what was measured and from nothing else."""

import re
from collections.abc import Sequence
from typing import Any

from diffprob.base.text import printable
from diffprob.config.classes import classes_text
from diffprob.config.recipe import AnyRecipe, AutoencoderRecipe, NoisyClassifierRecipe, Recipe, parameter_count
from diffprob.config.spec import render
from diffprob.runs.measurements import Measurement, tables
from diffprob.space.real_numbers import Reals

_DENOISER = (
    *("```sh", "diffprob sample PATH_OF_THIS_FOLDER -n 64 --seed 0 --out samples.png", "```", ""),
    *("```python", "import diffprob as dp", ""),
    *('model = dp.load("PATH_OF_THIS_FOLDER")  # model.sample(64), model.bits_per_dim(images), ...', "```"),
)
_CLASSIFIER = ("```sh", "diffprob translate RUN IMAGES --classifier PATH_OF_THIS_FOLDER --out FOLDER", "```")
_AUTOENCODER = (
    *("```python", "from diffprob import open_run", ""),
    *('autoencoder = open_run("PATH_OF_THIS_FOLDER").load()  # .encode(x), .decode(z); x in [-1, 1]', "```"),
)
_DENSITY = ("```sh", "diffprob detect RUN --outside IMAGES --with PATH_OF_THIS_FOLDER", "```")


def _called(space: Any) -> str:
    """What the data are called in a sentence."""
    if isinstance(space, Reals):
        return f"{space.kind} of {space.text}"
    return f"{space.shape[1]}x{space.shape[2]} images"


def _sizes(space: Any) -> str:
    """Shape and levels of the images, or what the numbers are, in words."""
    if isinstance(space, Reals):
        return f"{space.kind} of {space.text}"
    channels, height, width = space.shape
    return f"{height}x{width}, {channels} channel{'s' if channels > 1 else ''}, {space.levels} grey levels"


def write_model_card(recipe: AnyRecipe, meta: dict[str, Any], measurements: Sequence[Measurement]) -> str:
    """The text of README.md.

    Args:
        recipe: the run's recipe.
        meta: step, library version and data digest, as in `Run.meta`.
        measurements: what is known about the model.
    """
    kind, use = _kind_and_use(recipe)
    process = getattr(recipe, "process", None)
    step, digest = meta.get("step", 0), meta.get("data")
    trained = f"{step:,} of {recipe.training.steps:,} steps of {recipe.training.batch} images"
    overview = [
        ("images", _sizes(recipe.space)),
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
        f"A {kind} of {_called(recipe.space)}, trained with diffprob. `model.safetensors` holds the averaged",
        "(EMA) weights, `manifest.json` the SHA-256 of every file here.",
        "",
        *_table(("", ""), overview),
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


def _kind_and_use(recipe: AnyRecipe) -> tuple[str, Sequence[str]]:
    """What was trained, in words, and how it is used."""
    if isinstance(recipe, Recipe):
        return "diffusion model", _DENOISER
    if isinstance(recipe, NoisyClassifierRecipe):
        return f"noise-aware classifier ({recipe.condition.classes} classes)", _CLASSIFIER
    if isinstance(recipe, AutoencoderRecipe):
        return "convolutional autoencoder", _AUTOENCODER
    return type(recipe.network).__name__.removesuffix("Spec") + " (a baseline)", _DENSITY


def _measured(measurements: Sequence[Measurement]) -> list[str]:
    """A table for each kind of features, under a heading that names them."""
    if not measurements:
        return ["Nothing yet."]
    groups, lines = tables(measurements), []
    for table in groups:
        if len(groups) > 1 or table.features:
            lines += [f"### {_text(table.title)}", ""]
        lines += [*_table(table.head, [[_text(cell) for cell in row] for row in table.rows]), ""]
        lines += [_text(table.summary), ""] if table.summary else []
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
