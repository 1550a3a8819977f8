"""What a session changes around an open model, its folder or torch's defaults, changes no number and blames no file."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob.config.recipe import build
from diffprob.tasks.reporter import Silent


@pytest.fixture
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in the working directory."""
    shutil.copytree(dp.Run.open("digits").path, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "moved"


def test_a_relative_folder_stays_where_it_was_when_opened(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = dp.load("moved", device="cpu", reporter=Silent())
    monkeypatch.chdir("/")
    assert model.run.path == moved and model.run.measurements
    assert model.run.place == "moved" and "'moved'" in repr(model), "what is printed is what was typed"
    assert len(model.sample(1, steps=1).images) == 1


def test_a_folder_that_is_gone_is_called_gone(moved: Path) -> None:
    model = dp.load("moved", device="cpu", reporter=Silent())
    shutil.rmtree(moved)
    with pytest.raises(dp.InputError, match="moved is gone: the folder was moved or deleted"):
        model.sample(1, steps=1)


def test_another_default_dtype_changes_no_sample(doubles: None) -> None:
    model = dp.load("digits", device="cpu", reporter=Silent())
    drawn = model.sample(1, steps=2).images
    torch.set_default_dtype(torch.float32)
    assert np.array_equal(model.sample(1, steps=2).images, drawn)


def test_what_is_trained_is_of_single_precision(doubles: None) -> None:
    with torch.device("meta"):
        assert {weight.dtype for weight in build(dp.named("digits")).parameters()} == {torch.float32}
    assert torch.get_default_dtype() == torch.float64, "the session's default stays"
