"""Single inputs: images and masks that something is done to, read in their own grey levels and checked against a run.

Whatever is measured is measured on an `ImageSelection` (`diffprob.tasks.images`); here nothing is chosen or converted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffprob.base.errors import InputError, Missing
from diffprob.data.detect import open_data
from diffprob.data.for_run import Selection, is_picture, select
from diffprob.data.formats.folder import list_pictures, split_roots
from diffprob.data.images import Images
from diffprob.data.sources import Folder
from diffprob.runs.folder import Run
from diffprob.tasks.options import option
from diffprob.tasks.reporter import Reporter

OneImage = str | np.ndarray | Images  # a picture's path, DATA:INDEX such as "digits:0", or an image in memory
LIKE_SAMPLES = "an image like those of `diffprob sample` would be right"


@dataclass(frozen=True, eq=False)
class InputImage:
    """One image for a run.

    Args:
        pixels: grey levels, uint8 (1, C, H, W).
        text: what it was called.
    """

    pixels: np.ndarray
    text: str

    def facts(self, name: str) -> dict[str, str]:
        """What is recorded of it: what it was called, under ``name``, and its SHA-256."""
        return {name: self.text, f"{name}_sha256": Images(self.pixels).digest()}


def read_image(image: OneImage, field: str, run: Run, reporter: Reporter) -> InputImage:
    """One image for ``run``: a picture file, DATA:INDEX, counted from 0 in the test split of the data, or in all of it;
    or in memory, uint8 (C, H, W) or (1, C, H, W) of 256 grey levels where no `Images` say more.

    Args:
        image: which.
        field: what messages call it.
        run: whose shape and grey levels it must have.
        reporter: who hears notes.

    Raises:
        InputError: nothing of this name, or not the run's size, channels and grey levels.
    """
    if not isinstance(image, str):
        images = image[None] if isinstance(image, np.ndarray) and image.ndim == 3 else image
        selection = select(images, run.space, run.name, how=LIKE_SAMPLES)
        if len(selection) != 1:
            raise InputError(f"{option(field)}: {len(selection):,} images; one would be right")
        return InputImage(selection.images.take([0]), selection.data)
    if is_picture(image):
        return InputImage(_taken(image, run, lambda _: 0, reporter), image)
    data, _, index = image.rpartition(":")
    if not data or not index.isdecimal():
        raise InputError(f"{option(field, image)}: a picture (x.png) or DATA:INDEX would be right (digits:0)")
    return InputImage(_of_data(data, int(index), option(field, image), run, reporter), image)


def _taken(text: str, run: Run, which: Callable[[int], int], reporter: Reporter) -> np.ndarray:
    """One of the images at ``text``, by their number; nothing is converted to the run's shape."""
    selection: Selection = select(text, run.space, run.name, how=LIKE_SAMPLES)
    for note in [*selection.images.notes, *([selection.converted] if selection.converted else [])]:
        reporter.note(f"{text}: {note}")
    return selection.images.take([which(len(selection))])


def _of_data(data: str, index: int, asked: str, run: Run, reporter: Reporter) -> np.ndarray:
    source = open_data(data)
    if isinstance(source, Folder):
        # One of the pictures: reading all of them would take long.
        root = Path(source.path).expanduser()
        try:
            roots = split_roots(root, "test")
        except Missing:
            roots = split_roots(root, "train")
        paths = [path for root in roots for path in list_pictures(root)[0]]
        return _taken(str(paths[_within(index, len(paths), data, asked)]), run, lambda _: 0, reporter)
    return _taken(data, run, lambda count: _within(index, count, data, asked), reporter)


def _within(index: int, count: int, data: str, asked: str) -> int:
    if index >= count:
        raise InputError(f"{asked}: {data} has {count:,} images, counted from 0")
    return index
