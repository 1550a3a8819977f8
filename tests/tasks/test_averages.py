"""Averages of several lengths: each loss against the objective itself, the best by it, and what is written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob.base.errors import FieldError, InputError
from diffprob.cli.main import main
from diffprob.data.sources import Digits
from diffprob.runs.folder import Run
from diffprob.tasks.averages import AveragesRequest, compare_averages
from diffprob.tasks.averaging import AverageRequest, average
from diffprob.tasks.training import TrainRequest, train
from diffprob.training.batches import Batches
from diffprob.training.settings import Training

SETTINGS = {
    "network.widths": (8,),
    "network.attention": (False,),
    "network.groups": 4,
    "training.batch": 16,
    "training.lr": 3e-3,
    "training.checkpoint_every": 8,
    "training.sample_every": 0,
    "training.precision": "fp32",
    "training.averages": (0.05, 0.1),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("averages") / "run"
    train(TrainRequest(recipe="digits", out=out, steps=24, overrides=SETTINGS, device="cpu", labels=True))
    return Run.open(out)


def test_losses_are_those_of_the_objective_and_the_best_is_written(run: Run, tmp_path: Path) -> None:
    """Also of what `average` writes: on the same held-out images, classes, times and noise."""
    request = AveragesRequest(length=(0.05, 0.2, 0.02), n=64, seed=3, out=str(tmp_path / "best"))
    result = compare_averages(run, request)
    trained, *rows = result.rows
    assert [row.length for row in rows] == [0.05, 0.2, 0.02] and trained.length is None
    assert rows[0].error < 1e-6, "it is one of those kept"
    images = Digits("test").load()
    batches = Batches(images, run.space, Training(steps=1, batch=16, seed=3), condition=run.recipe.condition)
    seen: list[np.ndarray] = []
    for row in rows:
        out = str(tmp_path / f"{row.length}")
        average(run, AverageRequest(length=row.length or 0, out=out))
        model = Run.open(out).load()
        with torch.no_grad():
            parts = [batches(k, torch.device("cpu"), torch.float32)[0] for k in range(4)]
            told = [(model if part.rows is None else model.condition_on(part.rows), part) for part in parts]
            seen.append(np.concatenate([run.recipe.objective(one, part.x0, part.rng).numpy() for one, part in told]))
    best = int(np.argmin([own.mean() for own in seen]))
    assert result.best == rows[best].length == [0.05, 0.2, 0.02][best]
    for row, own in zip(rows, seen, strict=True):
        worse = own.astype(float) - seen[best]
        assert row.loss == pytest.approx(own.astype(float).mean(), rel=1e-6)
        assert row.worse == pytest.approx(worse.mean(), abs=1e-6)
        assert row.worse_error == pytest.approx(worse.std(ddof=1) / 8, abs=1e-6)
    assert dp.average(run.path, length=(0.05, 0.1), out=tmp_path / "face").run.weights().keys() == run.weights().keys()
    written, same = Run.open(tmp_path / "best"), Run.open(tmp_path / f"{result.best}")
    assert all(torch.equal(value, same.weights()[name]) for name, value in written.weights().items())
    assert result.to_json()["role"] == "test" and result.to_json()["n"] == 64
    assert result.lines[-2].startswith("least loss of 64 images of") and "the best" in result.lines[best + 1]


def test_the_verb_says_the_same(run: Run, capsys: Any, tmp_path: Path) -> None:
    arguments = ["average", str(run.path), "--length", "0.05", "0.2", "-n", "16", "--device", "cpu"]
    assert main(arguments) == 0
    result = compare_averages(run, AveragesRequest(length=(0.05, 0.2), n=16))
    assert capsys.readouterr().out.splitlines() == result.lines
    assert main([*arguments, "--dry-run", "--out", str(tmp_path / "x")]) == 0 and not (tmp_path / "x").exists()
    assert "loss" not in capsys.readouterr().out


def test_what_cannot_be_compared_is_one_line(run: Run, capsys: Any, tmp_path: Path) -> None:
    for fields in ({"length": ()}, {"length": (0.4,)}, {"length": (0.1,), "n": 3}):
        with pytest.raises(FieldError):
            AveragesRequest(**fields)
    with pytest.raises(InputError, match="kept no averages"):
        compare_averages(Run.open("digits"), AveragesRequest(length=(0.1,)))
    with pytest.raises(InputError, match="exists already"):
        compare_averages(run, AveragesRequest(length=(0.1,), out=str(run.path)))
    lacking = replace(run, recipe=replace(run.recipe, data=replace(run.recipe.data, split="test")))
    with pytest.raises(InputError):
        compare_averages(lacking, AveragesRequest(length=(0.1,)))
    assert main(["average", "digits", "--length", "much"]) == 2
    assert "much" in capsys.readouterr().err
