"""Where the real images of a run come from when it was trained on some of a source."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fuzz.data import mutated
from PIL import Image

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.recipes import named
from diffprob.runs.publish import write_run
from diffprob.space.pixels import Pixels
from diffprob.tasks.images import read_samples, splits


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 2
    parts = {"x_train": pixels[:20], "y_train": labels, "x_test": pixels[20:], "y_test": labels[:10]}
    np.savez(tmp_path / "images.npz", **parts)
    return tmp_path / "images.npz"


def _run(data: Any) -> Any:
    recipe = replace(named("digits"), data=data, space=Pixels((1, 8, 8), 256))
    return SimpleNamespace(
        recipe=recipe, space=recipe.space, name="tiny", place="tiny", meta={"data": None}, measurements=[]
    )


@pytest.mark.parametrize("label", [None, 1])
def test_held_out_images_are_of_the_trained_class_at_the_given_path(stored: Path, label: int | None) -> None:
    run = _run(dp.Subset(dp.Array("gone.npz"), 4, label))
    train, test = splits(run, str(stored))
    with np.load(stored) as parts:
        own, others = ((parts[f"x_{split}"], parts[f"y_{split}"]) for split in ("train", "test"))
    taken = slice(None) if label is None else slice(label, None, 2)
    assert test is not None
    np.testing.assert_array_equal(np.asarray(train.pixels)[:, 0], own[0][taken][:4])
    np.testing.assert_array_equal(np.asarray(test.pixels)[:, 0], others[0][taken])


def test_data_of_another_format_is_read_whole(stored: Path) -> None:
    train, _ = splits(_run(dp.Subset(dp.Idx("gone"), 4)), str(stored))
    assert len(train) == 20


@pytest.fixture
def damaged(trained: Path, tmp_path: Path) -> Path:
    """A run on pictures in grey, one picture of whose test split is cut short."""
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for k in range(6):
                picture = Image.fromarray(np.full((8, 8), 20 * k + 7 * label, np.uint8))
                picture.save(tmp_path / "data" / split / name / f"{k}.png")
    cut = tmp_path / "data" / "test" / "cat" / "3.png"
    cut.write_bytes(cut.read_bytes()[:50])
    known, data = dp.Run.open(trained), dp.Folder(str(tmp_path / "data"), channels=1)
    recipe = replace(known.recipe, data=data, space=Pixels((1, 8, 8), 256))
    write_run(tmp_path / "run", recipe, known.weights(), data.load().digest(), 4)
    return tmp_path / "run"


@pytest.mark.parametrize(
    "verb",
    ["evaluate RUN -n 4", "likelihood RUN", "detect RUN DATA", "baseline classifier DATA --dry-run",
     "train RUN/recipe.txt --out new --set training.monitor=Monitor(epochs=1)", "restore RUN DATA --out x",
     "report RUN"],
)  # fmt: skip
def test_damaged_test_split_is_reported(diffprob: Callable, damaged: Path, verb: str) -> None:
    data = damaged.parent / "data"
    if verb == "report RUN":  # shows training images alone
        (data / "train" / "cat" / "3.png").write_bytes((data / "test" / "cat" / "3.png").read_bytes())
    command = [word.replace("RUN", str(damaged)).replace("DATA", str(data)) for word in verb.split()]
    done = diffprob(*command)
    assert done.code == 2
    assert "3.png: a damaged or truncated image" in done.err


def test_damaged_samples_are_errors(trained: Path, tmp_path: Path) -> None:
    run, path = dp.Run.open(trained), tmp_path / "x.npz"
    pixels = np.arange(3 * 64, dtype=np.uint8).reshape(3, 1, 8, 8) % 17
    provenance = {**run.weights_provenance(), "steps": 3}
    np.savez_compressed(path, images=pixels, metadata=np.array(json.dumps(provenance)))
    data = path.read_bytes()
    settings, levels = read_samples(path, run, ("steps",))
    assert settings == {"steps": 3}
    np.testing.assert_array_equal(levels, pixels)
    refused = []
    for seed in range(100):
        path.write_bytes(mutated(data, random.Random(seed)))
        try:
            read_samples(path, run, ("steps",))
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all("x.npz" in text for text in refused)
    for text in ("[", "7", '"words"', "[1, 2]"):
        np.savez(path, images=pixels, metadata=np.array(text))
        with pytest.raises(InputError, match="file of samples"):
            read_samples(path, run, ("steps",))
    np.savez(path, images=pixels)
    with pytest.raises(InputError, match="wrote"):
        read_samples(path, run, ("steps",))
