"""A stranger's run: what is planted in it is refused in one line, and nothing outside of it is read or changed."""

import os
import shutil
from pathlib import Path

import pytest

from diffprob.base.errors import DiffprobError, InputError
from diffprob.cli.main import main
from diffprob.runs.fits import fit_bytes, fit_path, fitted
from diffprob.runs.folder import Run
from diffprob.runs.measurements import Measurement
from diffprob.runs.publish import publish
from diffprob.runs.writer import RunWriter
from diffprob.storage.records import read_log

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
SECRET = b"a private key\n"
FILES = (
    *("manifest.json", "recipe.txt", "model.safetensors", "log.jsonl", "measured.json", "README.md"),
    *("fit-analytic.safetensors", "samples/step-00000002.png"),
    *("state/step-00000002/manifest.json", "state/step-00000002/state.json", "state/step-00000002/raw.safetensors"),
)
FOLDERS = ("state", "samples", "tensorboard", "state/step-00000002")
KINDS = ("link", "pipe", "device", "folder")


@pytest.fixture(scope="module")
def made(tmp_path_factory, request):
    """A run with everything that a run can have."""
    from runs.conftest import DIGEST

    recipe, snapshot = request.getfixturevalue("shared_recipe"), request.getfixturevalue("shared_snapshot")
    folder = tmp_path_factory.mktemp("made") / "run"
    writer = RunWriter.open(folder, recipe, DIGEST)
    for step in (1, 2):
        writer.append({"step": step, "loss": 0.5})
        writer.sample_path(step).write_bytes(b"picture")
        writer.save(snapshot(step))
    writer.record(Measurement("x", 1.0, 10))
    run = Run.open(folder)
    writer.add({fit_path(run, "analytic").name: fit_bytes(run, "analytic", {}, {})})
    writer.close()
    (folder / "tensorboard").mkdir()
    return folder


@pytest.fixture
def outside(made, tmp_path):
    """A folder of the user's beside a copy of the run, with names that a run might sweep or replace."""
    shutil.copytree(made, tmp_path / "run")
    place = tmp_path / "outside"
    (place / ".tmp-mine").mkdir(parents=True)
    for name in ("secret", ".tmp-mine/a", "step-00000001.png", ".tmp-b"):
        (place / name).write_bytes(SECRET)
    for step in (1, 2, 3):
        (place / f"step-{step:08d}").mkdir()
        (place / f"step-{step:08d}" / "mine").write_bytes(SECRET)
    return place


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def use(folder: Path, recipe, snapshot, digest: str) -> list[str]:
    """Everything that is done with a run, each by itself; the errors that were raised on purpose."""

    def training():
        writer = RunWriter.open(folder, recipe, digest)
        try:
            writer.load()
            writer.append({"step": 3})
            writer.sample_path(3)
            writer.save(snapshot(3))
        finally:
            messages.extend(writer.notes)
            writer.close()

    def reading():
        run = Run.open(folder)
        return run.load(), run.measurements, fitted(run), read_log(folder)

    messages: list[str] = []
    for action in (reading, lambda: publish(Run.open(folder), folder.parent / "published"), training):
        try:
            action()
        except DiffprobError as error:
            messages.append(str(error))
    return messages


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in FILES for kind in KINDS])
def test_planted_special_file_is_an_error(name, kind, outside, recipe, snapshot, digest):
    path, before = outside.parent / "run" / name, contents(outside)
    path.unlink()
    if kind == "link":
        path.symlink_to(outside / "secret")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    messages = use(outside.parent / "run", recipe, snapshot, digest)
    assert any(str(path) in line and "is a" in line for line in messages), messages
    assert contents(outside) == before
    published = outside.parent / "published"
    assert not published.exists() or SECRET not in contents(published).values()


@pytest.mark.parametrize("name", FOLDERS)
def test_planted_linked_folder_is_an_error(name, outside, recipe, snapshot, digest):
    path, before = outside.parent / "run" / name, contents(outside)
    shutil.rmtree(path)
    path.symlink_to(outside)
    messages = use(outside.parent / "run", recipe, snapshot, digest)
    if name != "tensorboard":
        assert any("is a link" in line for line in messages), messages
    assert contents(outside) == before


def test_tensorboard_log_stays_in_the_run(outside, recipe, digest):
    pytest.importorskip("tensorboard")
    from diffprob.tasks.tensorboard import Board

    run = outside.parent / "run"
    shutil.rmtree(run / "tensorboard")
    (run / "tensorboard").symlink_to(outside)
    writer = RunWriter.open(run, recipe, digest)
    with pytest.raises(InputError, match="tensorboard is a link"):
        Board(writer)
    writer.close()


def test_only_files_of_the_manifest_are_published(outside):
    """Pictures and logs that merely lie there, and a log that grew since, are nobody's to publish."""
    run = outside.parent / "run"
    (run / "samples" / "step-99999999.png").write_bytes(SECRET)
    with (run / "log.jsonl").open("ab") as file:
        file.write(SECRET)
    published = publish(Run.open(run), outside.parent / "published")
    files = contents(published)
    assert not [name for name, value in files.items() if SECRET in value]
    assert "samples/step-00000002.png" in files
    assert files["log.jsonl"].count(b"\n") == 2


def test_run_opens_through_a_link(outside, recipe, snapshot, digest):
    way = outside.parent / "way"
    way.symlink_to(outside.parent / "run")
    assert use(way, recipe, snapshot, digest) == []
    assert Run.open(way).meta["step"] == 3


def test_truncated_last_log_line_is_ignored(outside, capsys):
    path = outside.parent / "run" / "log.jsonl"
    with path.open("ab") as file:
        file.write(b'{"step": 3, "lo')
    assert [record["step"] for record in read_log(path.parent)] == [1, 2]
    assert main(["show", str(path.parent)]) == 0
    with path.open("ab") as file:
        file.write(b'\n{"step": 4}\n')
    with pytest.raises(InputError, match=r"line 3 of .*log\.jsonl is damaged"):
        read_log(path.parent)
    assert main(["show", str(path.parent)]) == 2
