"""Where the library keeps what it can make again."""

import os
from pathlib import Path


def is_run(path: Path) -> bool:
    """Whether a run lives in the folder ``path``."""
    return (path / "manifest.json").is_file()


def cache_folder() -> Path:
    """For data, features, classifiers: DIFFPROB_CACHE, else XDG_CACHE_HOME/diffprob, else ~/.cache/diffprob."""
    own, base = os.environ.get("DIFFPROB_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).expanduser()
    return (Path(base) if base else Path("~/.cache").expanduser()) / "diffprob"
