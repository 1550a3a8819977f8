"""`diffprob evaluate`: what it says, what it records, what it refuses; and measuring while training."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from cli.commands import TINY, contents

import diffprob as dp
from diffprob.runs.folder import Run
from diffprob.tasks.monitor import alike

QUICK = ["-n", "60", "--steps", "2", "--features", "pca:8", "--device", "cpu"]
CLOCKS = ("seconds",)
WATCHED = 'metrics=("sliced", "frechet"), epochs=0.02, n=20, steps=2, features="pca:4", best="sliced"'
MONITOR = f"training.monitor=Monitor({WATCHED})"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFPROB_CACHE", str(tmp_path / "cache"))


def rows(result: dict) -> dict[str, dict]:
    return {row["title"]: row for row in result["rows"]}


def test_every_measurement_records_how_it_was_made(diffprob, tiny):
    done = diffprob("evaluate", tiny, *QUICK, "--json", "--out", "numbers.json")
    assert done.code == 0
    result = done.json
    assert json.loads(Path("numbers.json").read_text())["rows"] == result["rows"]
    measured = rows(result)
    assert {"Frechet distance", "KID", "precision", "recall", "density", "coverage"} <= set(measured)
    assert "mean confidence of the classifier" not in measured  # PCA is no classifier
    assert any("below 10,000" in note and "too large" in note for note in result["notes"])
    # An untrained model is far from the data, real training images are not: every row has both.
    assert measured["Frechet distance"]["value"] > 5 * measured["Frechet distance"]["real"]
    assert measured["coverage"]["value"] < measured["coverage"]["real"]
    recorded = {item.name: item for item in Run.open(tiny).measurements}
    assert set(recorded) == set(measured)
    item = recorded["Frechet distance"]
    assert (item.n, item.seed, item.step, item.split) == (60, 0, 4, "test")
    assert item.reference == measured["Frechet distance"]["real"]
    assert item.features.startswith("PCA of 1,437 reference images, 8-d, sha256 ")
    assert recorded["sliced Wasserstein-2 distance of pixels"].features == "pixels"
    details = item.details
    assert (details["sampler"], details["evaluations"], details["weights"]) == ("DPMppSDE(history=2)", 2, "EMA")
    assert (details["reference images"], details["chunk"], details["clip"]) == (360, 16, True)
    card = (tiny / "README.md").read_text()
    assert "Frechet distance" in card and item.features in card


def test_samples_from_a_file_give_the_same_results(diffprob, tiny):
    drawn = diffprob("evaluate", tiny, *QUICK, "--json", "--no-record").json
    assert diffprob("sample", tiny, "-n", "60", "--steps", "2", "--out", "x.npz", "--device", "cpu").code == 0
    read = diffprob("evaluate", tiny, "--samples", "x.npz", *QUICK[4:], "--json", "--no-record").json
    assert read["rows"] == drawn["rows"]
    assert read["drawing"] == drawn["drawing"]
    assert not Run.open(tiny).measurements


def test_packaged_run_is_not_changed(diffprob, trained, monkeypatch):
    before = contents(Path(Run.open("digits").path))
    done = diffprob(
        "evaluate", "digits", "-n", "20", "--steps", "1", "--features", "pixels", "--metrics", "sliced", "--json"
    )
    assert done.code == 0 and not done.json["recorded"]
    assert contents(Path(Run.open("digits").path)) == before


def test_dry_run_samples_nothing(diffprob, tiny):
    before = contents(tiny)
    done = diffprob("evaluate", tiny, *QUICK, "--dry-run")
    assert done.code == 0 and "would compare 60 samples" in done.out
    assert contents(tiny) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "frechett"], "no metric 'frechett'"),
        (["--metrics", "inception"], "metric 'inception' needs the features of a classifier"),
        (["--features", "pcx"], "did you mean 'pca'?"),
        (["--features", "pca:x"], "pca:64, would be right"),
        (["--features", "pca:65"], "has no 65 axes"),
        (["--features", "inception"], "inception:FILE"),
        (["--features", "inception:nowhere.safetensors"], "nowhere.safetensors"),
        (["--features", "classifier:nowhere.safetensors"], "nowhere.safetensors"),
        (["--samples", "nowhere.npz"], "there is no such file"),
        (["--out", "numbers.txt"], "ends in .json"),
        (["--best"], "has no best weights"),
        (["nowhere/at/all"], "nowhere/at/all"),
        (["-n", "1", "--metrics", "frechet"], "frechet is left out: it needs 2 images a side"),
    ],
)
def test_invalid_input_is_a_one_line_error(diffprob, tiny, arguments, message):
    done = diffprob("evaluate", tiny, *QUICK[2:], *arguments, *([] if "-n" in arguments else QUICK[:2]))
    assert done.code == 2
    assert message in done.error


def test_samples_of_other_weights_are_an_error(diffprob, tiny):
    assert diffprob("sample", "digits", "-n", "4", "--steps", "1", "--out", "x.npz").code == 0
    assert "drawn from other weights" in diffprob("evaluate", tiny, "--samples", "x.npz").error
    np.savez("y.npz", images=np.zeros((2, 1, 8, 8), np.uint8))
    assert "not a file that" in diffprob("evaluate", tiny, "--samples", "y.npz").error
    assert diffprob("sample", tiny, "-n", "1", "--steps", "1", "--out", "x.png").code == 0
    for other in ("x.png", tiny, tiny / "model.safetensors"):
        message = f"--samples {other}: not a file that `diffprob sample --out x.npz` wrote"
        assert diffprob("evaluate", tiny, "--samples", other).error == message


def test_images_without_a_test_split(diffprob):
    """Compared with the training images, said aloud; with held-out pictures, grey as the run's, compared with these."""
    from PIL import Image

    from diffprob.data import Digits

    pixels = Digits("train").load().pixels[:60, 0] * 15
    for k, image in enumerate(pixels):
        folder = Path("seen" if k < 40 else "unseen")
        folder.mkdir(exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{k}.png")
    command = ("train", "--data", "seen", "--size", "8", "--held-out", "none", "--steps", "2", "--out", "run", *TINY)
    assert diffprob(*command).code == 0
    plain = diffprob("evaluate", "run", "-n", "20", "--steps", "2", "--json").json
    assert plain["split"] == "train" and plain["real_n"] is None
    assert any("compared with the training images themselves" in note for note in plain["notes"])
    for verb in (("evaluate",), ("detect", "--outside", "unseen")):
        refused = diffprob(verb[0], "run", *verb[1:], "--held-out", "seen", "--dry-run", "--device", "cpu")
        assert "--held-out seen: the images that run was trained on" in refused.error
    held = diffprob("evaluate", "run", "-n", "20", "--steps", "2", "--held-out", "unseen", "--json").json
    assert held["role"] == "other data" and held["data"] == "unseen" and held["real_n"] == 20
    assert any(title.startswith("memorisation") for title in rows(held))


def test_statistics_files_of_other_tools_serve_as_reference(diffprob, tiny):
    """The statistics of the held-out images themselves give the distance to these images."""
    from diffprob.data import Digits
    from diffprob.evaluation.features import PcaFeatures, extract

    features = extract(PcaFeatures.fit(Digits("train").load(), 8, 17), Digits("test").load()).double().numpy()
    np.savez("held.npz", mu=features.mean(0), sigma=np.cov(features, rowvar=False))
    done = diffprob("evaluate", tiny, *QUICK, "--metrics", "frechet", "--statistics", "held.npz", "--json")
    result = rows(done.json)
    named = result["Frechet distance to the statistics held.npz"]
    assert named["value"] == pytest.approx(result["Frechet distance"]["value"], rel=1e-9)
    by_name = {item.name: item for item in Run.open(tiny).measurements}
    sha = hashlib.sha256(Path("held.npz").read_bytes()).hexdigest()
    kept = by_name["Frechet distance to the statistics held.npz"]
    assert (kept.data, kept.digest, kept.role) == ("held.npz", sha, "other data")
    assert by_name["Frechet distance"].role == "test" and done.json["statistics_sha256"] == sha
    np.savez("narrow.npz", mu=np.zeros(3), sigma=np.eye(3))
    assert diffprob("evaluate", tiny, *QUICK, "--statistics", "narrow.npz").code == 2
    assert "nowhere.npz" in diffprob("evaluate", tiny, *QUICK, "--statistics", "nowhere.npz").error


def test_other_images_at_the_data_path_are_not_taken_for_training_images(diffprob, tiny, tmp_path):
    """Not as training images, whose repetition is looked for; as held-out ones they are called other data."""
    from diffprob.data import Digits

    odd = Digits("test").load().take(np.arange(60))[:, :, ::-1] * np.uint8(15)
    np.save("odd.npy", np.ascontiguousarray(odd))
    assert "not the images that digits was trained on" in diffprob("evaluate", tiny, "odd.npy", *QUICK).error
    quick = [*QUICK, "--metrics", "sliced", "--json"]
    result = diffprob("evaluate", tiny, "--held-out", "odd.npy", "--resize", *quick).json
    assert (result["role"], result["data"], result["converted"]) == ("other data", "odd.npy", "256 grey levels made 17")
    assert any("memorisation: withheld" in note for note in result["notes"])
    (item,) = [item for item in Run.open(tiny).measurements if item.name.startswith("sliced")]
    assert (item.role, item.data, item.digest) == ("other data", "odd.npy", result["data_sha256"])
    assert result["train_sha256"] == Run.open(tiny).meta["data"]
    np.save("large.npy", np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8))
    packaged = diffprob("evaluate", "mnist", "--held-out", "large.npy", "--dry-run", "--json")
    assert packaged.json["role"] == "other data" and packaged.json["train_sha256"] is None
    assert "without the training images" in packaged.err


def log(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]


def test_monitoring_logs_metrics_keeps_best_weights_and_resumes(diffprob):
    """Metrics are in the log, the best weights are kept, and a resumed training has both to the bit."""
    train = ["train", "digits", "--set", MONITOR, *TINY]
    assert diffprob(*train, "--steps", "12", "--out", "whole").code == 0
    assert diffprob(*train, "--steps", "5", "--out", "parts").code == 0
    assert diffprob(*train, "--steps", "12", "--out", "parts").code == 0
    whole = [record for record in log(Path("whole")) if "measured" in record]
    # 1,437 images x 0.02 epochs / 8 a batch is every 4 steps.
    assert [record["step"] for record in whole] == [4, 8, 12]
    parts = [record for record in log(Path("parts")) if "measured" in record and record["step"] != 5]
    assert parts == whole
    assert whole[0]["measured"]["features"].startswith("PCA of 1,437")
    measured = whole[0]["measured"]
    assert (measured["split"], measured["role"], measured["digest"]) == (
        "test",
        "test",
        dp.Digits("test").load().digest(),
    )
    older = {name: value for name, value in measured.items() if name not in {"role", "digest"}}
    assert alike(older, measured) and not alike({**measured, "digest": "0"}, measured) and not alike(None, measured)
    values = {record["step"]: record["metric/sliced Wasserstein-2 distance of pixels"] for record in whole}
    run = Run.open("whole")
    assert run.weights_path(best=True).exists()
    assert set(run.weights()) == set(run.weights(best=True))
    from diffprob.storage.tensors import read_metadata

    about = read_metadata(run.weights_path(best=True))
    best = min(values, key=lambda step: values[step])
    assert int(about["step"]) == best and float(about["value"]) == values[best]
    done = diffprob("sample", "whole", "--best", "-n", "2", "--steps", "1", "--dry-run", "--json")
    assert done.json["step"] == best


def test_invalid_monitor_is_an_error(diffprob):
    for value, message in (
        ('Monitor(metrics=("frechett",))', "did you mean 'frechet'?"),
        ('Monitor(metrics=("manifold",), best="kid")', "best must be one of the metrics"),
        ('Monitor(metrics=("per-class",), best="per-class")', "is several numbers"),
        ("Monitor(n=1)", "n must be at least 2"),
        ('Monitor(features="pcx")', "did you mean 'pca'?"),
        ("Training(steps=1)", "monitor"),
    ):
        done = diffprob("train", "digits", "--set", f"training.monitor={value}", *TINY, "--steps", "1", "--out", "x")
        assert done.code == 2 and message in done.error, done.err
        assert not Path("x").exists()


def test_tensorboard_log_has_losses_and_metrics(diffprob):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train = ["train", "digits", "--set", MONITOR, *TINY, "--set", "training.sample_every=4", "--tensorboard"]
    assert diffprob(*train, "--steps", "10", "--out", "x").code == 0
    assert diffprob(*train, "--steps", "20", "--out", "x").code == 0
    events = EventAccumulator("x/tensorboard")
    events.Reload()
    logged = {record["step"]: record["loss"] for record in log(Path("x")) if "loss" in record}
    shown = {event.step: event.value for event in events.Scalars("train/loss")}
    assert shown == pytest.approx(logged, rel=1e-6)
    name = "metric/sliced Wasserstein-2 distance of pixels"
    assert [event.step for event in events.Scalars(name)] == [4, 8, 10, 12, 16, 20]
    assert events.Images("samples")
