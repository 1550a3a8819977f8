"""Many picture files as one array: decoded by all cores, once for all processes, and kept for the next start.

What is kept lies in ``pictures`` below the cache folder (`storage.folders.cache_folder`), one folder for each set of
files and options: its name is a digest of the path, size and time of every file, of what is done to the pictures, and
of the version of the decoder. It appears whole or not at all, and is read only after its digest was compared.
"""

import hashlib
import json
import math
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diffprob.base.errors import InputError
from diffprob.base.text import bytes_text, one_line
from diffprob.data.formats.files import blank_pixels, reading, same_depth
from diffprob.data.formats.pictures import MixedSizes, Tally, read_picture
from diffprob.data.images import CHUNK_BYTES, Pixels
from diffprob.storage.files import measure, read_bytes, remove, whole, write_new
from diffprob.storage.folders import NO_CACHE, cache_folder, keeps_decoded
from diffprob.storage.locks import alone

FORMAT = 1  # of what is kept, and of how pictures are read: another number makes all of it anew
LEAST_FILES, LEAST_BYTES = 2000, 32 << 20  # of files, below both of which decoding is faster than keeping is worth
MOST_KEPT = 64 << 30  # bytes of all sets; those that were not used for the longest time go first
PIXELS, ABOUT = "pixels.bin", "about.json"
BLOCK = 32  # files that a core decodes at a time


def read_pictures(root: Path, files: Sequence[Path], tally: Tally) -> tuple[Pixels, tuple[str, ...]]:
    """All pictures as uint8 or uint16 (N, C, H, W), perhaps a read-only memory map, and what is to be said of it.

    Args:
        root: the folder that the user gave.
        files: one or more, in their order.
        tally: what is done to each picture; it counts.

    Raises:
        MixedSizes: pictures of different sizes where the tally has none.
        InputError: a damaged picture, the first in the order.
    """
    with reading(root):
        about = [file.stat() for file in files] if keeps_decoded() else []
    if len(about) < LEAST_FILES and sum(item.st_size for item in about) < LEAST_BYTES:
        return _in_memory(files, tally), ()
    place = cache_folder() / "pictures" / _name(files, about, tally)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if (pixels := _kept(place, tally)) is not None:
            return pixels, ()
        with alone(place.with_suffix(".lock")):
            if (pixels := _kept(place, tally)) is not None:  # another process has made it meanwhile
                return pixels, ()
            remove(place)  # damaged
            whole(place, lambda folder: _fill(folder, files, tally))
            _prune(place)
            pixels = _kept(place, tally)
    except OSError as error:
        note = f"the decoded pictures are not kept in {place.parent} ({error.strerror or one_line(error)})"
        return _in_memory(files, tally), (f"{note}; DIFFPROB_CACHE on a disk with room would be right",)
    if pixels is None:
        right = "DIFFPROB_CACHE on another disk would be right"
        raise InputError(f"{place}: what is read is not what was written: the disk is damaged; {right}")
    kept = f"decoded once and kept in {place} ({bytes_text(pixels.nbytes)}); {NO_CACHE}=1 keeps nothing"
    return pixels, (kept,)


def _name(files: Sequence[Path], about: Sequence[os.stat_result], tally: Tally) -> str:
    """A digest of everything that decides the pixels."""
    import PIL

    options = (FORMAT, PIL.__version__, tally.size, tally.filter, tally.channels)
    sha = hashlib.sha256(repr(options).encode())
    for file, item in zip(files, about, strict=True):
        sha.update(repr((os.path.abspath(file), item.st_size, item.st_mtime_ns)).encode("utf-8", "surrogateescape"))
    return sha.hexdigest()[:32]


def _kept(place: Path, tally: Tally) -> Pixels | None:
    """What is kept, with its counts added to the tally; None where nothing is, or it is not as it was written."""
    if not place.is_dir():
        return None
    try:
        about = json.loads(read_bytes(place / ABOUT))
        digest = about.pop("digest")
        if digest != _digest(about) or measure(place / PIXELS) != about["pixels"]:
            return None
        pixels = np.memmap(place / PIXELS, about["dtype"], "r", shape=tuple(about["shape"]))
    except (InputError, ValueError, KeyError, TypeError, AttributeError):
        return None
    tally.pictures += about["pictures"]
    tally.counts.update(about["counts"])
    tally.sizes |= {(int(width), int(height)) for width, height in about["sizes"]}
    os.utime(place)  # used now
    return pixels


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _fill(folder: Path, files: Sequence[Path], tally: Tally) -> None:
    """Decode the files into a new folder.

    Raises:
        OSError: the disk refuses, before a picture is decoded where it is full.
    """
    own = replace(tally, pictures=0, counts=Counter(), sizes=set())

    def room(shape: tuple[int, ...], dtype: Any) -> Pixels:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with open(folder / PIXELS, "wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.writelines(bytes(min(CHUNK_BYTES, size - start)) for start in range(0, size, CHUNK_BYTES))
        return np.memmap(folder / PIXELS, dtype, "r+", shape=shape)

    pixels: Any = _decode(files, own, room)
    pixels.flush()
    shape, dtype = pixels.shape, pixels.dtype.str
    del pixels  # Windows renames no folder in which a file is mapped
    about = {
        "shape": shape,
        "dtype": dtype,
        "pixels": measure(folder / PIXELS),
        "pictures": own.pictures,
        "counts": dict(own.counts),
        "sizes": sorted(own.sizes),
    }
    about = json.loads(json.dumps(about))
    about["digest"] = _digest(about)
    write_new(folder / ABOUT, [json.dumps(about).encode()])


def _in_memory(files: Sequence[Path], tally: Tally) -> Pixels:
    return _decode(files, tally, blank_pixels)


def _decode(files: Sequence[Path], tally: Tally, room: Callable[[tuple[int, ...], Any], Pixels]) -> Pixels:
    """Decode by all cores: pillow computes without Python's lock. What is refused is the first file in the order."""
    first = read_picture(files[0], tally)
    pixels = room((len(files), *first.shape), first.dtype)
    pixels[0] = first
    stop = threading.Event()

    def block(start: int) -> Tally:
        own = replace(tally, pictures=0, counts=Counter(), sizes=set())
        for k in range(start, min(start + BLOCK, len(files))):
            if stop.is_set():
                break
            array = read_picture(files[k], own)
            if array.shape != first.shape:
                raise MixedSizes(
                    f"{files[k]}: {array.shape[2]}x{array.shape[1]} pixels, while {files[0].name} has "
                    f"{first.shape[2]}x{first.shape[1]}"
                )
            same_depth(files[k], array, pixels)
            pixels[k] = array
        return own

    starts = range(1, len(files), BLOCK)
    if len(files) <= 2 * BLOCK:
        _add(tally, map(block, starts))
        return pixels
    with warnings.catch_warnings(), ThreadPoolExecutor(_cores()) as pool:
        # Each picture is read without warnings, which threads cannot undo in the right order.
        warnings.simplefilter("ignore")
        try:
            _add(tally, pool.map(block, starts))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return pixels


def _add(tally: Tally, parts: Iterator[Tally]) -> None:
    for part in parts:
        tally.pictures += part.pictures
        tally.counts.update(part.counts)
        tally.sizes |= part.sizes


def _cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prune(kept: Path) -> None:
    """Remove the sets that were not used for the longest time, above `MOST_KEPT` in all; never the one just made."""
    sets = [(item.stat().st_mtime, item) for item in kept.parent.iterdir() if item.is_dir() and item != kept]
    size = {item: sum(file.stat().st_size for file in item.iterdir()) for _, item in sets}
    total = sum(file.stat().st_size for file in kept.iterdir()) + sum(size.values())
    for _, item in sorted(sets):
        if total <= MOST_KEPT:
            return
        remove(item)
        total -= size[item]
