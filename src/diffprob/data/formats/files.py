"""Small helpers of all the readers: paths, messages, and arrays kept on disk instead of in memory."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from diffprob.base.errors import InputError, Missing
from diffprob.base.folders import cache_folder
from diffprob.base.text import one_line
from diffprob.data.images import Pixels

ON_DISK_BYTES = 256 << 20


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses (missing, not readable, a folder) into an `InputError` with the path."""
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else path
        raise InputError(f"{where}: cannot be read ({error.strerror or one_line(error)})") from error


def existing(path: str) -> Path:
    """The path, if something is there.

    Raises:
        Missing: nothing is there; the message names the nearest folder that does exist.
        InputError: a folder on the way cannot be looked into.
    """
    found = Path(path).expanduser()
    with reading(found):
        if found.exists():
            return found
    parent = next((p for p in found.absolute().parents if p.is_dir()), Path("/"))
    raise Missing(f"{path}: no such file or folder; {parent} exists, what follows it does not")


def entry(path: Path) -> bool:
    """Whether something other than a folder has this name: a link to nowhere is there, and cannot be read."""
    return os.path.lexists(path) and not path.is_dir()


def one_file(path: Path, split: str, words: tuple[str, ...]) -> Path:
    """The path of a file that is taken whole for a split; its test split needs one of the ``words`` in its name.

    Raises:
        Missing: images that may be the ones trained on are asked for as the test split.
    """
    if split == "test" and not set(words) & set(re.split(r"[\W_]+", path.name.lower())):
        raise Missing(f"{path}: one file, taken whole, has no 'test' split; the folder that holds both would be right")
    return path


def blank_pixels(shape: tuple[int, int, int, int]) -> Pixels:
    """A writable uint8 array; a large one lies in an unlinked file of the cache folder: the kernel can page it out.

    The file's blocks are reserved first: a full disk is then an error here, answered by taking memory, instead of a bus
    error at the first write.
    """
    size = int(np.prod(shape, dtype=np.int64))
    if size > ON_DISK_BYTES and hasattr(os, "posix_fallocate"):
        try:
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                return np.memmap(file, np.uint8, "r+", shape=shape)
        except OSError:
            return np.empty(shape, np.uint8)
    return np.empty(shape, np.uint8)
