"""The file of coded images: what is needed to decode them, and groups of images that are checked one by one.

    magic | length, header, CRC of it | for each group: images, length of the stream, CRC of it, digest, stream

Numbers are little-endian bases of 128. A header says of which model the images are and what a decoder needs, in text; a
group says how many images it has and 8 bytes of the SHA-256 of their levels, so that a wrong image is never given out.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffprob.base.errors import InputError
from diffprob.codec.entropy import Damaged

MAGIC = b"\x89dfp"
VERSION = 1
MOST_HEADER = 1 << 16
MOST_IMAGES = 1 << 20  # of a group
MOST_STREAM = 1 << 30  # bytes
DIGEST, CHECK = 8, 4  # bytes
# What headers mostly say, for zlib to refer to; another text here is another version of the file.
USUAL = (
    b'{"best":false,"chunk":8,"clip":true,"coder":"PoissonFunctional(bits=8.0, most=16, risk=0.1)","device":"cpu",'
    b'"levels":256,"made":"diffprob 0.1.0, torch 2.13.0+cpu, AVX512","model":"","of":1000,"precision":"fp32",'
    b'"probe":"","run":"mnist","shape":[1,28,28],"times":[1000,-1],"variance":"OptimalCovariance(bound=1.0, last=inf)"}'
)


class CutShort(InputError):
    """A file that ends before what its header or a group promises."""


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _check(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(CHECK, "little")


def digest_of(levels: np.ndarray) -> bytes:
    """8 bytes of SHA-256 over the shape and the levels of images, uint8 (B, C, H, W)."""
    head = ",".join(map(str, levels.shape)).encode()
    return hashlib.sha256(head + np.ascontiguousarray(levels).tobytes()).digest()[:DIGEST]


@dataclass(frozen=True)
class Group:
    """Some images that were coded together.

    Args:
        images: how many.
        stream: their bytes, or the first of them.
        digest: see `digest_of`.
        complete: whether the stream is whole.
    """

    images: int
    stream: bytes
    digest: bytes
    complete: bool = True


@dataclass(frozen=True)
class Coded:
    """A file.

    Args:
        header: JSON literals by name.
        groups: of images; the last one may be cut short.
        missing: groups that the file promises and has nothing of.
    """

    header: Mapping[str, Any]
    groups: tuple[Group, ...]
    missing: int = 0

    @property
    def complete(self) -> bool:
        """Whether every image can come back."""
        return not self.missing and all(group.complete for group in self.groups)

    def data(self) -> bytes:
        """The bytes of the file."""
        pack = zlib.compressobj(9, wbits=-15, zdict=USUAL)
        plain = json.dumps(self.header, separators=(",", ":"), sort_keys=True).encode()
        text = pack.compress(plain) + pack.flush()
        if len(text) > MOST_HEADER:
            raise InputError(f"a header of {len(text):,} bytes is too long, {MOST_HEADER:,} would be right")
        parts = [MAGIC, bytes([VERSION]), _number(len(text)), text, _check(text), _number(len(self.groups))]
        for group in self.groups:
            parts += [_number(group.images), _number(len(group.stream))]
            parts += [_check(group.stream), group.digest, group.stream]
        return b"".join(parts)

    @property
    def overhead(self) -> int:
        """Bytes that are no stream: header, lengths, checks and digests."""
        return len(self.data()) - sum(len(group.stream) for group in self.groups)


class _Bytes:
    """Bytes that are taken one after the other.

    Args:
        data: of the file.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        """The next n.

        Raises:
            CutShort: there are not so many.
        """
        if self.at + n > len(self.data):
            raise CutShort(f"the file ends after {len(self.data):,} bytes")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, most: int) -> int:
        """The next number.

        Raises:
            CutShort: it is not whole.
            Damaged: a larger one than there can be.
        """
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if value > most or shift > 63:
                raise Damaged(f"damaged: a number of the file is above {most:,}")
            if byte < 128:
                return value
            shift += 7


def read(data: bytes, partly: bool = False) -> Coded:
    """The file in some bytes.

    Args:
        data: all bytes; or the first ones.
        partly: whether a file that was cut short is taken as far as it goes.

    Raises:
        Damaged: no such file, or one of whose bytes some are others.
        CutShort: a file that was cut short, in its header or, unless ``partly``, anywhere.
    """
    rest = _Bytes(data)
    if not MAGIC.startswith(data[: len(MAGIC)]):
        raise Damaged("not a file of diffprob encode")
    rest.take(len(MAGIC))
    if (version := rest.take(1)[0]) != VERSION:
        raise Damaged(f"a file of version {version}, and this diffprob reads version {VERSION}")
    text = rest.take(rest.number(MOST_HEADER))
    if rest.take(CHECK) != _check(text):
        raise Damaged("damaged: the header is not as it was written")
    header = _header(text)
    count = rest.number(MOST_IMAGES)
    groups = tuple(_groups(rest, count, partly))
    if rest.at < len(data) and len(groups) == count:
        raise Damaged(f"damaged: {len(data) - rest.at:,} bytes follow the last image")
    return Coded(header, groups, count - len(groups))


def _header(text: bytes) -> Mapping[str, Any]:
    unpack = zlib.decompressobj(wbits=-15, zdict=USUAL)
    try:
        plain = unpack.decompress(text, MOST_HEADER)
        header = json.loads(plain)
    except (zlib.error, ValueError, RecursionError):
        raise Damaged("damaged: the header cannot be read") from None
    if not isinstance(header, dict) or unpack.unconsumed_tail:
        raise Damaged("damaged: the header is no list of names")
    return header


def _groups(rest: _Bytes, count: int, partly: bool) -> Iterator[Group]:
    for _ in range(count):
        try:
            images, length = rest.number(MOST_IMAGES), rest.number(MOST_STREAM)
            check, digest = rest.take(CHECK), rest.take(DIGEST)
        except CutShort:
            if partly:
                return
            raise
        left = len(rest.data) - rest.at
        if left < length and not partly:
            raise CutShort(f"the file ends after {len(rest.data):,} bytes, {length - left:,} too early")
        stream = rest.take(min(length, left))
        if left >= length and _check(stream) != check:
            raise Damaged("damaged: images whose bytes are not as they were written")
        yield Group(images, stream, digest, left >= length)
        if left < length:
            return
