"""Images for a run, from wherever they are given: one rule for pictures, folders, files of arrays and arrays.

Images that have the run's shape (C, H, W) and number of grey levels pass as they are. Others are refused, in one line
that names both and what would convert them; where that is asked for they are brought to the run's shape and levels in
one way (`data.resize`), and what was done is kept in words, for whoever reads a number about them.

What is done to every picture that needs it (turned upright, put on white, the first of several frames taken) is kept in
these words too. Two things lose nothing and are no conversion: pictures whose red, green and blue agree everywhere are
grey, and pictures whose values are the run's few grey levels on the scale of 0 to 255 (as `sample` writes them) have
these.

Every selection says which data it is (as the user named it), which part of it, what it is to the run, and its digest.
It knows no run: who has one says which images are its own (`runs.images`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffprob.base.errors import InputError, Missing
from diffprob.base.levels import BYTE_LEVELS, MOST_LEVELS, levels_held, whole_levels
from diffprob.base.options import option
from diffprob.data.combined import held_out_source
from diffprob.data.fields import Numbers, numbers_in_memory
from diffprob.data.formats.arrays import read_array_file
from diffprob.data.formats.files import existing
from diffprob.data.formats.folder import read_folder
from diffprob.data.formats.pages import of_levels, read_pages_file
from diffprob.data.formats.pictures import SUFFIXES, UNASKED, MixedSizes, Tally, count_frames, read_picture
from diffprob.data.images import Images
from diffprob.data.kinds import open_data
from diffprob.data.resize import requantised, resized
from diffprob.data.sources import Array, Folder, HuggingFace, Pages
from diffprob.space.space import Space

TRAIN, TEST, OTHER = "train", "test", "other data"  # what images are to a run: its own two splits, or neither
WHOLE = "all"  # the part of data without a test split that is read
Size = tuple[int, int] | None  # (height, width) that pictures are brought to
Read = tuple[Images, str, list[str]]  # images, the part of the data that they are, and what was done to them
CONVERTED = "converted to"  # in the note about pictures that were made grey or coloured


@dataclass(frozen=True, eq=False)
class Selection:
    """Images for a run, and which they are.

    Args:
        images: in the run's shape and grey levels.
        data: where they are from: the text that the user gave, or the repr of a source.
        split: the part of the data that was read, such as "test", or "all" of data without splits.
        role: what they are to the run, `TRAIN`, `TEST` or `OTHER`.
        digest: SHA-256 of these images, as `Images.digest` has it.
        converted: what was done to bring them into the run's shape, in words, or "".
    """

    images: Images
    data: str
    split: str
    role: str
    digest: str
    converted: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def provenance(self) -> dict[str, Any]:
        """What every record has of its images: JSON literals by name."""
        return {
            "data": self.data,
            "data_sha256": self.digest,
            "split": self.split,
            "role": self.role,
            "converted": self.converted or None,
        }

    @property
    def called(self) -> str:
        """For a sentence: "test images of digits/test", or what the user called them."""
        of = f" ({self.converted})" if self.converted else ""
        what = getattr(self.images, "kind", "images")
        return f"{self.role} {what} of {self.images.name}" if self.role != OTHER else f"{what} of {self.data}{of}"


def select(
    data: "str | np.ndarray | Images",
    space: Space,
    owner: str,
    split: str = "auto",
    resize: bool = False,
    how: str | None = None,
) -> Selection:
    """Images that are not known to be the run's own, for a run of ``space``.

    Args:
        data: a picture, a folder of pictures, or any data that `open_data` knows, as text; or images in memory, uint8
            or uint16 (N, C, H, W) of all their grey levels where no `Images` say more.
        space: shape and grey levels of the run.
        owner: the run's name, for messages.
        split: "auto" takes the test split of the data, or all of it where it has none; else "train", "test" or "all".
        resize: convert what is of another shape or number of grey levels.
        how: what would be right, for the message that refuses; None: to resize.

    Raises:
        Missing: nothing there, or no such split.
        InputError: damaged, or of another shape or number of grey levels.
    """
    if space.levels is None:
        return _numbers(data, space, owner, split, resize)
    _, height, width = space.shape
    if not isinstance(data, str):
        images = data if isinstance(data, Images) else in_memory(data)
        text, part, done = images.name, WHOLE, []
    else:
        text = data
        images, part, done = read_any(data, (height, width) if resize else None, space, split, how)
    images, more = fitted(images, space, text, owner, resize, how)
    return Selection(images, text, part, OTHER, images.digest(), ", ".join([*done, *more]))


def _numbers(data: "str | np.ndarray | Images", space: Space, owner: str, split: str, resize: bool) -> Selection:
    """Real numbers for a run of such: of its shape, for nothing is scaled or cropped.

    Raises:
        InputError: images in levels, or another shape.
    """
    if resize:
        raise InputError(f"{option('resize')}: {owner} is of real numbers, which are taken as they are")
    shape = tuple(space.shape)
    if isinstance(data, str):
        source: Any = open_data(data, split=WHOLE if split == WHOLE else "train", real=True)
        if isinstance(source, Numbers):
            source = replace(source, dims=len(shape) - 1)
        text, (values, part) = data, _part(source, split, lambda part: part.load())
    else:
        values = data if isinstance(data, Images) else numbers_in_memory(data, shape)
        text, part = values.name, WHOLE
    if values.levels is not None or values.event_shape != shape:
        theirs = f"shape {values.event_shape}" + ("" if values.levels is None else " in grey levels")
        raise InputError(f"{text}: {theirs}, but {owner} takes real numbers of shape {shape}")
    return Selection(values, text, part, OTHER, values.digest())


def read_any(
    text: str, size: Size, space: Space, split: str = "auto", how: str | None = None, first: int | None = None
) -> Read:
    """The images that a text means, in their own shape, or pictures in ``size``; see `select` for the rest.

    Pictures are grey where those of ``space`` are and their red, green and blue agree everywhere. Of a folder of
    pictures the ``first`` ones alone are opened, where it is given; other data has all its images.

    Raises:
        Missing: nothing there, or no such split.
        InputError: damaged, or pictures of several sizes where none is given.
    """
    if is_picture(text):
        return _picture(text, size, space)
    return _data(text, size, space, split, how, first)


def fitted(
    images: Images, space: Space, text: str, owner: str, resize: bool, how: str | None = None
) -> tuple[Images, list[str]]:
    """The images in the shape and grey levels of ``space``, and what was done to them, in words.

    Raises:
        InputError: another shape or number of grey levels, unless ``resize``.
    """
    (channels, height, width), theirs = space.shape, images.event_shape
    few = requantised(np.asarray(images.pixels), images.levels, space.levels) if images.levels != space.levels else None
    same_levels = few is None or (
        images.levels in (BYTE_LEVELS, MOST_LEVELS)
        and images.levels > space.levels
        and bool((requantised(few, space.levels, images.levels) == images.pixels).all())
    )
    if theirs == space.shape and same_levels:
        return images if few is None else replace(images, pixels=few, levels=space.levels), []
    if not same_levels and not images.files:  # of pictures the scale is known
        _check_bright(images, space.levels, text, owner)
    if not resize:
        raise InputError(
            f"{text}: shape {theirs} and {images.levels} grey levels, {owner} takes {space.shape} and {space.levels}; "
            f"{how or _resizing()}"
        )
    done = []
    if theirs[1:] != (height, width):
        cropped = " and centre-cropped" if theirs[1] * width != theirs[2] * height else ""
        done.append(f"scaled from {theirs[2]}x{theirs[1]}{cropped}")
    if theirs[0] != channels and {theirs[0], channels} == {1, 3}:
        done.append("made grey" if channels == 1 else "grey in three channels")
    if not same_levels:
        done.append(f"{images.levels} grey levels made {space.levels}")
    # Sizes first, at all the levels of a byte or of two: means between few levels would be lost.
    fine = BYTE_LEVELS if max(images.levels, space.levels) <= BYTE_LEVELS else MOST_LEVELS
    try:
        pixels = resized(requantised(np.asarray(images.pixels), images.levels, fine), space.shape)
    except InputError as error:
        raise InputError(f"{text}: {error}") from error
    return replace(images, pixels=requantised(pixels, fine, space.levels), levels=space.levels), done


def _check_bright(images: Images, levels: int, text: str, owner: str) -> None:
    """Refuse what would be made nearly black: values of ``levels`` grey levels, read as if there were more of them.

    Raises:
        InputError: no value reaches ``levels``.
    """
    most = max(int(part.max()) for part in images.chunks())
    if 0 < most < levels < images.levels:
        raise InputError(
            f"{text}: values up to {most}, which are nearly black among {images.levels} grey levels; if they are the "
            f"{levels} levels of {owner}, round(values * ({images.levels - 1} / {levels - 1})) as "
            f"{images.pixels.dtype} would be right"
        )


def in_memory(pixels: np.ndarray) -> Images:
    """An array as images of all the grey levels of its type, or of those that `whole_levels` says.

    Raises:
        ValueError: another shape than (N, C, H, W), or more channels than there may be.
        InputError: values that are no grey levels.
    """
    name = "the given images"
    if levels_held(pixels.dtype) is None and pixels.dtype.kind in "biu" and pixels.size:
        pixels, levels = whole_levels(pixels, name)
        return Images(pixels, levels=levels, name=name)
    return Images(pixels, name=name)


def is_picture(text: str) -> bool:
    """Whether a text names one picture, by its suffix; a file of several is data."""
    path = Path(text).expanduser()
    return text.lower().endswith(SUFFIXES) and not (path.is_dir() or (path.is_file() and count_frames(path) > 1))


def _picture(text: str, size: Size, space: Space) -> Read:
    path, channels = existing(text), space.shape[0]
    tally = Tally(size, "bicubic", _read_in(channels, size))
    pixels = read_picture(path, tally)[None]
    images, done = _in_channels(
        _like(Images(pixels, name=path.name, notes=tally.notes(), files=(path.name,)), space), channels, tally
    )
    images, changed = _unasked(images)
    return images, WHOLE, [*_scaled(tally), *changed, *done]


def _read_in(channels: int, size: Size) -> int:
    """The channels that pictures are read in: in colour where they may turn out to be grey."""
    return 3 if size is None and channels == 1 else channels


def _like(images: Images, space: Space) -> Images:
    """Pictures of 16 bits as ones of the model's levels, where it has more than 256 and they have no other."""
    if BYTE_LEVELS < (space.levels or 0) < images.levels and max(int(p.max()) for p in images.chunks()) < space.levels:
        return of_levels(images, space.levels)
    return images


def _resizing() -> str:
    return f"{option('resize')} would convert them"


def _data(text: str, size: Size, space: Space, split: str, how: str | None, first: int | None) -> Read:
    source: Any = open_data(text, split=WHOLE if split == WHOLE else "train")
    tallies: list[Tally] = []
    channels = space.shape[0]

    def load(part: Any) -> Images:
        if isinstance(part, HuggingFace):
            return replace(part, channels=_read_in(channels, size)).load()
        if isinstance(part, Array):
            return read_array_file(existing(part.path), part.split, like=(channels, space.levels))
        if not isinstance(part, Folder | Pages):
            return part.load()
        tallies[:] = [Tally(size, part.resample, _read_in(channels, size))]
        try:
            if isinstance(part, Pages):
                return _like(read_pages_file(existing(part.path), part.split, tallies[0]), space)
            return _like(read_folder(existing(part.path), part.split, tallies[0], first), space)
        except MixedSizes as error:
            raise InputError(f"{error.what}; {how or _resizing()}") from error

    images, part = _part(source, split, load)
    pictures = isinstance(source, Folder | Pages | HuggingFace)
    images, done = _in_channels(images, channels, tallies[0] if tallies else None) if pictures else (images, [])
    images, changed = _unasked(images)
    return images, part, [*(_scaled(tallies[0]) if tallies else []), *changed, *done]


def _part(source: Any, split: str, load: Callable[[Any], Images]) -> tuple[Images, str]:
    """The images of the part that ``split`` asks for, and its name."""
    if split not in (TRAIN, WHOLE):
        try:
            return load(held_out_source(source)), "test"
        except Missing:
            if split == "test":
                raise
    return load(source), TRAIN if split == TRAIN else WHOLE


def _in_channels(images: Images, channels: int, tally: Tally | None) -> tuple[Images, list[str]]:
    """Pictures read in colour as grey ones where the run's are grey and red, green and blue agree everywhere."""
    if channels == 1 and (grey := uncoloured(images)) is not None:
        return grey, []
    coloured = next((note for note in images.notes if CONVERTED in note), None)
    notes = tuple(note for note in images.notes if note != coloured)
    if channels == 3 and coloured:
        return replace(images, notes=notes), ["grey in three channels where it was grey"]
    lost = bool(coloured) if tally is None else tally.counts["discoloured"] > 0
    return images, ["made grey"] if channels == 1 and lost else []


def _unasked(images: Images) -> tuple[Images, list[str]]:
    """What was done to pictures although nobody wanted it, which is then no note any more."""
    changed = [note for note in images.notes if note.endswith(tuple(UNASKED.values()))]
    return replace(images, notes=tuple(note for note in images.notes if note not in changed)), changed


def uncoloured(images: Images) -> Images | None:
    """Colour images as grey ones, or None where they are not, or red, green and blue do not agree everywhere.

    The pixels are those of the same pictures read as grey.
    """
    if images.event_shape[0] != 3 or not all((part == part[:, :1]).all() for part in images.chunks()):
        return None
    notes = tuple(note for note in images.notes if CONVERTED not in note)
    return replace(images, pixels=np.ascontiguousarray(images.pixels[:, :1]), notes=notes)


def _scaled(tally: Tally) -> list[str]:
    """What was done to pictures while they were read."""
    done = []
    if tally.size is not None and (tally.counts["reduced"] or tally.counts["enlarged"]):
        sizes = sorted(tally.sizes)
        done.append("scaled from " + (f"{sizes[0][0]}x{sizes[0][1]}" if len(sizes) == 1 else "several sizes"))
    if tally.counts["cropped"]:
        done.append("centre-cropped")
    return [" and ".join(done)] if done else []
