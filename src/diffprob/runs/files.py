"""What the files of a run contain: the recipe as text, the model's metadata, the inventory's description."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.config.recipe import RECIPE_KINDS, AnyRecipe
from diffprob.config.registry import ALL
from diffprob.config.spec import parse, render, why_unread
from diffprob.runs.card import write_model_card
from diffprob.runs.measurements import read_measurements
from diffprob.storage import tensors
from diffprob.storage.files import Pieces, kind_of, read_text

MODEL, BEST, RECIPE, CARD, SAMPLES = "model.safetensors", "best.safetensors", "recipe.txt", "README.md", "samples"


AVERAGE = re.compile(r"average-([0-9]{8,18})\.safetensors")  # snapshots of the averages of `Training.averages`


def library_version() -> str:
    """Version of diffprob."""
    from diffprob import __version__

    return __version__


def recipe_text(recipe: AnyRecipe, digest: str | None) -> str:
    """The contents of ``recipe.txt``: the recipe under comments with the library version and the data digest.

    Raises:
        InputError: the recipe holds something that no text can stand for.
    """
    try:
        text = render(recipe)
    except ValueError as error:
        raise InputError(f"recipe {recipe.name} cannot be kept: {error}") from error
    if parse(text, ALL) != recipe:
        raise InputError(f"recipe {recipe.name} cannot be kept: its text does not read back as the same recipe")
    return f"# diffprob {library_version()}\n# data sha256 {digest or 'unknown'}\n{text}\n"


def read_recipe(folder: Path) -> AnyRecipe:
    """The recipe of the run in ``folder``.

    Raises:
        InputError: it cannot be read, or names something that this version does not have.
    """
    path = folder / RECIPE
    text = read_text(path)
    try:
        recipe = parse(text, ALL)
    except InputError as error:
        raise InputError(f"{path}: {why_unread(error)}") from error
    if not isinstance(recipe, AnyRecipe):
        raise InputError(f"{path} does not hold {RECIPE_KINDS}")
    return recipe


def model_files(
    folder: Path, recipe: AnyRecipe, digest: str | None, step: int, weights: Mapping[str, Tensor] | None
) -> dict[str, Pieces]:
    """New contents of every file that depends on the weights or the recipe, by name."""
    meta = {"library": library_version(), "data": digest, "step": step}
    card = write_model_card(recipe, meta, read_measurements(folder))
    files: dict[str, Pieces] = {RECIPE: [recipe_text(recipe, digest).encode()], CARD: [card.encode()]}
    if weights is not None:
        files[MODEL] = weights_file(recipe, digest, step, weights)
    return files


def weights_file(
    recipe: AnyRecipe,
    digest: str | None,
    step: int,
    weights: Mapping[str, Tensor],
    about: Mapping[str, str] | None = None,
) -> Pieces:
    """Averaged weights as safetensors, with recipe, data digest and step, and ``about``, in the metadata."""
    metadata = {
        "diffprob": library_version(),
        "recipe": repr(recipe),
        "data_sha256": digest or "",
        "step": str(step),
        "format": "pt",
    }
    return tensors.pieces(weights, {**metadata, **(about or {})})


def model_meta(folder: Path, described: Mapping[str, Any]) -> dict[str, Any]:
    """What is known about a run: ``library``, ``data`` (digest or None), ``step`` of the weights (0 without a model).

    The step stands in the model file itself, since that is replaced before the manifest is.
    """
    meta = {"library": described.get("library"), "data": described.get("data"), "step": 0}
    if kind_of(folder / MODEL) is not None:
        meta["step"] = weights_step(folder / MODEL)
    return meta


def weights_step(path: Path) -> int:
    """The step that the weights in a file of `weights_file` are from.

    Raises:
        InputError: it does not say.
    """
    step = tensors.read_metadata(path).get("step", "")
    if not (step.isascii() and step.isdecimal() and len(step) < 19):
        raise InputError(f"{path} does not say which step its weights are from: it was not written by diffprob")
    return int(step)
