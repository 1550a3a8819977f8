"""The splits of a data set by the usual names of its parts: train and test, in any case."""

import re
from collections.abc import Iterable

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation")
_SHORT = {"images", "imgs", "set", "split", "data", "x"}


def split_of(name: str) -> str | None:
    """ "train" or "test", if the name, in any case, is one of those that such a part usually has."""
    lower = name.lower()
    return "train" if lower in TRAIN else "test" if lower in TEST else None


def like_split(name: str) -> str | None:
    """ "train" or "test", if the name has such a word and else only words like images, set or a year: "Test_Images"."""
    words = [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=\d)", name.lower()) if word]
    splits = {split_of(word) for word in words} - {None}
    rest = [word for word in words if split_of(word) is None and word not in _SHORT and not word.isdecimal()]
    return splits.pop() if len(splits) == 1 and not rest else None


def parts_of(names: Iterable[str], split: str) -> list[str]:
    """The names that stand for a split, or with "all" for any; the one that is meant first.

    In the order train, training; test, testing, val, valid, validation, dev, eval, evaluation; of two that differ in
    their case alone the one in small letters goes first.
    """
    order = {"train": TRAIN, "test": TEST, "all": TRAIN + TEST}[split]
    named = [name for name in names if name.lower() in order]
    return sorted(named, key=lambda name: (order.index(name.lower()), not name.islower(), name))
