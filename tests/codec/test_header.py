"""Headers come back, of this version and of the last; and what usual files say takes few bytes."""

import json
import zlib
from contextlib import suppress

import numpy as np
import pytest

from diffprob.base.errors import InputError
from diffprob.codec.entropy import Damaged
from diffprob.codec.header import LEFT_OUT, MOST, USUAL, packed, unpacked

MODEL, PROBE = "b4c279b1651d340b", "64becabf"
TIMES = [1000, -128, -312, -200, -143, -75, -141]
FULL = {**LEFT_OUT, "model": MODEL, "probe": PROBE, "times": TIMES}
WHOLE = {**json.loads(USUAL), "model": MODEL, "probe": PROBE * 2, "times": TIMES}


@pytest.mark.parametrize(
    "header",
    [
        *(FULL, WHOLE, {**FULL, "chunk": 8, "run": "caf\u00e9"}, {}, {"model": "abc", "steps": 20}, {"model": MODEL}),
        *({**FULL, "of": 0, "times": [0.7, 0.25]}, {**FULL, "times": []}, {**FULL, "times": [5, -6]}),
        *({**FULL, "times": [1000, 1]}, {**FULL, "times": [1000, -1.0]}, {**FULL, "times": [True]}),
        *({**FULL, "of": 1, "times": [1]}, {**FULL, "best": 0}, {**FULL, "model": MODEL.upper(), "probe": None}),
        *({**FULL, "of": 4096, "times": [4096, *[-1] * 4095]}, {**FULL, "of": 10**6, "times": [10**6, -1]}),
    ],
    ids=range(17),
)
def test_what_is_packed_is_unpacked(header: dict[str, object]) -> None:
    back = unpacked(packed(header), 3)
    assert json.dumps(back, sort_keys=True) == json.dumps(header, sort_keys=True)  # 0 is not False here


def test_times_come_back_whatever_they_are() -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        of = int(draw.integers(1, 300))
        times = np.sort(draw.choice(of, size=int(draw.integers(1, of + 1)), replace=False))[::-1] + 1
        header = {**FULL, "of": of, "times": [int(k) for k in np.diff(times, prepend=0)]}
        assert unpacked(packed(header), 3) == header


def test_a_usual_file_of_one_image_says_little() -> None:
    """A byte of what there is, 8 and 4 of digests, and of 40 times which grow apart at most 3/4 of a byte each."""
    steps = np.rint(np.linspace(2, 60, 39)).astype(int)
    header = {**FULL, "times": [1000, *(-int(k) for k in steps[steps.cumsum() < 1000])]}
    assert len(packed(header)) - 13 <= 0.75 * len(header["times"]) + 3


def test_the_last_version_is_read() -> None:
    pack = zlib.compressobj(9, wbits=-15, zdict=USUAL)
    text = pack.compress(json.dumps(WHOLE, separators=(",", ":"), sort_keys=True).encode()) + pack.flush()
    assert unpacked(text, 2) == WHOLE


def test_bytes_that_are_no_header_are_damaged() -> None:
    good, draw = packed(FULL), np.random.default_rng(1)
    for n in range(len(good)):
        with pytest.raises(Damaged):
            unpacked(good[:n], 3)
    for _ in range(2000):
        data = draw.bytes(int(draw.integers(0, 60)))
        with suppress(Damaged):
            assert isinstance(unpacked(data, 3), dict)
    with pytest.raises(InputError, match="too long"):
        packed({**FULL, "times": [float(k) for k in draw.random(MOST)]})
