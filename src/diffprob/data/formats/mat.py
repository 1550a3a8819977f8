"""MATLAB 5 files, as far as data sets of images need them: full arrays of numbers, plain or compressed.

Layout ("MAT-File Format", The MathWorks, chapter 1): 128 bytes of header, the last four version and byte order; then
elements of a tag (type and bytes, uint32 each) and data padded to 8 bytes. Up to four bytes of data lie in the tag
itself, with their number in its upper half. An array (type 14) holds flags, dimensions, a name and its items, the first
index fastest; type 15 is an array compressed by zlib. The items may be stored in a smaller type than the array's own.

Read here and not by a general reader, which one wrong byte can take down together with its process.
"""

import math
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from diffprob.base.errors import InputError
from diffprob.data.formats.files import Stream, blank_pixels, check_unpacked, opened
from diffprob.storage.foreign import parsing

_ARRAY, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMBERS = range(6, 16)  # the classes of full arrays of numbers, from double to uint64
_COMPLEX = 0x800
_LONGEST_NAME = 1000
_BLOCK = 1 << 20
_ADVICE = "download it again"


class _Inflated:
    """The unpacked bytes of a compressed element, made as they are read."""

    def __init__(self, file: IO[bytes], packed: int, path: Path) -> None:
        self.file, self.left, self.path = file, packed, path
        self.unpack, self.ready = zlib.decompressobj(), b""

    def read(self, n: int) -> bytes:
        while len(self.ready) < n and not self.unpack.eof:
            block = self.unpack.unconsumed_tail or self.file.read(min(_BLOCK, self.left))
            if not block:
                break
            if not self.unpack.unconsumed_tail:
                self.left -= len(block)
            with parsing(self.path, "MATLAB 5 file", _ADVICE):
                self.ready += self.unpack.decompress(block, n - len(self.ready))
        data, self.ready = self.ready[:n], self.ready[n:]
        return data

    def finish(self) -> None:
        """Go to the end, where zlib compares its checksum; there is nothing left but padding."""
        if len(self.read(8)) == 8 or not self.unpack.eof:
            raise InputError(f"{self.path}: a damaged MATLAB 5 file: an array does not end where it should; {_ADVICE}")


@dataclass(frozen=True)
class _Reader:
    """The elements of a stream, in the byte order of the file."""

    stream: Stream
    order: str  # "<" or ">"
    path: Path

    def exactly(self, n: int) -> bytes:
        data = self.stream.read(n)
        if len(data) < n:
            raise InputError(f"{self.path}: a MATLAB 5 file cut short: {len(data)} of {n} bytes; {_ADVICE}")
        return data

    def tag(self) -> tuple[int, int, bytes | None]:
        """(type, bytes, the data where it lies in the tag)."""
        raw = self.exactly(8)
        kind, size = struct.unpack(f"{self.order}II", raw)
        if kind >> 16:
            if (size := kind >> 16) > 4:
                raise self.damaged("a small element of more than 4 bytes")
            return kind & 0xFFFF, size, raw[4 : 4 + size]
        return kind, size, None

    def element(self, most: int) -> tuple[int, bytes]:
        """(type, data) of an element of at most ``most`` bytes."""
        kind, size, data = self.tag()
        if data is None:
            if size > most:
                raise self.damaged(f"an element of {size} bytes where at most {most} are")
            data = self.exactly(size)
            self.exactly(-size % 8)
        return kind, data

    def damaged(self, what: str) -> InputError:
        return InputError(f"{self.path}: a damaged MATLAB 5 file: {what}; {_ADVICE}")


@dataclass(frozen=True)
class _Array:
    """What precedes the items of an array."""

    name: str
    shape: tuple[int, ...]
    type: int  # its class in MATLAB
    complex: bool


def read_mat(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """The named arrays of a MATLAB 5 file, as far as it has them; shaped as in MATLAB, the first index fastest.

    The items have the type that they are stored in, which may be smaller than the array's own.

    Raises:
        Missing, InputError: nothing there, no file; another format, cut short or damaged; an array that is no full one
            of real numbers; or one that would unpack to too much (`check_unpacked`).
    """
    arrays: dict[str, np.ndarray] = {}
    with opened(path) as file:
        order = _byte_order(file, path)
        size = file.seek(0, 2)
        file.seek(128)
        while len(arrays) < len(names) and file.tell() < size:
            outer = _Reader(file, order, path)
            kind, length, data = outer.tag()
            end = file.tell() + length
            if data is not None or kind not in (_ARRAY, _COMPRESSED):
                raise outer.damaged(f"an element of type {kind} in the place of an array")
            if end > size:
                raise InputError(f"{path}: a MATLAB 5 file cut short: {size} bytes, an array ends at {end}; {_ADVICE}")
            if kind == _COMPRESSED:
                inflated = _Inflated(file, length, path)
                inner = _Reader(inflated, order, path)
                kind, size_inside, data = inner.tag()
                if data is not None or kind != _ARRAY:
                    raise outer.damaged(f"an element of type {kind} in the place of an array")
                if (array := _head(inner)).name in names:
                    check_unpacked(path, size_inside, length)
                    arrays[array.name] = _items(inner, array, size_inside)
                    inflated.finish()
            elif (array := _head(outer)).name in names:
                arrays[array.name] = _items(outer, array, length)
                if file.tell() > end:
                    raise outer.damaged(f"{array.name} is longer than its element")
            file.seek(end)
    return arrays


def _byte_order(file: IO[bytes], path: Path) -> str:
    head = file.read(128)
    if head.startswith(b"MATLAB 7.3"):
        raise InputError(f"{path}: a MATLAB 7.3 (HDF5) file; SVHN's own are MATLAB 5: save with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(head[126:])
    if order is None or struct.unpack(f"{order}H", head[124:126])[0] != 0x0100:
        raise InputError(f"{path}: not a MATLAB 5 file, or cut short; {_ADVICE}")
    return order


def _head(reader: _Reader) -> _Array:
    """Flags, dimensions and name."""
    kind, flags = reader.element(8)
    if kind != 6 or len(flags) != 8:
        raise reader.damaged("an array without flags")
    word = struct.unpack(f"{reader.order}I", flags[:4])[0]
    kind, raw = reader.element(4 * 32)
    if kind != 5 or len(raw) % 4 or len(raw) < 8:
        raise reader.damaged("an array without dimensions")
    shape = struct.unpack(f"{reader.order}{len(raw) // 4}i", raw)
    if min(shape) < 0:
        raise reader.damaged(f"dimensions {shape}")
    _, name = reader.element(_LONGEST_NAME)
    return _Array(name.decode("latin-1"), shape, word & 0xFF, bool(word & _COMPLEX))


def _items(reader: _Reader, array: _Array, most: int) -> np.ndarray:
    """The items, at most ``most`` bytes, of an array whose head was read."""
    if array.type not in _NUMBERS or array.complex:
        raise InputError(f"{reader.path}: {array.name} is no full array of real numbers")
    kind, size, data = reader.tag()
    if kind not in _STORED:
        raise reader.damaged(f"{array.name} is stored in the unknown type {kind}")
    stored: np.dtype[Any] = np.dtype(reader.order + _STORED[kind])
    expected = math.prod(array.shape) * stored.itemsize
    if size != expected or size > most:
        raise reader.damaged(f"{array.name} of {'x'.join(map(str, array.shape))} has {size} bytes, not {expected}")
    flat, done = blank_pixels((size,)), 0
    while done < size:
        block = reader.exactly(min(_BLOCK, size - done)) if data is None else data
        flat[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)
    return flat.view(stored).reshape(array.shape, order="F")
