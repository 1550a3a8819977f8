"""Images and masks that a user gives to be restored: read in their own grey levels, checked against the run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli.progress import say

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from diffprob.runs.folder import Run

KINDS = "a picture, a folder of pictures, or any other data that --data takes (of its test split, where it has one)"


@dataclass(frozen=True, eq=False)
class Given:
    """Images in grey levels of their own scale.

    Args:
        pixels: uint8 (N, C, H, W), 0..levels - 1.
        levels: K.
        names: of each image, for a file of its own; no suffix, may have folders.
        text: what they were called on the command line.
        part: the part of the data that they are, such as "test".
        converted: what was done to them while they were read, in words.
    """

    pixels: "np.ndarray"
    levels: int
    names: tuple[str, ...]
    text: str
    part: str = ""
    converted: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """What is recorded of them, JSON literals by name."""
        own = {"images": self.text, "images_sha256": self.digest()}
        return {**own, "split": self.part, "converted": self.converted or None, "n": len(self.pixels)}

    def facts_as(self, name: str) -> dict[str, Any]:
        """The same of images that are given beside others, under names that begin with ``name``."""
        own = {"sha256": self.digest(), "split": self.part, "converted": self.converted or None}
        return {name: self.text, **{f"{name}_{key}": value for key, value in own.items()}}

    def digest(self) -> str:
        """SHA-256 of the images, as `diffprob.data.images.Images.digest` has it."""
        from diffprob.data.images import Images

        return Images(self.pixels, levels=self.levels).digest()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @property
    def unit(self) -> float:
        """One grey level in model space."""
        return 2 / (self.levels - 1)

    def to_model(self, device: Any, part: slice = slice(None)) -> "Tensor":
        """Some of the images in [-1, 1]."""
        import torch

        from diffprob.space.pixels import Pixels

        return Pixels(self.shape, self.levels).to_model(torch.from_numpy(self.pixels[part]).to(device))

    def to_levels(self, x: "Tensor") -> "np.ndarray":
        """Images of any size from model space in the grey levels of these."""
        from diffprob.space.pixels import Pixels

        return Pixels(self.shape, self.levels).to_data(x).cpu().numpy()


def read(text: str, run: "Run", n: int | None = None) -> Given:
    """The first n images of ``text`` (all of them for None), which is one of `KINDS`; pictures in the run's channels.

    Of a folder of pictures no others are opened.

    Raises:
        InputError: nothing there, or not images.
    """
    from diffprob.data.detect import open_data
    from diffprob.data.for_run import is_picture, read_any

    channels = run.space.shape[0]
    images, part, done = read_any(text, None, channels, "auto", "pictures of one size would be right", n)
    for note in [*images.notes, *done]:
        say(f"{text}: {note}")
    if images.event_shape[0] != channels:
        kinds = {1: "grey", 3: "colour"}
        theirs = kinds[images.event_shape[0]]
        raise InputError(f"{text}: {theirs} images, but {run.name} has {kinds[channels]} ones; convert them first")
    pixels = images.take(range(min(len(images), n or len(images))))
    if is_picture(text):
        names = (Path(text).stem,)
    else:
        names = _names(open_data(text), part) if images.files else ()
    if not names or len(set(names)) < len(names):  # no pictures, or pictures that differ in their suffix alone
        names = tuple(f"{k:05d}" for k in range(len(images)))
    return Given(pixels, images.levels, names[: len(pixels)], text, part, ", ".join(done))


def _names(source: Any, split: str) -> tuple[str, ...]:
    """Of the pictures, in the order in which a folder is read."""
    from diffprob.data.formats.folder import list_pictures, split_roots

    roots = split_roots(Path(source.path).expanduser(), "test" if split == "test" else "train")
    return tuple(path.relative_to(root).with_suffix("").as_posix() for root in roots for path in list_pictures(root)[0])


def check_size(given: Given, shape: tuple[int, int, int], run: "Run") -> None:
    """Refuse images of another size than the run's.

    Raises:
        InputError: another size; both are named.
    """
    if given.shape != shape:
        found, right = (f"{width}x{height} pixels" for _, height, width in (given.shape, shape))
        raise InputError(f"{given.text}: {found}, but {run.name} has {right}; crop them to that first")


def read_box(text: str, run: "Run") -> "np.ndarray":
    """``TOP,LEFT,HEIGHT,WIDTH`` as pixels that are missing, bool (1, 1, H, W).

    Raises:
        InputError: not four whole numbers, or a box outside the image or as large as it.
    """
    import numpy as np

    _, height, width = run.space.shape
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"--box {text}: TOP,LEFT,HEIGHT,WIDTH in pixels would be right, such as 8,8,12,12")
    top, left, high, wide = (int(part) for part in parts)
    if top + high > height or left + wide > width:
        raise InputError(f"--box {text}: leaves the {width}x{height} pixels of {run.name}")
    missing = np.zeros((1, 1, height, width), dtype=bool)
    missing[..., top : top + high, left : left + wide] = True
    return _hides(missing, f"--box {text}")


def read_masks(text: str, run: "Run", count: int) -> "tuple[np.ndarray, Given]":
    """The pixels that are missing, white (at least half) in a picture, bool (1 or count, 1, H, W); and the pictures.

    Raises:
        InputError: another size or number of masks, or one that hides nothing or everything.
    """
    masks = read(text, run)
    check_size(masks, run.space.shape, run)
    if len(masks.pixels) not in (1, count):
        raise InputError(
            f"--mask {text}: {len(masks.pixels)} masks for {count} images; one, or {count}, would be right"
        )
    missing = masks.pixels.mean(1, keepdims=True) * 2 >= masks.levels - 1
    return _hides(missing, f"--mask {text}"), masks


def _hides(missing: "np.ndarray", said: str) -> "np.ndarray":
    share = missing.mean((1, 2, 3))
    for k, each in enumerate(share):
        if each in (0, 1):
            which = "" if len(share) == 1 else f": mask {k + 1}"
            what = "nothing" if each == 0 else "the whole image"
            raise InputError(f"{said}{which} hides {what}; the missing pixels, white in a mask, must be some of them")
    return missing
