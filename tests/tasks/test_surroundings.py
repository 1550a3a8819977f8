"""What a session changes around an open model, its folder or torch's defaults, changes no number and blames no file."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob.config.recipe import build
from diffprob.runs.publish import publish
from diffprob.tasks.reporter import Silent
from diffprob.tasks.training import TrainRequest, prepare_training


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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home, and a working directory in which nothing has the name ~ at the end."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "home"
    assert not any((tmp_path / "here").iterdir())


def test_what_is_written_goes_home(home: Path) -> None:
    model = dp.load("digits", device="cpu", reporter=Silent())
    samples = model.sample(1, steps=1)
    samples.save("~/new/x.png")
    dp.save_grid(samples.images, "~/grid.png", levels=17)
    model.report("~/page.html", n=1, steps=1, data="none")
    publish(model.run, "~/run")
    assert {path.name for path in home.iterdir()} == {"new", "grid.png", "page.html", "run"}
    assert (home / "new" / "x.png").is_file() and dp.load("~/run").run.path == home / "run"
    with pytest.raises(dp.InputError, match="there is no such user"):
        samples.save("~nobody-of-that-name/x.png")


def test_what_is_trained_goes_home(home: Path) -> None:
    assert prepare_training(TrainRequest.of("digits", out="~/run", steps=1), Silent()).out == home / "run"
    dp.RunWriter.open("~/run", dp.named("digits"), None).close()
    assert (home / "run" / "recipe.txt").is_file()


def test_names_that_no_file_can_have(home: Path) -> None:
    model = dp.load("digits", device="cpu", reporter=Silent())
    samples = model.sample(1, steps=1)
    for ask in (lambda: samples.save("a\0.png"), lambda: model.report("a\0.html")):
        with pytest.raises(dp.InputError, match=r"cannot be written: embedded null"):
            ask()
    for name in ("", Path("nothing")):
        with pytest.raises(dp.InputError, match=r"no run has an empty name: .*digits|no run at nothing"):
            dp.load(name)
