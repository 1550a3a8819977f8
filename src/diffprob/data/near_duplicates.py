"""Which images show nearly the same picture: a copy saved again as JPEG, a frame of a film beside the next.

Two images are near-duplicates when their luma differs by at most 6 of 255 grey levels, or by a fifth of its own
standard deviation where that is more (root mean square over the pixels; a correlation of 0.98), and the means of their
16 cells differ by at most 8 levels (over cells and channels). Of 5,000 images each of MNIST, Fashion-MNIST, EMNIST
letters, the cats and the trucks of CIFAR-10, between 0 and 0.5% have a near-duplicate in this sense; of the same images
saved as JPEG of quality 75, between 95 and 100% are near-duplicates of themselves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffprob.base.checks import positions
from diffprob.base.levels import BYTE_LEVELS
from diffprob.data.images import Images

Floats = NDArray[np.float32]
LEVELS, SHARE, CELLS = 6.0, 0.2, 8.0  # largest differences: of luma, of luma by its deviation, of the means of cells
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in JPEG
_SIDE = 4  # cells along a side
_BLOCK = 512  # images that are compared with others at a time


@dataclass(frozen=True, eq=False)
class _Sketch:
    """What is compared of n images: luma (n, H W), means of cells (n, C 16), standard deviations of luma (n,)."""

    luma: Floats
    cells: Floats
    deviation: Floats

    def rows(self, chosen: NDArray[np.int64]) -> "_Sketch":
        return _Sketch(self.luma[chosen], self.cells[chosen], self.deviation[chosen])


def has_near_duplicate(images: Images, chosen: NDArray[np.int64], others: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each of the chosen images has a near-duplicate, or a copy, among the others, bool (n,).

    Args:
        images: N images; they are read once.
        chosen: int64 (n,).
        others: which images they are compared with, bool (N,); none of ``chosen`` should be.

    Raises:
        ValueError: an index that is no whole number in 0..N - 1.
    """
    chosen = positions(chosen, len(images))
    is_near = np.zeros(len(chosen), dtype=bool)
    if not len(chosen) or not others.any():
        return is_near
    scale = _scale(images)
    mine = _sketch(images.take(chosen), scale)
    order = np.argsort(mine.cells.mean(1), kind="stable")  # near-duplicates have near means, so few blocks meet
    mine, near = mine.rows(order), np.zeros(len(chosen), dtype=bool)
    means, first = mine.cells.mean(1), 0
    for chunk in images.chunks():
        part = chunk[others[first : first + len(chunk)]]
        first += len(chunk)
        if not len(part):
            continue
        theirs = _sketch(part, scale)
        by_mean = np.argsort(theirs.cells.mean(1), kind="stable")
        for start in range(0, len(by_mean), _BLOCK):
            block = theirs.rows(by_mean[start : start + _BLOCK])
            lowest, highest = block.cells.mean(1)[[0, -1]]
            low, high = np.searchsorted(means, [lowest - CELLS, highest + CELLS])
            for begin in range(int(low), int(high), _BLOCK):
                end = min(begin + _BLOCK, int(high))
                near[begin:end] |= _close(mine.rows(np.arange(begin, end)), block).any(1)
    is_near[order] = near
    return is_near


def _scale(images: Images) -> float:
    """What brings the images to the scale of 0 to 255: their levels, or of more than 256 those up to the largest.

    Data of 12 bits, say, in 16 would else be nearly black, and every image like every other.
    """
    if images.levels <= BYTE_LEVELS:
        return 255 / (images.levels - 1)
    return 255 / max(1, *(int(part.max()) for part in images.chunks()))


def _sketch(pixels: np.ndarray, scale: float) -> _Sketch:
    """Of pixels (n, C, H, W), brought to the scale of 0 to 255."""
    x = pixels.astype(np.float32) * np.float32(scale)
    n, channels, height, width = x.shape
    luma = np.einsum("nchw,c->nhw", x, _LUMA) if channels == 3 else x.mean(1)
    rows, columns = (np.linspace(0, side, min(_SIDE, side) + 1).astype(int)[:-1] for side in (height, width))
    sums = np.add.reduceat(np.add.reduceat(x, rows, axis=2), columns, axis=3)
    count = np.diff([*rows, height])[:, None] * np.diff([*columns, width])[None, :]
    luma = luma.reshape(n, -1)
    return _Sketch(luma, (sums / count).astype(np.float32).reshape(n, -1), luma.std(1))


def _close(a: _Sketch, b: _Sketch) -> NDArray[np.bool_]:
    """Whether image i of a and image j of b are near-duplicates, (len(a), len(b))."""
    cells = _distance(a.cells, b.cells) <= CELLS
    if not cells.any():
        return cells
    deviation = np.sqrt((a.deviation[:, None] ** 2 + b.deviation[None, :] ** 2) / 2)
    return cells & (_distance(a.luma, b.luma) <= np.maximum(LEVELS, SHARE * deviation))


def _distance(a: Floats, b: Floats) -> Floats:
    """Root mean square of the differences of rows, (len(a), len(b))."""
    squares = (a * a).mean(1)[:, None] + (b * b).mean(1)[None, :] - (2 / a.shape[1]) * (a @ b.T)
    return np.sqrt(np.maximum(squares, 0))
