"""A loaded data set: uint8 pixels, perhaps a memory map, and what has to be known about them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, eq=False)
class Images:
    """N images of C channels as uint8 grey levels 0..levels-1.

    Args:
        pixels: uint8 (N, C, H, W) with C = 1 or 3; may be a read-only memory map or a strided view of one.
        labels: int64 (N,) as the files give them, or None.
        levels: number K of grey levels the format allows (17 for the handwritten digits, else 256).
        name: short name for messages and captions.
        notes: what loading changed or assumed, one sentence each.
        class_names: name of label k at position k, or empty.
        rounded: by how many levels loading changed a value at most: images of floats between the grey levels.
        captions: what each image shows, in words, or None.
    """

    pixels: Pixels
    labels: Labels | None = None
    levels: int = 256
    name: str = "images"
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    rounded: float = 0.0
    captions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) != 4 or shape[1] not in (1, 3) or 0 in shape:
            raise ValueError(f"pixels must be uint8 (N, C, H, W) with C = 1 or 3, got {self.pixels.dtype} {shape}")
        if self.labels is not None and (self.labels.dtype != np.int64 or self.labels.shape != shape[:1]):
            raise ValueError(f"labels must be int64 ({shape[0]},), got {self.labels.dtype} {self.labels.shape}")
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels must lie in 2..256, got {self.levels}")
        if self.captions is not None:
            _check_captions(self.captions, shape[0])

    def __len__(self) -> int:
        return self.pixels.shape[0]

    @property
    def event_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    def take(self, indices: ArrayLike) -> Pixels:
        """A copy of the chosen images, uint8 (len(indices), C, H, W), contiguous and in memory."""
        return np.ascontiguousarray(np.asarray(self.pixels)[np.asarray(indices, dtype=np.int64)])

    def chunks(self) -> Iterator[Pixels]:
        """All images in order, in contiguous pieces of a few megabytes: a memory map is never held whole."""
        step = max(1, CHUNK_BYTES // int(np.prod(self.event_shape)))
        for start in range(0, len(self), step):
            yield np.ascontiguousarray(np.asarray(self.pixels[start : start + step]))

    def digest(self) -> str:
        """SHA-256 in hexadecimal over the shape, the pixels in (N, C, H, W) order, the labels (int64) and captions."""
        sha = hashlib.sha256(repr(tuple(int(n) for n in self.pixels.shape)).encode())
        for chunk in self.chunks():
            sha.update(chunk.data)
        if self.labels is not None:
            sha.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        for caption in self.captions or ():
            text = caption.encode()
            sha.update(b"caption %d " % len(text) + text)
        return sha.hexdigest()


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
