"""The toys made by formula: the spiral's law, the rows of the heartbeat, the same for the same fields."""

import math

import numpy as np
import pytest

from diffprob.data.toys import Heartbeat, SwissRoll


def test_points_lie_on_the_spiral() -> None:
    images = SwissRoll(n=4000).load()
    assert images.event_shape == (1, 1, 2) and images.levels == 256 and images.labels is None
    x = images.pixels.reshape(-1, 2) / 127.5 - 1
    radius, angle = np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0])
    turns = np.round((radius / 0.065 - angle) / (2 * math.pi))
    off = radius - 0.065 * (angle + 2 * math.pi * turns)  # across the line, which rises by 0.065 a radian
    assert abs(off.mean()) < 4 * 0.03 / math.sqrt(4000) and 0.025 < off.std() < 0.033
    along = (angle + 2 * math.pi * turns) / (1.5 * math.pi)
    assert along.min() > 0.9 and along.max() < 3.1 and abs(along.mean() - 2) < 4 * math.sqrt(1 / 3 / 4000)
    exact = SwissRoll(n=1000, noise=0.0).load().pixels.reshape(-1, 2) / 127.5 - 1
    radius, angle = np.hypot(*exact.T), np.arctan2(exact[:, 1], exact[:, 0])
    turns = (radius / 0.065 - angle) / (2 * math.pi)
    assert np.abs(turns - turns.round()).max() * 2 * math.pi * 0.065 < 0.02  # rounding to levels alone


def test_heartbeat_has_five_rows_alike() -> None:
    rows = Heartbeat().load().pixels.reshape(-1, 20)
    unique, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(unique) == 5 and set(counts) == {200} and (rows.sum(1) == 4).all()
    assert all((row[5:] == row[:-5]).all() for row in unique)
    assert len(np.unique(Heartbeat(n=9, length=7, period=3).load().pixels.reshape(9, 7), axis=0)) == 3


@pytest.mark.parametrize("kind", [SwissRoll, Heartbeat])
def test_data_are_a_function_of_the_fields(kind: type) -> None:
    one, other, test = kind(n=50).load(), kind(n=50).load(), kind("test", 50).load()
    assert one.digest() == other.digest()
    assert (one.digest() == test.digest()) == (kind is Heartbeat)
    for wrong in ({"split": "x"}, {"n": 0}, {"n": 1.5}):
        with pytest.raises(ValueError):
            kind(**wrong)


def test_invalid_fields_are_errors() -> None:
    for call in (lambda: SwissRoll(noise=2.0), lambda: Heartbeat(period=21), lambda: Heartbeat(length=0)):
        with pytest.raises(ValueError):
            call()
