"""Sources made of others: a `Subset` of one, several `Concatenated`, and what lies inside them and inside a split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from diffprob.base.checks import MOST, able, listed, several, text, whole
from diffprob.base.errors import InputError, Missing, OtherImages, did_you_mean
from diffprob.base.text import composed
from diffprob.data.images import Images, Source
from diffprob.data.sources import Cifar10, Cifar100, Idx, Svhn
from diffprob.data.train_test_split import SeparateTestSet, TrainTestSplit


@dataclass(frozen=True)
class Subset:
    """The first ``n`` images of a source; with ``label`` the first ``n`` of that class.

    Args:
        source: where they come from.
        n: how many; None takes all.
        label: the only class that is taken, by its name; a number means the label that the files give it, or its place
            among folders sorted as text. None takes every class.

    Raises:
        ValueError: something that is no source, or a number out of range.
    """

    source: Source
    n: int | None = None
    label: int | str | None = None

    def __post_init__(self) -> None:
        able("source", self.source, "load", "Digits()")
        whole("n", self.n, 1, none=True)
        if isinstance(self.label, str):
            text("label", self.label)
        else:
            whole("label", self.label, -MOST, none=True)  # files may number classes from below 0

    def load(self) -> Images:
        """Load the source and copy the chosen images.

        Raises:
            Missing: no image of the class.
            OtherImages: images without labels where a class is asked for, or fewer than ``n``.
        """
        images = self.source.load()
        chosen = np.arange(len(images))
        if self.label is not None:
            if images.labels is None:
                raise OtherImages(f"{images.name} has no labels, so no images of label={self.label!r}")
            chosen = np.flatnonzero(_of_class(images, self.label))
        if not len(chosen):
            known = listed([str(label) for label in np.unique(images.former_labels)])
            raise Missing(f"{images.name} has no image of label {self.label}; those that the files give it are {known}")
        of = "" if self.label is None else f" of label {self.label}"
        if len(chosen) < (self.n or 1):
            raise OtherImages(f"{images.name} has {len(chosen)} images{of}: n={self.n} are too many")
        chosen = chosen[: self.n]
        return replace(images.some(chosen), name=f"{len(chosen)} images{of} of {images.name}")


@dataclass(frozen=True)
class Concatenated:
    """Several sources as one: the images of the k-th, counted from 0, have the label k, whatever theirs were.

    Args:
        sources: two or more, of images of one shape and number of grey levels.

    Raises:
        ValueError: fewer than two, or something that is no source.
    """

    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        several("sources", self.sources, _is_source, 2, 1000, "(Digits(), Digits('test'))")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes: the last part of each source's place, the same for its training and its test images."""
        return _different([_called(source) for source in self.sources])

    def load(self) -> Images:
        """Load all of them and put one after the other; see `concatenate`."""
        return concatenate([source.load() for source in self.sources], self.names)


def concatenate(parts: Sequence[Images], names: Sequence[str] = ()) -> Images:
    """The images of all parts in order, in memory; those of part k are the class k.

    Args:
        parts: one or more.
        names: of the classes, all different; by default those of the parts.

    Raises:
        InputError: no parts, or parts of different shapes or numbers of grey levels; both are named.
    """
    if not parts:
        raise InputError("nothing to join: one set of images or more would be right")
    first = parts[0]
    for part in parts[1:]:
        for what, ours, theirs in (
            ("shape", first.event_shape, part.event_shape),
            ("number of grey levels", first.levels, part.levels),
        ):
            if ours != theirs:
                raise InputError(
                    f"{first.name} and {part.name} cannot be joined: {what} {ours} and {theirs}; one {what} for all "
                    "would be right"
                )
    if first.levels is None:
        raise InputError(f"{first.name}: real numbers are not joined; one file of all would be right")
    called = [part.name for part in parts]
    return Images(
        np.concatenate([np.asarray(part.pixels) for part in parts]),
        np.repeat(np.arange(len(parts), dtype=np.int64), [len(part) for part in parts]),
        first.levels,
        " and ".join(called),
        tuple(f"{part.name}: {note}" for part in parts for note in part.notes),
        tuple(names) or _different(called),
        max(part.rounded for part in parts),
        doubts=tuple(f"{part.name}: {doubt}" for part in parts for doubt in part.doubts),
        files=tuple(file for part in parts for file in part.files) if all(part.files for part in parts) else (),
    )


def innermost(source: Source, change: Callable[[Any], Any], all_images: bool = False) -> Source:
    """The source with ``change`` made to the sources that it is made of, or to itself where it is made of none.

    Args:
        all_images: let `Subset` take all images, of its class where it has one, and leave whole what has two parts
            itself, `TrainTestSplit` and `SeparateTestSet`.
    """
    if isinstance(source, Subset):
        return replace(source, source=innermost(source.source, change, all_images), n=None if all_images else source.n)
    if isinstance(source, Concatenated):
        return replace(source, sources=tuple(innermost(part, change, all_images) for part in source.sources))
    if isinstance(source, TrainTestSplit | SeparateTestSet) and not all_images:
        parts = {"source": innermost(source.source, change)}
        if isinstance(source, SeparateTestSet):
            parts["test"] = innermost(source.test, change)
        return replace(source, **parts)
    return change(source)


def held_out_source(source: Source) -> Source:
    """The source of the test images that go with training images; of `Subset` all of its class, however few it takes.

    Raises:
        Missing: a source without splits, or not of training images.
    """
    return innermost(source, _test_split, all_images=True)


def _of_class(images: Images, label: int | str) -> np.ndarray:
    """Which images are of the class, bool (N,)."""
    if isinstance(label, int):
        return images.former_labels == label
    label = composed(label)
    if label not in images.class_names:
        near = did_you_mean(label, images.class_names)
        raise Missing(f"{images.name}: there is no class {label!r} among {', '.join(images.class_names)}{near}")
    return images.labels == images.class_names.index(label)


def _is_source(name: str, value: object) -> None:
    able(name, value, "load", "Digits()")


def _called(source: Any) -> str:
    """What a source is called whatever its split: the last part of its path or name, or its kind; and its class."""
    label = getattr(source, "label", None)
    if hasattr(source, "source"):
        return _called(source.source) + ("" if label is None else f", class {label}")
    place = getattr(source, "path", None) or getattr(source, "name", None)
    return (PurePath(place).name or place) if isinstance(place, str) else type(source).__name__.lower()


def _different(names: Sequence[str]) -> tuple[str, ...]:
    """The names, those that were there before with their count behind them."""
    unique: list[str] = []
    for name in map(composed, names):
        candidates = [name, *(f"{name} ({k})" for k in range(2, len(names) + 2))]
        unique.append(next(candidate for candidate in candidates if candidate not in unique))
    return tuple(unique)


def _test_split(source: Any) -> Any:
    if getattr(source, "split", None) != "train":
        raise Missing(f"{source!r} has no test split beside it")
    if isinstance(source, Idx | Cifar10 | Cifar100 | Svhn) and Path(source.path).expanduser().is_file():
        raise Missing(f"{source!r} is one file, taken whole: it has no test split beside it")
    return replace(source, split="test")
