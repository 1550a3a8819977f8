"""Numpy's files, .npy and .npz: the header is checked before anything is mapped, unpacked or allocated.

Format (numpy.lib.format): "\\x93NUMPY", two bytes of version, the length of the header (uint16, from version 2 on
uint32, little-endian), the header as the text of a dict with descr, fortran_order and shape, then the items. An .npz is
a zip of them. Objects are pickles and are never read; nor are structures, which no image needs.
"""

import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from diffprob.base.errors import InputError
from diffprob.data.formats.files import MOST_BYTES, blank_pixels, check_unpacked, opened
from diffprob.storage.foreign import parsing

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # as numpy itself has it
_BLOCK = 1 << 20
_FIELD = re.compile(
    r"""\s*(['"])(?P<key>\w+)\1\s*:\s*(?P<value>'[^'\\]*'|"[^"\\]*"|True|False|\((?:\s*\d{1,19}L?\s*(?:,|(?=\))))*\s*\))\s*(?:,|$)"""
)
_PLAIN = re.compile(r"[<>|=]?[biufcSU?]\d{0,9}")
_RIGHT = "an array of numbers as numpy.save writes it would be right"


@dataclass(frozen=True)
class Header:
    """What a file says of its array.

    Args:
        shape: of the array.
        dtype: of one item.
        fortran: whether the first index is the fastest.
        offset: bytes before the first item.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int

    @property
    def size(self) -> int:
        """Bytes of all items."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], name: object) -> Header:
    """The header of an .npy at the beginning of ``file``, which is left at the first item.

    Raises:
        InputError: no .npy, cut short, pickled objects, or no plain array.
    """
    start = file.read(8)
    if start[:6] != _MAGIC:
        raise InputError(f"{name}: not a .npy file: it starts with 0x{start[:6].hex()}; {_RIGHT}")
    width = {1: 2, 2: 4, 3: 4}.get(start[6] if len(start) == 8 else 0)
    if width is None:
        raise InputError(f"{name}: a .npy file of an unknown version, or cut short; {_RIGHT}")
    length = int.from_bytes(file.read(width), "little")
    if not 0 < length <= _LONGEST_HEADER:
        raise InputError(f"{name}: a .npy file with a header of {length} bytes; at most {_LONGEST_HEADER} are read")
    text = file.read(length)
    if len(text) < length:
        raise InputError(f"{name}: cut short inside the header of its array")
    fields = _fields(text.decode("latin-1"))
    if "O" in fields.get("descr", "")[1:3]:
        raise InputError(f"{name}: holds pickled objects, which are never loaded; save a plain uint8 or float array")
    if set(fields) != {"descr", "fortran_order", "shape"} or not _PLAIN.fullmatch(fields["descr"].strip("'\"")):
        raise InputError(f"{name}: the header of its array is damaged, or no plain array ({text[:80]!r}); {_RIGHT}")
    with parsing(name, "array", _RIGHT):
        dtype = np.dtype(fields["descr"].strip("'\""))
    shape = tuple(int(n) for n in re.findall(r"\d+", fields["shape"]))
    # the bound holds without the zeros too: numpy cannot make an empty array of any shape
    bytes_ = dtype.itemsize * math.prod(max(n, 1) for n in shape)
    if not 0 < bytes_ < 1 << 62 or len(shape) > 16 or fields["fortran_order"] not in ("True", "False"):
        raise InputError(f"{name}: the header of its array is damaged ({text[:80]!r}); {_RIGHT}")
    return Header(shape, dtype, fields["fortran_order"] == "True", len(start) + width + length)


def _fields(text: str) -> dict[str, str]:
    """The dict that a header is the text of, values as texts; empty where it is no such dict."""
    body = re.fullmatch(r"\s*\{(.*)\}\s*", text, re.DOTALL)
    fields: dict[str, str] = {}
    rest = body[1].rstrip() if body else ""
    while rest:
        match = _FIELD.match(rest)
        if match is None or match["key"] in fields:
            return {}
        fields[match["key"]], rest = match["value"], rest[match.end() :]
    return fields


def map_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, memory-mapped, read-only.

    Raises:
        InputError: as `read_header`, or fewer items than the header says.
    """
    with opened(path) as file:
        header = read_header(file, path)
        size = file.seek(0, 2) - header.offset
        if size < header.size:
            sizes = "x".join(map(str, header.shape))
            expected = f"its header of {sizes} ({header.dtype}) asks for {header.size}"
            raise InputError(f"{path}: cut short: {size} bytes of data, {expected}")
        if header.size == 0:
            return np.empty(header.shape, header.dtype)
        order = "F" if header.fortran else "C"
        return np.memmap(file, header.dtype, "r", offset=header.offset, shape=header.shape, order=order)


class Archive:
    """The arrays of an .npz that is open; each is read when it is needed, whole, into memory or onto the disk."""

    def __init__(self, path: Path, packed: zipfile.ZipFile) -> None:
        self.path = path
        self._packed = packed
        self._members = {info.filename.removesuffix(".npy"): info for info in packed.infolist()}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arrays, in the order of the file."""
        return tuple(self._members)

    @contextmanager
    def _member(self, name: str) -> Iterator[tuple[IO[bytes], Header]]:
        info, what = self._members[name], f"{self.path} ({name})"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{what}: compressed in a way numpy does not write; numpy.savez_compressed would be right")
        with parsing(what, ".npz file"), self._packed.open(info) as file:
            yield file, read_header(file, what)

    def header(self, name: str) -> Header:
        """What the file says of an array.

        Raises:
            InputError: as `read_header`.
        """
        with self._member(name) as (_, header):
            return header

    def read(self, name: str, most: int = MOST_BYTES) -> np.ndarray:
        """One array; its checksum is compared.

        Args:
            name: one of `names`.
            most: bytes that it may have.

        Raises:
            InputError: damaged, or larger than allowed (`check_unpacked`).
        """
        with self._member(name) as (file, header):
            check_unpacked(self.path, header.size, self._members[name].compress_size)
            if header.size > most:
                raise InputError(f"{self.path} ({name}): {header.size:,} bytes, and at most {most:,} are read")
            held = self._members[name].file_size - header.offset
            if held != header.size:
                wrong = "cut short" if held < header.size else "too long"
                raise InputError(f"{self.path} ({name}): {wrong}: {held} bytes, its header asks for {header.size}")
            flat = blank_pixels((header.size,))
            done = 0
            while block := file.read(_BLOCK):
                if done + len(block) > header.size:
                    raise InputError(f"{self.path} ({name}): too long: its header asks for {header.size} bytes")
                flat[done : done + len(block)] = np.frombuffer(block, np.uint8)
                done += len(block)
            if done < header.size:
                raise InputError(f"{self.path} ({name}): cut short: {done} of {header.size} bytes")
        return flat.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


@contextmanager
def open_npz(path: Path) -> Iterator[Archive]:
    """The arrays of an .npz file.

    Raises:
        Missing, InputError: nothing there; no file, or no zip of arrays.
    """
    with opened(path) as file:
        with parsing(path, ".npz file", "numpy.savez writes what would be right"):
            packed = zipfile.ZipFile(file)
        with packed:
            yield Archive(path, packed)
