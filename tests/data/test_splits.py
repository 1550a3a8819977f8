"""Splits by the usual names in any case, and a word where names look like splits and are not taken for them."""

import numpy as np
import pytest
from PIL import Image

from diffprob.base.errors import Missing
from diffprob.data import Array, Folder, check
from diffprob.data.formats.splits import like_split


def _fill(root, **counts):
    """So many pictures in each folder, all of the split in one grey."""
    for k, (folder, n) in enumerate(counts.items()):
        for label in ("cat", "dog"):
            (root / folder / label).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(np.full((8, 8), k + 1, np.uint8)).save(root / folder / label / f"{i}.png")
    return root


NAMES = [
    ("Train", "Test"), ("training", "testing"), ("Training", "Testing"), ("train", "dev"), ("train", "eval"),
    ("train", "Val"), ("TRAIN", "VALID"), ("train", "validation"),
]  # fmt: skip


@pytest.mark.parametrize(("train", "test"), NAMES)
def test_usual_names_in_any_case_are_splits(tmp_path, train, test):
    root = _fill(tmp_path, **{train: 3, test: 2})
    loaded = {split: Folder(str(root), channels=1, split=split).load() for split in ("train", "test", "all")}
    assert {split: len(images) for split, images in loaded.items()} == {"train": 6, "test": 4, "all": 10}
    assert set(np.unique(loaded["train"].pixels)) == {1}
    assert set(np.unique(loaded["test"].pixels)) == {2}
    assert loaded["train"].class_names == ("cat", "dog")
    for split, name in (("train", train), ("test", test)):
        noted = f"split '{split}' is the sub-folder {name}" in loaded[split].notes
        assert noted == (name != split)
        assert loaded[split].doubts == ()


def test_first_of_two_splits_is_taken_and_noted(tmp_path):
    root = _fill(tmp_path, train=3, val=1, test=2)
    test = Folder(str(root), split="test").load()
    assert len(test) == 4
    assert "split 'test' is test alone: val not taken" in test.notes
    assert len(Folder(str(root), split="all").load()) == 12


def test_folders_beside_the_splits_are_noted(tmp_path):
    images = Folder(str(_fill(tmp_path, train=3, test=2, masks=1))).load()
    assert len(images) == 6
    assert "sub-folders beside train and test not read: masks" in images.notes


def test_absent_split_raises_missing(tmp_path):
    root = _fill(tmp_path, Training=3)
    assert len(Folder(str(root)).load()) == 6
    with pytest.raises(Missing, match="Training"):
        Folder(str(root), split="test").load()


@pytest.mark.parametrize(
    ("counts", "names"),
    [
        ({"Train": 1, "Test": 1, "more": 1}, ()),  # two splits beside something else are splits
        ({"train": 1, "bus": 1}, ("train",)),
        ({"train2017": 1, "val2017": 1}, ("train2017", "val2017")),
        ({"Train_Images": 1, "Test Set": 1}, ("Test Set", "Train_Images")),
        ({"archive/train": 1, "archive/test": 1}, ("test", "train")),
        ({"cats": 1, "trains": 1}, ()),
        ({"train/test": 1, "test/car": 1}, ()),  # a class of that name, among the training images
    ],
)
def test_names_resembling_splits_warn(tmp_path, counts, names):
    report = check(Folder(str(_fill(tmp_path, **counts))))
    doubts = [warning for warning in report.warnings if "folders called" in warning]
    assert len(doubts) == bool(names)
    assert all(f"folders called {', '.join(names)} are read" in doubt for doubt in doubts)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x_train", "train"),
        ("Testing", "test"),
        ("train_test", None),
        ("contrain", None),
        ("val-2", "test"),
        ("", None),
    ],
)
def test_like_split_recognises_similar_names(name, kind):
    assert like_split(name) == kind


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (("X_train", "Y_train"), ("X_test", "Y_test")),
        (("train_images", "train_labels"), ("val_images", "val_labels")),
        (("train_x", "train_y"), ("dev_x", "dev_y")),
        (("Images_Training", "Labels_Training"), ("Images_Testing", "Labels_Testing")),
    ],
)
def test_arrays_have_the_same_split_names(tmp_path, train, test):
    file = tmp_path / "a.npz"
    stored = {}
    for k, (images, labels) in enumerate((train, test)):
        stored[images], stored[labels] = np.full((5 - k, 4, 4), k, np.uint8), np.full(5 - k, k)
    np.savez(file, **stored)
    for k, split in enumerate(("train", "test")):
        images = Array(str(file), split).load()
        assert len(images) == 5 - k
        assert images.class_names == (str(k),)
        exact = split in (train, test)[k][0].lower().split("_")
        assert any(note == f"split '{split}' is {(train, test)[k][0]}" for note in images.notes) == (not exact)


def test_both_test_and_val_in_one_file_is_noted(tmp_path):
    np.savez(
        tmp_path / "a.npz", **{f"{s}_images": np.full((2, 4, 4), k, np.uint8) for k, s in enumerate(("val", "test"))}
    )
    images = Array(str(tmp_path / "a.npz"), "test").load()
    assert set(np.unique(images.pixels)) == {1}
    assert "split 'test' is test_images alone: val_images not taken" in images.notes
