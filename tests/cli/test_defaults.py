"""What is refused before a training begins, and what the defaults of the verbs make of what it leaves."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli.commands import TINY

import diffprob as dp


def test_indivisible_batch_is_an_error_before_anything_is_written(
    diffprob: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffprob.training import loop

    accelerator = loop.make_accelerator("cpu")
    monkeypatch.setattr(type(accelerator), "num_processes", 2)
    monkeypatch.setattr(loop, "make_accelerator", lambda *_: accelerator)
    for dry in ((), ("--dry-run", "--processes", "2")):
        done = diffprob("train", "digits", *TINY, "--set", "training.batch=23", "--out", "run", *dry)
        assert done.code == 2
        assert done.error.startswith("training.batch=23 cannot be cut evenly among accumulate x processes = 1 x 2")
        assert "training.batch=22 would be right" in done.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("times", [3, 40])
def test_defaults_suit_every_schedule(diffprob: Callable, times: int) -> None:
    """The command that `train` ends with, and the other verbs, take no more evaluations than the schedule has times."""
    made = ["--set", f"process.schedule=Cosine({times})", "--set", "training.monitor=Monitor(n=50, steps=20)"]
    done = diffprob("train", "digits", *TINY, *made, "--steps", "2", "--out", "run")
    assert done.code == 0, done.err
    printed = next(line for line in done.out.splitlines() if line.startswith("to draw from it: diffprob "))
    few = ["-n", "2", "--device", "cpu"]
    commands = [
        [*printed.removeprefix("to draw from it: diffprob ").split(), *few, "--json"],
        ["sample", "run", *few, "--sampler", "Heun()"],
        ["report", "run", *few],
        ["evaluate", "run", "-n", "50", "--metrics", "frechet", "--device", "cpu", "--features", "pixels"],
        ["likelihood", "run", *few],
        ["interpolate", "run", "digits:3", "digits:14", "--device", "cpu"],
    ]
    for command in commands:
        done = diffprob(*command)
        assert done.code == 0, (command, done.err)
        if "--json" in command:
            assert done.json["steps"] == times


def test_mps_device_is_never_chosen(diffprob: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no float64, which times and noise need."""
    from diffprob.tasks.compute import choose_device
    from diffprob.training.loop import make_accelerator

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    assert make_accelerator("auto").device.type == "cpu"
    done = diffprob("sample", "digits", "--device", "mps")
    assert (done.code, "Apple's GPU has no float64" in done.error) == (2, True)
    with pytest.raises(dp.InputError, match="float64"):
        make_accelerator("mps")
    done = diffprob("doctor", "--json")
    assert done.json["torch"]["device"] == "cpu"
    assert any("Apple's GPU is not used" in text for text in done.json["warnings"])
