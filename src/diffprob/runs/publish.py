"""Runs that are not being trained: published copies without the training state, and imported models."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.options import option
from diffprob.config.recipe import AnyRecipe
from diffprob.data.places import without_folders
from diffprob.runs.bundled import bundled_files, is_bundled, published
from diffprob.runs.files import SAMPLES, library_version, model_files
from diffprob.runs.folder import Run
from diffprob.runs.measurements import MEASURED
from diffprob.storage.files import Pieces, expanded, kind_of, remove, saying, temporary, whole, write_new
from diffprob.storage.manifest import Manifest
from diffprob.storage.records import LOG
from diffprob.storage.records import LOG_LIMIT as READ

LIMIT = 2_000_000  # bytes of a published run
LOG_LIMIT = 300_000


def write_run(
    path: str | Path,
    recipe: AnyRecipe,
    weights: Mapping[str, Tensor],
    digest: str | None = None,
    step: int = 0,
    extra: Mapping[str, bytes] | None = None,
) -> None:
    """Write a finished run to a new folder: what an import makes.

    Args:
        path: a new or empty folder.
        recipe: what the model is.
        weights: averaged weights, named as in the model's ``state_dict()``.
        digest: of the training data, where it is known.
        step: training steps that the weights have seen.
        extra: further files by name; the autoencoder of a recipe of latents, if not among them, is copied into the run.

    Raises:
        InputError: the folder is not empty or cannot be written, or no such autoencoder.
    """
    folder, extra = expanded(path), dict(extra or {})
    if not any(is_bundled(name) for name in extra):
        extra |= bundled_files(recipe)
    with saying(f"write the run {folder}"):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} exists already and is not an empty folder: choose another {option('out')}")

        def fill(aside: Path) -> None:
            manifest = Manifest(aside, {"library": library_version(), "data": digest})
            added: dict[str, Pieces] = {name: [contents] for name, contents in extra.items()}
            for name, pieces in {LOG: [], **added}.items():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                manifest.files[name] = write_new(aside / name, pieces)
            for name, pieces in model_files(aside, recipe, digest, step, weights).items():
                manifest.files[name] = write_new(aside / name, pieces)
            manifest.write()

        whole(folder, fill)


def publish(run: Run, dest: str | Path, replacing: bool = False) -> Path:
    """Copy a run without its training state: model, recipe, card, measurements, newest samples, a thinned log.

    The data's path is cut to its last part, since it means nothing elsewhere; the autoencoder of a run of latents goes
    with it.

    Raises:
        InputError: ``dest`` exists (unless ``replacing`` a run), or the copy would exceed 2 MB.
    """
    dest, listed = expanded(dest), Manifest.read(run.path)
    # What the inventory lists and has the hash of: whatever else lies in the folder is nobody's to publish.
    extra = {LOG: thin(listed.contents(LOG, READ), LOG_LIMIT)}
    samples = sorted(name for name in listed.files if re.fullmatch(rf"{SAMPLES}/step-[0-9]{{8,18}}\.png", name))
    for name in [*({MEASURED} & set(listed.files)), *samples[-1:]]:
        extra[name] = listed.contents(name)
    weights = run.weights()
    recipe, inside = published(replace(run.recipe, data=without_folders(run.recipe.data)))
    extra |= inside
    size = sum(len(contents) for contents in extra.values()) + sum(weight.nbytes for weight in weights.values())
    if size > LIMIT:
        raise InputError(
            f"{run.place} would be {size:,} bytes when published, at most {LIMIT:,}: use a smaller network"
        )
    old = temporary(dest)
    with saying(f"write the run {dest}"):
        if replacing and dest.exists():
            Manifest.read(dest)  # only a run is ever replaced
            dest.rename(old)
        try:
            write_run(dest, recipe, weights, run.meta["data"], run.meta["step"], extra)
        except BaseException:
            if kind_of(old) is not None:
                old.rename(dest)
            raise
        remove(old)
    return dest


def thin(log: bytes, most: int) -> bytes:
    """Every k-th line of a log and its last, with the smallest k that brings it down to ``most`` bytes."""
    lines = log.splitlines(keepends=True)
    kept, every = lines, 1
    while sum(map(len, kept)) > most and every < len(lines):
        every += 1
        kept = [*lines[:-1:every], lines[-1]]
    return b"".join(kept)
