"""The writing side of a run folder."""

import errno
import json
import os
import resource
import shutil
from dataclasses import replace

import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.process.schedule import Cosine
from diffprob.runs.folder import Run
from diffprob.runs.measurements import Measurement
from diffprob.runs.states import Replica
from diffprob.runs.writer import RunWriter
from diffprob.storage.manifest import Manifest
from diffprob.training.settings import Training


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "tiny"


@pytest.fixture
def start(folder, recipe, digest):
    """Open the run; every writer is closed at the end."""
    writers = []

    def begin(recipe=recipe, digest=digest):
        for writer in writers:
            writer.close()
        writers.append(RunWriter.open(folder, recipe, digest))
        return writers[-1]

    yield begin
    for writer in writers:
        writer.close()


def tree(folder):
    """Every file with its contents."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same(a, b):
    assert (a.step, a.meta) == (b.step, b.meta)
    for name in ("raw", "ema", "optimiser"):
        left, right = getattr(a, name), getattr(b, name)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)


def flip(path, at=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)


def test_new_run_has_no_state(start, folder, recipe, digest):
    writer = start()
    assert writer.load() is None
    assert set(tree(folder)) == {"recipe.txt", "manifest.json", "log.jsonl", "README.md"}
    text = (folder / "recipe.txt").read_text()
    assert text.startswith("# diffprob ")
    assert f"# data sha256 {digest}\n" in text
    assert list(folder.parent.iterdir()) == [folder], "no temporary is left"
    run = Run.open(folder)
    assert run.recipe == recipe
    assert run.meta["step"] == 0
    with pytest.raises(InputError, match="no model yet"):
        run.load()


def test_saved_state_loads_back(start, folder, snapshot, recipe):
    writer = start()
    for step in (10, 20, 30):
        writer.append({"step": step, "loss": 1 / step})
        writer.sample_path(step).write_bytes(b"picture %d" % step)
        writer.save(snapshot(step))
    same(writer.load(), snapshot(30))
    same(start().load(), snapshot(30))
    same(Replica(folder).load(), snapshot(30))
    assert sorted(os.listdir(folder / "state")) == ["step-00000020", "step-00000030"]
    run = Run.open(folder)
    assert run.meta["step"] == 30
    assert all(torch.equal(value, torch.full_like(value, 30)) for value in run.weights().values())
    listed = set(Manifest.read(folder).files)
    assert listed == {path for path in tree(folder) if not path.startswith("state/")} - {"manifest.json"}
    assert "30 of 100 steps of 4 images" in (folder / "README.md").read_text()


def test_log_is_truncated_to_the_checkpoint(start, folder, snapshot):
    writer = start()
    writer.append({"step": 1})
    writer.save(snapshot(1))
    kept = (folder / "log.jsonl").read_bytes()
    writer.append({"step": 2, "loss": float("nan"), "norm": float("inf"), "deep": {"x": -float("inf")}})
    assert json.loads((folder / "log.jsonl").read_text().splitlines()[1]) == {
        "step": 2, "loss": "nan", "norm": "inf", "deep": {"x": "-inf"}
    }  # fmt: skip
    Run.open(folder)  # lines after the checkpoint are no damage
    writer = start()
    writer.load()
    assert (folder / "log.jsonl").read_bytes() == kept
    writer.append({"step": 2})
    writer.save(snapshot(2))
    Run.open(folder)


def test_log_restarts_without_a_checkpoint(start, folder):
    start().append({"step": 1})
    assert start().load() is None
    assert (folder / "log.jsonl").read_bytes() == b""


def test_another_recipe_is_an_error_naming_the_first_difference(start, folder, recipe, snapshot):
    start().save(snapshot(1))
    before = tree(folder)
    other = replace(recipe, process=replace(recipe.process, schedule=Cosine()), training=Training(steps=9, lr=1.0))
    with pytest.raises(
        InputError, match=r"another recipe: process.schedule is LinearBetas\(.*\) there and Cosine\(.*\) here"
    ):
        start(other)
    with pytest.raises(InputError, match=r"training.batch is 4 there and 8 here"):
        start(replace(recipe, training=replace(recipe.training, batch=8)))
    with pytest.raises(InputError, match=r"other data: sha256 abababababab... there, cdcdcdcdcdcd... here"):
        start(digest="cd" * 32)
    assert tree(folder) == before
    start()


def test_run_may_be_extended(start, folder, recipe, snapshot):
    start().save(snapshot(100))
    longer = replace(recipe, training=replace(recipe.training, steps=300, samples=9))
    same(start(longer).load(), snapshot(100))
    assert Run.open(folder).recipe == longer
    assert Run.open(folder).meta["step"] == 100


@pytest.mark.parametrize("content", ["notes.txt", ".hidden", "sub"])
def test_folder_with_other_files_is_left_alone(start, folder, content):
    folder.mkdir(parents=True)
    (folder / content).mkdir() if content == "sub" else (folder / content).write_text("mine")
    with pytest.raises(InputError, match=rf"is not a run \(it holds {content}\)"):
        start()
    assert os.listdir(folder) == [content]


def test_file_in_place_of_the_folder_is_an_error(start, folder):
    folder.parent.mkdir()
    folder.write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        start()
    assert folder.read_text() == "mine"


def test_empty_folder_is_accepted(start, folder):
    folder.mkdir(parents=True)
    start()
    Run.open(folder)


def test_second_writer_is_an_error(start, folder, recipe, digest, snapshot):
    writer = start()
    with pytest.raises(InputError, match="another process is writing to this run"):
        RunWriter.open(folder, recipe, digest)
    writer.save(snapshot(1))
    with pytest.raises(InputError, match="another process"):
        Run.open(folder).record(Measurement("x", 1.0, 1))
    writer.close()
    RunWriter.open(folder, recipe, digest).close()


def test_damaged_state_is_noted_and_an_older_one_used(start, folder, snapshot):
    writer = start()
    for step in (10, 20):
        writer.append({"step": step})
        writer.sample_path(step).write_bytes(b"picture")
        writer.save(snapshot(step))
    flip(folder / "state" / "step-00000020" / "raw.safetensors", -1)
    writer = start()
    same(writer.load(), snapshot(10))
    assert len(writer.notes) == 1
    assert "step-00000020/raw.safetensors does not match its SHA-256" in writer.notes[0]
    assert "going on from step 10" in writer.notes[0]
    assert sorted(os.listdir(folder / "state")) == ["damaged-step-00000020", "step-00000010"]
    assert (folder / "log.jsonl").read_text() == '{"step": 10}\n'
    Run.open(folder)  # whose model is that of step 20, intact
    writer.append({"step": 15})
    writer.save(snapshot(15))
    assert start().load().step == 15
    assert Run.open(folder).meta["step"] == 15


def test_run_without_an_intact_state_is_an_error(start, folder, snapshot):
    writer = start()
    for step in (10, 20):
        writer.save(snapshot(step))
    (folder / "state" / "step-00000010" / "state.json").unlink()
    (folder / "state" / "step-00000020" / "manifest.json").unlink()
    before = tree(folder)
    with pytest.raises(InputError, match=r"step-00000020 .*; no older state is intact") as caught:
        start().load()
    assert "\n" not in str(caught.value)
    assert tree(folder) == before


@pytest.mark.parametrize(
    "odd",
    [
        {"norm": "z"},
        {"norm": [1, 2]},
        {"window": 3},
        {"window": [["a"]]},
        {"seconds": "x"},
        {"made": [3]},
        {"pace": 3},
        {"pace": {"elapsed": "x"}},
    ],
    ids=str,
)
def test_invalid_state_metadata_is_an_error(start, folder, snapshot, odd):
    made = snapshot(10)
    made.meta = odd  # with every hash right, as one who shares a run could write it
    start().save(made)
    with pytest.raises(InputError, match=f"state.json is damaged: its {next(iter(odd))} is not"):
        start().load()


def test_changed_log_is_an_error(start, folder, snapshot):
    writer = start()
    writer.append({"step": 1, "loss": 0.5})
    writer.save(snapshot(1))
    flip(folder / "log.jsonl", 4)
    with pytest.raises(InputError, match=r"log\.jsonl does not match"):
        start().load()
    with pytest.raises(InputError, match=r"log\.jsonl does not match"):
        Run.open(folder)


@pytest.mark.parametrize("damage", ["flipped", "missing", "pickle"])
def test_damaged_model_is_rewritten_from_the_state(start, folder, snapshot, damage):
    start().save(snapshot(10))
    path = folder / "model.safetensors"
    if damage == "flipped":
        flip(path)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"PK\x03\x04 not ours")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        Run.open(folder)
    writer = start()
    same(writer.load(), snapshot(10))
    assert [note for note in writer.notes if "model.safetensors" in note] or damage == "missing"
    assert all(torch.equal(value, torch.full_like(value, 10)) for value in Run.open(folder).weights().values())


def test_damaged_recipe_is_an_error(start, folder, snapshot):
    start().save(snapshot(10))
    path = folder / "recipe.txt"
    path.write_text(path.read_text().replace("lr=0.0002", "lr=0.0003"))
    with pytest.raises(InputError, match=r"recipe\.txt does not match its SHA-256"):
        start()


def test_same_step_may_be_saved_twice(start, folder, snapshot):
    writer = start()
    writer.save(snapshot(10))
    again = snapshot(10)
    again.meta["precision"] = "bf16"
    writer.save(again)
    assert os.listdir(folder / "state") == ["step-00000010"]
    same(start().load(), again)


def test_resuming_a_published_run_is_an_error(start, folder, snapshot):
    start().save(snapshot(10))
    shutil.rmtree(folder / "state")
    with pytest.raises(InputError, match="has a model but no training state"):
        start().load()


def test_stale_temporary_files_are_removed(start, folder, snapshot):
    start().save(snapshot(1))
    (folder / "state" / ".tmp-step-00000002-99").mkdir()
    (folder / "state" / ".tmp-step-00000002-99" / "raw.safetensors").write_text("half")
    (folder / ".tmp-model.safetensors").write_text("half")
    Run.open(folder)
    start()
    assert not [name for name in tree(folder) if ".tmp" in name]


def failing(action, number):
    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number), "somewhere")

    return fail


@pytest.mark.parametrize("call", ["fsync", "rename", "replace", "mkdir"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_failing_disk_keeps_the_last_state(start, folder, snapshot, monkeypatch, call, number):
    writer = start()
    writer.append({"step": 1})
    writer.save(snapshot(1))
    before = tree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(call, number))
        with pytest.raises(InputError, match=f"cannot save step 2 .*{os.strerror(number).lower()}.*intact") as caught:
            writer.save(snapshot(2))
    assert "\n" not in str(caught.value)
    assert not [name for name in tree(folder) if ".tmp" in name]
    assert before.items() <= tree(folder).items(), "what was there is there, to the byte"
    Run.open(folder)
    writer.append({"step": 2})
    writer.save(snapshot(2))  # with space again, the same writer goes on
    same(start().load(), snapshot(2))
    assert Run.open(folder).meta["step"] == 2


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_run_that_cannot_be_created_is_an_error(start, folder, monkeypatch, number):
    folder.parent.mkdir()
    monkeypatch.setattr(os, "mkdir", failing("mkdir", number))
    with pytest.raises(InputError, match=f"cannot create the run .*{os.strerror(number).lower()}"):
        start()
    assert os.listdir(folder.parent) == []


@pytest.fixture
def file_limit():
    """Files may not grow beyond so many bytes: writes fail half-way, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 3000, 20_000])
def test_interrupted_write_keeps_the_last_state(start, folder, snapshot, file_limit, size):
    writer = start()
    writer.append({"step": 1})
    writer.save(snapshot(1))
    before = tree(folder)
    file_limit(size)
    with pytest.raises(InputError, match=r"cannot save step 2 of .*file too large"):
        writer.save(snapshot(2))
    if size < 14:
        with pytest.raises(InputError, match=r"cannot write to .*log\.jsonl"):
            writer.append({"step": 2})
    file_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert tree(folder) == before
    same(start().load(), snapshot(1))
    Run.open(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="no folder is read-only to root")
def test_read_only_folder_is_an_error(start, folder):
    folder.parent.mkdir()
    folder.parent.chmod(0o500)
    with pytest.raises(InputError, match=r"cannot create the run .*permission denied"):
        start()
