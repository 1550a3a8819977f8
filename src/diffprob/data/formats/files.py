"""What all the readers share: paths, files that are files, bounds on sizes, and arrays kept on disk."""

import math
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from diffprob.base.errors import InputError, Missing
from diffprob.base.text import one_line
from diffprob.data.images import Labels, Pixels
from diffprob.storage.files import TENSORS_LIMIT, open_file
from diffprob.storage.folders import cache_folder

ON_DISK_BYTES = 256 << 20
MOST_BYTES = TENSORS_LIMIT  # of one file, and of the pixels that it unpacks to
UNPACKED_FREELY = 256 << 20  # below this a compressed file may unpack to as much as the format can
MOST_RATIO = 100  # above it only to this many times its size: blank images, not pictures, compress further
# Deflate cannot compress better than this (zlib's technical note), so a header that promises more is wrong.
DEFLATE_RATIO = 1032


class Stream(Protocol):
    """Bytes that are read one after the other: a file, or what one unpacks to."""

    def read(self, n: int, /) -> bytes:
        """At most n bytes, fewer at the end."""
        ...


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses (missing, not readable, a folder) into an `InputError` with the path.

    Of what lies below the path both are named: who gave the path may never have seen the other.
    """
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else str(path)
        prefix = "" if where == str(path) else f"{path}: "
        raise InputError(f"{prefix}{where}: cannot be read ({error.strerror or one_line(error)})") from error


def existing(path: str) -> Path:
    """The path, if something is there.

    Raises:
        Missing: nothing is there; the message names the nearest folder that does exist.
        InputError: a folder on the way cannot be looked into.
    """
    expanded = Path(path).expanduser()
    with reading(expanded):
        if expanded.exists():
            return expanded
    parent = next((p for p in expanded.absolute().parents if p.is_dir()), Path("/"))
    raise Missing(f"{path}: no such file or folder; {parent} exists, what follows it does not")


def entry(path: Path) -> bool:
    """Whether anything has this name: a link to nowhere, or a folder, is there and cannot be read as a file."""
    return os.path.lexists(path)


def one_file(path: Path, split: str, test_words: tuple[str, ...]) -> Path:
    """The path of a file that is taken whole for a split; its test split needs one of the ``test_words`` in its name.

    Raises:
        Missing: images that may be the ones trained on are asked for as the test split.
    """
    if split == "test" and not set(test_words) & set(re.split(r"[\W_]+", path.name.lower())):
        raise Missing(f"{path}: one file, taken whole, has no 'test' split; the folder that holds both would be right")
    return path


def opened(path: Path, most: int = MOST_BYTES) -> BinaryIO:
    """A regular file that is not empty, open for reading; links are the user's own and are followed.

    Raises:
        Missing: nothing has this name.
        InputError: a link to nowhere, a folder, a pipe or a device (none is waited for), an empty file, more than
            ``most`` bytes, or the system refuses.
    """
    try:
        file = open_file(Path(os.path.realpath(path)), most)
    except Missing as error:
        if os.path.lexists(path):
            raise InputError(f"{path}: cannot be read (a link to nowhere)") from error
        raise
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise InputError(f"{path}: an empty file (0 bytes); replace or remove it")
    return file


def check_unpacked(path: Path, promised: int, packed: int) -> None:
    """Refuse a compressed file whose header promises more than it can, or should, unpack to; before any is unpacked.

    Args:
        path: for the message.
        promised: bytes that the header asks for.
        packed: bytes that they are compressed to.

    Raises:
        InputError: more than deflate can compress, more than 64 GiB, or above 256 MiB more than 100 times ``packed``.
    """
    if promised > DEFLATE_RATIO * packed:
        raise InputError(f"{path}: cut short: {packed} bytes cannot unpack to the {promised} its header asks for")
    if promised > MOST_BYTES:
        raise InputError(f"{path}: asks for {promised:,} bytes of pixels; at most {MOST_BYTES:,} would be right")
    if promised > UNPACKED_FREELY and promised > MOST_RATIO * packed:
        raise InputError(
            f"{path}: {packed:,} bytes would unpack to {promised:,}: above {UNPACKED_FREELY:,} bytes at most "
            f"{MOST_RATIO} times as many are taken; if they are images, save them without compression"
        )


def whole_labels(values: np.ndarray, where: str) -> Labels:
    """Whole numbers of any type as the labels that images keep, int64 of the same shape.

    Raises:
        InputError: one that int64 does not hold; ``where`` stands before what is said.
    """
    largest = np.iinfo(np.int64).max
    if values.dtype.kind == "u" and values.size and values.max() > largest:
        raise InputError(f"{where}: labels go up to {values.max()}; at most {largest} would be right")
    return values.astype(np.int64)


def in_memory(size: int) -> Pixels:
    """uint8 (size,), if the machine has that much memory.

    Raises:
        InputError: it has not.
    """
    pages, page = (os.sysconf(name) if hasattr(os, "sysconf") else 0 for name in ("SC_PHYS_PAGES", "SC_PAGE_SIZE"))
    if 0 < pages * page < size:
        raise InputError(
            f"{size:,} bytes of pixels fit neither on the disk of {cache_folder()} nor into memory; room on the disk, "
            "DIFFPROB_CACHE on a larger one, or smaller images would be right"
        )
    return np.empty(size, np.uint8)


def same_depth(name: object, array: Pixels, pixels: Pixels) -> None:
    """Refuse a picture of another number of bits than the first.

    Raises:
        InputError: 8 bits among 16, or the other way round; nothing is guessed about their scales.
    """
    if array.dtype != pixels.dtype:
        bits, first = (8 * one.dtype.itemsize for one in (array, pixels))
        raise InputError(f"{name}: {bits} bits a channel, the first picture has {first}; one depth would be right")


def blank_pixels(shape: tuple[int, ...], dtype: Any = np.uint8) -> Pixels:
    """A writable array; a large one lies in an unlinked file of the cache folder: the kernel can page it out.

    The file's blocks are reserved first: a full disk is then an error here, answered by taking memory, instead of a bus
    error at the first write.

    Raises:
        InputError: more than 64 GiB, or more than both the disk and the memory hold.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > MOST_BYTES:
        raise InputError(f"{size:,} bytes of pixels are asked for; at most {MOST_BYTES:,} would be right")
    if size > ON_DISK_BYTES and hasattr(os, "posix_fallocate"):
        try:
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                return np.memmap(file, dtype, "r+", shape=shape)
        except OSError:
            pass
    return in_memory(size).view(dtype).reshape(shape)
