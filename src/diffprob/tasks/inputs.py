"""Single inputs: images and masks that something is done to, read in their own grey levels and checked against a run.

Whatever is measured is measured on an `ImageSelection` (`diffprob.tasks.images`); here nothing is chosen or converted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.distributions import bin_width
from diffprob.base.errors import InputError, Missing
from diffprob.base.levels import kind_text
from diffprob.data.for_run import WHOLE, in_memory, is_picture, read_any, select
from diffprob.data.formats.folder import list_pictures, split_roots
from diffprob.data.images import Images
from diffprob.data.kinds import open_data
from diffprob.data.sources import Folder
from diffprob.runs.folder import Run
from diffprob.space.pixels import Pixels
from diffprob.tasks.images import ImageBatch, ImageSource
from diffprob.tasks.options import option
from diffprob.tasks.reporter import Reporter

SAME_SIZE = "pictures of one size would be right"


@dataclass(frozen=True, eq=False)
class InputImage:
    """One image for a run.

    Args:
        pixels: grey levels (1, C, H, W).
        text: what it was called.
        converted: what was done to bring it into the run's shape, in words.
    """

    pixels: np.ndarray
    text: str
    converted: str = ""

    def provenance(self, name: str) -> dict[str, str]:
        """What is recorded of it: what it was called, under ``name``, its SHA-256, and what was done to it."""
        converted = {f"{name}_converted": self.converted} if self.converted else {}
        return {name: self.text, f"{name}_sha256": Images(self.pixels).digest(), **converted}


def read_image(image: ImageSource, field: str, run: Run, reporter: Reporter, resize: bool = False) -> InputImage:
    """One image for ``run``: a picture file, DATA:INDEX, counted from 0 in the test split of the data, or in all of it;
    or in memory, uint8 or uint16 (C, H, W) or (1, C, H, W) of all their grey levels where no `Images` say more.

    Args:
        image: which.
        field: what messages call it.
        run: whose shape and grey levels it must have.
        reporter: who hears notes.
        resize: convert another size, channels or number of grey levels.

    Raises:
        InputError: nothing of this name, or not the run's size, channels and grey levels.
    """

    if run.space.levels is None:
        run.space.require_pixels("a start from an image")

    def of(text: str, which: Callable[[int], int]) -> InputImage:
        selection = select(text, run.space, run.name, resize=resize)
        for note in selection.images.notes or filter(None, (selection.converted,)):  # which say the same of pictures
            reporter.note(f"{text}: {note}")
        return InputImage(selection.images.take([which(len(selection))]), image_text, selection.converted)

    if not isinstance(image, str):
        images = image[None] if isinstance(image, np.ndarray) and image.ndim == 3 else image
        selection = select(_in_memory(images), run.space, run.name, resize=resize)
        if len(selection) != 1:
            raise InputError(f"{option(field)}: {len(selection):,} images; one would be right")
        return InputImage(selection.images.take([0]), selection.data, selection.converted)
    image_text, argument = image, option(field, image)
    if is_picture(image):
        return of(image, lambda _: 0)
    data, _, index = image.rpartition(":")
    if not data or not index.isdecimal():
        raise InputError(f"{argument}: a picture (x.png) or DATA:INDEX would be right (digits:0)")
    if isinstance(source := open_data(data), Folder):  # reading all of its pictures would take long
        paths = _pictures(source)
        return of(str(paths[_within(int(index), len(paths), data, argument)]), lambda _: 0)
    return of(data, lambda count: _within(int(index), count, data, argument))


def _in_memory(images: np.ndarray | Images | ImageBatch) -> Images:
    """Images that are no text."""
    if isinstance(images, ImageBatch):
        return images.chosen.images
    return images if isinstance(images, Images) else in_memory(images)


def _pictures(source: Folder) -> list[Path]:
    """Those of its test split where it has one, else all of them."""
    root = Path(source.path).expanduser()
    try:
        roots = split_roots(root, "test")
    except Missing:
        roots = split_roots(root, "train")
    return [path for root in roots for path in list_pictures(root)[0]]


def _within(index: int, count: int, data: str, argument: str) -> int:
    if index >= count:
        raise InputError(f"{argument}: {data} has {count:,} images, counted from 0")
    return index


@dataclass(frozen=True, eq=False)
class InputImages:
    """Images in grey levels of their own scale.

    Args:
        pixels: (N, C, H, W), 0..levels - 1.
        levels: K.
        names: of each image, for a file of its own; no suffix, may have folders.
        text: what they were called.
        part: the part of the data that they are, such as "test".
        converted: what was done to them while they were read, in words.
    """

    pixels: np.ndarray
    levels: int
    names: tuple[str, ...]
    text: str
    part: str = ""
    converted: str = ""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def provenance(self) -> dict[str, Any]:
        """What is recorded of them, JSON literals by name."""
        own = {"images": self.text, "images_sha256": self.digest()}
        return {**own, "split": self.part, "converted": self.converted or None, "n": len(self.pixels)}

    def provenance_as(self, name: str) -> dict[str, Any]:
        """The same of images that are given beside others, under names that begin with ``name``."""
        own = {"sha256": self.digest(), "split": self.part, "converted": self.converted or None}
        return {name: self.text, **{f"{name}_{key}": value for key, value in own.items()}}

    def digest(self) -> str:
        """SHA-256 of the images, as `diffprob.data.images.Images.digest` has it."""
        return Images(self.pixels, levels=self.levels).digest()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @property
    def unit(self) -> float:
        """One grey level in model space."""
        return bin_width(self.levels)

    def to_model(self, device: Any, part: slice = slice(None)) -> Tensor:
        """Some of the images in [-1, 1]."""
        return Pixels(self.shape, self.levels).to_model(torch.from_numpy(self.pixels[part]).to(device))

    def to_levels(self, x: Tensor) -> np.ndarray:
        """Images of any size from model space in the grey levels of these."""
        return Pixels(self.shape, self.levels).to_data(x).cpu().numpy()


def read_images(images: ImageSource, run: Run, reporter: Reporter, n: int | None = None) -> InputImages:
    """The first n images (all of them for None): a picture, a folder of pictures, or any other data, of its test split
    where it has one; or images in memory. Pictures are read in the run's channels.

    Of a folder of pictures no others are opened.

    Raises:
        InputError: nothing there, or not images.
    """
    channels = run.space.shape[0]
    if isinstance(images, str):
        text = images
        loaded, part, done = read_any(text, None, run.space, "auto", SAME_SIZE, n)
    else:
        loaded = _in_memory(images)
        text, part, done = loaded.name, WHOLE, []
    for note in [*loaded.notes, *done]:
        reporter.note(f"{text}: {note}")
    if loaded.event_shape[0] != channels:
        theirs, ours = kind_text(loaded.event_shape[0]), kind_text(channels)
        raise InputError(f"{text}: {theirs} images, but {run.name} has {ours} ones; convert them first")
    pixels = loaded.take(range(min(len(loaded), n or len(loaded))))
    names: tuple[str, ...] = ()
    if isinstance(images, str) and is_picture(text):
        names = (Path(text).stem,)
    elif isinstance(images, str) and loaded.files:
        names = _names(open_data(text), part)
    if not names or len(set(names)) < len(names):  # no pictures, or pictures that differ in their suffix alone
        names = tuple(f"{k:05d}" for k in range(len(loaded)))
    return InputImages(pixels, loaded.levels, names[: len(pixels)], text, part, ", ".join(done))


def _names(source: Any, split: str) -> tuple[str, ...]:
    """Of the pictures, in the order in which a folder is read."""
    roots = split_roots(Path(source.path).expanduser(), "test" if split == "test" else "train")
    return tuple(path.relative_to(root).with_suffix("").as_posix() for root in roots for path in list_pictures(root)[0])


def check_size(images: InputImages, run: Run) -> None:
    """Refuse images of another size than the run's.

    Raises:
        InputError: another size; both are named.
    """
    if images.shape != run.space.shape:
        theirs, right = (f"{width}x{height} pixels" for _, height, width in (images.shape, run.space.shape))
        raise InputError(f"{images.text}: {theirs}, but {run.name} has {right}; crop them to that first")


def box_mask(box: tuple[int, int, int, int], run: Run) -> np.ndarray:
    """(top, left, height, width) as pixels that are missing, bool (1, 1, H, W).

    Raises:
        InputError: a box outside the image, empty, or as large as it.
    """
    (top, left, high, wide), (_, height, width) = box, run.space.shape
    argument = option("box", ",".join(map(str, box)))
    if top + high > height or left + wide > width:
        raise InputError(f"{argument}: leaves the {width}x{height} pixels of {run.name}")
    missing = np.zeros((1, 1, height, width), dtype=bool)
    missing[..., top : top + high, left : left + wide] = True
    return _hides(missing, argument)


def read_masks(masks: ImageSource, run: Run, count: int, reporter: Reporter) -> tuple[np.ndarray, InputImages]:
    """The pixels that are missing, white (at least half) in a picture, bool (1 or count, 1, H, W); and the pictures.

    In memory they may also be bool (1 or count, 1, H, W).

    Raises:
        InputError: another size or number of masks, or one that hides nothing or everything.
    """
    if isinstance(masks, np.ndarray) and masks.dtype == bool:
        masks = masks.astype(np.uint8) * 255
    batch = read_images(masks, run, reporter)
    check_size(batch, run)
    argument = option("mask", batch.text)
    if len(batch) not in (1, count):
        raise InputError(f"{argument}: {len(batch)} masks for {count} images; one, or {count}, would be right")
    missing = batch.pixels.mean(1, keepdims=True) * 2 >= batch.levels - 1
    return _hides(missing, argument), batch


def _hides(missing: np.ndarray, argument: str) -> np.ndarray:
    share = missing.mean((1, 2, 3))
    for k, hidden in enumerate(share):
        if hidden in (0, 1):
            which = "" if len(share) == 1 else f": mask {k + 1}"
            what = "nothing" if hidden == 0 else "the whole image"
            raise InputError(
                f"{argument}{which} hides {what}; the missing pixels, white in a mask, must be some of them"
            )
    return missing
