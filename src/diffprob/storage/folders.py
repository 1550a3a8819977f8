"""Where the library keeps what it can make again, and what the user told it."""

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


def settings_folder() -> Path:
    """For what the user told the library: DIFFPROB_CONFIG, else XDG_CONFIG_HOME/diffprob, else ~/.config/diffprob."""
    own, base = os.environ.get("DIFFPROB_CONFIG"), os.environ.get("XDG_CONFIG_HOME")
    if own:
        return Path(own).expanduser()
    return (Path(base) if base else Path("~/.config").expanduser()) / "diffprob"
