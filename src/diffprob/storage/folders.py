"""Where the library keeps what it can make again, and what the user told it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

NO_CACHE = "DIFFPROB_NO_CACHE"  # where this is set decoded pictures are not kept, and those that were are not read
_keeps: ContextVar[bool] = ContextVar("whether decoded pictures are kept", default=True)


def is_run(path: Path) -> bool:
    """Whether a run lives in the folder ``path``."""
    return (path / "manifest.json").is_file()


def cache_folder() -> Path:
    """For data, features, classifiers: DIFFPROB_CACHE, else XDG_CACHE_HOME/diffprob, else ~/.cache/diffprob."""
    own, base = os.environ.get("DIFFPROB_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).expanduser()
    return (Path(base) if base else Path("~/.cache").expanduser()) / "diffprob"


@contextmanager
def keeping(keeps: bool) -> Iterator[None]:
    """Inside, decoded pictures are kept, and read again; or neither."""
    token = _keeps.set(keeps)
    try:
        yield
    finally:
        _keeps.reset(token)


def keeps_decoded() -> bool:
    """Whether decoded pictures are kept (`keeping`, and the environment's DIFFPROB_NO_CACHE)."""
    return _keeps.get() and not os.environ.get(NO_CACHE)


def settings_folder() -> Path:
    """For what the user told the library: DIFFPROB_CONFIG, else XDG_CONFIG_HOME/diffprob, else ~/.config/diffprob."""
    own, base = os.environ.get("DIFFPROB_CONFIG"), os.environ.get("XDG_CONFIG_HOME")
    if own:
        return Path(own).expanduser()
    return (Path(base) if base else Path("~/.config").expanduser()) / "diffprob"
