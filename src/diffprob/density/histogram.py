"""The simplest code of images: for every pixel the counts of its grey levels. What a model has to beat."""

from dataclasses import dataclass

import numpy as np

from diffprob.space.pixels import check_levels


@dataclass(frozen=True, eq=False)
class PixelHistogram:
    """Independent pixels, p(x) = prod_j p_j(x_j), with p_j(k) = (n_jk + 1) / (N + K): counts of N images plus one.

    The prior of one count for each of the K levels is Laplace's rule of succession, so no level is impossible.

    Args:
        probabilities: float64 (K, C, H, W), positive, of sum 1 over the levels.
    """

    probabilities: np.ndarray

    @classmethod
    def fit(cls, pixels: np.ndarray, levels: int) -> "PixelHistogram":
        """Count the levels of every pixel.

        Args:
            pixels: uint8 (N, C, H, W) of levels 0..K-1.
            levels: K, 2 to 256.

        Raises:
            ValueError: K out of range, no images, or a level of K or more.
        """
        check_levels(levels)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or not len(pixels):
            raise ValueError(f"pixels must be uint8 (N, C, H, W) with N > 0, got {pixels.dtype} {pixels.shape}")
        if int(pixels.max()) >= levels:
            raise ValueError(f"level {int(pixels.max())} occurs, at most {levels - 1} would be right")
        counts = np.stack([(pixels == level).sum(0) for level in range(levels)])
        return cls((counts + 1) / (len(pixels) + levels))

    def bits_per_dim(self, pixels: np.ndarray) -> np.ndarray:
        """-log2 p of every image over its number of pixels, float64 (N,); uint8 (N, C, H, W) of the fitted shape.

        The length of a code, no bound. Exact when all counts are equal: log2 K.

        Raises:
            ValueError: pixels of another type or shape, or a level of K or more.
        """
        levels, *shape = self.probabilities.shape
        if pixels.dtype != np.uint8 or list(pixels.shape[1:]) != shape or (pixels >= levels).any():
            raise ValueError(f"pixels must be uint8 (N, *{shape}) below {levels}, got {pixels.dtype} {pixels.shape}")
        cost = -np.log2(self.probabilities)
        return np.take_along_axis(cost, pixels.astype(np.intp), 0).reshape(len(pixels), -1).mean(1)
