"""A run's own images are recognised by their digest, wherever they lie."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import diffprob as dp
from diffprob.base.errors import InputError, Missing
from diffprob.recipes import named
from diffprob.runs.images import OtherData, OwnImages, images_of
from diffprob.runs.measurements import Measurement, add_measurement, against, read_measurements
from diffprob.space.pixels import Pixels

RANDOM = np.random.default_rng(0)


def put(path: Path, train: np.ndarray, test: np.ndarray | None = None) -> str:
    np.savez(path, x_train=train, **({} if test is None else {"x_test": test}))
    return str(path)


@pytest.fixture
def images() -> np.ndarray:
    return RANDOM.integers(0, 256, (30, 8, 8), dtype=np.uint8)


@pytest.fixture
def run(tmp_path: Path, images: np.ndarray) -> Any:
    space = Pixels((1, 8, 8), 256)
    data = dp.Array(put(tmp_path / "own.npz", images[:20], images[20:]))
    recipe = replace(named("digits"), data=data, space=space)
    meta = {"data": data.load().digest()}
    return SimpleNamespace(recipe=recipe, name="mine", place="mine", space=space, meta=meta, measurements=[])


def test_each_split_has_its_role(run: Any) -> None:
    own = OwnImages(run)
    assert own.test is not None and (own.train.role, own.test.role) == ("train", "test") and not own.notes
    assert own.test.data == "Array(path='own.npz', split='test', channels=None, levels=None)"


def test_other_data_at_the_path_is_an_error_or_noted(run: Any, images: np.ndarray) -> None:
    put(Path(run.recipe.data.path), 255 - images[:20], images[20:])
    with pytest.raises(OtherData, match="not the images that mine was trained on"):
        _ = OwnImages(run).train
    selection, notes = images_of(run)
    assert selection.role == "other data" and "not those of the run" in notes[0]


def test_held_out_images_are_identified_by_the_first_record(run: Any, images: np.ndarray) -> None:
    own, _ = images_of(run)
    run.measurements = [
        Measurement("x", 1.0, 1, split="test"),
        Measurement("x", 1.0, 1, role="test", digest=own.digest),
    ]
    assert images_of(run)[0].role == "test"
    put(Path(run.recipe.data.path), images[:20], images[10:20])
    selection, notes = images_of(run)
    assert selection.role == "other data" and "not the held-out images of mine" in notes[0]


def test_missing_labels_do_not_change_the_known_held_out_images(run: Any, images: np.ndarray) -> None:
    """A file of labels that was left behind once made the whole test split other data for ever after."""
    labels = np.arange(30) % 3
    arrays = {"x_train": images[:20], "y_train": labels[:20], "x_test": images[20:]}
    np.savez(run.recipe.data.path, **arrays)
    run.meta = {"data": run.recipe.data.load().digest()}
    bare, notes = images_of(run)
    assert (bare.role, bare.converted) == ("test", "without labels") and "is their file missing?" in notes[0]
    run.measurements = [Measurement("x", 1.0, 1, role="test", digest=bare.digest, converted=bare.converted)]
    np.savez(run.recipe.data.path, **arrays, y_test=labels[20:])
    whole, notes = images_of(run)
    assert (whole.role, whole.converted, notes) == ("test", "", [])
    run.measurements.append(Measurement("x", 1.0, 1, role="test", digest=whole.digest))
    assert images_of(run)[0].role == "test"
    np.savez(run.recipe.data.path, **arrays)
    assert images_of(run)[0].role == "other data"


def test_own_images_are_identified_by_digest_not_path(run: Any, images: np.ndarray, tmp_path: Path) -> None:
    same_images = put(tmp_path / "moved.npz", images[:20], images[20:])
    other = put(tmp_path / "other.npz", images[5:25], images[:5])
    Path(run.recipe.data.path).unlink()
    with pytest.raises(Missing, match="data=PATH says where"):
        _ = OwnImages(run).train
    for source, data in ((same_images, None), (None, same_images)):
        assert images_of(run, source, data)[0].role == "test"
        assert images_of(run, source, data, "train")[0].role == "train"
    for split, part in (("auto", "test"), ("train", "train")):
        selection, _ = images_of(run, other, split=split)
        assert (selection.role, selection.split, selection.data) == ("other data", part, other)


def test_training_images_as_held_out_images_are_noted(run: Any, images: np.ndarray) -> None:
    path = Path(run.recipe.data.path)
    put(path, images[:20])
    selection, notes = images_of(run)
    assert selection.role == "train" and "these are the training images" in notes[0]
    with pytest.raises(Missing, match='split="test"'):
        images_of(run, split="test")


def test_damaged_data_is_not_treated_as_missing(run: Any) -> None:
    path = Path(run.recipe.data.path)
    path.write_bytes(path.read_bytes()[:-40])
    for call in (lambda: images_of(run), lambda: OwnImages(run).test):
        with pytest.raises(InputError) as refused:
            call()
        assert not isinstance(refused.value, Missing | OtherData)


def test_records_name_their_data_and_old_records_load(tmp_path: Path) -> None:
    old = '[{"name": "bits/dim", "value": 2.0, "n": 5, "seed": 0, "step": 4, "details": {}, "low": null, "high": null,'
    (tmp_path / "measured.json").write_text(old + ' "features": "", "split": "test", "reference": null}]')
    (item,) = read_measurements(tmp_path)
    new = replace(item, value=1.0, role="test", data="Digits(split='test')", digest="ab" * 32)
    other = replace(new, role="other data", data="letters", digest="cd" * 32, converted="made grey")
    another = replace(other, digest="ef" * 32)
    measurements: list[Measurement] = []
    for measurement in (item, new, other, another, new):
        measurements = add_measurement(measurements, measurement)
    assert measurements == [other, another, new]
    assert [against(measurement) for measurement in (item, new)] == ["test", "test"]
    assert against(other) == "other data: letters, made grey (sha256 cdcdcdcd)"


def test_data_of_other_classes_or_fewer_images_is_other_data(tmp_path: Path, run: Any, images: np.ndarray) -> None:
    """Pictures in one folder could not be ranked by a run of pictures in sub-folders: its split has bounds by class."""
    odd = put(tmp_path / "odd.npz", images[:5])
    np.savez(run.recipe.data.path, x=images, y=np.arange(30) % 3)
    source = dp.Array(run.recipe.data.path)
    for data in (dp.TrainTestSplit(source, (0.3, 0.3, 0.3)), dp.Subset(source, 20), dp.Subset(source, 4, "1")):
        run.recipe = replace(run.recipe, data=data)
        run.meta = {"data": data.load().digest()}
        selection, _ = images_of(run, odd)
        assert (selection.role, len(selection)) == ("other data", 5), data
