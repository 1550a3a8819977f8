"""Damaged files of every format, a few of each kind here; benchmarks and the extended checks run thousands."""

import random

import pytest
from fuzz.data import mutated, targets


@pytest.mark.parametrize("name", targets())
def test_damaged_files_are_one_line_errors(name, tmp_path):
    for seed in range(20):
        try:
            targets()[name](random.Random(seed), tmp_path)
        except BaseException as error:
            error.add_note(f"{name}, seed {seed}")
            raise


def test_mutations_depend_only_on_the_seed_and_change_the_data():
    data = bytes(range(256)) * 4
    changed = [mutated(data, random.Random(seed)) for seed in range(50)]
    assert changed == [mutated(data, random.Random(seed)) for seed in range(50)]
    assert sum(mutation != data for mutation in changed) >= 48
