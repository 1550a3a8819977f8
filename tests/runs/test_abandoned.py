"""A run that ended before its first checkpoint does not stand in the way of a corrected recipe."""

import os
from dataclasses import replace

import pytest

from diffprob.base.errors import InputError
from diffprob.config.recipe import Recipe
from diffprob.recipes.digits import digits
from diffprob.runs.folder import Run
from diffprob.runs.writer import RunWriter
from diffprob.storage.manifest import Manifest

OLD, NEW = "ab" * 32, "cd" * 32


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A training of the digits that diverged after a line of its log and a picture."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    writer = RunWriter.open(tmp_path / "run", digits(), OLD)
    writer.append({"step": 10, "loss": 1.0})
    writer.sample_path(100).write_bytes(b"picture")
    writer.close()
    return tmp_path / "run"


def corrected() -> Recipe:
    return replace(digits(), training=replace(digits().training, lr=1e-5))


def test_corrected_recipe_replaces_an_abandoned_one(begun):
    writer = RunWriter.open(begun, corrected(), NEW)
    assert writer.load() is None
    assert [note for note in writer.notes if "begun anew" in note]
    writer.close()
    run = Run.open(begun)
    assert (run.recipe, run.meta["data"], run.meta["step"]) == (corrected(), NEW, 0)
    assert (begun / "log.jsonl").read_bytes() == b"" and not list(begun.glob("samples/*"))
    RunWriter.open(begun, corrected(), NEW).close()


def test_same_recipe_continues_without_notes(begun):
    writer = RunWriter.open(begun, digits(), OLD)
    assert (writer.load(), writer.notes) == (None, [])
    writer.close()


@pytest.mark.parametrize("kept", ["state/step-00000001", "state/.tmp-replaced-step-00000001", "notes.txt", "measured"])
def test_folder_with_other_files_is_an_error_and_unchanged(begun, kept):
    if kept == "measured":
        writer = RunWriter(begun)
        writer.add({"report.html": b"page"})
        writer.close()
    else:
        (begun / kept).parent.mkdir(exist_ok=True)
        (begun / kept).write_text("kept") if "." in kept[1:] and "state" not in kept else (begun / kept).mkdir()
    before = Manifest.read(begun), (begun / "recipe.txt").read_bytes()
    with pytest.raises(InputError, match=r"another recipe: training\.lr"):
        RunWriter.open(begun, corrected(), OLD)
    assert (Manifest.read(begun), (begun / "recipe.txt").read_bytes()) == before
