"""`baseline classifier`: trains, measures, keeps; finds what was kept; never overwrites another classifier."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli.commands import contents

import diffprob as dp
from diffprob.evaluation.classifier import open_classifier
from diffprob.evaluation.classify import judge

QUICK = ("--epochs", "1", "--device", "cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFPROB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """Images with labels and no test split."""
    digits = dp.Digits("test").load()
    path = tmp_path / "half.npz"
    np.savez(path, images=digits.pixels[:60, 0] * 15, labels=digits.labels[:60])
    return path


def test_classifier_is_trained_measured_kept_and_reused(diffprob: Callable, cache: Path) -> None:
    first = diffprob("baseline", "classifier", "digits", *QUICK, "--json").json
    assert (first["fresh"], first["tested"], first["on"], first["classes"]) == (True, 360, "the test split", 10)
    assert first["data_sha256"] == dp.Digits().load().digest()
    kept = open_classifier(first["path"])
    test = dp.Digits("test").load()
    assert first["accuracy"] == judge(kept.net, test.pixels, test.labels, 17).accuracy
    assert first["features_sha256"] == kept.features().digest
    assert first["next"] == "diffprob evaluate RUN digits"
    before = contents(cache)
    done = diffprob("baseline", "classifier", "digits", *QUICK)
    assert "was trained before" in done.out
    assert f"{first['accuracy']:.2%} of 360 images (the test split)" in done.out
    assert first["features"] in done.out
    assert contents(cache) == before


def test_grey_images_have_one_channel(diffprob: Callable, tmp_path: Path) -> None:
    """As for `train --data`; but a run that was begun with three equal channels goes on with them."""
    from PIL import Image

    for k, pixels in enumerate(dp.Digits().load().pixels[:24, 0]):
        (tmp_path / f"pics/{k % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels * 15).save(tmp_path / f"pics/{k % 2}/{k}.png")
    small = ("--set", "network.widths=(4,)", "--set", "training.batch=4", "--device", "cpu", "--steps", "1")
    assert diffprob("baseline", "ebm", "pics", *small, "--channels", "3", "--out", "old").code == 0
    assert "finished: at step 1" in diffprob("baseline", "ebm", "pics", *small, "--out", "old", "--dry-run").out
    assert diffprob("baseline", "glow", "pics", "--dry-run", "--json").json["about"]["data"].count("channels=1")
    done = diffprob("baseline", "classifier", "pics", "--dry-run", "--json")
    assert done.json["data_sha256"] == dp.Folder("pics", channels=1).load().digest()
    assert "all three channels are equal: one is used" in done.err


def test_progress_is_on_stderr(diffprob: Callable) -> None:
    done = diffprob("baseline", "classifier", "digits", *QUICK)
    assert "classifier: step 11 of 11, epoch 1, loss" in done.err
    assert "next: diffprob evaluate RUN digits" in done.out


def test_existing_file_is_not_overwritten(diffprob: Callable, tmp_path: Path) -> None:
    result = diffprob("baseline", "classifier", "digits", *QUICK, "--out", "own/c.safetensors", "--json").json
    path = tmp_path / "own" / "c.safetensors"
    assert result["next"] == "diffprob evaluate RUN digits --features classifier:own/c.safetensors"
    before = path.read_bytes()
    done = diffprob("baseline", "classifier", "digits", *QUICK, "--seed", "1", "--out", path)
    assert (done.code, path.read_bytes()) == (2, before)
    assert "holds another classifier: its settings is" in done.error


def test_missing_test_split_reports_the_held_out_share(diffprob: Callable, half: Path) -> None:
    done = diffprob("baseline", "classifier", half, *QUICK)
    assert done.code == 0, done.err
    assert "no test split" in done.err
    assert "a tenth of the images is held back" in done.err
    assert "of 6 images (images held back)" in done.out


def test_single_file_is_not_its_own_test_split(diffprob: Callable, tmp_path: Path) -> None:
    """A file of idx images is taken whole, whatever the split: testing on the training images would flatter."""
    digits = dp.Digits("test").load()
    head = np.array([0x803, 60, 8, 8], ">i4").tobytes()
    (tmp_path / "a-images-idx3-ubyte").write_bytes(head + (digits.pixels[:60] * 15).tobytes())
    labels = np.array([0x801, 60], ">i4").tobytes() + digits.labels[:60].astype(np.uint8).tobytes()
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(labels)
    done = diffprob("baseline", "classifier", tmp_path / "a-images-idx3-ubyte", *QUICK, "--dry-run", "--json")
    assert done.json["held_back"] == 0.1
    assert "taken whole" in done.err


def test_dry_run_writes_nothing(diffprob: Callable, tmp_path: Path) -> None:
    plan = diffprob("baseline", "classifier", "digits", "--device", "cpu", "--dry-run", "--json").json
    assert (plan["exists"], plan["held_back"], plan["parameters"]) == (False, 0.0, 72_250)
    assert "epochs=42" in plan["settings"]
    assert "(new)" in diffprob("baseline", "classifier", "digits", "--dry-run", "--out", "x.safetensors").out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classifer", "digits"], "no baseline 'classifer' .*did you mean 'classifier'"),
        (["classifier", "digitz"], "no such file.*did you mean 'digits'"),
        (["classifier", "digits", "--out", "x.png"], r"ends in \.safetensors"),
        (["classifier", "digits", "--epochs", "0"], "--epochs: must be at least 1"),
        (["classifier", "plain.npy"], "no labels"),
    ],
    ids=" ".join,
)
def test_invalid_options_are_errors(diffprob: Callable, tmp_path: Path, arguments: list[str], message: str) -> None:
    import re

    np.save(tmp_path / "plain.npy", np.zeros((30, 8, 8), np.uint8))
    done = diffprob("baseline", *arguments)
    assert done.code == 2
    assert re.search(message, done.error), done.error
