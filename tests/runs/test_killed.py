"""A process that is gone in the middle of a save leaves a run that opens and resumes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import diffprob
from diffprob.base.errors import InputError
from diffprob.runs.folder import Run
from diffprob.runs.writer import RunWriter

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill")


class Saver:
    """The other process (saver.py)."""

    def __init__(self, example):
        path = os.pathsep.join([str(Path(diffprob.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        script = Path(__file__).with_name("saver.py")
        command, environment = [sys.executable, script, example], {**os.environ, "PYTHONPATH": path}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def start(self, folder, mode, number=0):
        self.process.stdin.write(f"{folder} {mode} {number}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self):
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def saver(tmp_path_factory):
    from diffprob.recipes.digits import digits
    from diffprob.runs.files import recipe_text

    example = tmp_path_factory.mktemp("example")
    (example / "recipe.txt").write_text(recipe_text(digits(), None))
    saver = Saver(example)
    yield saver
    saver.process.stdin.close()
    saver.process.wait(10)


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


def check(folder):
    """The run opens with every hash right, and the snapshot is whole; returns its step (0 without one)."""
    try:
        run = Run.open(folder)
    except InputError:
        assert not folder.exists() or not os.listdir(folder), f"a half-made run: {os.listdir(folder)}"
        return 0
    if run.meta["step"]:
        assert {float(value) for weight in run.weights().values() for value in weight} == {float(run.meta["step"])}
    writer = RunWriter.open(folder, run.recipe, "ab" * 32)
    try:
        snapshot = writer.load()
        assert writer.notes == [], "a killed save is no damage"
        steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
        if snapshot is None:
            assert run.meta["step"] == 0
            assert steps == []
            return 0
        parts = [*snapshot.raw.values(), *snapshot.ema.values(), *snapshot.optimiser.values()]
        assert len(parts) == 12
        assert {float(value) for part in parts for value in torch.unique(part)} == {float(snapshot.step)}
        assert snapshot.meta == {"step": snapshot.step}
        assert steps == list(range(1, snapshot.step + 1))
        assert run.meta["step"] in {snapshot.step, snapshot.step - 1}
        assert Run.open(folder).meta["step"] == snapshot.step, "resuming puts the model of the state in place"
        return snapshot.step
    finally:
        writer.close()
        Run.open(folder)


@pytest.mark.parametrize("saved", [0, 2])
def test_run_survives_being_killed_before_any_file_system_change(saver, tmp_path, saved):
    """The children die one change later each time, while they create a run and save it or resume one and save again."""
    base, reached, deaths = tmp_path / "base", set(), 0
    for _ in range(saved):
        saver.start(base, "die", 10_000)
        assert saver.wait() == 0
    for number in range(10_000):
        folder = tmp_path / f"run-{number}"
        if saved:
            shutil.copytree(base, folder)
        saver.start(folder, "die", number)
        code = saver.wait()
        reached.add(check(folder))
        if code == 0:
            break
        assert code == 9
        deaths += 1
    assert deaths > 25
    assert reached == {saved, saved + 1}


def test_run_killed_repeatedly_makes_progress(saver, tmp_path):
    """It goes forward all the same, and what is left behind never piles up."""
    folder, steps = tmp_path / "run", [0]
    for number in range(0, 60, 3):
        saver.start(folder, "die", number)
        saver.wait()
        steps.append(check(folder))
    assert steps == sorted(steps)
    assert steps[-1] >= 5
    left = [path.name for path in folder.rglob("*")]
    assert sum(name.startswith("step-") and "." not in name for name in left) == 2
    assert not [name for name in left if name.startswith(".tmp")]


def test_run_survives_being_killed_at_random_moments(saver, tmp_path):
    folder, steps, generator = tmp_path / "run", [0], random.Random(0)
    while len(steps) <= 10 or (steps[-1] < 5 and len(steps) < 100):
        pid = saver.start(folder, "loop")
        time.sleep(generator.uniform(0.005, 0.02 * len(steps)))
        os.kill(pid, signal.SIGKILL)
        assert saver.wait() == -signal.SIGKILL
        steps.append(check(folder))
    assert steps == sorted(steps)
    assert steps[-1] >= 5
