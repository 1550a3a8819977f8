"""One file of several pictures: the pages of a TIFF, the frames of an animation, as one array."""

from dataclasses import replace
from pathlib import Path

from diffprob.base.errors import InputError, Missing
from diffprob.base.levels import with_levels
from diffprob.base.options import option
from diffprob.data.formats.files import blank_pixels, same_depth
from diffprob.data.formats.pictures import MixedSizes, Tally, read_frames
from diffprob.data.images import Images


def read_pages_file(path: Path, split: str, tally: Tally) -> Images:
    """Every page or frame of a file, in its order.

    Raises:
        Missing: the test part, which one file has not.
        MixedSizes: pages of different sizes and no ``size``.
        InputError: a folder, another format, or damaged.
    """
    if split == "test":
        raise Missing(f"{path}: one file of pictures has no 'test' split; 'train' or 'all' would be right")
    if path.is_dir():
        raise InputError(f"{path}: a folder; the path of one file of several pictures would be right")
    frames = read_frames(path, tally)
    pixels = blank_pixels((len(frames), *frames[0].shape), frames[0].dtype)
    for k, frame in enumerate(frames):
        if frame.shape != frames[0].shape:
            sizes = f"{frame.shape[2]}x{frame.shape[1]} pixels, while the first has"
            raise MixedSizes(f"{path}: page {k + 1} has {sizes} {frames[0].shape[2]}x{frames[0].shape[1]}")
        same_depth(f"{path}: page {k + 1}", frame, pixels)
        pixels[k] = frame
    pages = f"{path.name}: its {len(frames)} pages or frames are the images"
    return Images(pixels, name=path.stem, notes=(pages, *tally.notes()))


def of_levels(images: Images, levels: int | None) -> Images:
    """The images as ones of so many grey levels; None: as they are.

    Raises:
        InputError: a value that is none of them.
    """
    if levels is None:
        return images
    where = f"{option('levels', levels)}: {images.name}"
    return replace(images, pixels=with_levels(images.pixels, levels, where), levels=levels)
