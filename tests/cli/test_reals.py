"""Where the real images of a run come from when it was trained on some of a source."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import diffprob as dp
from diffprob.cli.reals import splits
from diffprob.recipes import named
from diffprob.space.pixels import Pixels


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 2
    parts = {"x_train": pixels[:20], "y_train": labels, "x_test": pixels[20:], "y_test": labels[:10]}
    np.savez(tmp_path / "images.npz", **parts)
    return tmp_path / "images.npz"


def _run(data: Any) -> Any:
    recipe = replace(named("digits"), data=data, space=Pixels((1, 8, 8), 256))
    return SimpleNamespace(recipe=recipe, name="tiny")


@pytest.mark.parametrize("label", [None, 1])
def test_held_out_images_are_of_the_class_trained_on_at_the_place_given(stored: Path, label: int | None) -> None:
    run = _run(dp.First(dp.Array("gone.npz"), 4, label))
    train, test = splits(run, str(stored))
    with np.load(stored) as parts:
        own, others = ((parts[f"x_{split}"], parts[f"y_{split}"]) for split in ("train", "test"))
    taken = slice(None) if label is None else slice(label, None, 2)
    assert test is not None
    np.testing.assert_array_equal(np.asarray(train.pixels)[:, 0], own[0][taken][:4])
    np.testing.assert_array_equal(np.asarray(test.pixels)[:, 0], others[0][taken])


def test_data_of_another_kind_is_read_as_it_is(stored: Path) -> None:
    train, _ = splits(_run(dp.First(dp.Idx("gone"), 4)), str(stored))
    assert len(train) == 20
