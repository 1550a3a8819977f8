"""Several sources as one, for a classifier that is to tell them apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from diffprob.base.checks import able, several
from diffprob.base.errors import InputError
from diffprob.base.text import composed
from diffprob.data.images import Images, Source


def _is_source(name: str, value: object) -> None:
    able(name, value, "load", "Digits()")


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
        tried = [name, *(f"{name} ({k})" for k in range(2, len(names) + 2))]
        unique.append(next(candidate for candidate in tried if candidate not in unique))
    return tuple(unique)
