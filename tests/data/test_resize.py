"""Images brought to another shape: in their aspect, one way for all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffprob.base.errors import InputError
from diffprob.data.formats.folder import read_folder
from diffprob.data.formats.pictures import Tally
from diffprob.data.resize import requantised, resized
from diffprob.data.sources import Folder


def pictures(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def test_images_of_the_target_shape_are_unchanged() -> None:
    images = pictures(3, 3, 8, 6)
    assert resized(images, (3, 8, 6)) is images


@pytest.mark.parametrize("channels", [1, 3])
def test_constant_images_stay_constant_and_means_are_kept(channels: int) -> None:
    flat = np.full((2, channels, 9, 7), 130, dtype=np.uint8)
    assert (resized(flat, (channels, 4, 12)) == 130).all()
    # A ramp keeps its mean: the kernel's weights add up to one at every pixel.
    ramp = np.broadcast_to(np.linspace(0, 252, 64).astype(np.uint8), (1, channels, 64, 64))
    assert abs(float(resized(np.ascontiguousarray(ramp), (channels, 16, 16)).mean()) - float(ramp.mean())) < 1


def test_grey_is_luma_and_colour_repeats_grey() -> None:
    red = np.zeros((1, 3, 4, 4), dtype=np.uint8)
    red[:, 0] = 200
    assert (resized(red, (1, 4, 4)) == round(0.299 * 200)).all()
    grey = pictures(2, 1, 4, 4)
    assert (resized(grey, (3, 4, 4)) == grey).all()


def test_resized_images_match_pillow() -> None:
    images = pictures(2, 3, 11, 5)
    resized_images = resized(images, (3, 6, 9))
    for own, image in zip(resized_images, images, strict=True):
        # 5x11 covers 9x6 at 9x20; of the 14 rows too many, half are above.
        theirs = Image.fromarray(image.transpose(1, 2, 0)).resize((9, 20), Image.Resampling.BICUBIC)
        assert np.array_equal(own, np.asarray(theirs)[7:13].transpose(2, 0, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bands_of_any_number_and_depth_are_resized_each_for_itself(dtype: type) -> None:
    """Thirteen bands as Pillow has each in 32-bit floats; a constant stays, a ramp keeps its mean to rounding."""
    most = np.iinfo(dtype).max
    images = np.random.default_rng(1).integers(0, most, (2, 13, 16, 16), dtype=dtype, endpoint=True)
    small = resized(images, (13, 8, 8))
    assert small.dtype == dtype
    for own, band in zip(small[1], images[1], strict=True):
        theirs = Image.fromarray(band.astype(np.float32)).resize((8, 8), Image.Resampling.BICUBIC)
        assert np.array_equal(own, np.rint(np.asarray(theirs)).clip(0, most))
    assert (resized(np.full((1, 13, 9, 7), most - 1, dtype), (13, 4, 12)) == most - 1).all()
    with pytest.raises(InputError, match="13 channels cannot be made ones of 3"):
        resized(images, (3, 16, 16))


def test_colour_of_sixteen_bits_is_made_grey_and_back() -> None:
    red = np.zeros((1, 3, 4, 4), np.uint16)
    red[:, 0] = 50_000
    assert (resized(red, (1, 4, 4)) == round(0.299 * 50_000)).all()
    grey = red[:, :1] + np.uint16(7)
    assert (resized(grey, (3, 4, 4)) == grey).all()
    assert (requantised(requantised(red, 65536, 256), 256, 65536) == 195 * 257 * (red > 0)).all()


def test_arrays_and_files_are_resized_alike(tmp_path: Path) -> None:
    """The same pixels as files, read for a training, and as an array."""
    images = pictures(3, 3, 20, 13)
    for k, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{k}.png")
    for channels in (1, 3):
        read = Folder(str(tmp_path), 8, channels).load()
        assert read.files == ("0.png", "1.png", "2.png")
        np.testing.assert_array_equal(resized(images, (channels, 8, 8)), read.pixels)
        for size in ((8, 16), (16, 8)):
            wide = read_folder(tmp_path, "train", Tally(size, "bicubic", channels))
            np.testing.assert_array_equal(resized(images, (channels, *size)), wide.pixels)


def test_unsupported_channels_are_an_error() -> None:
    with pytest.raises(InputError, match="2 channels"):
        resized(pictures(1, 2, 4, 4), (1, 4, 4))


def test_requantised_levels_keep_black_white_and_order() -> None:
    levels = np.arange(17, dtype=np.uint8)
    many = requantised(levels, 17, 256)
    assert many[0] == 0 and many[-1] == 255 and (np.diff(many.astype(int)) > 0).all()
    assert (requantised(many, 256, 17) == levels).all()
    assert requantised(levels, 17, 17) is levels
