"""A source of fewer images than another."""

from typing import Any

import numpy as np
import pytest

from diffprob.base.errors import InputError
from diffprob.config.registry import ALL
from diffprob.config.spec import parse
from diffprob.data import Array, Digits, Images, Subset


def test_subset_takes_the_first_images_and_labels():
    whole, few = Digits().load(), Subset(Digits(), 7).load()
    assert whole.labels is not None and few.labels is not None
    np.testing.assert_array_equal(few.pixels, whole.pixels[:7])
    np.testing.assert_array_equal(few.labels, whole.labels[:7])
    assert (few.levels, few.class_names, few.name) == (17, whole.class_names, "7 images of digits/train")
    assert Subset(Digits()).load().digest() == whole.digest()


def test_subset_takes_one_class_in_order():
    whole = Digits().load()
    threes = Subset(Digits(), label=3).load()
    assert threes.labels is not None
    assert len(threes) == int((whole.labels == 3).sum()) and set(threes.labels.tolist()) == {3}
    np.testing.assert_array_equal(Subset(Digits(), 5, 3).load().pixels, whole.pixels[whole.labels == 3][:5])
    assert Subset(Digits(), 5, 3).load().name == "5 images of label 3 of digits/train"


def test_negative_file_label_selects_its_class(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.arange(48, dtype=np.uint8).reshape(3, 4, 4), labels=[1, -1, 1])
    chosen = Subset(Array(str(tmp_path / "x.npz")), label=-1)
    assert chosen.load().pixels.min() == 16 and parse(repr(chosen), ALL) == chosen
    assert Subset(chosen.source, label="-1").load().digest() == chosen.load().digest()


def test_subset_keeps_captions():
    class Captioned:
        def load(self):
            return Images(np.zeros((3, 1, 2, 2), np.uint8), captions=("one", "two", "three"))

    assert Subset(Captioned(), 2).load().captions == ("one", "two")


def test_subset_survives_the_round_trip():
    for source in (Subset(Digits(), 9), Subset(Array("a b.npz"), None, 2)):
        assert parse(repr(source), ALL) == source


def test_missing_images_or_classes_are_errors(tmp_path):
    with pytest.raises(InputError, match=r"digits/train has 1437 images: n=1438 are too many"):
        Subset(Digits(), 1438).load()
    for label in (10, -1):
        with pytest.raises(
            InputError, match=rf"has no image of label {label}; those that the files give it are 0, 1, 2,"
        ):
            Subset(Digits(), label=label).load()
    np.save(tmp_path / "x.npy", np.zeros((4, 8, 8), np.uint8))
    with pytest.raises(InputError, match="no labels"):
        Subset(Array(str(tmp_path / "x.npy")), label=0).load()
    wrong: list[dict[str, Any]] = [{"n": 0}, {"n": 2.0}, {"n": True}, {"label": 1.0}]
    for fields in wrong:
        with pytest.raises(ValueError, match=r"must be a(t least| whole number)"):
            Subset(Digits(), **fields)
    kind: Any = Digits
    with pytest.raises(ValueError, match=r"source cannot be <class"):
        Subset(kind)


def test_selected_images_keep_labels_and_files() -> None:
    images = Images(
        np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1), np.array([3, 1, 3, 1]), files=("a", "b", "c", "d")
    )
    subset = images.some([3, 0])
    assert subset.files == ("d", "a") and subset.pixels.reshape(-1).tolist() == [3, 0] and subset.labels is not None
    assert subset.former_labels.tolist() == [1, 3] and subset.class_names == images.class_names
