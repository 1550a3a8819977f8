"""A loaded data set: pixels of 8 or 16 bits, perhaps a memory map, and what has to be known about them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffprob.base.checks import instance, positions, real, whole
from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.levels import MOST_BANDS, MOST_LEVELS, are_images, level_dtype, levels_held
from diffprob.base.text import all_composed
from diffprob.data.classes import numbered

Pixels = NDArray[Any]  # uint8, or uint16 of more than 256 levels
Labels = NDArray[np.int64]

CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, eq=False)
class Images:
    """N images of C channels as grey levels 0..levels-1.

    Args:
        pixels: uint8, or uint16 of more than 256 levels, (N, C, H, W) with C = 1 to 16; may be a read-only memory map
            or a strided view of one.
        labels: the class of each image, int64 (N,) in 0..K - 1, or None. Without ``class_names`` they may be any
            numbers: those that occur are numbered by value, and the values become the names.
        levels: number K of grey levels the format allows (17 for the handwritten digits); 0: all that the type of the
            pixels holds, 256 or 65,536.
        name: short name for messages and captions.
        notes: what loading changed or assumed, one sentence each.
        class_names: name of class k at position k, all different; "" where there is no class k. The names, in Unicode's
            normal form C, are what classes are told apart by: `aligned` puts them in another order, and every set of
            images has its own.
        label_values: the number that files give class k, or its place among all names sorted as text; () where it is k.
            Digests, and runs without class names, go by these.
        rounded: by how many levels loading changed a value at most: images of floats between the grey levels.
        captions: what each image shows, in words, or None.
        doubts: those of the notes that say that something may be wrong with what was read.
        files: the path of each image's own file, relative to the folder of the data; empty where they have none.
    """

    pixels: Pixels
    labels: Labels | None = None
    levels: int = 0
    name: str = "images"
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    rounded: float = 0.0
    captions: tuple[str, ...] | None = None
    label_values: tuple[int, ...] = ()
    doubts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        instance("pixels", self.pixels, np.ndarray, "a numpy array")
        instance("labels", self.labels, np.ndarray, "a numpy array", none=True)
        shape = self.pixels.shape
        self.check_pixels()
        if self.labels is not None and (self.labels.dtype != np.int64 or self.labels.shape != shape[:1]):
            raise ValueError(f"labels must be int64 ({shape[0]},), got {self.labels.dtype} {self.labels.shape}")
        if self.labels is not None and not self.class_names:
            labels, names, values = numbered(self.labels)
            for field, value in (("labels", labels), ("class_names", names), ("label_values", values)):
                object.__setattr__(self, field, value)
        object.__setattr__(self, "class_names", all_composed(self.class_names))
        _check_classes(self)
        real("rounded", self.rounded, "[0, 65536]")
        if len(self.files) not in (0, shape[0]):
            raise ValueError(f"files must be {shape[0]} paths or none, got {len(self.files)}")
        if self.captions is not None:
            _check_captions(self.captions, shape[0])

    def check_pixels(self) -> None:
        """Refuse what are no images, or levels that there are not.

        Raises:
            ValueError: what was expected, and what came.
        """
        shape = self.pixels.shape
        if not are_images(self.pixels) or shape[1] > MOST_BANDS:
            wanted = f"pixels must be uint8 or uint16 (N, C, H, W) with C = 1 to {MOST_BANDS}"
            raise ValueError(f"{wanted}, got {self.pixels.dtype} {shape}")
        if self.levels == 0:
            object.__setattr__(self, "levels", levels_held(self.pixels.dtype))
        whole("levels", self.levels, 2, MOST_LEVELS)
        if self.pixels.dtype != (wanted := level_dtype(self.levels)):
            raise ValueError(f"pixels of {self.levels} levels must be {wanted}, got {self.pixels.dtype}")

    def __len__(self) -> int:
        return self.pixels.shape[0]

    @property
    def event_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    def take(self, indices: ArrayLike) -> Pixels:
        """A copy of the chosen images, (len(indices), C, H, W), contiguous and in memory.

        Raises:
            ValueError: an index that is no whole number in 0..N - 1; a mask is none.
        """
        return np.ascontiguousarray(np.asarray(self.pixels)[positions(indices, len(self))])

    def some(self, indices: ArrayLike) -> "Images":
        """The chosen images with all that belongs to each: labels, captions and files."""
        chosen = positions(indices, len(self))
        return replace(
            self,
            pixels=self.take(chosen),
            labels=None if self.labels is None else self.labels[chosen],
            captions=None if self.captions is None else tuple(self.captions[k] for k in chosen),
            files=tuple(self.files[k] for k in chosen) if self.files else (),
        )

    def chunks(self) -> Iterator[Pixels]:
        """All images in order, in contiguous pieces of a few megabytes: a memory map is never held whole."""
        step = max(1, CHUNK_BYTES // int(np.prod(self.event_shape)))
        for start in range(0, len(self), step):
            yield np.ascontiguousarray(np.asarray(self.pixels[start : start + step]))

    @property
    def occurring(self) -> tuple[str, ...]:
        """Names of the classes that images have, in order; empty without labels."""
        return tuple(name for name, count in zip(self.class_names, self.class_counts, strict=False) if count)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of images of each class; empty without labels."""
        if self.labels is None:
            return ()
        return tuple(np.bincount(self.labels, minlength=len(self.class_names)).tolist())

    @property
    def former_labels(self) -> Labels:
        """The labels as `label_values` has them, int64 (N,): what a run without class names calls the classes.

        Raises:
            ValueError: there are no labels.
        """
        if self.labels is None:
            raise ValueError(f"{self.name} has no labels")
        return np.array(self.label_values, dtype=np.int64)[self.labels] if self.label_values else self.labels

    def former_names(self, count: int) -> tuple[str, ...]:
        """Names of the classes that a run without class names calls 0..count - 1; "" where no image has that class."""
        values, occurring = self.label_values or range(len(self.class_names)), set(self.occurring)
        named = zip(values, self.class_names, strict=True)
        names = {value: name for value, name in named if name in occurring}
        return tuple(names.get(k, "") for k in range(count))

    def aligned(self, names: Sequence[str]) -> "Images":
        """The same images with the classes numbered as in ``names``, by name; the same where they have no labels.

        Raises:
            InputError: a class that occurs is none of them; it is named.
        """
        names = all_composed(names)
        if self.labels is None or names == self.class_names:
            return self
        place = {name: k for k, name in enumerate(names) if name}
        for name in self.occurring:
            if name not in place:
                raise InputError(
                    f"{self.name}: there is no class {name!r} among {', '.join(place)}{did_you_mean(name, place)}"
                )
        table = np.array([place.get(name, -1) for name in self.class_names], dtype=np.int64)
        own = dict(zip(self.class_names, self.label_values or range(len(table)), strict=True))
        values = tuple(own.get(name, -1) if name else -1 for name in names)
        same = values == tuple(range(len(values)))
        return replace(self, labels=table[self.labels], class_names=names, label_values=() if same else values)

    def digest(self) -> str:
        """SHA-256 in hexadecimal over the shape, the pixels in (N, C, H, W) order, labels (int64) and captions.

        Labels count by their `label_values`, so that the digest does not depend on how classes are numbered.
        """
        sha = hashlib.sha256(repr(tuple(int(n) for n in self.pixels.shape)).encode())
        for chunk in self.chunks():
            sha.update(chunk.astype(chunk.dtype.newbyteorder("<"), copy=False).data)
        if self.labels is not None:
            sha.update(np.ascontiguousarray(self.former_labels, dtype="<i8").data)
        for caption in self.captions or ():
            text = caption.encode()
            sha.update(b"caption %d " % len(text) + text)
        return sha.hexdigest()


def _check_classes(images: Images) -> None:
    names, labels = images.class_names, images.labels
    if images.label_values and len(images.label_values) != len(names):
        raise ValueError(f"label_values must be {len(names)}, one for each class, got {len(images.label_values)}")
    named = [name for name in names if name]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise ValueError(f"class_names must be different, got {twice!r} twice")
    if labels is not None and len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
        raise ValueError(f"labels must lie in 0..{len(names) - 1}, got {labels.min()} to {labels.max()}")


def _check_captions(captions: object, n: int) -> None:
    if not isinstance(captions, tuple) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"captions must be a tuple of strings, got {type(captions).__name__}")
    if len(captions) != n:
        raise ValueError(f"captions must be {n} strings, one for each image, got {len(captions)}")


class Source(Protocol):
    """Where images come from: a frozen dataclass of literals, so that its repr is its configuration."""

    def load(self) -> Images:
        """Read the images.

        Raises:
            Missing: no such file, no such split; who falls back to something else catches this alone.
            InputError: one line that names the file, what is wrong with it and what would be right.
        """
        ...
