"""`train`: resuming, going on, stopping, estimates, and recipes made from data."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli.commands import TINY, contents
from PIL import Image

import diffprob as dp
from diffprob.cli.main import main
from diffprob.cli.parser import whole
from diffprob.config.pretrained import PretrainedRun
from diffprob.config.recipe import parameter_count
from diffprob.config.spec import render
from diffprob.data import Array, Folder, Subset
from diffprob.data.formats import decoded
from diffprob.runs.folder import open_run
from diffprob.runs.writer import RunWriter
from diffprob.tasks import training_run
from diffprob.tasks.own_recipe import automatic, opened, recipe_for
from diffprob.training.loop import Trainer

LOSS_CURVE = training_run._loss_curve  # conftest puts nothing in its place


def test_run_folder_is_complete(trained: Path) -> None:
    names = set(contents(trained))
    assert {"recipe.txt", "model.safetensors", "manifest.json", "log.jsonl", "README.md", "loss.png"} <= names
    assert "samples/step-00000004.png" in names
    with Image.open(trained / "samples" / "step-00000004.png") as picture:
        assert picture.text["seeds"] == "0..1"
        assert picture.text["sampler"] == "DDIM(eta=0.0, spread=False)"
    run = dp.Run.open(trained)
    assert run.meta["step"] == 4
    # The weights at the start are those that the seed decides.
    assert run.meta["data"] == dp.Digits().load().digest()


def test_initial_weights_depend_only_on_the_seed(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dp.Run.open(trained).recipe
    images, first = recipe.data.load(), []
    monkeypatch.setattr(Trainer, "__init__", lambda self, model, *_, **__: first.append(model))
    for _ in range(2):
        torch.rand(3)
        training_run._trainer(recipe, images, None, None)
    torch.manual_seed(dp.derive(recipe.training.seed, "weights"))
    expected = dp.build_model(recipe).state_dict()
    for model in first:
        assert all(torch.equal(model.state_dict()[name], weight) for name, weight in expected.items())


def test_finished_run_is_reported_and_unchanged(diffprob: Callable, tiny: Path) -> None:
    before = contents(tiny)
    for steps in ("4", "2"):
        done = diffprob("train", "digits", "--steps", steps, "--out", tiny, *TINY)
        assert done.code == 0
        assert "was finished already at step 4" in done.out
        assert contents(tiny) == before


def test_more_steps_continue_with_the_same_bits(diffprob: Callable, tiny: Path, tmp_path: Path) -> None:
    done = diffprob("train", "digits", "--steps", "6", "--out", tiny, *TINY)
    assert "resuming at step 4 of 6" in done.err
    assert diffprob("train", "digits", "--steps", "6", "--out", tmp_path / "whole", "--json", *TINY).json["step"] == 6
    for name in ("raw", "ema", "optimiser"):
        path = f"state/step-00000006/{name}.safetensors"
        assert (tiny / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()


def test_run_folder_can_be_resumed_by_name(diffprob: Callable, tiny: Path) -> None:
    result = diffprob("train", tiny, "--steps", "5", "--device", "cpu", "--json").json
    assert (result["run"], result["resumed_at"], result["step"]) == (str(tiny), 4, 5)


def test_recipe_file_is_accepted(diffprob: Callable, tiny: Path) -> None:
    about = diffprob("train", tiny / "recipe.txt", "--set", "name=other", "--dry-run", "--device", "cpu", "--json").json
    assert about["about"]["run"] == f"{Path('runs/other')} (new)"


def test_interrupted_training_resumes(diffprob: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advance, out = Trainer.advance, tmp_path / "run"

    def stopping(self: Trainer) -> None:
        advance(self)
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "advance", stopping)
    done = diffprob("train", "digits", "--steps", "4", "--out", out, *TINY)
    assert done.code == 130
    assert done.err.splitlines()[-1] == "diffprob: stopped at step 3; the same command resumes"
    monkeypatch.setattr(Trainer, "advance", advance)
    done = diffprob("train", "digits", "--steps", "4", "--out", out, *TINY)
    assert done.code == 0
    assert "resuming at step 3 of 4" in done.err


def test_model_older_than_its_state_is_rewritten(diffprob: Callable, tiny: Path, trained: Path) -> None:
    """Killed between the last state and its model: the next run has no step to do, and must still write the model."""
    step_2 = diffprob("train", "digits", "--steps", "2", "--out", "short", *TINY)
    assert step_2.code == 0
    run = dp.Run.open("short")
    shutil.copytree(trained / "state" / "step-00000004", Path("short/state/step-00000004"))
    log = (trained / "log.jsonl").read_bytes()
    Path("short/log.jsonl").write_bytes(log)
    assert run.meta["step"] == 2
    result = diffprob("train", "digits", "--steps", "4", "--out", "short", "--json", *TINY).json
    assert result["step"] == 4
    assert dp.Run.open("short").meta["step"] == 4
    assert Path("short/model.safetensors").read_bytes() == (tiny / "model.safetensors").read_bytes()


def test_resuming_with_other_settings_or_data_is_an_error(diffprob: Callable, tiny: Path) -> None:
    before = contents(tiny)
    done = diffprob("train", "digits", "--steps", "6", "--out", tiny, "--seed", "3", *TINY)
    assert (done.code, "training.seed is 0 there and 3 here" in done.error) == (2, True)
    done = diffprob("train", "digits", "--steps", "6", "--out", tiny, *TINY, "--set", "data.split=test")
    assert (done.code, "trained on other data" in done.error) == (2, True)
    assert contents(tiny) == before


def test_fewer_processes_than_requested_is_an_error(diffprob: Callable, tmp_path: Path) -> None:
    done = diffprob("train", "digits", "--processes", "2", "--out", "run", *TINY)
    assert done.code == 2
    assert "torchrun --nproc-per-node 2" in done.error
    assert not (tmp_path / "run").exists()


def test_dry_run_of_the_largest_recipe_needs_no_data_and_little_memory(diffprob: Callable) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = diffprob("train", "lsun256", "--dry-run", "--device", "cpu", "--json").json
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000, "kilobytes: the weights alone would take a gigabyte"
    assert result["parameters"] == 255_677_955
    assert result["memory_bytes"]["AdamW"] == 2 * result["memory_bytes"]["weights"] == 8 * 255_677_955
    # Two operations for each multiplication with an addition; the activations of 64 such images fill many gigabytes.
    assert 0.9e12 < result["flop_per_image_forward"] < 1.2e12
    assert 10e9 < result["memory_bytes"]["activations"] < 200e9
    assert result["seconds"] > 0
    assert "not there" in result["about"]["data"]


def test_estimate_matches_a_real_pass(trained: Path) -> None:
    """Saved activations and operations against a real pass of the same network."""
    from torch.utils.flop_counter import FlopCounterMode

    from diffprob.tasks.cost import measure_cost

    recipe = dp.Run.open(trained).recipe
    cost = measure_cost(recipe, torch.device("cpu"), "fp32")
    assert cost.parameters == parameter_count(recipe)
    net, kept = recipe.network.build(), {}
    weights = {parameter.data_ptr() for parameter in net.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    x = torch.zeros(3, 1, 8, 8).to(memory_format=torch.channels_last)
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        loss = net(x, torch.zeros(3)).main.sum()
    forward = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    saved = sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights)
    assert cost.flop == forward / 3
    # The very first layer needs no gradient of its input.
    assert cost.train_flop == pytest.approx((forward + counter.get_total_flops()) / 3, rel=0.05)
    assert cost.fixed + 3 * cost.saved == pytest.approx(saved, rel=0.05)


def test_dry_run_reports_and_writes_nothing(diffprob: Callable, tiny: Path) -> None:
    before = contents(tiny.parent)
    done = diffprob("train", "digits", "--steps", "8", "--out", tiny, *TINY, "--dry-run", "--json")
    assert done.json["about"]["run"] == f"{tiny} (would resume at step 4)"
    done = diffprob("train", "digits", "--steps", "8", "--seed", "1", "--out", tiny, *TINY, "--dry-run")
    assert (done.code, "another recipe" in done.error) == (2, True)
    assert contents(tiny.parent) == before


def test_dry_run_checks_the_recipe_against_its_data(diffprob: Callable) -> None:
    """The recipe's own data is looked at where it is, and what training would say is said now."""
    np.save("small.npy", np.zeros((20, 8, 8), np.uint8))
    done = diffprob("train", "digits", "--set", "data=Array('small.npy')", *TINY, "--dry-run")
    assert "small: number of grey levels 256, but recipe digits takes 17" in done.error
    done = diffprob("train", "digits", "--set", "space.shape=(1,16,16)", *TINY, "--dry-run")
    assert "shape (1, 8, 8), but recipe digits takes (1, 16, 16)" in done.error
    options = ("--set", "condition=Labels(5)", "--set", "network.classes=6")
    assert "labels run from 0 to 9" in diffprob("train", "digits", *options, *TINY, "--dry-run").error
    Path("small.npy").write_bytes(Path("small.npy").read_bytes()[:200])
    done = diffprob("train", "digits", "--set", "data=Array('small.npy')", *TINY, "--dry-run")
    assert "small.npy" in done.error and not Path("runs").exists()


@pytest.mark.parametrize(
    "shape",
    [
        (1, 8, 8),
        (1, 28, 28),
        (3, 32, 32),
        (3, 25, 25),
        (3, 64, 48),
        (1, 100, 100),
        (3, 256, 256),
        (1, 2, 2),
        (3, 97, 301),
    ],
    ids=str,
)
def test_data_of_any_shape_gets_a_recipe(shape: tuple[int, int, int]) -> None:
    images = dp.Images(np.zeros((3, *shape), np.uint8))
    recipe = recipe_for("mine", dp.Folder("x"), images)
    assert recipe.space.shape == shape
    assert 50_000 < parameter_count(recipe) < 120_000_000
    factor = 2 ** (len(recipe.network.widths) - 1)
    assert shape[1] % factor == shape[2] % factor == 0


def test_training_on_a_folder_of_images(diffprob: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "my pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(9):
        Image.fromarray(rng.integers(0, 256, (20, 16 + k), np.uint8)).convert("RGB").save(folder / f"{k}.png")
    done = diffprob("train", "--data", folder, "--dry-run", "--json")
    assert (done.code, "--size" in done.error) == (2, True)
    done = diffprob("train", "--data", folder, "--size", "8", "--steps", "2", "--json", *TINY)
    assert done.json["run"] == "runs/my-pictures"
    run = dp.Run.open("runs/my-pictures")
    assert run.space.shape == (1, 8, 8), "the pictures are grey"
    assert "9 grey images of 8x8" in done.err
    assert "one is used" in done.err


def test_integer_options_reject_other_values() -> None:
    import argparse

    assert [whole(1)(text) for text in ("1", "1e5", " 7 ")] == [1, 100_000, 7]
    for text in ("0", "-1", "1.5", "x", "inf", "nan", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            whole(1)(text)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_control_c_stops_with_130(tmp_path: Path) -> None:
    import time

    command = [sys.executable, "-m", "diffprob", "train", "digits", "--out", "run", *TINY, "--steps", "1000000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def heed() -> None:  # a test run that was started in the background hands an ignored SIGINT down
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    options: dict[str, Any] = {"preexec_fn": heed, "cwd": tmp_path, "env": environment}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run" / "state").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert text.splitlines()[-1].endswith("the same command resumes")
    assert dp.Run.open(tmp_path / "run").meta["step"] >= 2


def test_without_matplotlib_there_is_no_loss_curve_and_no_error(
    diffprob: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "_loss_curve", LOSS_CURVE)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = diffprob("train", "digits", "--steps", "5", "--out", tiny, "--json", *TINY)
    assert (done.code, done.json["loss_curve"]) == (0, None)
    assert "matplotlib is not installed" in done.err


def test_recipe_name_is_not_taken_for_a_folder(diffprob: Callable, tiny: Path) -> None:
    tiny.rename("digits")
    about = diffprob("train", "digits", "--dry-run", *TINY, "--json").json["about"]
    assert about["run"] == f"{Path('runs/digits')} (new)"


def test_run_is_named_after_its_folder_and_data_path_is_absolute(
    diffprob: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data of one's own: the name is that of the run and not of the data, and the place of the data is absolute."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "slides.npy", pixels)
    train = ["train", "--data", "slides.npy", "--out", "runs/mine", "--steps", "2", *TINY]
    assert diffprob(*train).code == 0
    run = open_run("runs/mine")
    assert run.name == "mine" and run.recipe.data.source == Array(str(tmp_path / "slides.npy"))
    assert (tmp_path / "runs/mine/README.md").read_text().startswith("# mine")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["likelihood", "../runs/mine", "-n", "2", "--terms", "1", "--split", "train", "--device", "cpu"]) == 0


def test_old_runs_with_relative_data_paths_resume(diffprob: Callable, tmp_path: Path) -> None:
    """As runs were written before."""
    np.save(tmp_path / "slides.npy", np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    train = ["train", "--data", "slides.npy", "--out", "mine", *TINY]
    recipe = replace(automatic("slides.npy", held_out="none")[0], name="slides")
    assert diffprob(*train, "--held-out", "none", "--steps", "2").code == 0
    for name in ("network", "training"):
        recipe = replace(recipe, **{name: getattr(open_run("mine").recipe, name)})
    writer = RunWriter(Path("mine"))
    writer._adopt(recipe, writer.manifest.meta["data"])
    writer.close()
    assert open_run("mine").recipe.data == Array("slides.npy") and open_run("mine").name == "slides"
    assert diffprob(*train, "--steps", "4", "--json").json["resumed_at"] == 2


def test_subset_of_a_source_follows_the_data_path(diffprob: Callable, tmp_path: Path) -> None:
    """`Subset` takes its images at the place that --data names."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "here.npz", images=pixels, labels=np.arange(20) % 2)
    recipe = replace(automatic("here.npz")[0], data=Subset(Array("gone.npz"), 6, 1))
    Path("recipe.txt").write_text(render(recipe))
    done = diffprob("train", "./recipe.txt", "--data", "here.npz", "--out", "some", "--steps", "2", *TINY)
    assert done.code == 0, done.err
    assert open_run("some").recipe.data == Subset(Array(str(tmp_path / "here.npz")), 6, 1)
    planned = diffprob("train", "./recipe.txt", "--dry-run", "--out", "x", *TINY, "--json").json
    assert planned["about"]["data"].endswith("(not there: training needs it)")


def test_training_from_a_runs_recipe_starts_anew_with_a_note(diffprob: Callable, tiny: Path) -> None:
    """The recipe of a run and none of its weights: said, with what would go on and what would begin with them."""
    common = ("--out", "new", "--steps", "1", "--device", "cpu")
    for more in ([], ["--set", "network.layers=2"]):
        done = diffprob("train", tiny, *more, *common, "--dry-run", "--json")
        assert "begins anew, from random weights" in done.err and "leave --out away" in done.err
        assert done.json["about"]["begins with"] == "random weights"
    start = done.err.partition("--set 'start=")[2].partition("'\n")[0]
    begun = diffprob("train", tiny, "--labels", "--set", f"start={start}", *common)
    assert begun.code == 0 and "anew" not in begun.err
    assert "anew" not in diffprob("train", tiny, "--steps", "5", "--dry-run", "--device", "cpu").err


def test_a_run_with_labels_begins_beside_the_old_one_with_its_weights(diffprob: Callable, tiny: Path) -> None:
    before = (tiny / "manifest.json").read_bytes()
    command = ("train", tiny, "--labels", "--device", "cpu", "--steps")
    first = diffprob(*command, "1", "--json")
    assert first.code == 0, first.err
    assert f"begins with the weights of {tiny}" in first.err and first.json["run"] == f"{tiny}-labels"
    old, new = open_run(tiny), open_run(f"{tiny}-labels")
    assert new.name == f"{tiny.name}-labels" and new.recipe.condition.classes == 10
    assert new.recipe.start == PretrainedRun(old.place, old.sha256()[:12])
    assert diffprob(*command, "2", "--json").json["resumed_at"] == 1
    assert (tiny / "manifest.json").read_bytes() == before


def test_prediction_that_divides_by_zero_signal_is_an_error_before_training(diffprob) -> None:
    command = (
        "train",
        "digits",
        "--set",
        "process=LinearProcess(Straight(), StraightScaling())",
        "--dry-run",
        "--device",
        "cpu",
    )
    assert "V() or X0() would be right" in diffprob(*command, "--set", "prediction=Epsilon()").error
    assert diffprob(*command, "--set", "prediction=V()").code == 0


def test_grey_images_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And their pixels are those of pictures read as grey, whatever they are saved as."""
    levels = np.random.default_rng(0).integers(0, 256, (12, 10), dtype=np.uint8)
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA"):
        Image.fromarray(levels).convert(mode).save(tmp_path / f"{mode}.png")
    half = Image.fromarray(levels).convert("RGBA")
    half.putalpha(100)
    half.save(tmp_path / "half.png")
    Image.fromarray(levels).convert("RGB").save(tmp_path / "lossy.jpg")
    reading, paths = decoded.read_picture, []
    monkeypatch.setattr(decoded, "read_picture", lambda path, tally: (paths.append(path), reading(path, tally))[1])
    source, images, notes = opened(str(tmp_path), 8)
    assert len(paths) == len(set(paths)) == 8
    assert (source, notes) == (Folder(str(tmp_path), 8, 1), ["all three channels are equal: one is used"])
    assert images.digest() == source.load().digest()
    assert not any("converted" in note for note in images.notes)
