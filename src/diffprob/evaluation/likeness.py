"""How near images come to those they should be: the peak signal-to-noise ratio."""

import numpy as np

from diffprob.base.checks import whole


def pair_of_levels(images: np.ndarray, others: np.ndarray, levels: int) -> None:
    """Refuse what are not images of K grey levels that can be compared one by one.

    Raises:
        ValueError: other shapes or types, K below 2, or values outside 0..K - 1, NaN among them.
    """
    whole("levels", levels, 2)
    if images.shape != others.shape or images.ndim != 4:
        raise ValueError(f"expected two arrays (N, C, H, W) of one shape, got {images.shape} and {others.shape}")
    for each in (images, others):
        if not isinstance(each, np.ndarray) or each.dtype.kind not in "uif":
            raise ValueError(f"grey levels are numbers in an array, got {type(each).__name__} of {each.dtype}")
        if each.size and not (each.min() >= 0 and each.max() <= levels - 1):
            raise ValueError(f"grey levels must lie in 0..{levels - 1}, got {each.min():g} to {each.max():g}")


def psnr(images: np.ndarray, wanted: np.ndarray, levels: int = 256, where: np.ndarray | None = None) -> np.ndarray:
    """The peak signal-to-noise ratio of each image in decibels, float64 (N,): 10 log10((K - 1)^2/MSE).

    6 dB more is half the root of the mean squared error. Equal images have infinity.

    Args:
        images, wanted: grey levels 0..K - 1, (N, C, H, W), as integers or floats.
        levels: K.
        where: the error is averaged over the pixels that are true, broadcastable to the images; None: over all.

    Raises:
        ValueError: see `pair_of_levels`; ``where`` that is no mask, or an image without any such pixel.

    Exact when: always.
    """
    pair_of_levels(images, wanted, levels)
    if where is not None and where.dtype != np.bool_:
        raise ValueError(f"where must say True or False of each pixel, got {where.dtype}")
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
