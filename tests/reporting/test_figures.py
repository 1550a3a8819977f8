"""Pictures, pixel by pixel where that can be said, and the curves' numbers."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from diffprob.base.errors import InputError
from diffprob.reporting.figures import _series, grid_image, loss_curve, progression, running_median, save_grid

PIXELS = np.random.default_rng(0).integers(0, 255, (5, 1, 4, 6)).astype(np.uint8)


def test_every_tile_is_in_its_place():
    picture = np.asarray(grid_image(PIXELS, columns=3, scale=2, pad=1))
    assert picture.shape == (1 + 2 * (8 + 1), 1 + 3 * (12 + 1))
    for index in range(5):
        top, left = 1 + index // 3 * 9, 1 + index % 3 * 13
        tile = picture[top : top + 8, left : left + 12]
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            assert np.array_equal(tile[dy::2, dx::2], PIXELS[index, 0])
    frame = np.ones(picture.shape, bool)
    for index in range(5):
        frame[1 + index // 3 * 9 :, 1 + index % 3 * 13 :][:8, :12] = False
    assert len(np.unique(picture[frame])) == 1


def test_grid_of_colour_and_grey_images_and_default_layout():
    colour = PIXELS.repeat(3, 1) // np.array([1, 2, 3], np.uint8)[:, None, None]
    picture = np.asarray(grid_image(colour, columns=5, scale=1, pad=0))
    assert np.array_equal(picture, np.concatenate(list(colour.transpose(0, 2, 3, 1)), 1))
    levels = np.arange(17, dtype=np.uint8).reshape(1, 1, 1, 17).repeat(17, 2)
    shown = np.asarray(grid_image(levels, scale=1, pad=0, levels=17))[0]
    assert np.array_equal(shown, np.round(np.arange(17) * 255 / 16))
    # 10 images of 8x8: four columns, three rows, tiles of 56 pixels.
    assert grid_image(np.zeros((10, 1, 8, 8), np.uint8), pad=2).size == (2 + 4 * 58, 2 + 3 * 58)
    assert grid_image(np.zeros((1, 3, 256, 256), np.uint8), pad=0).size == (256, 256)


@pytest.mark.parametrize("name", ["grid.png", "grid.webp", "grid.jpg"])
def test_saved_grid_opens(tmp_path, name):
    save_grid(PIXELS, tmp_path / name, columns=2, scale=3)
    with Image.open(tmp_path / name) as image:
        assert image.size == grid_image(PIXELS, columns=2, scale=3).size


def test_progression_has_rows_of_samples_and_columns_of_times(tmp_path):
    frames = [
        np.full((3, 1, 8, 8), 40 * k, np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None, None] for k in range(4)
    ]
    progression(frames, tmp_path / "plain.png", scale=1)
    picture = np.asarray(Image.open(tmp_path / "plain.png"))
    assert picture.shape == (2 + 3 * 10, 2 + 4 * 10)
    assert [[int(picture[5 + 10 * row, 5 + 10 * col]) for col in range(4)] for row in range(3)] == [
        [40 * k + n for k in range(4)] for n in range(3)
    ]
    progression(frames, tmp_path / "captions.png", times=[1, 0.5, 0.1, 0], scale=4)
    with_captions = np.asarray(Image.open(tmp_path / "captions.png"))
    progression(frames, tmp_path / "bare.png", scale=4)
    bare = np.asarray(Image.open(tmp_path / "bare.png"))
    band = with_captions.shape[0] - bare.shape[0]
    assert np.array_equal(with_captions[band:], bare)
    columns = np.array_split(with_captions[:band], 4, axis=1)
    assert all((column < 128).any() for column in columns)  # something is written above each


def test_running_median_matches_the_definition():
    values = [9.0, 1.0, 8.0, 2.0, 7.0, 3.0]
    assert running_median(values, 1) == values
    # The start stands for itself; then windows of three; the end loses its right side only.
    assert running_median(values, 3) == [9.0, 8.0, 2.0, 7.0, 3.0, 5.0]
    with pytest.raises(ValueError, match="got 4"):
        running_median(values, 4)


def test_loss_curve_reads_a_log_and_compares_two(tmp_path):
    log = [
        json.loads(line)
        for line in ('{"step": 50, "loss": 0.5}', '{"event": "resumed"}', '{"step": 100, "loss": "nan"}')
    ]
    assert _series(log) == ([50.0], [0.5])
    falling = [{"step": k, "loss": 1 / k} for k in range(1, 200)]
    loss_curve(falling, tmp_path / "one.png")
    loss_curve(
        {"fp32": falling, "bf16": falling},
        str(tmp_path / "two.svg"),
        title="Digits & others",
        label="loss per dimension",
    )
    assert Image.open(tmp_path / "one.png").size == (1080, 630)
    assert "svg" in (tmp_path / "two.svg").read_text()[:200]


def test_missing_matplotlib_is_an_error_with_advice(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        loss_curve([{"step": 1, "loss": 1.0}], tmp_path / "x.png")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda p: save_grid(PIXELS, p / "x.gif"), "must end in .png"),
        (lambda p: save_grid(PIXELS, p / "none" / "x.png"), "cannot write the picture"),
        (lambda p: save_grid(PIXELS.astype(float), p / "x.png"), "expected uint8"),
        (lambda p: save_grid(PIXELS[:0], p / "x.png"), "expected uint8 images"),
        (lambda p: save_grid(PIXELS + np.uint8(17), p / "x.png", levels=17), "grey level"),
        (lambda p: progression([PIXELS, PIXELS[:2]], p / "x.png"), "one shape"),
        (lambda p: progression([], p / "x.png"), "one shape"),
        (lambda p: loss_curve([{"step": 1}], p / "x.png"), "no record"),
        (lambda p: loss_curve([{"step": 1, "loss": 1.0}], p / "none" / "x.png"), "cannot write the figure"),
        (lambda p: loss_curve([{"step": 1, "loss": 1.0}], p / "x.doc"), "cannot write the figure"),
    ],
)
def test_invalid_input_is_an_error(tmp_path, draw, message):
    with pytest.raises(InputError, match=message):
        draw(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_invalid_settings_are_errors():
    for fields in ({"columns": 0}, {"scale": 0}, {"pad": -1}, {"levels": 1}):
        with pytest.raises(ValueError, match=r"must|levels"):
            grid_image(PIXELS, **fields)
    with pytest.raises(ValueError, match="2 frames need 2 times"):
        progression([PIXELS, PIXELS], "x.png", times=[1.0])
