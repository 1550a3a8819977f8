"""How near images come to those they should be: the peak signal-to-noise ratio."""

import numpy as np


def psnr(images: np.ndarray, wanted: np.ndarray, levels: int = 256, where: np.ndarray | None = None) -> np.ndarray:
    """The peak signal-to-noise ratio of each image in decibels, float64 (N,): 10 log10((K - 1)^2/MSE).

    6 dB more is half the root of the mean squared error. Equal images have infinity.

    Args:
        images, wanted: grey levels 0..K - 1, (N, C, H, W), as integers or floats.
        levels: K.
        where: the error is averaged over the pixels that are true, broadcastable to the images; None: over all.

    Raises:
        ValueError: other shapes, or an image without any such pixel.

    Exact when: always.
    """
    if images.shape != wanted.shape or images.ndim != 4:
        raise ValueError(f"expected two arrays (N, C, H, W) of one shape, got {images.shape} and {wanted.shape}")
    square = (images.astype(np.float64) - wanted.astype(np.float64)) ** 2
    counted = np.broadcast_to(True if where is None else where, square.shape)
    count = counted.sum((1, 2, 3))
    if not count.all():
        raise ValueError("an image has no pixel to compare")
    with np.errstate(divide="ignore"):
        return 10 * np.log10((levels - 1) ** 2 / ((square * counted).sum((1, 2, 3)) / count))


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of (N,); the error of one value alone is not known: NaN."""
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return float(values.mean()), float("nan")
    return float(values.mean()), float(values.std(ddof=1) / n**0.5)
