"""Images for a run: files and arrays go by one rule, what is converted is said, and what loses nothing is none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffprob.base.errors import InputError, Missing
from diffprob.data.for_run import OTHER, select
from diffprob.data.images import Images
from diffprob.space.pixels import Pixels

GREY, COLOUR, WIDE, FEW = (
    *(Pixels((1, 16, 16), 256), Pixels((3, 16, 16), 256)),
    *(Pixels((3, 16, 64), 256), Pixels((1, 16, 16), 17)),
)


def pixels(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def folder(path: Path, images: np.ndarray) -> str:
    path.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(images):
        array = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
        Image.fromarray(array).save(path / f"{k:02d}.png")
    return str(path)


@pytest.mark.parametrize(
    ("space", "shape", "done"),
    [
        (GREY, (1, 16, 16), ""),
        (COLOUR, (3, 16, 16), ""),
        (WIDE, (3, 16, 64), ""),
        (GREY, (3, 64, 80), "scaled from 80x64 and centre-cropped, made grey"),
        (COLOUR, (3, 32, 32), "scaled from 32x32"),
        (WIDE, (3, 32, 128), "scaled from 128x32"),
        (WIDE, (3, 64, 80), "scaled from 80x64 and centre-cropped"),
        (GREY, (3, 16, 16), "made grey"),
    ],
)
def test_files_and_arrays_are_converted_alike(
    tmp_path: Path, space: Pixels, shape: tuple[int, int, int], done: str
) -> None:
    images = pixels(4, *shape)
    np.save(tmp_path / "images.npy", images)
    ways = (folder(tmp_path / "pictures", images), str(tmp_path / "images.npy"), images)
    for data in ways:
        if done:
            with pytest.raises(InputError) as refused:
                select(data, space, "mine")
            for text in (str(shape), str(space.shape), "resize would convert"):
                assert text in str(refused.value)
    batches = [select(data, space, "mine", resize=True) for data in ways]
    for batch in batches:
        assert batch.converted == done and batch.role == OTHER and batch.images.event_shape == space.shape
        np.testing.assert_array_equal(batch.images.pixels, batches[0].images.pixels)
    assert len({batch.digest for batch in batches}) == 1 and [batch.data for batch in batches[:2]] == list(ways[:2])


def test_lossless_changes_are_not_conversions(tmp_path: Path) -> None:
    """Grey pictures kept in colour; pictures of few levels on the scale of 256, as `sample` writes them."""
    grey, levels = pixels(3, 1, 16, 16), pixels(3, 1, 16, 16) % 17
    as_colour = folder(tmp_path / "colour", grey.repeat(3, 1))
    scaled = folder(tmp_path / "levels", np.rint(levels * (255 / 16)).astype(np.uint8))
    for data, space, expected in ((as_colour, GREY, grey), (scaled, FEW, levels)):
        batch = select(data, space, "mine")
        assert batch.converted == "" and batch.images.levels == space.levels
        np.testing.assert_array_equal(batch.images.pixels, expected)
    with pytest.raises(InputError, match=r"256 grey levels, mine takes .* and 17"):
        select(as_colour, FEW, "mine")
    assert select(as_colour, FEW, "mine", resize=True).converted == "256 grey levels made 17"
    assert (
        select(folder(tmp_path / "grey", grey), COLOUR, "mine").converted == "grey in three channels where it was grey"
    )


def test_arrays_of_few_levels_are_not_darkened(tmp_path: Path) -> None:
    """The digits as scikit-learn has them, 0 to 16 in an array, are no nearly black ones among 256 levels."""
    levels = pixels(3, 1, 16, 16) % 17
    np.save(tmp_path / "few.npy", levels)
    for resize in (False, True):
        with pytest.raises(InputError, match=r"values up to 16, which .* 17 levels of mine"):
            select(str(tmp_path / "few.npy"), FEW, "mine", resize=resize)
    np.save(tmp_path / "right.npy", np.round(levels * (255 / 16)).astype(np.uint8))
    np.testing.assert_array_equal(select(str(tmp_path / "right.npy"), FEW, "mine").images.pixels, levels)


def test_single_image_and_mixed_sizes_are_accepted(tmp_path: Path) -> None:
    one = folder(tmp_path / "pictures", pixels(1, 3, 16, 16)) + "/00.png"
    batch = select(one, COLOUR, "mine")
    assert len(batch) == 1 and batch.images.files == ("00.png",) and batch.data == one
    folder(tmp_path / "pictures/more", pixels(2, 3, 20, 30))
    with pytest.raises(InputError, match=r"30x20 pixels.*resize"):
        select(str(tmp_path / "pictures"), COLOUR, "mine")
    batch = select(str(tmp_path / "pictures"), COLOUR, "mine", resize=True)
    assert batch.converted == "scaled from several sizes and centre-cropped"
    assert batch.images.files == ("00.png", "more/00.png", "more/01.png")


def test_split_that_is_read_is_named(tmp_path: Path) -> None:
    images = pixels(9, 1, 16, 16)
    np.savez(tmp_path / "both.npz", x_train=images[:6], x_test=images[6:])
    np.savez(tmp_path / "one.npz", images=images)
    for name, split, part, count in (
        ("both", "auto", "test", 3),
        ("both", "train", "train", 6),
        ("one", "auto", "all", 9),
    ):
        batch = select(str(tmp_path / f"{name}.npz"), GREY, "mine", split)
        assert (batch.split, len(batch)) == (part, count)
    with pytest.raises(Missing):
        select(str(tmp_path / "one.npz"), GREY, "mine", "test")


def test_damaged_split_is_not_treated_as_missing(tmp_path: Path) -> None:
    for part in ("train", "test"):
        folder(tmp_path / part, pixels(2, 1, 16, 16))
    cut = tmp_path / "test/01.png"
    cut.write_bytes(cut.read_bytes()[:60])
    with pytest.raises(InputError, match=r"test/01\.png.*damaged") as refused:
        select(str(tmp_path), GREY, "mine")
    assert not isinstance(refused.value, Missing)


def test_images_in_memory_carry_their_levels() -> None:
    levels = pixels(3, 1, 16, 16) % 17
    assert select(Images(levels, levels=17, name="mine"), FEW, "mine").converted == ""


def test_transparency_and_rotation_are_noted(tmp_path: Path) -> None:
    """White behind what is transparent, and a turn, change the images that a number is of."""
    clear = np.full((16, 16, 4), 255, np.uint8)
    clear[:8, :, :3], clear[:4, :, 3] = 7, 0
    turned = Image.Exif()
    turned[0x0112] = 3
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.fromarray(pixels(1, 16, 16)[0]).save(tmp_path / "turned.png", exif=turned)
    notes = ["images turned upright as their EXIF orientation says", "images with transparency composited over white"]
    batch = select(str(tmp_path), GREY, "mine")
    assert batch.converted == f"1 of 2 {notes[0]}, 1 of 2 {notes[1]}"
    assert batch.provenance["converted"] == batch.converted and batch.images.notes == ()
    assert select(str(tmp_path / "clear.png"), GREY, "mine").converted == f"1 of 1 {notes[1]}"
    assert select(str(tmp_path / "turned.png"), GREY, "mine").converted == f"1 of 1 {notes[0]}"
