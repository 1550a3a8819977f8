"""The idx format of MNIST, Fashion-MNIST and EMNIST: plain files are memory-mapped, .gz files once decompressed.

Layout (LeCun, Cortes & Burges): bytes 0 0, a type code (8 = unsigned byte), the number of dimensions, each dimension as
a big-endian uint32, then the data. Images have magic 0x00000803 and dimensions (N, H, W), labels 0x00000801 and (N,).
"""

import gzip
import hashlib
import math
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffprob.base.errors import InputError, Missing
from diffprob.data.formats.files import Stream, check_unpacked, entry, in_memory, one_file, opened, reading
from diffprob.data.images import Images, Labels, Pixels
from diffprob.storage.folders import cache_folder
from diffprob.storage.foreign import parsing

_MAGIC = {3: 0x00000803, 1: 0x00000801}
_KIND = {3: "images", 1: "labels"}
_STEMS = {"train": ("train",), "test": ("t10k", "test")}
_BLOCK = 1 << 20
_STALE_SECONDS = 24 * 3600


def _header(file: Stream, path: Path, ndim: int, count: int | None) -> tuple[int, ...]:
    """Check the header (of ``count`` items, where that is known); leaves the file at the first byte of data."""
    head = file.read(4 + 4 * ndim)
    if len(head) >= 4 and head[:4] != _MAGIC[ndim].to_bytes(4, "big"):
        raise InputError(
            f"{path}: no idx file of {_KIND[ndim]}: it starts with 0x{head[:4].hex()}, "
            f"0x{_MAGIC[ndim]:08x} would be right"
        )
    if len(head) < 4 + 4 * ndim:
        raise InputError(f"{path}: cut short inside its header: {len(head)} bytes, an idx header has {4 + 4 * ndim}")
    shape = struct.unpack(f">{ndim}I", head[4:])
    if 0 in shape:
        raise InputError(f"{path}: holds nothing: its header says {'x'.join(map(str, shape))}")
    if count not in (None, shape[0]):
        raise InputError(f"{path}: {shape[0]} {_KIND[ndim]} for {count} images")
    return shape


def _cut_short(path: Path, shape: tuple[int, ...], size: int) -> InputError:
    wrong = "cut short" if size < math.prod(shape) else "too long"
    sizes = "x".join(map(str, shape))
    return InputError(f"{path}: {wrong}: {size} bytes of data, its header of {sizes} asks for {math.prod(shape)}")


def _map(path: Path, ndim: int, count: int | None = None) -> NDArray[np.uint8]:
    """Memory-map a plain idx file in place."""
    with opened(path) as file:
        shape = _header(file, path, ndim, count)
        size = os.fstat(file.fileno()).st_size - file.tell()
        if size != math.prod(shape):
            raise _cut_short(path, shape, size)
        return np.memmap(file, np.uint8, "r", offset=file.tell(), shape=shape)


def _inflate(path: Path, ndim: int, count: int | None = None) -> Iterator[bytes]:
    """Decompress a .gz file block by block, checking the length that its header promises and gzip's own checksum."""
    with opened(path) as packed, gzip.GzipFile(fileobj=packed) as file:
        with _unpacking(path):
            shape = _header(file, path, ndim, count)
        expected, size = math.prod(shape), 0
        check_unpacked(path, expected, os.fstat(packed.fileno()).st_size)
        yield _MAGIC[ndim].to_bytes(4, "big") + struct.pack(f">{ndim}I", *shape)
        while block := _block(file, path):
            size += len(block)
            if size > expected:
                break
            yield block
    if size != expected:
        raise _cut_short(path, shape, size)


@contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    with parsing(path, ".gz", "download it again"):
        try:
            yield
        except EOFError as error:
            raise InputError(f"{path}: cut short: the .gz ends before its end mark; download it again") from error


def _block(file: Stream, path: Path) -> bytes:
    with _unpacking(path):
        return file.read(_BLOCK)


def _checksum(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def _cached(path: Path, folder: Path, ndim: int) -> Path:
    """The decompressed copy in the cache, made if missing: named by the source's SHA-256 and by its own CRC-32."""
    with opened(path) as file:
        sha = hashlib.sha256()
        while block := file.read(_BLOCK):
            sha.update(block)
    key = sha.hexdigest()
    for candidate in folder.glob(f"{key}-*.idx"):
        if f"{_checksum(candidate):08x}" == candidate.stem.rpartition("-")[2]:
            return candidate
    for stale in folder.glob(".tmp-*"):
        if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
            stale.unlink(missing_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".tmp-")
    try:
        crc = 0
        with os.fdopen(handle, "wb") as out:
            for block in _inflate(path, ndim):
                crc = zlib.crc32(block, crc)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        final = folder / f"{key}-{crc:08x}.idx"
        # Renamed whole: two processes that unpack the same file at once both end with a good copy.
        os.replace(temporary, final)
        return final
    finally:
        Path(temporary).unlink(missing_ok=True)


def _in_memory(path: Path, ndim: int, count: int | None) -> NDArray[np.uint8]:
    blocks = _inflate(path, ndim, count)
    shape = struct.unpack(f">{ndim}I", next(blocks)[4:])
    flat, done = in_memory(math.prod(shape)), 0
    for block in blocks:
        flat[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)
    return flat.reshape(shape)


def read_array(path: Path, ndim: int, count: int | None = None) -> NDArray[np.uint8]:
    """The data of one idx file, plain or gzipped; images (``ndim`` 3) are memory-mapped, labels (``ndim`` 1) small.

    Args:
        path: the file.
        ndim: 3 for images, 1 for labels.
        count: items that there must be; None takes any number.

    Raises:
        InputError: no file, wrong magic, cut short, too long, another count, a damaged .gz, or one that would unpack
            to too much (`check_unpacked`).
    """
    with opened(path) as file:
        packed = file.read(2) == b"\x1f\x8b"
    if not packed:
        return _map(path, ndim, count)
    if ndim == 1:
        return _in_memory(path, ndim, count)
    folder = cache_folder() / "idx"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _map(_cached(path, folder, ndim), ndim, count)
    except OSError:
        # A read-only or full cache costs memory, not the run; what is wrong with the source is an InputError already.
        return _in_memory(path, ndim, count)


def find_images(folder: Path, split: str) -> Path:
    """The image file of a split in a folder; a plain file goes before its .gz.

    Raises:
        Missing: none.
        InputError: several different ones.
    """
    # whatever has the name: a link to nowhere, or a folder where no file has it, is not absent, it cannot be read
    names = [p.name for p in sorted(folder.iterdir(), key=lambda p: (p.is_dir(), p.name))]
    candidates: dict[str, Path] = {}
    for name in names:
        stem = name.removesuffix(".gz")
        first = stem.split("-images", 1)[0]
        part = first.rsplit("-", 1)[-1]
        named = stem.replace(".", "-").endswith("-images-idx3-ubyte") and part in _STEMS[split]
        if named and not (candidates and (folder / name).is_dir()):
            candidates.setdefault(stem, folder / name)
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if candidates:
        raise InputError(
            f"{folder}: holds {len(candidates)} {split} sets ({', '.join(candidates)}); give the path of one file"
        )
    want = f"{_STEMS[split][0]}-images-idx3-ubyte"
    near = [name for name in names if "idx3" in name]
    hint = f"; it holds {', '.join(near)} (another split, or a file to name)" if near else ""
    raise Missing(f"{folder}: no {split} images: {want} or {want}.gz would be right{hint}")


def _labels_beside(images: Path) -> Path | None:
    name = images.name.removesuffix(".gz").replace("-images", "-labels").replace("idx3", "idx1")
    if name == images.name.removesuffix(".gz"):
        return None
    present = [p for p in (images.with_name(name), images.with_name(name + ".gz")) if entry(p)]
    return min(present, key=Path.is_dir, default=None)


def read_idx(path: Path, split: str) -> Images:
    """Images and, where there is a label file, labels; EMNIST's images, stored transposed, are set upright.

    Raises:
        Missing: no images of the split, or the test split of a single file that is not called t10k or test.
        InputError: a damaged file, or as many labels as there are not images.
    """
    with reading(path):
        file = find_images(path, split) if path.is_dir() else one_file(path, split, _STEMS["test"])
    with reading(file):
        pixels: Pixels = read_array(file, 3)[:, None]
    notes = []
    if file.name.lower().startswith("emnist"):
        pixels = pixels.transpose(0, 1, 3, 2)
        notes.append("EMNIST files hold the images transposed: set upright")
    labels: Labels | None = None
    label_file = _labels_beside(file)
    if label_file is None:
        notes.append(f"no labels beside {file.name}")
    else:
        with reading(label_file):
            labels = read_array(label_file, 1, len(pixels)).astype(np.int64)
    folder = file.absolute().parent.name
    return Images(pixels, labels, name=f"{folder}/{file.name.split('-images')[0]}", notes=tuple(notes))
