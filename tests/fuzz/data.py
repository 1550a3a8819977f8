"""Damaged data files: whatever is wrong with a file, its reader says so in one line, at once and within bounds.

`targets` names functions that make one mutated file each and read it. A file of each kind is changed as it lies on the
disk, and again inside its compression or its checksums, which would otherwise hide what is parsed behind them.
"""

import gzip
import io
import random
import resource
import shutil
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from truth.tiff import tiff

from diffprob.base.errors import InputError
from diffprob.data import Array, Cifar10, Folder, Idx, Pages, Svhn, open_data
from diffprob.data.images import Images

Target = Callable[[random.Random, Path], None]

SECONDS = 5.0  # of the processor, for one file of a few kilobytes
MEGABYTES = 1000  # by which the peak of the memory may grow
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
_WORDS = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four changes: a bit, a byte, a number, a piece cut out, doubled, added or cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not out:
            break
        # what lies at the front is parsed, what follows is only copied
        at = rng.randrange(min(len(out), 400)) if rng.random() < 0.6 else rng.randrange(len(out))
        kind = rng.randrange(8)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice((*_INTERESTING, rng.randrange(256)))
        elif kind == 2:
            word = struct.pack(rng.choice("<>") + rng.choice("IQ"), rng.choice(_WORDS))
            out[at : at + len(word)] = word[: max(0, len(out) - at)]
        elif kind == 3:
            out[at : at + 2] = struct.pack(rng.choice("<>") + "H", rng.choice(_WORDS) & 0xFFFF)[: len(out) - at]
        elif kind == 4:
            del out[at : at + rng.choice((1, 2, 4, 8, 64))]
        elif kind == 5:
            out[at:at] = out[at : at + rng.choice((1, 4, 8, 64))]
        elif kind == 6:
            out[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 4, 8))))
        else:
            del out[at:]
    return bytes(out)


def check(load: Callable[[], Images], name: str) -> None:
    """Read what was damaged: it is still good, or refused in one printable line that names ``name``.

    Raises:
        AssertionError: the message is too long, or names no file, or reading took too long or too much memory.
    """
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        images = load()
        images.digest()
        images.take([0])
    except InputError as error:
        message = str(error)
        assert len(message) <= 300 and message.isprintable(), message
        assert name in message, message
    spent = time.process_time() - began
    assert spent < SECONDS, f"{spent:.1f} s for {name}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (
        2**20 if sys.platform == "darwin" else 1024
    )
    assert grown < MEGABYTES, f"{grown:.0f} MB more for {name}"


@cache
def _pixels(n: int, size: int, channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    planes = [[127.5 + 120 * np.sin(3 * x + 2 * y + c + k) for c in range(channels)] for k in range(n)]
    return np.array(planes).astype(np.uint8)


@cache
def _picture(suffix: str) -> bytes:
    from PIL import Image

    options = {
        "gif": {},
        "bmp": {},
        "tif": {},
        "png": {},
        "jpg": {"quality": 90},
        "webp": {"lossless": True},
        "lossy.webp": {"quality": 80},
    }
    image, buffer = Image.fromarray(_pixels(1, 16)[0].transpose(1, 2, 0)), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    extra = {} if suffix in ("gif", "bmp", "tif") else {"exif": exif}
    if suffix == "palette.png":
        image, extra = image.convert("P"), {"transparency": b"\x00\x80" * 8}
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.rpartition(".")[2].upper())
    image.save(buffer, kind, **options.get(suffix, {}), **extra)
    return buffer.getvalue()


def _sealed_png(data: bytes, rng: random.Random) -> bytes:
    """A PNG with one chunk changed and its checksum put right."""
    out, at = [data[:8]], 8
    chunks = []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    changed = rng.randrange(len(chunks))
    for k, (kind, body) in enumerate(chunks):
        if k == changed:
            body = mutated(body, rng) if not (kind == b"IDAT" and rng.random() < 0.5) else _sealed_zlib(body, rng)
        out.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(out)


def _sealed_zlib(data: bytes, rng: random.Random) -> bytes:
    return zlib.compress(mutated(zlib.decompress(data), rng))


def _read_picture(suffix: str, seal: bool, rng: random.Random, folder: Path) -> None:
    data = _picture(suffix)
    name = f"a.{suffix.rpartition('.')[2].replace('gif', 'png')}"
    (folder / name).write_bytes(_sealed_png(data, rng) if seal else mutated(data, rng))
    channels, size = rng.choice((1, 3)), rng.choice((None, 8))
    check(Folder(str(folder), size, channels).load, str(folder))


@cache
def _tiff(deflate: bool) -> bytes:
    pages = [page.astype(np.uint16) * 250 for page in _pixels(2, 8, 13)]
    return tiff(pages, deflate=deflate, predict=deflate)


def _read_tiff(rng: random.Random, folder: Path) -> None:
    """Thirteen bands of 16 bits on two pages, in a folder and as data of its own."""
    path = folder / "a.tif"
    path.write_bytes(mutated(_tiff(rng.random() < 0.5), rng))
    check(Folder(str(folder), rng.choice((None, 4)), 13).load, str(folder))
    check(Pages(str(path), channels=13).load, "a.tif")
    check(lambda: open_data(str(path), channels=13).load(), "a.tif")


@cache
def _npy(dtype: str) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, _pixels(6, 8) if dtype == "u1" else (_pixels(6, 8) / 255).astype(dtype))
    return buffer.getvalue()


def _read_npy(rng: random.Random, folder: Path) -> None:
    (folder / "a.npy").write_bytes(mutated(_npy(rng.choice(("u1", "f4", "f8"))), rng))
    check(Array(str(folder / "a.npy")).load, "a.npy")


@cache
def _npz(compressed: bool) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, x_train=_pixels(6, 8), y_train=np.arange(6) % 3)
    return buffer.getvalue()


def _read_npz(seal: bool, rng: random.Random, folder: Path) -> None:
    data = _npz(rng.random() < 0.5)
    if seal:
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
            changed = rng.choice(old.namelist())
            for name in old.namelist():
                body = old.read(name)
                new.writestr(name, mutated(body, rng) if name == changed else body)
        data = buffer.getvalue()
    else:
        data = mutated(data, rng)
    (folder / "a.npz").write_bytes(data)
    check(Array(str(folder / "a.npz")).load, "a.npz")


@cache
def _mat(compressed: bool) -> bytes:
    from scipy.io import savemat

    buffer = io.BytesIO()
    x = _pixels(3, 32).transpose(2, 3, 1, 0)
    savemat(buffer, {"X": x, "y": np.array([[10], [1], [2]], np.uint8)}, do_compression=compressed)
    return buffer.getvalue()


def _read_mat(seal: bool, rng: random.Random, folder: Path) -> None:
    data = _mat(True)
    if seal:
        length = int.from_bytes(data[132:136], "little")
        packed = _sealed_zlib(data[136 : 136 + length], rng)
        data = data[:132] + struct.pack("<I", len(packed)) + packed + data[136 + length :]
    else:
        data = mutated(_mat(rng.random() < 0.5), rng)
    (folder / "train_32x32.mat").write_bytes(data)
    check(Svhn(str(folder)).load, "train_32x32.mat")


@cache
def _idx(labels: bool) -> bytes:
    array = np.arange(6, dtype=np.uint8) if labels else _pixels(6, 8, 1)[:, 0]
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def _read_idx(labels: bool, packed: bool, seal: bool, rng: random.Random, folder: Path) -> None:
    names = {False: "train-images-idx3-ubyte", True: "train-labels-idx1-ubyte"}
    for which, name in names.items():
        data = _idx(which)
        if which == labels:
            data = mutated(data, rng) if seal or not packed else data
            data = gzip.compress(data) if packed else data
            data = mutated(data, rng) if packed and not seal else data
            (folder / f"{name}{'.gz' * packed}").write_bytes(data)
        else:
            (folder / name).write_bytes(data)
    check(Idx(str(folder)).load, "train-")


def _read_cifar(rng: random.Random, folder: Path) -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    batch = b"".join(bytes([k]) + image.tobytes() for k, image in enumerate(_pixels(3, 32)))
    files = {f"data_batch_{k}.bin": batch for k in range(1, 6)} | {"batches.meta.txt": "\n".join(names).encode()}
    changed = rng.choice(list(files))
    for name, data in files.items():
        (folder / name).write_bytes(mutated(data, rng) if name == changed else data)
    check(Cifar10(str(folder)).load, str(folder))


def _read_any(rng: random.Random, folder: Path) -> None:
    """A file of any kind under the name of any other."""
    data = rng.choice(
        (_npy("u1"), _npz(True), _mat(True), _idx(False), gzip.compress(_idx(False)), _picture("png"), b"")
    )
    name = "a" + rng.choice((".npy", ".npz", ".mat", ".bin", ".png", ".gz", "-images-idx3-ubyte", ".tif", ".txt", ""))
    (folder / name).write_bytes(mutated(data, rng))
    check(lambda: open_data(str(folder / name)).load(), name)


def targets() -> dict[str, Target]:
    """By name, functions that read one damaged file, made in an empty folder; they raise if it is not said well."""
    made: dict[str, Target] = {
        "png": partial(_read_picture, "png", False),
        "png, checksums right": partial(_read_picture, "png", True),
        "png with a palette": partial(_read_picture, "palette.png", True),
        "jpeg": partial(_read_picture, "jpg", False),
        "webp": partial(_read_picture, "webp", False),
        "webp, lossy": partial(_read_picture, "lossy.webp", False),
        "gif called png": partial(_read_picture, "gif", False),
        "bmp": partial(_read_picture, "bmp", False),
        "tiff": partial(_read_picture, "tif", False),
        "tiff of bands and pages": _read_tiff,
        "npy": _read_npy,
        "npz": partial(_read_npz, False),
        "npz, checksums right": partial(_read_npz, True),
        "mat": partial(_read_mat, False),
        "mat, checksums right": partial(_read_mat, True),
        "idx": partial(_read_idx, False, False, False),
        "idx.gz": partial(_read_idx, False, True, False),
        "idx.gz, checksums right": partial(_read_idx, False, True, True),
        "idx labels": partial(_read_idx, True, False, False),
        "idx.gz labels": partial(_read_idx, True, True, False),
        "idx.gz labels, checksums right": partial(_read_idx, True, True, True),
        "cifar": _read_cifar,
        "any": _read_any,
    }
    return {f"data: {name}": partial(_in_empty, target) for name, target in made.items()}


def _in_empty(target: Target, rng: random.Random, folder: Path) -> None:
    own = folder / f"{rng.randrange(1 << 32):08x}"
    own.mkdir(parents=True)
    try:
        target(rng, own)
    finally:
        shutil.rmtree(own)
