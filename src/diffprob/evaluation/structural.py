"""How alike two images are to the eye: the structural similarity."""

import numpy as np
import torch
import torch.nn.functional as F

from diffprob.evaluation.likeness import pair_of_levels

SIZE, SPREAD = 11, 1.5  # of the window, and its standard deviation
K1, K2 = 0.01, 0.03


def ssim(images: np.ndarray, others: np.ndarray, levels: int = 256) -> np.ndarray:
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
    x, y = (torch.from_numpy(each.astype(np.float64)).flatten(0, 1)[:, None] for each in (images, others))
    offset = torch.arange(SIZE, dtype=torch.float64) - SIZE // 2
    line = torch.exp(-(offset**2) / (2 * SPREAD**2))
    window = torch.outer(line, line)[None, None] / line.sum() ** 2
    mean_x, mean_y, xx, yy, xy = (F.conv2d(each, window) for each in (x, y, x * x, y * y, x * y))
    c1, c2 = (K1 * (levels - 1)) ** 2, (K2 * (levels - 1)) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * (xy - mean_x * mean_y) + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (xx - mean_x**2 + yy - mean_y**2 + c2)
    return (top / bottom).reshape(n, channels, top.shape[2] * top.shape[3]).mean((1, 2)).numpy()
