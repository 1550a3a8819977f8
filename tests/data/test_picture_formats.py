"""TIFF, BMP, GIF, 16 bits and alpha: a good file of each, a broken one, an empty one, a wrong one and one too large."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from truth.tiff import tiff

from diffprob.base.errors import InputError, Missing
from diffprob.data import Folder, Pages, open_data
from diffprob.data.for_run import is_picture, read_any
from diffprob.data.formats.pictures import Tally, read_frames, read_picture
from diffprob.space.pixels import Pixels


def levels(*shape: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "how",
    [{}, {"order": ">"}, {"deflate": True}, {"planar": True}, {"deflate": True, "predict": True}, {"rows": 100}],
    ids=str,
)
def test_thirteen_bands_of_a_tiff_are_read_exactly(tmp_path: Path, dtype: type, how: dict) -> None:
    images = levels(2, 13, 8, 7, dtype=dtype)
    for k, image in enumerate(images):
        (tmp_path / f"{k}.tif").write_bytes(tiff([image], **how))
    loaded = open_data(str(tmp_path), channels=13).load()
    assert np.array_equal(loaded.pixels, images)
    assert loaded.levels == (256 if dtype == np.uint8 else 65536)


def test_colour_of_sixteen_bits_keeps_all_of_them(tmp_path: Path) -> None:
    """Pillow alone would keep the high bytes."""
    image = levels(3, 8, 8, dtype=np.uint16)
    (tmp_path / "x.tif").write_bytes(tiff([image]))
    assert np.array_equal(Folder(str(tmp_path)).load().pixels[0], image)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_sixteen_bits_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    image = levels(8, 6, dtype=np.uint16)
    Image.fromarray(image).save(tmp_path / f"x.{suffix}")
    loaded = open_data(str(tmp_path), channels=1).load()
    assert np.array_equal(loaded.pixels[0, 0], image) and loaded.levels == 65536
    assert open_data(str(tmp_path), size=3, channels=1).load().pixels.dtype == np.uint16


@pytest.mark.parametrize("suffix", ["tif", "bmp", "gif"])
def test_pictures_of_eight_bits_are_read_as_pillow_has_them(tmp_path: Path, suffix: str) -> None:
    image = levels(8, 6) if suffix == "gif" else levels(8, 6, 3)
    Image.fromarray(image).save(tmp_path / f"x.{suffix}")
    loaded = Folder(str(tmp_path), channels=1 if suffix == "gif" else 3).load()
    assert np.array_equal(loaded.pixels[0], image[None] if suffix == "gif" else image.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", ["tif", "gif"])
def test_pages_and_frames_of_one_file_are_images(tmp_path: Path, suffix: str) -> None:
    images = levels(5, 8, 6)
    first, *rest = [Image.fromarray(image) for image in images]
    path = tmp_path / f"x.{suffix}"
    first.save(path, save_all=True, append_images=rest)
    source = open_data(str(path), channels=1)
    assert source == Pages(str(path), channels=1)
    loaded = source.load()
    assert np.array_equal(loaded.pixels[:, 0], images) and "5 pages or frames" in loaded.notes[0]
    assert not is_picture(str(path))
    with pytest.raises(Missing, match="no 'test' split"):
        Pages(str(path), split="test").load()
    in_folder = Folder(str(tmp_path), channels=1).load()
    assert len(in_folder) == 1 and any("several frames: the first taken" in note for note in in_folder.notes)


def test_pages_of_many_bands_are_images_for_a_run_of_them(tmp_path: Path) -> None:
    images = levels(4, 13, 8, 8, dtype=np.uint16) >> 4
    path = tmp_path / "x.tif"
    path.write_bytes(tiff([*images]))
    read, part, _ = read_any(str(path), None, Pixels((13, 8, 8), 4096))
    assert np.array_equal(read.pixels, images) and (read.levels, part) == (4096, "all")


def test_alpha_is_kept_where_four_channels_are_asked_for(tmp_path: Path) -> None:
    image = levels(8, 6, 4)
    Image.fromarray(image).save(tmp_path / "x.png")
    assert np.array_equal(open_data(str(tmp_path), channels=4).load().pixels[0], image.transpose(2, 0, 1))
    over_white = Folder(str(tmp_path)).load()
    assert over_white.event_shape == (3, 8, 6) and any("composited over white" in note for note in over_white.notes)


def test_fewer_levels_than_bits_are_said_and_checked(tmp_path: Path, refused) -> None:
    image = levels(8, 6, dtype=np.uint16) >> 4
    Image.fromarray(image).save(tmp_path / "x.png")
    loaded = open_data(str(tmp_path), channels=1, levels=4096).load()
    assert (loaded.levels, loaded.pixels.dtype) == (4096, np.uint16)
    refused(open_data(str(tmp_path), channels=1, levels=1000).load, "levels=1000", f"the value {image.max()} occurs")


def wide(width: int) -> bytes:
    """A TIFF of one pixel that says it is so wide."""
    return tiff([levels(1, 1, 1)]).replace(struct.pack("<HHII", 256, 4, 1, 1), struct.pack("<HHII", 256, 4, 1, width))


def good(suffix: str) -> bytes:
    if suffix == "tif":
        return tiff([levels(13, 8, 8, dtype=np.uint16)])
    buffer = io.BytesIO()
    Image.fromarray(levels(8, 8)).save(buffer, suffix)
    return buffer.getvalue()


HUGE = {
    "tif": wide(1 << 27),
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 1 << 15, 1 << 15, 1, 24, 0, 0, 0, 0, 0, 0),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";",
}


@pytest.mark.parametrize("suffix", ["tif", "bmp", "gif"])
def test_bad_files_are_one_line_that_names_them(tmp_path: Path, refused, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    channels = 13 if suffix == "tif" else 1
    whole = good(suffix)
    for what, content, words in (
        ("broken", whole[: len(whole) // 2], "damaged or truncated"),
        ("empty", b"", "empty file"),
        ("wrong", b"%PDF-1.7 " + bytes(50), "in spite of its name"),
        ("too large", HUGE[suffix], "at most 67108864"),
    ):
        path.write_bytes(content)
        message = refused(open_data(str(tmp_path), channels=channels).load, path.name, words)
        assert len(message) < 300 + len(str(tmp_path)), what
        refused(lambda: open_data(str(path), channels=channels), path.name)


def test_what_is_no_picture_of_levels_is_refused(tmp_path: Path, refused) -> None:
    def folder(name: str, content: bytes) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.tif").write_bytes(content)
        return str(tmp_path / name)

    bands = tiff([levels(13, 8, 8, dtype=np.uint16)])
    refused(open_data(folder("three", bands)).load, "13 bands; channels=13 would be right")
    lzw = bands.replace(struct.pack("<HHII", 259, 4, 1, 1), struct.pack("<HHII", 259, 4, 1, 5))
    refused(open_data(folder("lzw", lzw), channels=13).load, "compression 5", "deflated")
    circle = bytearray(bands)
    circle[-4:] = bands[4:8]
    path = Path(folder("circle", bytes(circle))) / "x.tif"
    refused(lambda: read_frames(path, Tally(None, "bicubic", 13)), "in a circle")
    short = bands.replace(struct.pack("<HHI", 279, 4, 3), struct.pack("<HHI", 279, 4, 2))
    refused(open_data(folder("short", short), channels=13).load, "damaged or truncated")
    (tmp_path / "mixed").mkdir()
    for k, dtype in enumerate((np.uint8, np.uint16)):
        Image.fromarray(levels(8, 8, dtype=dtype)).save(tmp_path / "mixed" / f"{k}.png")
    refused(open_data(str(tmp_path / "mixed"), channels=1).load, "1.png: 16 bits a channel, the first picture has 8")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(InputError, match="a picture of floats"):
        read_picture(tmp_path / "f.tif", Tally(None, "bicubic", 1))
