"""Held-out images for data that has no test part: which, is decided by the pictures themselves."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffprob.base.checks import able, flag, one_of, real, several
from diffprob.base.errors import InputError, Missing, OtherImages
from diffprob.data.images import Images, Source
from diffprob.data.near_duplicates import has_near_duplicate

SHARE, LEAST, MOST = 0.1, 50, 10_000  # of the images that are held out, unless told otherwise
_DIGITS = 6  # of the bounds
_TRIES = 12  # to reach the number wanted although near-duplicates stay with the training images


@dataclass(frozen=True)
class TrainTestSplit:
    """Two parts of a source: training images, and the images that are held out of it.

    The pixels of an image decide a number u, uniform in [0, 1) (SHA-256); it is held out when u < ``below``, and no
    near-duplicate of it (`data.near_duplicates`) is a training image. So the order of the images, the names of their
    files and how many there are do not matter, and images that are added leave the others where they are; but for one:
    a held-out image of which a near-duplicate is added to the training images goes there too.

    Args:
        source: where all the images come from.
        below: the bound, or one for each class, in their order; `split_of` finds those that hold out a given share.
        split: "train", "test" or "all".
        apart: whether near-duplicates are kept on one side.

    Raises:
        ValueError: something that is no source, or a field out of its range.
    """

    source: Source
    below: float | tuple[float, ...] = SHARE
    split: str = "train"
    apart: bool = True

    def __post_init__(self) -> None:
        able("source", self.source, "load", "Folder('pictures')")
        if isinstance(self.below, tuple):
            several("below", self.below, lambda name, b: real(name, b, "[0, 1]"), 1, 10**6, "(0.1, 0.12)")
        else:
            real("below", self.below, "[0, 1]")
        one_of("split", self.split, ("train", "test", "all"))
        flag("apart", self.apart)

    def load(self) -> Images:
        """Load the source and copy the images of the part.

        Raises:
            Missing: no image is held out, and those are asked for.
            InputError: the source cannot be read.
            OtherImages: it has another number of classes than ``below`` bounds.
        """
        return self.part(self.source.load())

    def part(self, images: Images) -> Images:
        """Of the source's images, loaded before, those that `load` gives; raises as it does."""
        if self.split == "all":
            return images
        chosen = np.flatnonzero(self.held_out(images) == (self.split == "test"))
        if not len(chosen):
            raise Missing(f"{images.name}: no image is {'held out' if self.split == 'test' else 'left to train on'}")
        part = "held-out" if self.split == "test" else "training"
        return replace(images.some(chosen), name=f"{images.name}, {part} {getattr(images, 'kind', 'images')}")

    def held_out(self, images: Images) -> NDArray[np.bool_]:
        """Which of the source's images are held out, bool (N,).

        Raises:
            OtherImages: another number of classes than there are bounds.
        """
        bounds = _bounds(self.below, images)
        drawn = numbers(images) < bounds
        return _apart(images, drawn) if self.apart else drawn


@dataclass(frozen=True)
class SeparateTestSet:
    """Training images from one place, and the images that are held out from another.

    Args:
        source: the training images.
        test: the held-out images.
        split: "train" or "test".

    Raises:
        ValueError: something that is no source, or another split.
    """

    source: Source
    test: Source
    split: str = "train"

    def __post_init__(self) -> None:
        able("source", self.source, "load", "Folder('pictures')")
        able("test", self.test, "load", "Folder('others')")
        one_of("split", self.split, ("train", "test"))

    def load(self) -> Images:
        """Load the images of the part.

        Raises:
            InputError: they cannot be read.
        """
        return self.source.load() if self.split == "train" else self.test.load()


def split_of(source: Source, images: Images, share: float | None = None, apart: bool = True) -> TrainTestSplit:
    """The split of a source that holds out a share of its images, by class where there are classes.

    Where near-duplicates make up much of the data, fewer may be held out.

    Args:
        source: where the images come from.
        images: what it loads.
        share: of the images, in (0, 1); None holds out a tenth, but at least 50 (a third where that is less) and at
            most 10,000.
        apart: whether near-duplicates are kept on one side.

    Raises:
        InputError: every image is a near-duplicate of another, so that none can be held out.
        ValueError: a share out of range.
    """
    real("share", share, "(0, 1)", none=True)
    n, u = len(images), numbers(images)
    wanted = round(share * n) if share is not None else min(max(round(SHARE * n), LEAST), MOST, n // 3)
    classes = (
        [np.arange(n)] if images.labels is None else [np.flatnonzero(images.labels == k) for k in _classes(images)]
    )
    near = max(1, 0.05 * wanted)
    spare, surplus = near, near
    if share is None and wanted >= LEAST:  # of those that comparisons need none may be missing, by rounding in classes
        spare, surplus = min(near, wanted - LEAST), max(near, len(classes))
    split, drawn, low, high = TrainTestSplit(source, 0.0, apart=apart), wanted, wanted, n
    for _ in range(_TRIES):
        bounds = tuple(_bound(u[members], drawn / n) for members in classes)
        split = replace(split, below=bounds[0] if images.labels is None else bounds)
        missing = wanted - int(split.held_out(images).sum())
        enough = missing <= spare and (-missing <= surplus or drawn == wanted)
        if enough or (not apart and share is not None):
            break
        low, high = (drawn, high) if missing > 0 else (low, drawn)
        drawn = (low + high) // 2
    if not 0 < int(split.held_out(images).sum()) < max(n, 2 * wanted):
        why = "each has a near-duplicate among the others" if n > 1 else "there is only one"
        raise InputError(f"{images.name}: no image can be held out: {why}")
    return split


def numbers(images: Images) -> NDArray[np.float64]:
    """The number of each image, uniform in [0, 1): the first 53 bits of the SHA-256 of its shape and pixels, (N,)."""
    shape = repr(images.event_shape).encode()
    heads = [hashlib.sha256(shape + row.tobytes()).digest()[:7] for part in images.chunks() for row in part]
    return np.array([(int.from_bytes(head, "big") >> 3) / 2**53 for head in heads], dtype=np.float64)


def _classes(images: Images) -> range:
    return range(max(len(images.class_names), 1 + int(images.labels.max()) if images.labels is not None else 1))


def _bound(u: NDArray[np.float64], share: float) -> float:
    """A number, rounded, with as near as can be ``share`` of the numbers u (n,) below it."""
    ordered = np.sort(u)
    count = max(int(np.floor(share * len(u) + 0.5)), 1 if len(u) > 2 else 0)
    if count >= len(u):
        return 1.0
    low = ordered[count - 1] if count else 0.0
    return round(float((low + ordered[count]) / 2), _DIGITS)


def _bounds(below: float | tuple[float, ...], images: Images) -> Any:
    """The bound of each image, (N,) or one number for all.

    Raises:
        OtherImages: another number of classes than there are bounds.
    """
    if not isinstance(below, tuple):
        return below
    if images.labels is None or len(below) != len(_classes(images)):
        count = 0 if images.labels is None else len(_classes(images))
        raise OtherImages(f"{images.name} has {count} classes, the split has bounds for {len(below)}")
    return np.array(below)[images.labels]


def _apart(images: Images, drawn: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those of ``drawn`` that have no near-duplicate among the others, nor among those that have one, and so on."""
    held_out, others = drawn.copy(), ~drawn
    while held_out.any() and others.any():
        chosen = np.flatnonzero(held_out)
        leaving = chosen[has_near_duplicate(images, chosen, others)]
        held_out[leaving] = False
        others = np.zeros_like(drawn)
        others[leaving] = True
    return held_out
