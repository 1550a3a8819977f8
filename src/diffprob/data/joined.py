"""Several sources as one, for a classifier that is to tell them apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffprob.base.checks import able, several
from diffprob.base.errors import InputError
from diffprob.data.images import Images, Source


def _is_source(name: str, value: object) -> None:
    able(name, value, "load", "Digits()")


@dataclass(frozen=True)
class Joined:
    """Several sources as one: the images of the k-th, counted from 0, have the label k, whatever theirs were.

    Args:
        sources: two or more, of images of one shape and number of grey levels.

    Raises:
        ValueError: fewer than two, or something that is no source.
    """

    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        several("sources", self.sources, _is_source, 2, 1000, "(Digits(), Digits('test'))")

    def load(self) -> Images:
        """Load all of them and put one after the other; see `join`."""
        return join([source.load() for source in self.sources])


def join(parts: Sequence[Images]) -> Images:
    """The images of all parts in order, in memory; those of part k have the label k and its name is their class.

    Raises:
        InputError: parts of different shapes or numbers of grey levels; both are named.
    """
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
    names = tuple(part.name for part in parts)
    return Images(
        np.concatenate([np.asarray(part.pixels) for part in parts]),
        np.repeat(np.arange(len(parts), dtype=np.int64), [len(part) for part in parts]),
        first.levels,
        " and ".join(names),
        tuple(f"{part.name}: {note}" for part in parts for note in part.notes),
        names,
        max(part.rounded for part in parts),
    )
