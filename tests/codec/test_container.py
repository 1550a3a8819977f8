"""Files come back; a change of any byte is found; a cut file says as much as is there."""

import binascii
import zlib

import numpy as np
import pytest

from diffprob.base.errors import InputError
from diffprob.codec.container import Coded, CutShort, Group, digest_of, fewest_bytes, most_images, read
from diffprob.codec.entropy import Damaged

DRAW = np.random.default_rng(0)
GROUPS = tuple(
    Group(n, DRAW.bytes(size), DRAW.bytes(6), left) for n, size, left in ((1, 14, 0), (300, 5000, 200), (3, 0, 7))
)
FILE = Coded({"model": "abc", "steps": 20, "coder": "PoissonFunctional(bits=10.0, most=18, risk=0.1)"}, GROUPS)


def test_what_is_written_is_read() -> None:
    assert read(FILE.data()) == FILE
    assert FILE.complete
    assert FILE.overhead == len(FILE.data()) - 5014


def test_every_changed_byte_is_found() -> None:
    data = FILE.data()
    for at in range(len(data)):
        other = bytearray(data)
        other[at] ^= 1 << int(DRAW.integers(8))
        with pytest.raises(InputError):
            read(bytes(other))


def test_more_images_than_so_few_bytes_may_say_are_refused_on_both_sides() -> None:
    """So that what decoding takes is bounded by the size of a file."""
    with pytest.raises(InputError, match="at most 928 would be right"):
        Group(929, bytes(100), bytes(6)).head()
    honest = Group(928, bytes(100), bytes(6)).head()
    lie = honest.replace(b"\xa0\x07", b"\xa1\x07", 1)[:-2]  # 929
    data = Coded({}, ()).data()[:-5]
    text = data[6:]
    count = b"\x01"
    whole = data + count + zlib.crc32(text + count).to_bytes(4, "little")
    for head in (lie, honest[:-2]):
        file = whole + head + binascii.crc_hqx(head, 0).to_bytes(2, "little") + bytes(100)
        if head is lie:
            with pytest.raises(Damaged, match="929 images"):
                read(file)
        else:
            assert read(file).groups[0].images == 928


def test_the_fewest_bytes_of_a_group_are_those_that_may_say_its_images() -> None:
    for images in (1, 128, 129, 136, 137, 1000, 10_000):
        fewest = fewest_bytes(images)
        assert most_images(fewest) >= images and (not fewest or most_images(fewest - 1) < images)


def test_a_cut_file_says_as_much_as_is_there() -> None:
    data = FILE.data()
    for n in range(len(data)):
        with pytest.raises((CutShort, Damaged)):
            read(data[:n])
    seen = []
    for n in range(100, len(data)):
        got = read(data[:n], partly=True)
        assert not got.complete or n >= len(data) - 14
        for ours, theirs in zip(FILE.groups, got.groups, strict=False):
            assert ours.stream.startswith(theirs.stream) and theirs.complete == (ours.stream == theirs.stream)
        seen.append(sum(len(group.stream) for group in got.groups))
    assert seen == sorted(seen) and seen[-1] == 5014


def test_anything_else_is_refused() -> None:
    for seed in range(2000):
        draw = np.random.default_rng(seed)
        data = draw.bytes(int(draw.integers(0, 300)))
        for text in (
            data,
            FILE.data()[:4] + data,
            FILE.data()[:5] + data,
            FILE.data()[: int(draw.integers(90))] + data,
        ):
            with pytest.raises(InputError):
                read(text)
    with pytest.raises(Damaged, match="follow"):
        read(FILE.data() + b"x")
    with pytest.raises(Damaged, match="version 9"):
        read(FILE.data()[:4] + b"\x09" + FILE.data()[5:])


def test_the_digest_is_of_shape_and_levels() -> None:
    levels = DRAW.integers(0, 256, (2, 1, 4, 4)).astype(np.uint8)
    assert digest_of(levels) == digest_of(levels.copy(order="F"))
    assert digest_of(levels) != digest_of(levels.reshape(2, 4, 2, 2))
    other = levels.copy()
    other[1, 0, 3, 3] ^= 1
    assert digest_of(levels) != digest_of(other) and len(digest_of(levels)) == 6
