"""The simplest code of images: for every pixel the counts of its grey levels. What a model has to beat."""

from dataclasses import dataclass

import numpy as np

from diffprob.base.levels import TYPES, are_images, check_levels, level_dtype

_BLOCK = 1 << 23  # values that are counted at a time


@dataclass(frozen=True, eq=False)
class PixelHistogram:
    """Independent pixels, p(x) = prod_j p_j(x_j), with p_j(k) = (n_jk + 1) / (N + K): counts of N images plus one.

    The prior of one count for each of the K levels is Laplace's rule of succession, so no level is impossible. Only the
    counts of levels that occur are kept: of 65,536 levels hardly any does at a pixel.

    Args:
        keys: int64 (M,), increasing: j K + k of each level k that occurs at pixel j.
        counts: int64 (M,), n_jk.
        images: N.
        levels: K.
        shape: (C, H, W).
    """

    keys: np.ndarray
    counts: np.ndarray
    images: int
    levels: int
    shape: tuple[int, ...]

    @classmethod
    def fit(cls, pixels: np.ndarray, levels: int) -> "PixelHistogram":
        """Count the levels of every pixel.

        Args:
            pixels: uint8, or uint16 of more than 256 levels, (N, C, H, W) of levels 0..K-1.
            levels: K, 2 to 65,536.

        Raises:
            ValueError: K out of range, no images, or a level of K or more.
        """
        check_levels(levels)
        if not are_images(pixels):
            raise ValueError(f"pixels must be {TYPES} (N, C, H, W) with N > 0, got {pixels.dtype} {pixels.shape}")
        if int(pixels.max()) >= levels:
            raise ValueError(f"level {int(pixels.max())} occurs, at most {levels - 1} would be right")
        flat = pixels.reshape(len(pixels), -1)
        step = max(1, _BLOCK // len(pixels))
        parts = [
            np.unique(flat[:, first : first + step].astype(np.int64) + _offsets(flat, levels)[first : first + step],
                      return_counts=True)
            for first in range(0, flat.shape[1], step)
        ]  # fmt: skip
        keys, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
        return cls(keys, counts, len(pixels), levels, pixels.shape[1:])

    def probability(self, pixels: np.ndarray) -> np.ndarray:
        """p_j(x_j) of every pixel of images (n, C, H, W), float64 of the same shape.

        Raises:
            ValueError: pixels of another type or shape, or a level of K or more.
        """
        right = pixels.dtype == level_dtype(self.levels) and pixels.shape[1:] == self.shape
        if not right or (pixels >= self.levels).any():
            wanted = f"{level_dtype(self.levels)} (N, *{list(self.shape)}) below {self.levels}"
            raise ValueError(f"pixels must be {wanted}, got {pixels.dtype} {pixels.shape}")
        flat = pixels.reshape(len(pixels), -1)
        wanted = flat.astype(np.int64) + _offsets(flat, self.levels)
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        counts = np.where(self.keys[place] == wanted, self.counts[place], 0)
        return ((counts + 1) / (self.images + self.levels)).reshape(pixels.shape)

    def bits_per_dim(self, pixels: np.ndarray) -> np.ndarray:
        """-log2 p of every image over its number of pixels, float64 (N,); levels (N, C, H, W) of the fitted shape.

        The length of a code, no bound. Exact when all counts are equal: log2 K.

        Raises:
            ValueError: as `probability`.
        """
        return -np.log2(self.probability(pixels)).reshape(len(pixels), -1).mean(1)


def _offsets(flat: np.ndarray, levels: int) -> np.ndarray:
    """j K of every pixel j."""
    return np.arange(flat.shape[1], dtype=np.int64) * levels
