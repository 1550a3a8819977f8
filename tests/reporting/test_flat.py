"""Points of the plane lie in one square, and rows of numbers below each other: nothing is 20,000 pixels wide."""

import io

import numpy as np
import pytest
from PIL import Image

from diffprob.base.rng import Rng
from diffprob.data.toys import Heartbeat, SwissRoll
from diffprob.process.linear import LinearProcess
from diffprob.reporting.artifacts import above_png, paths_png, tile_png
from diffprob.reporting.figures import grid_image, progression_image
from diffprob.reporting.flat import followed, is_flat, is_point, scatter_image
from diffprob.reporting.pictures import noising, strip, tiles
from diffprob.space.pixels import Pixels

ROLL, BEATS = SwissRoll(n=300).load().pixels, Heartbeat(n=300).load().pixels
SQUARE = (336, 336)


def opened(contents: bytes) -> Image.Image:
    return Image.open(io.BytesIO(contents))


def dark(picture: Image.Image) -> np.ndarray:
    """Rows and columns of the dots."""
    return np.argwhere(np.asarray(picture)[1:-1, 1:-1] < 200) + 1


@pytest.mark.parametrize(
    ("levels", "place"), [((0, 0), (327, 8)), ((255, 255), (8, 327)), ((0, 255), (8, 8)), ((255, 0), (327, 327))]
)
def test_first_number_is_across_and_second_up(levels: tuple[int, int], place: tuple[int, int]) -> None:
    picture = scatter_image(np.array(levels, np.uint8).reshape(1, 1, 1, 2))
    assert picture.size == SQUARE and np.abs(dark(picture).mean(0) - place).max() < 0.5
    four = scatter_image(np.array([3 * (level > 0) for level in levels], np.uint8).reshape(1, 1, 1, 2), levels=4)
    assert np.array_equal(np.asarray(four), np.asarray(picture))


def test_points_on_each_other_are_darker() -> None:
    point = np.full((1, 1, 1, 2), 60, np.uint8)
    one, three = (np.asarray(scatter_image(np.repeat(point, n, 0))).min() for n in (1, 3))
    assert three < 0.5 * one < 100


def test_points_are_in_one_square_and_rows_in_few_columns() -> None:
    assert grid_image(ROLL).size == SQUARE and is_point(ROLL.shape) and is_flat(BEATS.shape)
    places = dark(grid_image(ROLL))
    radius = np.hypot(*(places - 167.5).T) / 160
    assert radius.min() > 0.2 and radius.max() < 1.15  # a spiral has nothing in its middle
    width, height = grid_image(BEATS, levels=2).size
    assert max(width, height) < 1000 and 0.5 < width / height < 2
    assert grid_image(ROLL[:5], 5, 3, 0).size == (30, 3), "a scale asks for tiles"
    assert opened(tile_png(ROLL[0], 256, {})).size == (2, 1), "a file of a sample is read again"


def test_ways_are_squares_beside_each_other_or_lines_through_one() -> None:
    assert progression_image([ROLL] * 4, [1.0, 0.5, 0.2, 0.0]).size == (4 * 336, 336 + 26)
    assert opened(above_png([ROLL, ROLL], 256, {}, 100, 0)).size == (2 * 336, 336)
    assert opened(above_png([BEATS, BEATS], 2, {}, 20, 0)).size[0] < 300
    path = np.array([[20, 20], [230, 230]], np.uint8).reshape(1, 2, 1, 1, 2)
    line = opened(paths_png(path, 256, {}))
    assert line.size == SQUARE and np.asarray(line)[168 - 40, 204:212].min() < 130, "joined on the diagonal"
    digits = np.zeros((2, 3, 1, 8, 8), np.uint8)
    assert opened(paths_png(digits, 256, {})).size == grid_image(digits.reshape(6, 1, 8, 8), 3).size


def test_page_has_one_picture_of_all() -> None:
    names = [f"seed {k}" for k in range(300)]
    for pixels, levels in ((ROLL, 256), (BEATS, 2)):
        (picture,) = tiles(pixels, levels, names)
        assert picture.whole and picture.alt == "seed 0 and 299 more"
    space, process = Pixels((1, 1, 2)), LinearProcess()
    frames, times = noising(ROLL, (0.0, 0.5, 1.0), process, space, Rng.of(0, 300))
    ((name, row),) = strip(frames, times, process, 256, names, "Noised copy").rows
    assert name == "300 together" and row[1].alt == "Noised copy of 300 together at t = 0.5"
    assert not tiles(np.zeros((2, 1, 8, 8), np.uint8), 17, names[:2])[0].whole


def test_more_are_followed_where_they_are_shown_together() -> None:
    shapes = ((1, 1, 2), (1, 1, 20), (1, 8, 8))
    assert [followed(shape, 6, 200) for shape in shapes] == [200, 32, 6]
    assert [followed(shape, 6, 4) for shape in shapes] == [4, 4, 4] and followed((1, 1, 2), 0, 200) == 0
