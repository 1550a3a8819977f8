"""Pictures of data that has no height: points of the plane in one square, and rows of numbers below each other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

FLAT = 32  # images of one row of pixels that are shown where one after the other would be few
_SIDE = 336  # pixels of the square
_MARGIN = 8  # of it around -1..1
_DOT = 2.5  # radius of a point
_SHADE = 0.45  # what a point leaves of the light behind it
_AXIS = 214  # grey of the lines through 0
_FRAME = 112


def is_flat(shape: Sequence[int]) -> bool:
    """Whether an image (..., H, W) is one row of pixels: alone it shows nothing, many together show the data."""
    return len(shape) > 2 and shape[-2] == 1


def is_point(shape: Sequence[int]) -> bool:
    """Whether an image (..., 1, 1, 2) is a point of the plane: two grey levels, across and up."""
    return tuple(shape[-3:]) == (1, 1, 2)


def followed(shape: Sequence[int], rows: int, n: int) -> int:
    """How many of n samples to follow on their way where ``rows`` of images are to be: all points, many flat rows."""
    return min(n, rows and (n if is_point(shape) else max(rows, FLAT) if is_flat(shape) else rows))


def scatter_image(points: np.ndarray, levels: int = 256, paths: bool = False) -> "Image":
    """Points in the square [-1, 1]^2, with lines through 0; where they lie close it is darker.

    Args:
        points: grey levels 0 .. ``levels`` - 1, uint8 (N, 1, 1, 2), or (M, N, 1, 1, 2) of M paths.
        levels: number K of grey levels, from -1 to 1.
        paths: join the points of each path; its ends are rings.
    """
    from PIL import Image, ImageDraw

    inner = _SIDE - 1 - 2 * _MARGIN
    places = _MARGIN + points.reshape(-1, 2) * (inner / (levels - 1))
    places[:, 1] = _SIDE - 1 - places[:, 1]  # up
    light = np.full((_SIDE, _SIDE), 255.0)
    light[_SIDE // 2, :] = light[:, _SIDE // 2] = _AXIS
    light[[0, -1], :] = light[:, [0, -1]] = _FRAME
    sheet = Image.fromarray(np.round(light * _SHADE ** _cover(places)).astype(np.uint8))
    if paths:
        draw = ImageDraw.Draw(sheet)
        for path in places.reshape(len(points), -1, 2):
            draw.line([(x, y) for x, y in path.tolist()], _FRAME, 1)
            for x, y in path[[0, -1]].tolist():
                draw.ellipse((x - 5, y - 5, x + 5, y + 5), outline=0, width=2)
    return sheet


def _cover(places: np.ndarray) -> np.ndarray:
    """How many dots lie on each pixel of the square, (_SIDE, _SIDE), of places (N, 2) across and down."""
    reach = int(np.ceil(_DOT))
    steps = np.arange(-reach, reach + 1)
    down, across = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    inside = down**2 + across**2 <= _DOT**2
    centre = np.round(places).astype(int)
    rows = (centre[:, 1, None] + down[inside]).clip(0, _SIDE - 1)
    columns = (centre[:, 0, None] + across[inside]).clip(0, _SIDE - 1)
    cover = np.zeros((_SIDE, _SIDE))
    np.add.at(cover, (rows, columns), 1)
    return cover
