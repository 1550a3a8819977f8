"""The file of coded images: what is needed to decode them, and groups of images that are checked one by one.

    magic, version | length, header, groups, CRC | for each group: images, left, length, CRC, digest, check | stream

Numbers are little-endian bases of 128. A header says of which model the images are and what a decoder needs
(`diffprob.codec.header`); a group says how many images it has, how many times of the chain its stream leaves out, and 6
bytes of the SHA-256 of the levels that the stream says, so that a wrong image is never given out.
"""

import binascii
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffprob.base.errors import InputError
from diffprob.codec.entropy import Damaged
from diffprob.codec.header import MOST, VERSIONS, number, packed, unpacked

MAGIC = b"\x89dfp"
MOST_GROUPS = 1 << 20
MOST_IMAGES = 10_000  # of a group
MOST_STREAM = 1 << 30  # bytes
FREE_IMAGES, IMAGES_PER_BYTE = 128, 8  # of a group: what decoding takes is bounded by what was sent
DIGEST, CHECK, HEAD_CHECK = 6, 4, 2  # bytes


class CutShort(InputError):
    """A file that ends before what its header or a group promises."""


def _check(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(CHECK, "little")


def digest_of(levels: np.ndarray) -> bytes:
    """6 bytes of SHA-256 over the shape and the levels of images, uint8 (B, C, H, W)."""
    head = ",".join(map(str, levels.shape)).encode()
    return hashlib.sha256(head + np.ascontiguousarray(levels).tobytes()).digest()[:DIGEST]


@dataclass(frozen=True)
class Group:
    """Some images that were coded together.

    Args:
        images: how many.
        stream: their bytes, or the first of them.
        digest: see `digest_of`; of what the stream says.
        left: times of the chain that the stream says nothing of, the last ones; 0: it says the images themselves.
        complete: whether the stream is whole.
    """

    images: int
    stream: bytes
    digest: bytes
    left: int = 0
    complete: bool = True

    def head(self) -> bytes:
        """What stands before the stream.

        Raises:
            InputError: more images than so few bytes may say.
        """
        if self.images > (most := most_images(len(self.stream))):
            raise InputError(
                f"{self.images:,} images in a group of {len(self.stream):,} bytes: at most {most:,} would be right"
            )
        numbers = b"".join(map(number, (self.images, self.left, len(self.stream))))
        head = numbers + _check(self.stream) + self.digest
        return head + _head_check(head)


def head_size(images: int, left: int, stream: int) -> int:
    """Bytes before a stream of so many bytes."""
    return sum(len(number(value)) for value in (images, left, stream)) + CHECK + DIGEST + HEAD_CHECK


def most_images(stream: int) -> int:
    """Images that a group of so many bytes may have."""
    return min(MOST_IMAGES, FREE_IMAGES + IMAGES_PER_BYTE * stream)


def fewest_bytes(images: int) -> int:
    """Bytes that a group of so many images has at least; what is shorter is filled up with zeros, which say nothing."""
    return max(0, -(-(images - FREE_IMAGES) // IMAGES_PER_BYTE))


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
        text = packed(self.header)
        checked = text + number(len(self.groups))
        parts = [MAGIC, bytes([VERSIONS[-1]]), number(len(text)), checked, _check(checked)]
        for group in self.groups:
            parts += [group.head(), group.stream]
        return b"".join(parts)

    @property
    def overhead(self) -> int:
        """Bytes that are no stream: header, lengths, checks and digests."""
        return len(self.data()) - sum(len(group.stream) for group in self.groups)


class Source:
    """Bytes that are taken one after the other, as they arrive.

    Args:
        data: the first ones.
        more: the others, in pieces.
    """

    def __init__(self, data: bytes = b"", more: Iterable[bytes] = ()) -> None:
        self.data, self.at, self._more = bytearray(data), 0, iter(more)

    def pull(self) -> bool:
        """Wait for more; whether any came."""
        for piece in self._more:
            if piece:
                self.data += piece
                return True
        return False

    def here(self, n: int) -> int:
        """How many of the next n bytes are there, after waiting for them."""
        while len(self.data) - self.at < n and self.pull():
            pass
        return min(n, len(self.data) - self.at)

    def take(self, n: int) -> bytes:
        """The next n.

        Raises:
            CutShort: there are not so many.
        """
        if self.here(n) < n:
            raise CutShort(f"the file ends after {len(self.data):,} bytes")
        self.at += n
        return bytes(self.data[self.at - n : self.at])

    def number(self, most: int, what: str) -> int:
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
                raise Damaged(f"damaged: {what} is a number above {most:,}")
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
    rest = Source(data)
    header, count = read_header(rest)
    groups = tuple(_groups(rest, count, partly))
    if rest.at < len(data) and len(groups) == count:
        raise Damaged(f"damaged: {len(data) - rest.at:,} bytes follow the last image")
    return Coded(header, groups, count - len(groups))


def read_header(rest: Source) -> tuple[Mapping[str, Any], int]:
    """The header, and how many groups follow it.

    Raises:
        Damaged, CutShort: as `read`.
    """
    begins = bytes(rest.data[: rest.here(len(MAGIC))])
    if not MAGIC.startswith(begins):
        raise Damaged("not a file of diffprob encode")
    rest.take(len(MAGIC))
    if (version := rest.take(1)[0]) not in VERSIONS:
        raise Damaged(f"a file of version {version}, and this diffprob reads versions {VERSIONS[0]} and {VERSIONS[1]}")
    text = rest.take(rest.number(MOST, "the header's length"))
    count = rest.number(MOST_GROUPS, "how many groups there are")
    if rest.take(CHECK) != _check(text + number(count)):
        raise Damaged("damaged: the header is not as it was written")
    return unpacked(text, version), count


@dataclass(frozen=True)
class Head:
    """What stands before a stream.

    Args:
        images, left, digest: as in `Group`.
        length: of the stream, bytes.
        check: of the stream.
    """

    images: int
    left: int
    length: int
    check: bytes
    digest: bytes

    def group(self, stream: bytes) -> Group:
        """With the stream, or the first bytes of it.

        Raises:
            Damaged: another stream.
        """
        complete = len(stream) == self.length
        if complete and _check(stream) != self.check:
            raise Damaged("damaged: images whose bytes are not as they were written")
        return Group(self.images, stream, self.digest, self.left, complete)


def read_head(rest: Source) -> Head:
    """What stands before the next stream.

    Raises:
        Damaged, CutShort: as `read`.
    """
    began = rest.at
    images = rest.number(MOST_IMAGES, "how many images a group has")
    left, length = rest.number(MOST_STREAM, "where a group ends"), rest.number(MOST_STREAM, "the length of a group")
    check, digest = rest.take(CHECK), rest.take(DIGEST)
    checked = bytes(rest.data[began : rest.at])
    if rest.take(HEAD_CHECK) != _head_check(checked):
        raise Damaged("damaged: what stands before images is not as it was written")
    if not 1 <= images <= (most := most_images(length)):
        raise Damaged(f"damaged: {images:,} images in {length:,} bytes, 1 to {most:,} would be right")
    return Head(images, left, length, check, digest)


def _head_check(head: bytes) -> bytes:
    return binascii.crc_hqx(head, 0).to_bytes(HEAD_CHECK, "little")


def _groups(rest: Source, count: int, partly: bool) -> Iterator[Group]:
    for _ in range(count):
        try:
            head = read_head(rest)
        except CutShort:
            if partly:
                return
            raise
        left = rest.here(head.length)
        if left < head.length and not partly:
            raise CutShort(f"the file ends after {len(rest.data):,} bytes, {head.length - left:,} too early")
        group = head.group(rest.take(left))
        yield group
        if not group.complete:
            return
