"""The driver runs every target for a while, with a fixed seed, and finds what is planted."""

import random
import time
from pathlib import Path

import pytest
from fuzz import driver

from diffprob.base.errors import InputError

SECONDS = 50.0


@pytest.mark.slow  # as long as requested: what it finds grows with the time
@pytest.mark.timeout(400)
def test_fuzzed_inputs_give_no_unexpected_error(tmp_path: Path) -> None:
    counts = driver.fuzz(tmp_path, SECONDS, seed=1)
    assert {name.rpartition(": ")[0] for name in counts} == set(driver.all_targets())


def loops(rng: random.Random, folder: Path) -> None:
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass


def writes(rng: random.Random, folder: Path) -> None:
    (folder.parent / "beside" / "key").write_bytes(b"x" * 32)


def talks(rng: random.Random, folder: Path) -> None:
    error = InputError("x")
    error.args = ("y" * 400,)
    raise error


PLANTED = {
    "a traceback": (lambda rng, folder: {}["x"], "KeyError"),
    "a long message": (talks, "a message of 400 characters"),
    "too long": (loops, "of processor time"),
    "too much memory": (lambda rng, folder: bytearray(200 * 2**20), "GiB of memory"),
    "far too much memory": (lambda rng, folder: bytearray(2**40), "MemoryError"),
    "outside": (writes, "beside/key was touched"),
    "another exit code": (lambda rng, folder: exit(1), "exit code 1"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault_is_detected_with_instructions_to_repeat(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, message = PLANTED[name]
    monkeypatch.setattr(driver, "all_targets", lambda: {"planted": target})
    monkeypatch.setattr(driver, "MOST_SECONDS", 0.2)
    monkeypatch.setattr(driver, "MOST_BYTES", 100 * 2**20)
    with pytest.raises(driver.Fault, match="--seed 3 --target planted --case 0") as caught:
        driver.fuzz(tmp_path, cases=2, seed=3)
    assert message in str(caught.value)
