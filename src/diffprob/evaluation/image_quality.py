"""How near images come to those they should be: the peak signal-to-noise ratio and the structural similarity."""

import numpy as np
import torch
import torch.nn.functional as F

from diffprob.base.checks import whole

SIZE, SPREAD = 11, 1.5  # of the window of ssim, in pixels, and its standard deviation
K1, K2 = 0.01, 0.03


def pair_of_levels(images: np.ndarray, others: np.ndarray, levels: int) -> None:
    """Refuse what are not images of K grey levels that can be compared one by one.

    Raises:
        ValueError: other shapes or types, K below 2, or values outside 0..K - 1, NaN among them.
    """
    whole("levels", levels, 2)
    if images.shape != others.shape or images.ndim != 4:
        raise ValueError(f"expected two arrays (N, C, H, W) of one shape, got {images.shape} and {others.shape}")
    for array in (images, others):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif":
            raise ValueError(f"grey levels are numbers in an array, got {type(array).__name__} of {array.dtype}")
        if array.size and not (array.min() >= 0 and array.max() <= levels - 1):
            raise ValueError(f"grey levels must lie in 0..{levels - 1}, got {array.min():g} to {array.max():g}")


def psnr(images: np.ndarray, wanted: np.ndarray, levels: int, where: np.ndarray | None = None) -> np.ndarray:
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


def ssim(images: np.ndarray, others: np.ndarray, levels: int) -> np.ndarray:
    """The mean structural similarity of each pair of images, at most 1 and 1 for equal ones, float64 (N,).

    With means m, variances v and covariance c under a Gaussian window of 11x11 pixels and standard deviation 1.5, the
    mean over its whole positions and the channels of
    (2 m m' + C1)(2 c + C2) / ((m^2 + m'^2 + C1)(v + v' + C2)), C1 = (0.01 L)^2, C2 = (0.03 L)^2, L = K - 1.

    Args:
        images, others: grey levels 0..K - 1, (N, C, H, W), with H and W at least 11.
        levels: K.

    Raises:
        ValueError: see `pair_of_levels`; or images smaller than the window.

    Exact when: always; the mean of torchmetrics' map without the border that it reflects.

    Reference: Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004), eq. 13.
    """
    pair_of_levels(images, others, levels)
    if min(images.shape[2:]) < SIZE:
        raise ValueError(f"expected images of {SIZE} pixels or more a side, got {images.shape}")
    n, channels = images.shape[:2]
    x, y = (torch.from_numpy(image.astype(np.float64)).flatten(0, 1)[:, None] for image in (images, others))
    offset = torch.arange(SIZE, dtype=torch.float64) - SIZE // 2
    line = torch.exp(-(offset**2) / (2 * SPREAD**2))
    window = torch.outer(line, line)[None, None] / line.sum() ** 2
    mean_x, mean_y, xx, yy, xy = (F.conv2d(image, window) for image in (x, y, x * x, y * y, x * y))
    c1, c2 = (K1 * (levels - 1)) ** 2, (K2 * (levels - 1)) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * (xy - mean_x * mean_y) + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (xx - mean_x**2 + yy - mean_y**2 + c2)
    return (top / bottom).reshape(n, channels, top.shape[2] * top.shape[3]).mean((1, 2)).numpy()


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of (N,); the error of one value alone is not known: NaN."""
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return float(values.mean()), float("nan")
    return float(values.mean()), float(values.std(ddof=1) / n**0.5)
