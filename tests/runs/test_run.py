"""The reading side of a run folder, the model card and published copies."""

import io
import itertools
import json
import os
import shutil
from dataclasses import replace

import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.config.recipe import build_model
from diffprob.config.registry import ALL
from diffprob.config.spec import parse
from diffprob.data.combined import Concatenated, Subset
from diffprob.data.sources import Folder, Idx
from diffprob.runs import folder as checkpoint
from diffprob.runs.folder import Run, auto_chunk
from diffprob.runs.measurements import Measurement
from diffprob.runs.publish import publish, thin, write_run
from diffprob.runs.writer import RunWriter
from diffprob.space.pixels import Pixels
from diffprob.storage.manifest import Manifest
from diffprob.storage.tensors import pieces, read_metadata
from diffprob.tasks.training import TrainRequest, prepare_training
from diffprob.training.store import Snapshot


@pytest.fixture
def model(recipe):
    torch.manual_seed(0)
    model = build_model(recipe)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # the last layer starts at zero and would hide everything
    return model


@pytest.fixture
def folder(tmp_path, recipe, digest, model):
    """A run with one checkpoint, whose EMA weights are the model's and whose raw weights are not."""
    path = tmp_path / "run"
    writer = RunWriter.open(path, recipe, digest)
    for step in range(1, 21):
        writer.append({"step": step, "loss": 1 / step})
    writer.sample_path(20).write_bytes(b"picture")
    weights = model.state_dict()
    writer.save(Snapshot(20, {name: value + 1 for name, value in weights.items()}, weights, {}, {}))
    writer.close()
    return path


def test_loaded_model_has_the_averaged_weights(folder, model):
    state = torch.get_rng_state()
    loaded = Run.open(folder).load(chunk=4)
    assert torch.equal(state, torch.get_rng_state()), "loading takes no random numbers"
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.evaluation.chunk == 4
    x, t = torch.randn(4, 1, 8, 8), torch.tensor(0.3, dtype=torch.float64)
    with torch.no_grad():
        model.to(memory_format=torch.channels_last)
        assert torch.allclose(loaded(x, t).mean, model.eval()(x, t).mean, rtol=1e-5, atol=1e-5)
    x.requires_grad_(True)
    loaded(x, t).mean.sum().backward()
    assert x.grad is not None


def test_run_describes_itself(folder, recipe, digest):
    run = Run.open(folder)
    assert run.recipe == recipe
    assert run.space == Pixels((1, 8, 8), 17)
    assert run.meta["step"] == 20
    assert run.meta["data"] == digest
    metadata = read_metadata(folder / "model.safetensors")
    assert parse(metadata["recipe"], ALL) == recipe
    assert (metadata["step"], metadata["data_sha256"], metadata["diffprob"]) == ("20", digest, run.meta["library"])


def listed(folder):
    return sorted(Manifest.read(folder).files)


NAMES = ["README.md", "log.jsonl", "model.safetensors", "recipe.txt", "samples/step-00000020.png"]


def test_manifest_lists_every_file(folder):
    assert listed(folder) == NAMES


@pytest.mark.parametrize("name", [*NAMES, "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "flipped", "shorter"])
def test_damaged_file_is_an_error_naming_it(folder, name, damage):
    path = folder / name
    contents = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        contents[len(contents) // 2] ^= 4
        path.write_bytes(contents)
    else:
        path.write_bytes(contents[:-2])  # the manifest's last byte is a line break, which says nothing
    with pytest.raises(InputError, match=name.replace(".", r"\.")) as caught:
        Run.open(folder)
    assert "\n" not in str(caught.value)


def test_any_flipped_bit_in_the_manifest_is_an_error(folder):
    path = folder / "manifest.json"
    contents = path.read_bytes()
    for position in range(0, len(contents), 23):
        damaged = bytearray(contents)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"manifest\.json"):
            Run.open(folder)


def test_appended_log_is_accepted_but_appended_model_is_an_error(folder):
    with (folder / "log.jsonl").open("ab") as file:
        file.write(b'{"step": 21}\n')
    Run.open(folder)
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"model\.safetensors does not match its SHA-256"):
        Run.open(folder)


def pickle_of_a_model():
    buffer = io.BytesIO()
    torch.save({"net.conv_in.weight": torch.zeros(3)}, buffer)
    return buffer.getvalue()


def reseal(folder, name, contents):
    """Replace a file and its hash, as somebody who knows the format would."""
    manifest = Manifest.read(folder)
    manifest.commit({name: [contents]})


def test_pickle_named_as_weights_is_an_error_even_with_its_hash(folder):
    path = folder / "model.safetensors"
    for put in (path.write_bytes, lambda contents: reseal(folder, path.name, contents)):
        put(pickle_of_a_model())
        for verify in (True, False):
            with pytest.raises(InputError, match=r"model\.safetensors is a pickle \(torch\.save\), not a safetensors"):
                Run.open(folder, verify=verify)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "a\nb"])
def test_manifest_that_points_outside_is_an_error(folder, name):
    manifest = Manifest.read(folder)
    manifest.files[name] = {"sha256": "0" * 64, "bytes": 1}
    manifest.write()
    with pytest.raises(InputError, match="not a manifest"):
        Run.open(folder)


def test_weights_of_another_network_are_an_error(folder, recipe, digest, model, tmp_path):
    weights = model.state_dict()
    name = "net.conv_in.weight"
    for change, message in [
        ({key: value for key, value in weights.items() if key != name}, f"lacks the tensor {name}"),
        ({**weights, name: weights[name][:4]}, rf"tensor {name} has shape \(4, 1, 3, 3\), .* \(8, 1, 3, 3\)"),
        ({**weights, "net.more": torch.zeros(1)}, r"has a tensor net\.more"),
    ]:
        path = tmp_path / f"run {len(message)}"
        write_run(path, recipe, change, digest)
        with pytest.raises(InputError, match=message):
            Run.open(path).load()


def test_foreign_model_file_is_an_error(folder):
    reseal(folder, "model.safetensors", b"".join(pieces({"x": torch.zeros(1)})))
    with pytest.raises(InputError, match="does not say which step"):
        Run.open(folder)


def test_unknown_component_in_a_recipe_is_an_error(folder):
    reseal(folder, "recipe.txt", b"Recipe(name='x', prediction=Epsilom())")
    with pytest.raises(InputError, match=r"recipe\.txt: unknown name 'Epsilom' .*did you mean 'Epsilon'"):
        Run.open(folder)
    reseal(folder, "recipe.txt", b"Recipe(name='x', network=Stripes())")
    for ask in (Run.open, lambda folder: prepare_training(TrainRequest(recipe=folder))):
        with pytest.raises(InputError, match=r"unknown name 'Stripes' .*not installed.*dp.register[^;]*$"):
            ask(folder)
    reseal(folder, "recipe.txt", b"Epsilon()")
    with pytest.raises(InputError, match=r"recipe\.txt does not hold a Recipe"):
        Run.open(folder)


@pytest.fixture
def packaged(folder, tmp_path, monkeypatch):
    """A run that is packaged under the name mnist."""
    root = tmp_path / "pretrained"
    shutil.copytree(folder, root / "mnist")
    monkeypatch.setattr(checkpoint, "PRETRAINED", root)
    monkeypatch.chdir(tmp_path)
    return root / "mnist"


def test_packaged_runs_open_by_name(packaged, folder, tmp_path):
    assert Run.open("mnist").path == packaged
    (tmp_path / "mnist").mkdir()  # the data, say
    assert Run.open("mnist").path == packaged
    shutil.rmtree(tmp_path / "mnist")
    shutil.copytree(folder, tmp_path / "mnist")
    assert Run.open("mnist").place == "mnist" and Run.open("mnist").path == tmp_path / "mnist", (
        "one's own run comes first"
    )


def test_unknown_run_is_an_error_with_suggestion(packaged, tmp_path):
    with pytest.raises(InputError, match=r"no run at mnits \(packaged runs: mnist\); did you mean 'mnist'\?"):
        Run.open("mnits")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty is not a run: it has no manifest\.json"):
        Run.open("empty")
    (tmp_path / "empty" / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match=r"diffusers folder.*diffprob import"):
        Run.open("empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        Run.open("file")


def test_measurements_appear_on_the_card(folder):
    run = Run.open(folder)
    details = {"directions": 500, "note": "a|b"}
    first = Measurement("sliced W2 to held-out digits", 0.0123456, 360, seed=1, details=details)
    run.record(first)
    run.record(replace(first, seed=2, value=0.02))
    run.record(replace(first, value=0.5))
    measurements = Run.open(folder).measurements
    assert [(item.value, item.seed, item.step) for item in measurements] == [(0.02, 2, 20), (0.5, 1, 20)]
    card = (folder / "README.md").read_text()
    assert "| sliced W2 to held-out digits | 0.5 | 360 | 1 |" in card
    assert "Every row: at step 20; directions 500; note a|b." in card
    assert "Nothing yet" not in card
    assert listed(folder) == sorted([*NAMES, "measured.json"])
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            Measurement("x", value, 1)


def test_report_is_added_to_the_run(folder):
    Run.open(folder).add("report.html", b"<p>1</p>")
    Run.open(folder).add("report.html", b"<p>2</p>")
    assert (folder / "report.html").read_bytes() == b"<p>2</p>"
    assert "report.html" in listed(folder)
    Run.open(folder)


def test_damaged_measurements_are_an_error(folder):
    reseal(folder, "measured.json", b'[{"nme": 1}]')
    with pytest.raises(InputError, match=r"measured\.json is damaged"):
        _ = Run.open(folder).measurements


@pytest.mark.parametrize(
    ("data", "published"),
    [
        (Idx("/home/me/data/mnist"), Idx("mnist")),
        (Subset(Idx("/home/me/data/mnist"), 7), Subset(Idx("mnist"), 7)),
        (Concatenated((Idx("/home/me/a"), Folder("/home/me/b"))), Concatenated((Idx("a"), Folder("b")))),
    ],
)
def test_published_run_opens_and_has_no_private_paths(folder, tmp_path, recipe, digest, data, published):
    run = Run.open(folder)
    run.record(Measurement("x", 1.0, 10))
    elsewhere = replace(run, recipe=replace(recipe, data=data))
    dest = publish(elsewhere, tmp_path / "published" / "x")
    copy = Run.open(dest)
    assert copy.recipe == replace(recipe, data=published)
    assert copy.meta == {**run.meta, "data": digest}
    assert copy.measurements == run.measurements
    assert not (dest / "state").exists()
    assert not [path for path in dest.rglob("*") if path.is_file() and b"/home/me" in path.read_bytes()]
    assert all(torch.equal(value, run.weights()[name]) for name, value in copy.weights().items())
    with pytest.raises(InputError, match="exists already"):
        publish(run, dest)
    publish(run, dest, replacing=True)
    assert Run.open(dest).recipe == recipe
    assert os.listdir(dest.parent) == ["x"]
    Run.open(dest).record(Measurement("y", 2.0, 10))


def test_publishing_a_too_large_run_is_an_error(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("diffprob.runs.publish.LIMIT", 10_000)
    with pytest.raises(InputError, match=r"would be \d\d,\d\d\d bytes when published, at most 10,000"):
        publish(Run.open(folder), tmp_path / "x")


def test_published_logs_are_thinned():
    lines = [json.dumps({"step": step}).encode() + b"\n" for step in range(1000)]
    log = b"".join(lines)
    assert thin(log, len(log)) == log
    assert thin(b"", 10) == b""
    for most in (len(log) - 1, 5000, 1000, 300):
        kept = thin(log, most).splitlines(keepends=True)
        assert sum(map(len, kept)) <= most
        assert sum(map(len, kept)) > most / 3
        assert (kept[0], kept[-1]) == (lines[0], lines[-1])
        steps = [json.loads(line)["step"] for line in kept[:-1]]
        assert len({b - a for a, b in itertools.pairwise(steps)}) <= 1


def test_chunk_size_is_a_power_of_two_and_falls_with_image_size():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [auto_chunk(cpu, Pixels((c, n, n))) for c, n in [(1, 8), (3, 32), (3, 64), (3, 256)]] == [16, 8, 4, 1]
    assert [auto_chunk(cuda, Pixels((c, n, n))) for c, n in [(1, 8), (3, 32), (3, 64), (3, 256)]] == [256, 256, 64, 4]


def test_run_saved_while_being_read_is_not_damage(folder, recipe, digest, model, monkeypatch):
    """A training that saves between a reader's look at the manifest and at the files is not mistaken for damage."""
    verify, count = Manifest.verify, []

    def late(self, *args):
        if not count:
            count.append(1)
            writer = RunWriter.open(folder, recipe, digest)
            weights = {name: value * 2 for name, value in model.state_dict().items()}
            writer.save(Snapshot(30, weights, weights, {}, {}))
            writer.close()
        verify(self, *args)

    monkeypatch.setattr(Manifest, "verify", late)
    assert Run.open(folder).meta["step"] == 30
