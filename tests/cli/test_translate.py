"""`noisy-classifier` and `translate`: from two folders to translated images, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.commands import contents
from PIL import Image

import diffprob as dp
from diffprob.base.rng import Rng
from diffprob.cli.main import main
from diffprob.data.combined import Concatenated
from diffprob.guidance.egsde import LowPass
from diffprob.process.grids import Uniform
from diffprob.runs.folder import NoisyClassifierRun, open_run
from diffprob.sampling.between import times_from
from diffprob.sampling.translate import ddib, egsde

# The smallest training, coarse so that the features differ.
SMALL = [
    *("--set", "training.batch=8", "--set", "training.checkpoint_every=2", "--set", "training.precision=fp32"),
    *("--set", "training.lr=0.05", "--set", "training.ema=0.0", "--device", "cpu"),
    *("--set", "training.cooldown=0"),
]  # fmt: skip
DRAWN = ("-n", "5", "--sampler", "DDIM(eta=1.0)", "--steps", "4", "--device", "cpu")


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Threes and eights in 17 grey levels as arrays with both splits; eights as colour pictures of another size."""
    folder = tmp_path_factory.mktemp("domains")
    for split in ("train", "test"):
        digits = dp.Digits(split).load()
        for name, label in (("threes", 3), ("eights", 8)):
            (folder / name / split).mkdir(parents=True)
            for k, pixels in enumerate(digits.pixels[digits.labels == label][:20, 0]):
                Image.fromarray(pixels * 15).save(folder / name / split / f"{k}.png")
    (folder / "wide").mkdir()
    Image.fromarray(np.zeros((8, 10), np.uint8)).save(folder / "wide" / "a.png")
    return folder


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, domains: Path) -> Path:
    """A run of the eights; not to be changed."""
    from cli.commands import TINY

    out = tmp_path_factory.mktemp("target") / "eights"
    options = ["--data", str(domains / "eights"), "--steps", "4", "--out", str(out), "--set", "network.layers=1", *TINY]
    assert main(["train", *options, "--set", "network.attention=(False,False)"]) == 0
    return out


@pytest.fixture(scope="module")
def rec(target: Path, domains: Path) -> Path:
    """Which of the two a noised digit is; not to be changed."""
    out = target.with_name("rec")
    options = [str(target), str(domains / "threes"), str(domains / "eights"), "--steps", "4", "--out", str(out)]
    assert main(["noisy-classifier", *options, *SMALL]) == 0
    return out


def levels(folder: str | Path) -> np.ndarray:
    return dp.Folder(str(Path(folder) / "images"), channels=1, split="all").load().pixels


def translated(diffprob: Callable, *arguments: str | Path) -> np.ndarray:
    done = diffprob("translate", *arguments, "--out", "out", *DRAWN)
    assert done.code == 0, done.err
    pixels = levels("out")
    for path in sorted(Path("out").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return pixels


def test_noisy_classifier_training_resumes_with_the_same_bits(diffprob: Callable, tiny: Path) -> None:
    command = ("noisy-classifier", tiny, "digits", *SMALL)
    whole = diffprob(*command, "--steps", "4", "--out", "whole", "--json").json
    assert whole["recognises"] and not whole["denoises"] and whole["step"] == 4
    assert (whole["tested"], whole["on"], len(whole["accuracy"])) == (360, "the test split", len(whole["at"]))
    assert diffprob(*command, "--steps", "2", "--out", "parts").code == 0
    assert diffprob(*command, "--steps", "4", "--out", "parts", "--json").json["resumed_at"] == 2
    one, two = (open_run(name).weights() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    before = contents(Path("whole"))
    done = diffprob(*command, "--steps", "4", "--out", "whole")
    assert contents(Path("whole")) == before
    assert "was finished already" in done.out and "recognised of 360 images of the test split, 10 classes" in done.out
    assert "accuracy at t = 0.5" in Path("whole/README.md").read_text()
    planned = diffprob(*command, "--steps", "9", "--out", "whole", "--dry-run", "--json").json
    assert "would resume at step 4" in planned["about"]["run"] and planned["parameters"] > 0
    assert diffprob("train", "whole", "--steps", "5", "--device", "cpu", "--json").json["step"] == 5
    assert "has no density of its own" in diffprob("detect", tiny, "--outside", "digits", "--with", "whole").error


def test_held_out_accuracy_matches_the_library(target: Path, rec: Path, domains: Path) -> None:
    """The recorded share at t = 0.5 again, from the library."""
    run = open_run(rec)
    assert isinstance(run, NoisyClassifierRun) and run.recipe.process == dp.Run.open(target).recipe.process
    three, eight = (dp.Folder(str(domains / name), channels=1, split="test").load() for name in ("threes", "eights"))
    x0 = run.space.to_model(torch.from_numpy(np.concatenate([three.pixels, eight.pixels])))
    measurement = {item.name: item for item in run.measurements}["accuracy at t = 0.5"]
    assert measurement.n == len(x0) == 40 and measurement.split == measurement.role == "test"
    sources = tuple(dp.Folder(str(domains / name), channels=1, split="test") for name in ("threes", "eights"))
    assert measurement.digest == Concatenated(sources).load().digest() and "threes" in measurement.data
    from diffprob.base.rng import permutation

    chosen = torch.from_numpy(np.array(permutation(0, 0, 40)))
    rng, t = Rng.of(0, 40).fold("noise"), torch.tensor(0.5, dtype=torch.float64)
    xt = run.recipe.process.marginal(x0[chosen], t)
    xt = xt.mean + xt.std * rng.normal(x0.shape[1:], x0.dtype)
    assert float((run.load()(xt, t).argmax(1) == (chosen >= 20)).double().mean()) == measurement.value


def test_egsde_matches_the_library(diffprob: Callable, target: Path, rec: Path, domains: Path) -> None:
    weights = ("--realistic", "30", "--faithful", "0.5", "--factor", "2", "--no-clip", "--start", "0.7")
    pixels = translated(diffprob, target, domains / "threes", "--classifier", rec, *weights)
    run, classifier = dp.Run.open(target), open_run(rec)
    assert isinstance(classifier, NoisyClassifierRun)
    sources = dp.Folder(str(domains / "threes"), channels=1, split="test").load().pixels[:5]
    model, x0 = run.load(chunk=5), run.space.to_model(torch.from_numpy(sources))
    times, rng, features = Uniform()(model.process, 4), Rng.of(0, 5), classifier.load(chunk=5).features
    x = egsde(model, x0, 0.7, dp.DDIM(1.0), times, rng, features, LowPass(2), 30.0, 0.5)
    assert np.array_equal(run.space.to_data(x).numpy(), pixels)


def test_egsde_without_weights_gives_the_bits_of_sdedit(
    diffprob: Callable, target: Path, rec: Path, domains: Path
) -> None:
    options = (target, domains / "threes", "--repeats", "2")
    plain = translated(diffprob, *options, "--method", "sdedit")
    none = ("--realistic", "0", "--faithful", "0")
    assert np.array_equal(plain, translated(diffprob, *options, "--classifier", rec, *none))
    assert np.array_equal(plain, translated(diffprob, *options, *none))
    assert not np.array_equal(plain, translated(diffprob, *options, "--classifier", rec))


def test_image_does_not_depend_on_its_batch(diffprob: Callable, target: Path, rec: Path, domains: Path) -> None:
    options = (target, domains / "threes", "--classifier", rec)
    whole = translated(diffprob, *options, "--batch", "2")
    assert np.array_equal(whole[:3], translated(diffprob, *options, "--batch", "2", "-n", "3")[:3])


def test_ddib_matches_the_library(diffprob: Callable, target: Path, domains: Path) -> None:
    command = ("translate", target, domains / "threes", "--method", "invert", "--source-model", target)
    done = diffprob(
        *command, "--start", "0.6", "--no-clip", "-n", "3", "--steps", "5", "--out", "out", "--device", "cpu"
    )
    assert done.code == 0, done.err
    run = dp.Run.open(target)
    sources = dp.Folder(str(domains / "threes"), channels=1, split="test").load().pixels[:3]
    model = run.load(chunk=3)
    times = times_from(model.process, dp.Trailing()(model.process, 5), 0.6)
    x = ddib(model, model, run.space.to_model(torch.from_numpy(sources)), times)
    assert np.array_equal(run.space.to_data(x).numpy(), levels("out"))


def test_ddib_from_label_to_label(diffprob: Callable, trained: Path) -> None:
    from cli.commands import TINY

    assert diffprob("train", "digits", "--labels", "--steps", "2", "--out", "told", *TINY).code == 0
    command = ("translate", "told", "digits", "--method", "invert", "--steps", "3", "-n", "4", "--device", "cpu")
    theirs = diffprob(*command, "--label", "8", "--out", "a", "--json").json
    assert (theirs["from"], theirs["told"]) == ("digits, told their labels", "8")
    assert (
        diffprob(*command, "--label", "8", "--from-label", "3", "--out", "b", "--json").json["from"].endswith("label 3")
    )
    for bad, message in (
        (("--label", "8", "--from-label", "12"), "--from-label 12: digits: no class '12' among 0, 1, 2, 3"),
        ((), "a digits that knows labels and --label L for the result, would be right"),
        (("--label", "8", "9"), "one label for all images would be right here"),
        (("--source-model", trained, "--from-label", "3"), "--from-label 3: digits is told no labels"),
    ):
        assert message in diffprob(*command, *bad, "--out", "c").error
    assert not Path("c").exists()


def test_translate_writes_images_and_settings(diffprob: Callable, target: Path, rec: Path, domains: Path) -> None:
    command = ("translate", target, domains / "threes", "--classifier", rec, *DRAWN, "--seed", "7", "--out", "out")
    planned = diffprob(*command, "--dry-run", "--json").json
    assert not Path("out").exists()
    done = diffprob(*command, "--json").json
    assert planned["network_calls"] == done["network_calls"] > 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["before-and-after.png", "facts.json", "images"]
    assert sorted(path.name for path in Path("out/images").iterdir()) == [f"{k:05d}.png" for k in range(5)]
    settings = json.loads(Path("out/facts.json").read_text())
    assert {name: done[name] for name in settings if name != "run"} == {n: v for n, v in settings.items() if n != "run"}
    assert (settings["method"], settings["seeds"], settings["source_sha256"]) == (
        "egsde",
        "7..11",
        done["source_sha256"],
    )
    assert settings["recogniser_sha256"] == open_run(rec).sha256()
    before = contents(Path("out"))
    assert "--out out is not empty; a new folder would be right" in diffprob(*command).error
    assert contents(Path("out")) == before
    people = diffprob(*command[:-1], "other").out
    assert "translated 5 images" in people and f"classifier {rec}" in people and "wrote other" in people


def test_images_written_by_sample_are_read_and_conversions_noted(diffprob: Callable, tiny: Path, domains: Path) -> None:
    """Pictures of few levels lose nothing; others are converted where that is asked for, and that is recorded."""
    options, quick = ("--method", "sdedit", "--steps", "2", "--device", "cpu"), ("-n", "2", "--json")
    assert diffprob("sample", tiny, "-n", "3", "--steps", "2", "--out", "pics/", "--device", "cpu").code == 0
    assert diffprob("translate", tiny, "pics", *options, "--out", "drawn", "--json").json["n"] == 3
    settings = [json.loads(Path("drawn/facts.json").read_text())]
    for source, more in (("digits", ()), ("digits", ("--split", "train")), (domains / "threes", ("--resize",))):
        out = f"out{len(settings)}"
        assert diffprob("translate", tiny, source, *options, *quick, *more, "--out", out).code == 0
        settings.append(json.loads(Path(out, "facts.json").read_text()))
    assert [(stored["split"], stored["role"], stored["converted"]) for stored in settings] == [
        ("all", "other data", None),
        ("test", "test", None),
        ("train", "train", None),
        ("test", "other data", "256 grey levels made 17"),
    ]
    assert settings[1]["source_sha256"] == dp.Digits("test").load().some(range(2)).digest()


def test_invalid_input_is_a_one_line_error(
    diffprob: Callable, target: Path, rec: Path, domains: Path, tiny: Path
) -> None:
    threes, out = domains / "threes", ("--out", "out")
    np.savez("plain.npz", images=np.zeros((4, 8, 8), np.uint8))
    other = ("--set", "process=LinearProcess()")
    assert (
        diffprob(
            "noisy-classifier", target, threes, domains / "eights", *other, "--steps", "1", *SMALL, "--out", "o"
        ).code
        == 0
    )
    for command, message in (
        (
            ("noisy-classifier", target, threes, domains / "wide"),
            r"threes and wide cannot be joined: shape (1, 8, 8) and (1,",
        ),
        (("noisy-classifier", target, "plain.npz"), "plain has no labels"),
        (("noisy-classifier", target, threes), "threes has no labels"),
        (("noisy-classifier", rec, "digits"), "which has no denoiser"),
        (
            ("noisy-classifier", target, "digits", "digits"),
            "17 grey levels, eights has (1, 8, 8) and 256; the run's own images, or a run of 17",
        ),
        (
            ("noisy-classifier", tiny, domains / "threes", domains / "eights"),
            "256 grey levels, digits has (1, 8, 8) and 17;",
        ),
        (
            ("noisy-classifier", "mnist", threes, domains / "eights"),
            "(1, 8, 8) and 256 grey levels, mnist has (1, 28, 28) and 256",
        ),
        (
            ("noisy-classifier", "mnist", threes, domains / "eights"),
            "(of pictures --size 28 makes such) would be right",
        ),
        (("noisy-classifier", target, threes, "nowhere"), "no such file"),
        (("translate", target, threes, *out), "--method egsde needs --classifier REC"),
        (("translate", target, threes, "--classifier", "o", *out), "another space or process"),
        (("translate", target, threes, "--classifier", target, *out), "no classifier of noised images"),
        (("translate", target, domains / "wide", "--classifier", rec, *out), "wide: shape (1, 8, 10)"),
        (("translate", tiny, threes, "--method", "sdedit", *out), "and 17; --resize would convert them"),
        (
            ("translate", target, threes, "--method", "sdedit", "--faithful", "1", *out),
            "--faithful belongs to --method",
        ),
        (("translate", target, threes, "--method", "sdedit", "--label", "3", *out), "was trained without any"),
        (("translate", target, threes, "--classifier", rec, "--from-label", "3", *out), "belongs to --method invert"),
        (("translate", target, threes, "--method", "invert", *out), "--source-model RUN of the source's kind"),
        (("translate", target, threes, "--method", "invert", "--source-model", tiny, *out), "another space or process"),
        (("translate", target, threes, "--classifier", rec, "--start", "0", *out), "must lie in (0, 1]"),
        (("translate", target, threes, "--classifier", rec, "--realistic", "-1", *out), "must be at least 0"),
        (("translate", target, threes, "--classifier", rec, "--out", "out.png"), "needs a folder"),
        (("translate", target, threes, "--methd", "sdedit", *out), "did you mean '--method'"),
    ):
        done = diffprob(*command)
        assert done.code == 2 and message in done.error, (command, done.err)
    assert not Path("out").exists()


def test_unusable_test_split_is_an_error_before_training(
    diffprob: Callable, target: Path, domains: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(domains / "threes", tmp_path / "threes"))
    command = ("noisy-classifier", target, copy, domains / "eights", "--steps", "1", "--out", "new", *SMALL)
    damaged = copy / "test" / "3.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:40])
    assert "test/3.png: " in diffprob(*command).error
    for k in range(20):
        Image.fromarray(np.zeros((9, 8), np.uint8)).save(copy / "test" / f"{k}.png")
    assert "threes and eights cannot be joined" in diffprob(*command).error
    for k in range(20):
        shutil.copy(domains / "eights" / "test" / f"{k}.png", copy / "test" / f"{k}.png")
    assert not Path("new").exists()
    assert diffprob(*command).code == 0


def test_classifier_guidance_matches_the_library(diffprob: Callable, target: Path, rec: Path) -> None:
    command = (
        "sample",
        target,
        *DRAWN,
        "--no-clip",
        "--classify-with",
        rec,
        "--label",
        "eights",
        "threes",
        "--out",
        "x.npz",
    )
    result = diffprob(*command, "--classifier-scale", "3", "--json").json
    assert result["told"] == "eights, threes in turn" and "classifier eights-noisy-classifier" in result["guidance"]
    run, classifier = dp.Run.open(target), open_run(rec)
    assert isinstance(classifier, NoisyClassifierRun)
    model, rows = run.load(), torch.tensor([1, 0, 1, 0, 1])
    guided = dp.EnergyGuided(model, dp.LabelEnergy(classifier.load(), rows, 3.0))
    x = dp.draw(guided, dp.DDIM(1.0), Uniform()(model.process, 4), Rng.of(0, 5), run.space.shape)
    with np.load("x.npz") as stored:
        assert np.array_equal(run.space.to_data(x).numpy(), stored["images"])
    assert diffprob(*command, "--classifier-scale", "0").code == 0
    with np.load("x.npz") as stored:
        none = stored["images"]
    assert diffprob("sample", target, *DRAWN, "--no-clip", "--out", "x.npz").code == 0
    with np.load("x.npz") as stored:
        assert np.array_equal(stored["images"], none)
    for bad, message in (
        (("--classifier-scale", "1"), "--classifier-scale goes with --classify-with REC"),
        (("--classify-with", rec), "goes with --label L, which it is to see"),
        (("--classify-with", rec, "--label", "1"), "eights-noisy-classifier: no class '1' among threes, eights"),
        (("--classify-with", target, "--label", "1"), "no classifier of noised images"),
        (("--classify-with", rec, "--label", "1", "--guidance", "1"), "and --guidance exclude each other"),
    ):
        assert message in diffprob("sample", target, *DRAWN, *bad).error
    assert (
        "another space or process than mnist_labels" in diffprob("sample", "mnist_labels", "--classify-with", rec).error
    )
