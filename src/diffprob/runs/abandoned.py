"""Runs that ended before their first checkpoint: nothing in them could be gone on with."""

import re
from pathlib import Path

from diffprob.runs.bundled import BUNDLED, is_bundled
from diffprob.runs.files import CARD, RECIPE, SAMPLES
from diffprob.runs.states import STATE
from diffprob.storage.files import TEMPORARY
from diffprob.storage.manifest import NAME, Manifest
from diffprob.storage.records import LOG

CREATED = {RECIPE, CARD, LOG}
BOARD = "tensorboard"  # curves of the training that ended; a new one hides them


def is_abandoned(folder: Path) -> bool:
    """Whether the run in ``folder`` holds what its creation wrote, at most with lines and pictures of steps that no
    checkpoint kept, and nothing else at all.

    Raises:
        InputError: it is no run, or its inventory is damaged.
    """
    manifest = Manifest.read(folder)
    names = {name for name in (*manifest.files, *manifest.pending) if not is_bundled(name)}
    if not names <= CREATED or manifest.files.get(LOG, {}).get("bytes"):
        return False
    return all(_is_left_over(path) for path in folder.iterdir())


def _is_left_over(path: Path) -> bool:
    if path.is_symlink():
        return False
    if path.name in {STATE, SAMPLES} and path.is_dir():
        pattern = r"step-\d+\.png" if path.name == SAMPLES else r"(?!)"
        # States that wait to be replaced have a temporary name too, and are checkpoints.
        return all(
            re.fullmatch(pattern, item.name) or (item.name.startswith(TEMPORARY) and "step-" not in item.name)
            for item in path.iterdir()
        )
    if path.name == BUNDLED and path.is_dir():
        return all(item.is_file() and not item.is_symlink() for item in path.iterdir())
    return path.name in {NAME, BOARD, *CREATED} or path.name.startswith(TEMPORARY)
