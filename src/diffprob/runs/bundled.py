"""The autoencoder of a run of latents, kept within it: the folder alone opens, wherever it goes."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from diffprob.config.pretrained import PretrainedRun
from diffprob.config.recipe import AnyRecipe
from diffprob.data.places import without_folders
from diffprob.runs.files import CARD, MODEL, RECIPE, model_files
from diffprob.runs.measurements import MEASURED
from diffprob.storage.files import TENSORS_LIMIT
from diffprob.storage.manifest import NAME, Manifest

BUNDLED = "autoencoder"  # the folder in the run, a run of its own
_FILES = (RECIPE, CARD, MEASURED, MODEL)


def is_bundled(name: str) -> bool:
    """Whether a file of a run's inventory is of the autoencoder that it carries."""
    return name.startswith(f"{BUNDLED}/")


def own_autoencoder(recipe: AnyRecipe) -> PretrainedRun | None:
    """The autoencoder in whose latents a recipe lives; None: it lives on pixels."""
    source = getattr(recipe.space, "autoencoder", None)
    return source if isinstance(source, PretrainedRun) else None


def located(recipe: Any, folder: Path, manifest: Manifest) -> Any:
    """The recipe of the run in ``folder``, its autoencoder where the run carries it."""
    source = own_autoencoder(recipe)
    if source is None or f"{BUNDLED}/{NAME}" not in manifest.files:
        return recipe
    here = replace(source, run=str(folder.absolute() / BUNDLED))
    return replace(recipe, space=replace(recipe.space, autoencoder=here))


def bundled_files(recipe: AnyRecipe) -> dict[str, bytes]:
    """What a run of this recipe keeps of its autoencoder, by name within the run, byte for byte; empty on pixels.

    Raises:
        InputError: no such autoencoder, its weights are others, or a file of it is damaged.
    """
    source = own_autoencoder(recipe)
    if source is None:
        return {}
    listed = source.opened().manifest
    sizes = {name: listed.entry(name)["bytes"] for name in _FILES if name in listed.files}
    return _inside({name: listed.contents(name, min(size, TENSORS_LIMIT)) for name, size in sizes.items()})


def published(recipe: Any) -> tuple[Any, dict[str, bytes]]:
    """The recipe as it is published with its autoencoder, and the files of that, without the places of its data.

    Raises:
        InputError: as `bundled_files`.
    """
    source = own_autoencoder(recipe)
    if source is None:
        return recipe, {}
    run = source.opened()
    inner, measured = replace(run.recipe, data=without_folders(run.recipe.data)), {}
    if MEASURED in run.manifest.files:
        measured[MEASURED] = run.manifest.contents(MEASURED)
    here, files = bundle(inner, run.weights(), run.meta["data"], run.meta["step"], run.path, measured)
    return replace(recipe, space=replace(recipe.space, autoencoder=here)), files


def bundle(
    recipe: AnyRecipe,
    weights: Mapping[str, Tensor],
    digest: str | None,
    step: int,
    measured_in: Path,
    more: Mapping[str, bytes] | None = None,
) -> tuple[PretrainedRun, dict[str, bytes]]:
    """An autoencoder by its name within a run that is about to be written, and its files there.

    Args:
        recipe: of the autoencoder.
        weights: as an `Autoencoder` names them.
        digest, step: of its training.
        measured_in: the folder whose measurements its card has.
        more: further files by name.
    """
    made = model_files(measured_in, recipe, digest, step, weights)
    files = {name: b"".join(bytes(piece) for piece in pieces) for name, pieces in made.items()}
    source = PretrainedRun(BUNDLED, hashlib.sha256(files[MODEL]).hexdigest())
    return source, _inside({**files, **(more or {})})


def _inside(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files under their names within the run, and their inventory."""
    manifest = Manifest(Path(BUNDLED))
    for name, contents in files.items():
        manifest.files[name] = {"sha256": hashlib.sha256(contents).hexdigest(), "bytes": len(contents)}
    listed = {**files, NAME: manifest.text().encode()}
    return {f"{BUNDLED}/{name}": contents for name, contents in listed.items()}
