"""Classes by name: their order, their numbers, and how several sets of images come to agree about both."""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diffprob.base.text import all_composed

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DIGITS = re.compile(r"([0-9]+)")

Key = tuple[tuple[int, int, str], ...]


class Named(Protocol):
    """What has classes with names (`diffprob.data.images.Images`)."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of class k at position k."""
        ...

    @property
    def occurring(self) -> tuple[str, ...]:
        """Of the classes of which there is an image."""
        ...


def natural(name: str) -> tuple[int, int, Key, str]:
    """What names are sorted by: whole numbers first and by value, then text, in which runs of digits count as numbers.

    So 1, 2, 10, a2, a10, b. It is the order of the text where there are no digits.
    """
    whole = _WHOLE.fullmatch(name) is not None
    pieces = [piece for piece in _DIGITS.split(name) if piece]
    # Of two numbers the longer one is larger, once zeros in front are gone; that holds for any length.
    key = tuple(
        (0, len(piece.lstrip("0")), piece.lstrip("0")) if piece[0] in "0123456789" else (1, 0, piece)
        for piece in pieces
    )
    return (0, int(name), (), name) if whole else (1, 0, key, name)


def numbered(values: NDArray[np.integer]) -> tuple[NDArray[np.int64], tuple[str, ...], tuple[int, ...]]:
    """Classes 0..K - 1 of images that come with numbers (N,): those that occur, by value.

    Returns:
        Labels, int64 (N,); the value of each class as its name; and as int64, or () where class k has the value k.
    """
    distinct, labels = np.unique(values, return_inverse=True)
    own = tuple(distinct.astype(np.int64).tolist())
    names = tuple(str(value) for value in distinct.tolist())
    return labels.reshape(-1).astype(np.int64), names, () if own == tuple(range(len(own))) else own


def joint(parts: Iterable[Named | None], names: Sequence[str] = ()) -> tuple[str, ...]:
    """One numbering for several sets of images: ``names`` first, then what each has besides, in its order."""
    merged = list(all_composed(names))
    known = set(merged)
    for part in parts:
        more = [] if part is None else [name for name in part.class_names if name and name not in known]
        merged += more
        known |= set(more)
    return tuple(merged)


def absent(images: Named, names: Sequence[str]) -> tuple[str, ...]:
    """The classes that occur in the images and are none of ``names``, in their order."""
    known = set(all_composed(names))
    return tuple(name for name in images.occurring if name not in known)
