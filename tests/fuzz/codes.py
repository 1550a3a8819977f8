"""Files of coded images: damaged ones, and ones that were made to look right.

Whatever comes in, an image that is called complete is one that was encoded, or as coarse as it was encoded.
"""

import functools
import json
import random
import zlib
from dataclasses import replace
from pathlib import Path

from fuzz.driver import JSON, Target, flipped, mutated_json

from diffprob.codec import container
from diffprob.codec.bits_back import BitsBack
from diffprob.codec.container import Coded, Group, digest_of, read
from diffprob.codec.header import USUAL, VERSIONS, number
from diffprob.codec.poisson import PoissonFunctional
from diffprob.codec.universal import UniversalQuantisation
from diffprob.runs.folder import Run
from diffprob.tasks.decoding import DecodeResult, decode, decode_progressively
from diffprob.tasks.encoding import EncodeRequest, encode
from diffprob.tasks.images import ImageSelection

FAST = EncodeRequest(images=ImageSelection(n=5), coder=UniversalQuantisation(), steps=3, group=3)
REQUESTS = (
    FAST,
    replace(FAST, images=ImageSelection(n=4, seed=1), group=4),
    replace(FAST, psnr=13.0),
    replace(FAST, images=ImageSelection(n=2), coder=PoissonFunctional(bits=4.0), steps=4),
    replace(FAST, images=ImageSelection(n=5), coder=BitsBack(), group=3),
)
WRONG = (
    *("[1000000000]", "[" + "1," * 30000 + "1]", "[-1]", "[1e308]", "[0.5,0.4]", "[1000,-1,-1]", "[1]", "[5,5]"),
    *(
        "[8,8]",
        "[1,8,8,8]",
        "[1,100000,100000]",
        "[]",
        "1000000",
        "-1",
        "0",
        "true",
        "null",
        "1e400",
        '"' + "x" * 999 + '"',
    ),
    *(
        '"PoissonFunctional(bits=20.0, most=23, risk=0.1)"',
        '"Exact()"',
        '"BitsBack(parts=1, lanes=64)"',
        '"BitsBack(parts=64)"',
        '"Ideal()"',
        '"UnitData()"',
        '"cuda"',
        '"fp16"',
    ),
)


@functools.cache
def digits() -> Run:
    return Run.open("digits")


SAID: dict[bytes, int] = {}  # how many images each digest of `original` stands for


@functools.cache
def original(k: int) -> bytes:
    """The file of a request; made when a case first wants it, so that no case makes all of them."""
    data = encode(digits(), REQUESTS[k]).data
    SAID.update({group.digest: group.images for group in read(data).groups})
    return data


def two(rng: random.Random) -> list[bytes]:
    """Different ones."""
    return [original(k) for k in rng.sample(range(len(REQUESTS)), 2)]


def check(result: DecodeResult) -> None:
    """Every group that is called complete has a digest that an encoder wrote for as many images."""
    first = 0
    while first < len(result) and result.complete[first]:
        sizes = [n for n in range(1, 6) if SAID.get(digest_of(result.images[first : first + n])) == n]
        assert sizes, f"images {first}, ... are called complete, and nobody encoded them"
        first += max(sizes)
    assert not result.complete[first:].any()


def put(data: bytes, rng: random.Random) -> None:
    """Decode, one way or the other."""
    if rng.random() < 0.7:
        check(decode(digits(), data, progressive=rng.choice((0, 0, 2))))
        return
    size = rng.choice((7, 60, 10_000))
    for result in decode_progressively(digits(), (data[k : k + size] for k in range(0, len(data), size))):
        check(result)


def file(rng: random.Random, folder: Path) -> None:
    """A file with bytes changed, cut off, put in; two files in one; and bytes without a meaning."""
    data, other = two(rng)
    match rng.randrange(6):
        case 0 | 1:
            changed = bytearray(data)
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            data = bytes(changed)
        case 2:
            data = flipped(data, rng)
        case 3:
            data = data[: rng.randrange(len(data))]
        case 4:
            data = data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]
        case _:
            data = data[: rng.choice((0, 4, 5, 6, 90))] + rng.randbytes(rng.choice((0, 1, 30, 3000)))
    put(data, rng)


def sealed(rng: random.Random, folder: Path) -> None:
    """A file whose checks are those of what it has, and something in it is a lie."""
    file, other = (read(data) for data in two(rng))
    header, groups = dict(file.header), list(file.groups)
    at = rng.randrange(len(groups))
    group = groups[at]
    match rng.randrange(6):
        case 0:
            changed = mutated_json(header, rng)
            header = changed if isinstance(changed, dict) else header
        case 1:
            header[rng.choice(list(header))] = rng.choice((Raw(rng.choice(WRONG)), rng.choice(JSON)))  # type: ignore[arg-type]
        case 2:
            groups[at] = replace(group, stream=rng.choice((flipped, scrambled))(group.stream, rng))
        case 3:
            images = rng.choice((1, 2, 4, 5, 100, 127, 500, 9_999))
            groups[at] = replace(group, images=images)
        case 4:
            groups[at] = replace(group, left=rng.choice((0, 1, 2, 3, 4, 5, 1 << 20)))
        case _:
            groups = [*rng.choices([*file.groups, *other.groups], k=rng.choice((0, 1, 2, 3)))]
    put(packed(header, groups), rng)


class Raw(str):
    """JSON text that goes into a header as it stands."""

    __slots__ = ()


def scrambled(data: bytes, rng: random.Random) -> bytes:
    """Other bytes, of about the same length."""
    return rng.randbytes(max(0, len(data) + rng.randrange(-2, 20)))


def packed(header: dict[str, object], groups: list[Group]) -> bytes:
    """The file that an encoder would write, but that it may claim whatever it wants."""
    raw = {name: value for name, value in header.items() if isinstance(value, Raw)}
    for group in groups:
        if group.images > container.most_images(len(group.stream)):
            return claimed(header, group)
    if not raw:
        return Coded(header, tuple(groups)).data()
    (name, text), *_ = raw.items()
    plain = json.dumps({name: 0 if name in raw else value for name, value in header.items()}, separators=(",", ":"))
    plain = plain.replace(f'"{name}":0', f'"{name}":{text}')
    pack = zlib.compressobj(9, wbits=-15, zdict=USUAL)
    body = pack.compress(plain.encode()) + pack.flush()
    count = len(groups).to_bytes(1, "little")
    check = zlib.crc32(body + count).to_bytes(4, "little")
    head = container.MAGIC + bytes([VERSIONS[0]]) + number(len(body)) + body + count + check
    return head + b"".join(group.head() + group.stream for group in groups)


def claimed(header: dict[str, object], group: Group) -> bytes:
    """A group with more images than its bytes may say, as an encoder without that rule would write it."""
    most, container.most_images = container.most_images, lambda stream: 1 << 40
    try:
        return Coded(header, (group,)).data()
    finally:
        container.most_images = most


def targets() -> dict[str, Target]:
    """By name."""
    return {"file": file, "sealed": sealed}
