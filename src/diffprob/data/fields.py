"""Real numbers as a data set: vectors, signals, images and volumes in float32, in the user's own units."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffprob.base.checks import one_of, positions, text, whole
from diffprob.base.errors import InputError
from diffprob.data.formats.files import existing
from diffprob.data.formats.numbers import read_numbers
from diffprob.data.images import Images

Floats = NDArray[np.float32]
KINDS = ("vectors", "signals", "images", "volumes")  # by how many spatial dimensions there are


@dataclass(frozen=True, eq=False)
class Fields(Images):
    """N data of real numbers; all that `Images` have, but for the levels.

    Args:
        pixels: float32 (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), all finite; may be a memory map.
        levels: None, for there are none.
        conditions: float32 (N, K), what a network is told of each; None: nothing.
    """

    levels: Any = None
    conditions: Floats | None = None

    def check_pixels(self) -> None:
        """Refuse another type or shape, and conditions of another number of rows.

        Raises:
            ValueError: what was expected, and what came.
        """
        shape = self.pixels.shape
        if self.pixels.dtype != np.float32 or not 2 <= len(shape) <= 5 or 0 in shape:
            wanted = "numbers must be float32 (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W)"
            raise ValueError(f"{wanted}, got {self.pixels.dtype} {shape}")
        if self.levels is not None:
            raise ValueError(f"levels must be None for real numbers, got {self.levels!r}")
        rows = self.conditions
        if rows is not None and (rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != shape[0]):
            raise ValueError(f"conditions must be float32 ({shape[0]}, K), got {rows.dtype} {rows.shape}")

    @property
    def event_shape(self) -> Any:
        """(C, ...) of one datum."""
        return tuple(int(side) for side in self.pixels.shape[1:])

    @property
    def kind(self) -> str:
        """What the data are called: vectors, signals, images or volumes."""
        return KINDS[self.pixels.ndim - 2]

    def some(self, indices: ArrayLike) -> "Fields":
        """The chosen data with all that belongs to each."""
        chosen = positions(indices, len(self))
        rows = None if self.conditions is None else self.conditions[chosen]
        # conditions first: `Images.some` makes the object, whose rows are then counted
        return replace(Images.some(replace(self, conditions=None), chosen), conditions=rows)  # pyright: ignore[reportReturnType, reportCallIssue]

    def digest(self) -> str:
        """SHA-256 as of `Images`, of conditions too."""
        base = Images.digest(self)
        if self.conditions is None:
            return base
        return hashlib.sha256(base.encode() + np.ascontiguousarray(self.conditions, dtype="<f4").tobytes()).hexdigest()

    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over all data and places, float64, (C,) each.

        Raises:
            InputError: a channel is the same number everywhere, so that it has no density.
        """
        channels, (count, total) = self.event_shape[0], (0, np.zeros(self.event_shape[0]))
        first = np.asarray(self.pixels[0], np.float64).reshape(channels, -1)[:, 0]  # differences lose fewer digits
        squares, axes = np.zeros(channels), tuple(k for k in range(self.pixels.ndim) if k != 1)
        aligned = first.reshape(-1, *(1,) * (self.pixels.ndim - 2))
        for chunk in self.chunks():
            gaps = chunk.astype(np.float64) - aligned
            count, total, squares = count + gaps.size // channels, total + gaps.sum(axes), squares + (gaps**2).sum(axes)
        mean = total / count
        scale = np.sqrt(np.maximum(squares / count - mean**2, 0))
        for channel in np.flatnonzero(~(scale > 1e-9 * np.abs(first + mean))):
            what = "column" if self.pixels.ndim == 2 else "channel"
            raise InputError(
                f"{self.name}: {what} {channel} is {first[channel]:.6g} throughout, so that it has no density; "
                f"data without this {what} would be right"
            )
        return tuple((first + mean).tolist()), tuple(scale.tolist())


@dataclass(frozen=True)
class Numbers:
    """Real numbers in a file: an array of .npy or .npz (keys x, labels, condition), or a table in a .csv.

    Args:
        path: the file.
        split: "train", "test" or "all"; x_train and x_test and their like give an .npz its splits.
        dims: spatial dimensions, 0 of vectors to 3 of volumes; None: as the shape of the array says, where it is plain.
    """

    path: str
    split: str = "train"
    dims: int | None = None

    def __post_init__(self) -> None:
        text("path", self.path)
        one_of("split", self.split, ("train", "test", "all"))
        whole("dims", self.dims, 0, 3, none=True)

    def load(self) -> Fields:
        """Read or map the file.

        Raises:
            Missing: nothing there, or no such split.
            InputError: damaged, no numbers, one that is not finite, or a shape that may be several things.
        """
        read = read_numbers(existing(self.path), self.split, self.dims)
        values: Any = read.values
        return Fields(values, read.labels, name=read.name, notes=read.notes, conditions=read.conditions)


def numbers_in_memory(values: np.ndarray, shape: tuple[int, ...]) -> Fields:
    """Numbers in memory, of any real type, as data of the shape of a model.

    Raises:
        InputError: another shape, no numbers, or one that is not finite.
    """
    what = f"real numbers of shape (N, {', '.join(map(str, shape))})"
    if values.dtype.kind not in "fiu" or tuple(values.shape[1:]) != shape or not len(values):
        raise InputError(f"the given data: {values.dtype} {values.shape}; {what} would be right")
    x = values.astype(np.float32)
    if not np.isfinite(x).all():
        raise InputError(f"the given data: a value is not finite; {what} would be right")
    return Fields(x, name="the given data")


def fields_text(data: Fields) -> str:
    """What the data are, in words: "2,000 signals of 2 channels and 128 places, real numbers"."""
    channels, *sides = data.event_shape
    if not sides:
        size = f"{channels} numbers"
    else:
        of = f"{channels} channel{'' if channels == 1 else 's'} and "
        size = of + (f"{sides[0]} places" if len(sides) == 1 else "x".join(map(str, sides)))
    each = "" if data.conditions is None else f", each with a condition of {data.conditions.shape[1]} numbers"
    one = data.kind if len(data) != 1 else data.kind[:-1]
    return f"{len(data):,} {one} of {size}, real numbers (Reals: nats/dim){each}"
