"""Damaged files of every format, a few of each kind here; benchmarks and the extended checks run thousands."""

import random

import pytest
from fuzz.data import mutated, targets


@pytest.mark.parametrize("name", targets())
def test_damage_is_said_in_one_line(name, tmp_path):
    for seed in range(20):
        try:
            targets()[name](random.Random(seed), tmp_path)
        except BaseException as error:
            error.add_note(f"{name}, seed {seed}")
            raise


def test_mutations_are_decided_by_their_seed_and_change_something():
    data = bytes(range(256)) * 4
    changed = [mutated(data, random.Random(seed)) for seed in range(50)]
    assert changed == [mutated(data, random.Random(seed)) for seed in range(50)]
    assert sum(each != data for each in changed) >= 48
