"""Classes are known by their names: how names are sorted, what a label of a file becomes, and how splits agree."""

import hashlib
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffprob.base.errors import InputError
from diffprob.conditions.condition import Labels
from diffprob.data import Array, Concatenated, Folder, Images, Subset
from diffprob.data.classes import absent, joint, natural, numbered

FRUIT = {"apple": 40, "banana": 128, "cherry": 215}


def pictures(folder: Path, names: dict[str, int], count: int = 3) -> None:
    """Grey 4x4 pictures of one brightness a class."""
    for name, grey in names.items():
        (folder / name).mkdir(parents=True)
        for k in range(count):
            Image.fromarray(np.full((4, 4), grey + k, np.uint8)).save(folder / name / f"{k}.png")


def brightness(images: Images) -> dict[str, int]:
    """What the pictures of each class look like, by name."""
    assert images.labels is not None
    names = [images.class_names[k] for k in images.labels]
    return {name: int(images.pixels[names.index(name)].min()) for name in names}


@pytest.mark.parametrize(
    ("names", "order"),
    [
        ("10 9 1 b a 2", "1 2 9 10 a b"),
        ("-3 12 0 -12", "-12 -3 0 12"),
        ("img12 img2 img007 img", "img img2 img007 img12"),
        ("b10 a2 a10 B1", "B1 a2 a10 b10"),
        (f"{10**400} {10**399}", f"{10**399} {10**400}"),
        ("7 07", "07 7"),
    ],
)
def test_names_are_sorted_in_natural_order(names: str, order: str) -> None:
    assert sorted(names.split(), key=natural) == order.split()


def test_names_without_digits_are_sorted_as_text() -> None:
    names = ["z", "a b", "a.b", "ab", "É", "A"]
    assert sorted(names, key=natural) == sorted(names)


def test_numeric_folders_are_in_numeric_order(tmp_path: Path) -> None:
    pictures(tmp_path, {"1": 10, "10": 200, "2": 90})
    images = Folder(str(tmp_path), channels=1).load()
    assert images.class_names == ("1", "2", "10")
    assert brightness(images) == {"1": 10, "2": 90, "10": 200}
    # A run without class names numbered them as text, and its digest must stay what it was.
    assert images.former_names(4) == ("1", "10", "2", "")
    sha = hashlib.sha256(b"(9, 1, 4, 4)" + images.pixels.tobytes())
    sha.update(np.repeat([0, 1, 2], 3).astype("<i8").tobytes())
    assert images.digest() == sha.hexdigest()
    assert images.former_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("values", [(2021, 2022, 2023), (1, 2, 3), (-5, 0, 11_000_000), (2**40, 7, 0)])
def test_only_labels_that_occur_are_classes(tmp_path: Path, values: tuple[int, ...]) -> None:
    pixels, labels = np.zeros((6, 4, 4), np.uint8), np.array(values * 2)
    np.savez(tmp_path / "x.npz", images=pixels, labels=labels)
    images = Array(str(tmp_path / "x.npz")).load()
    ordered = sorted(values)
    assert images.class_names == tuple(map(str, ordered))
    assert images.labels is not None and images.labels.tolist() == [ordered.index(v) for v in values] * 2
    assert images.class_counts == (2, 2, 2)
    sha = hashlib.sha256(b"(6, 1, 4, 4)" + pixels.tobytes() + labels.astype("<i8").tobytes())
    assert images.digest() == sha.hexdigest()
    assert images.former_labels.tolist() == labels.tolist()


def test_labels_beyond_int64_are_errors(tmp_path: Path) -> None:
    """They once came back negative, as other classes than the file's."""
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.array([1, 2**64 - 1], np.uint64))
    with pytest.raises(InputError, match="labels: labels go up to 18446744073709551615; at most 9223372036854775807"):
        Array(str(tmp_path / "x.npz")).load()


def test_large_label_values_cost_no_memory() -> None:
    """Labels up to 11 million once made as many classes."""
    labels, names, values = numbered(np.array([11_000_000, 3] * 1000))
    assert (names, values, labels[:2].tolist()) == (("3", "11000000"), (3, 11_000_000), [1, 0])


def test_splits_match_classes_by_name(tmp_path: Path) -> None:
    """A test split that lacks a class must not shift those behind it."""
    pictures(tmp_path / "train", FRUIT)
    pictures(tmp_path / "test", {name: FRUIT[name] for name in ("apple", "cherry")})
    train, test = (Folder(str(tmp_path), None, 1, split).load() for split in ("train", "test"))
    assert test.class_names == ("apple", "cherry")
    aligned = test.aligned(train.class_names)
    assert aligned.labels is not None and aligned.labels.tolist() == [0, 0, 0, 2, 2, 2]
    assert brightness(aligned) == brightness(test) and aligned.digest() == test.digest()
    assert aligned.class_counts == (3, 0, 3) and aligned.occurring == ("apple", "cherry")
    backwards = train.aligned(("cherry", "", "banana", "apple"))
    assert brightness(backwards) == FRUIT and backwards.digest() == train.digest()
    assert backwards.former_names(3) == train.class_names
    assert backwards.aligned(train.class_names).labels is not None
    np.testing.assert_array_equal(backwards.aligned(train.class_names).labels, train.labels)


def test_unknown_class_is_an_error_with_suggestion(tmp_path: Path) -> None:
    pictures(tmp_path, {"apple": 1, "aple": 2})
    images = Folder(str(tmp_path), channels=1).load()
    with pytest.raises(InputError, match=r"no class 'aple' among apple, banana; did you mean 'apple'"):
        images.aligned(("apple", "banana"))
    assert absent(images, ("apple", "banana")) == ("aple",)
    assert joint([images, None], ("banana", "")) == ("banana", "", "aple", "apple")


def test_class_is_selected_by_name_or_file_label(tmp_path: Path) -> None:
    pictures(tmp_path, {"1": 10, "10": 200, "2": 90})
    source = Folder(str(tmp_path), channels=1)
    assert brightness(Subset(source, label="10").load()) == {"10": 200}
    assert brightness(Subset(source, label=1).load()) == {"10": 200}  # of recipes that were written before
    with pytest.raises(InputError, match="no class '3' among 1, 2, 10"):
        Subset(source, label="3").load()


def test_concatenated_sources_have_the_same_names_in_every_split() -> None:
    from diffprob.data import Digits
    from diffprob.data.combined import concatenate

    both = Concatenated((Subset(Digits(), 5, label=1), Subset(Digits(), 5, label=8)))
    assert both.names == both.load().class_names == ("digits, class 1", "digits, class 8")
    assert Concatenated((Digits(), Digits("test"))).names == ("digits", "digits (2)")
    assert concatenate([Digits().load(), Digits().load()]).class_names == ("digits/train", "digits/train (2)")


def test_invalid_classes_are_errors() -> None:
    pixels, labels = np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 1])
    for wrong, message in (
        ({"class_names": ("a",)}, r"labels must lie in 0\.\.0, got 0 to 1"),
        ({"class_names": ("a", "a")}, "'a' twice"),
        ({"class_names": ("a", "b"), "label_values": (1,)}, "label_values must be 2"),
    ):
        with pytest.raises(ValueError, match=message):
            Images(pixels, labels, **wrong)


def decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def test_unicode_forms_of_a_name_are_one_class(tmp_path: Path) -> None:
    """A Mac writes folders as other characters than Linux does; the test split was of classes that training lacked."""
    for split, form in (("train", str), ("test", decomposed)):
        pictures(tmp_path / split, {form("café"): 40, "fa": 128, form("été"): 215})
    train, test = (Folder(str(tmp_path), channels=1, split=split).load() for split in ("train", "test"))
    assert train.class_names == ("café", "fa", "été") and absent(test, train.class_names) == ()
    assert set(test.class_names) == set(train.class_names) and joint((train, test)) == train.class_names
    assert brightness(test.aligned(train.class_names)) == {"café": 40, "fa": 128, "été": 215}
    both = Folder(str(tmp_path), channels=1, split="all").load()
    assert both.class_counts == (6, 6, 6) and both.class_names == train.class_names
    assert any("5 sub-folders are 3 classes" in note for note in both.notes)
    for label in ("été", decomposed("été")):
        assert len(Subset(Folder(str(tmp_path), channels=1, split="test"), label=label).load()) == 3
        assert Labels(3, names=("café", "fa", "été")).number(label) == 2
    assert Labels(2, names=("a", decomposed("é"))) == Labels(2, names=("a", "é"))


def test_unicode_form_of_names_changes_no_digest(tmp_path: Path) -> None:
    """Digests go by the order of the folders as they are written, where é stands before f in two characters alone."""
    for form, places in ((str, [0, 1]), (decomposed, [1, 0])):
        pictures(tmp_path / form.__name__, {"f": 128, form("é"): 40}, 1)
        images = Folder(str(tmp_path / form.__name__), channels=1).load()
        assert images.class_names == ("f", "é") and images.former_labels[images.pixels[:, 0, 0, 0] == 128] == places[0]
        sha = hashlib.sha256(b"(2, 1, 4, 4)" + images.pixels.tobytes() + np.array([0, 1], "<i8").tobytes())
        assert images.digest() == sha.hexdigest()


def test_old_runs_keep_names_of_two_unicode_forms() -> None:
    """A run may have kept both forms as two classes, and opens."""
    names = ("é", decomposed("é"))
    assert Labels(2, names=names).names == names
