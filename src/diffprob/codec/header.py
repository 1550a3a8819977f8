"""What a file of coded images says of itself, in few bytes: the model, the chain, what decides the last bits.

Of version 3 it is, behind a byte that says what there is: digests as bytes, times of a discrete chain by the range
coder, and what is not as usual as deflated JSON. Version 2 deflated all of it.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from diffprob.base.errors import InputError
from diffprob.codec.entropy import Counted, Damaged, Incomplete, Reader, Writer

VERSIONS = (2, 3)  # that are read; the last one is written
MOST = 1 << 16  # bytes
FINEST = 4096  # steps of a chain whose times are counted
# What headers mostly say, for zlib to refer to; another text here is another version of the file.
USUAL = (
    b'{"best":false,"chunk":8,"clip":true,"coder":"PoissonFunctional(bits=10.0, most=18, risk=0.1)","device":"cpu",'
    b'"levels":256,"made":"diffprob 0.1.0, torch 2.13.0+cpu, AVX512","model":"","of":1000,"precision":"fp32",'
    b'"probe":"","run":"mnist","shape":[1,28,28],"times":[1000,-1],"variance":"GaussianNLL(bound=1.0, last=inf)"}'
)
DIGESTS = {"model": 8, "probe": 4}  # bytes
# What is left out where it is so, for files of one image; another value here is another version of the file. Shape and
# levels are those of the model.
LEFT_OUT = json.loads(USUAL) | {"chunk": 1}
for _name in (*DIGESTS, "times", "shape", "levels"):
    del LEFT_OUT[_name]
_TIMES, _ALL = 4, 8  # after 1 and 2 for the digests: times by their code; nothing is left out


def packed(header: Mapping[str, Any]) -> bytes:
    """A header, JSON literals by name, as bytes of the last version.

    Raises:
        InputError: one that is too long.
    """
    rest, flags, parts = dict(header), 0, []
    for k, (name, size) in enumerate(DIGESTS.items()):
        if (digest := _digest(rest.get(name), size)) is not None:
            flags |= 1 << k
            parts.append(digest)
            del rest[name]
    if _are_counted(rest.get("times"), rest.get("of")):
        flags |= _TIMES
        parts.append(_of_times(rest.pop("times"), rest["of"]))
    if all(name in rest for name in LEFT_OUT):
        rest = {name: value for name, value in rest.items() if not _is_usual(name, value)}
    else:
        flags |= _ALL
    pack = zlib.compressobj(9, wbits=-15, zdict=USUAL)
    text = pack.compress(json.dumps(rest, separators=(",", ":"), sort_keys=True).encode()) + pack.flush()
    out = b"".join([bytes([flags]), *parts, text if rest else b""])
    if len(out) > MOST:
        raise InputError(f"a header of {len(out):,} bytes is too long, {MOST:,} would be right")
    return out


def unpacked(data: bytes, version: int) -> dict[str, Any]:
    """The header in the bytes of a version.

    Raises:
        Damaged: there is none in them.
    """
    if version == VERSIONS[0]:
        return _inflated(data)
    if not data:
        raise Damaged("damaged: the header is empty")
    flags, at, n, code, known = data[0], 1, 0, b"", {}
    for k, (name, size) in enumerate(DIGESTS.items()):
        if flags >> k & 1:
            known[name] = _part(data, at, size).hex()
            at += size
    if flags & _TIMES:
        n, at = _number(data, at)
        size, at = _number(data, at)
        code, at = _part(data, at, size), at + size
    rest = _inflated(data[at:]) if at < len(data) else {}
    rest = rest if flags & _ALL else {**LEFT_OUT, **rest}
    if flags & _TIMES:
        known["times"] = _times_of(code, n, rest.get("of"))
    return {**rest, **known}


def number(value: int) -> bytes:
    """A whole number from 0 on, little-endian to the base 128."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _number(data: bytes, at: int) -> tuple[int, int]:
    """The number that stands somewhere, of at most two bytes, and where the next thing stands."""
    first, second = _part(data, at, 1)[0], 0
    if first >= 128:
        second = _part(data, at + 1, 1)[0]
    return first % 128 + 128 * second, at + (2 if first >= 128 else 1)


def _part(data: bytes, at: int, size: int) -> bytes:
    if len(data) < at + size:
        raise Damaged("damaged: the header ends too early")
    return data[at : at + size]


def _is_usual(name: str, value: Any) -> bool:
    return name in LEFT_OUT and type(value) is type(LEFT_OUT[name]) and value == LEFT_OUT[name]


def _digest(text: Any, size: int) -> bytes | None:
    """Of so many bytes in hexadecimal digits, lower case, the bytes."""
    if not isinstance(text, str) or len(text) != 2 * size or set(text) - set("0123456789abcdef"):
        return None
    return bytes.fromhex(text)


def _are_counted(times: Any, of: Any) -> bool:
    """Whether these are the first of some times, and then the steps down to the next, all at least 1/of."""
    if not (type(of) is int and 0 < of <= FINEST and isinstance(times, list) and 0 < len(times) <= of):
        return False
    return all(type(k) is int for k in times) and max(times[1:], default=-1) < 0 < sum(times) and 0 < times[0] <= of


def _law(before: int, most: int) -> Counted:
    """Of a step of 1, ..., most after one of ``before``: (before/(before + 4 |difference|))^2, in whole numbers."""
    distance = np.abs(np.arange(1, max(most, 2) + 1, dtype=np.int64) - before)  # of one symbol there is no law
    return Counted(np.maximum((before**2 << 20) // (before + 4 * distance) ** 2, 1).astype(np.float64))


def _of_times(times: list[int], of: int) -> bytes:
    """How many, how many bytes, and these: the distance from 1, and the steps down."""
    writer, at, before = Writer(), of, 1
    writer.put(np.array([of - times[0]]), _law(1, of))
    at, before = times[0], max(1, times[0] // len(times))
    for step in times[1:]:
        writer.put(np.array([-step - 1]), _law(before, at - 1))
        at, before = at + step, -step
    data = writer.data()
    return number(len(times)) + number(len(data)) + data


def _times_of(data: bytes, n: int, of: Any) -> list[int]:
    """What `_of_times` was given.

    Raises:
        Damaged: no such times.
    """
    if not (type(of) is int and 0 < of <= FINEST and 0 < n <= of):
        raise Damaged("damaged: the header has no times")
    reader = Reader(data)
    try:
        at = of - int(reader.get(_law(1, of))[0])
        times, before = [at], max(1, at // n)
        for _ in range(n - 1):
            before = 1 + int(reader.get(_law(before, at - 1))[0])
            times.append(-before)
            at -= before
            if at < 1:
                break
    except Incomplete:
        raise Damaged("damaged: the header has no times") from None
    if at < 1:
        raise Damaged("damaged: the header has times below 0")
    return times


def _inflated(text: bytes) -> dict[str, Any]:
    unpack = zlib.decompressobj(wbits=-15, zdict=USUAL)
    try:
        header = json.loads(unpack.decompress(text, MOST))
    except (zlib.error, ValueError, RecursionError):
        raise Damaged("damaged: the header cannot be read") from None
    if not isinstance(header, dict) or unpack.unconsumed_tail:
        raise Damaged("damaged: the header is no list of names")
    return header
