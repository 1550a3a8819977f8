"""Images as numpy arrays: .npy (memory-mapped where it is uint8 or uint16) and .npz, never with pickled objects."""

from pathlib import Path
from typing import Any

import numpy as np

from diffprob.base.errors import InputError, Missing
from diffprob.base.levels import BYTE_LEVELS, MOST_BANDS, whole_levels, with_levels
from diffprob.base.options import option
from diffprob.data.formats.files import blank_pixels, whole_labels
from diffprob.data.formats.npy import Archive, map_npy, open_npz
from diffprob.data.formats.splits import TEST, TRAIN
from diffprob.data.images import CHUNK_BYTES, Images, Pixels

_ONE_PICTURE = 4  # channels that the last axis of a single picture may have
_IMAGES, _LABELS = ("x", "images"), ("y", "labels")


def _from_npz(path: Path, split: str) -> tuple[Any, Any, tuple[str, ...]]:
    """The arrays of images and of labels, or None, in an .npz; and notes, or all its keys where it has no images."""
    with open_npz(path) as archive:
        images, labels, passed = split_keys(archive.names, split)
        if images is None:
            return None, None, archive.names
        pixels = archive.read(images)
        return pixels, label_array(archive, labels, pixels, path), passed


def split_keys(names: tuple[str, ...], split: str) -> tuple[str | None, str | None, tuple[str, ...]]:
    """The keys of the images and of the labels of a split, or None; and a sentence where there was a choice."""
    own = sorted((rank, name) for name in names if (rank := _rank(name, _IMAGES, split)) is not None)
    if own:
        word = own[0][0][2]
        labels = [name for name in names if (rank := _rank(name, _LABELS, split)) is not None and rank[2] == word]
        chosen = own[0][1]
        notes = () if word == split else (f"split {split!r} is {chosen}",)
        if others := ", ".join(name for _, name in own[1:]):
            notes += (f"split {split!r} is {chosen} alone: {others} not taken",)
        return chosen, next(iter(labels), None), notes
    for wanted, label_key in (("images", "labels"), ("x", "y"), ("arr_0", "y")) if split != "test" else ():
        if (image_key := _named(wanted, names)) is not None:
            keys = (_named(key, names) for key in (label_key, "labels", "y"))
            return image_key, next((key for key in keys if key is not None), None), ()
    return None, None, ()


def _rank(name: str, kinds: tuple[str, ...], split: str) -> tuple[int, int, str] | None:
    """The place of x_train, train_images and their like, in any case, among the keys of a split; None for others."""
    order = {"train": TRAIN, "test": TEST}.get(split, ())
    first, _, last = name.lower().partition("_")
    for kind, word in ((first, last), (last, first)):
        if kind in kinds and word in order:
            return kinds.index(kind), order.index(word), word
    return None


def _named(wanted: str, names: tuple[str, ...]) -> str | None:
    """The key that is called so, in any case if that leaves one."""
    alike = [name for name in names if name.lower() == wanted]
    return wanted if wanted in names else alike[0] if len(alike) == 1 else None


def label_array(archive: Archive, name: str | None, pixels: Any, path: Path) -> Any:
    """The array of labels, which is read only where its header is that of one whole number for each image."""
    if name is None:
        return None
    header, n = archive.header(name), len(pixels) if pixels.ndim else 0
    if header.dtype.kind not in "iu" or header.shape not in ((n,), (n, 1)):
        actual = f"{header.dtype} {header.shape}"
        raise InputError(f"{path}: labels ({name}) are {actual}; whole numbers of shape ({n},) would be right")
    return whole_labels(archive.read(name).reshape(-1), f"{path}: {name}")


def _channels_first(x: Any, path: Path, channels: int | None) -> tuple[Any, str]:
    """View the array as (N, C, H, W); says which layout was recognised.

    Which axis the channels are is certain where one alone has as many as ``channels`` says, or, without it, 1 or 3, or
    else 1 to 16; nothing is guessed.
    """
    sizes = "x".join(map(str, x.shape))
    if x.ndim == 3:
        count, height, width = x.shape
        if channels is None and count == height > width and 1 < width <= _ONE_PICTURE:
            may = f"may be {count} images (N, H, W) or one (H, W, C): ambiguous"
            raise InputError(f"{path}: shape {sizes} {may}; {option('channels', 1)} says that it is the first")
        if channels not in (None, 1):
            one = f"shape {sizes} is of images of one channel"
            raise InputError(f"{option('channels', channels)}: {path}: {one}; (N, C, H, W) would be right")
        return x[:, None], "(N, H, W)"
    if x.ndim != 4:
        raise InputError(f"{path}: an array of shape {sizes}; (N, H, W), (N, C, H, W) or (N, H, W, C) would be right")
    first, last = x.shape[1], x.shape[3]
    fits = [(first == channels, last == channels)] if channels else [(first in (1, 3), last in (1, 3))]
    fits += [] if channels else [(first <= MOST_BANDS, last <= MOST_BANDS)]
    certain = _certain(fits)
    if certain is None and fits[-1][0] and first != last:
        which = f"{option('channels', first)} or {option('channels', last)} says which"
        raise InputError(f"{path}: shape {sizes} may be (N, C, H, W) or (N, H, W, C): channels are ambiguous; {which}")
    if certain is None and fits[-1][0]:
        right = "an array that is transposed, so that the two differ, or pictures, would be right"
        raise InputError(f"{path}: shape {sizes} may be (N, C, H, W) or (N, H, W, C): ambiguous; {right}")
    if certain is None:
        wanted = f"{channels}" if channels else f"1 to {MOST_BANDS}"
        right = "(N, C, H, W) or (N, H, W, C) would be right"
        raise InputError(f"{path}: shape {sizes} has no axis of {wanted} channels; {right}")
    return (x, "(N, C, H, W)") if certain[0] else (x.transpose(0, 3, 1, 2), "(N, H, W, C)")


def _certain(fits: list[tuple[bool, bool]]) -> tuple[bool, bool] | None:
    """The first of the rules by which one axis alone can have the channels."""
    return next((fit for fit in fits if fit[0] != fit[1]), None)


def _doubtful(shape: tuple[int, ...]) -> bool:
    """Whether both axes may have the channels, and neither alone has 1 or 3."""
    first, last = shape[1], shape[3]
    return max(first, last) <= MOST_BANDS and (first in (1, 3)) == (last in (1, 3))


def _quantise(x: Any, path: Path) -> tuple[Pixels, str, float]:
    """Floats in [0, 1] or [-1, 1] to the nearest of 256 levels, a sentence that says so, and the largest change."""
    step = max(1, CHUNK_BYTES // max(1, x[0].size))
    low, high = np.inf, -np.inf
    for start in range(0, len(x), step):
        chunk = x[start : start + step]
        bad = np.argwhere(~np.isfinite(chunk))
        if len(bad):
            index = (start + int(bad[0][0]), *(int(i) for i in bad[0][1:]))
            value = chunk[tuple(bad[0])]
            raise InputError(f"{path}: holds {value} at (n, c, y, x) = {index}; finite values would be right")
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
    if low < -1 or high > 1:
        raise InputError(f"{path}: floats from {low:.6g} to {high:.6g}; [0, 1], [-1, 1] or uint8 would be right")
    offset, span = (0.0, 1.0) if low >= 0 else (-1.0, 2.0)
    pixels = blank_pixels(x.shape)
    worst = 0.0
    for start in range(0, len(x), step):
        levels = (x[start : start + step].astype(np.float64) - offset) * (255 / span)
        rounded = np.rint(levels)
        worst = max(worst, float(np.abs(levels - rounded).max()))
        pixels[start : start + step] = rounded.astype(np.uint8)
    interval = "[0, 1]" if low >= 0 else "[-1, 1]"
    note = f"{x.dtype} values taken as {interval}, quantised to 256 levels (rounded by at most {worst:.2g} levels)"
    return pixels, note, worst


def read_array_file(
    path: Path,
    split: str,
    channels: int | None = None,
    levels: int | None = None,
    like: tuple[int, int | None] | None = None,
) -> Images:
    """Images from an .npy or .npz file (keys images, x, arr_0; labels, y; x_train, train_images, ... for a split).

    Args:
        path: the file.
        split: "train", "test" or "all".
        channels: how many there are, where the shape does not say which axis they are; None: it does.
        levels: K of whole numbers; None: 2 of bool, 256 of what fits into a byte, 65,536 of what fits into two.
        like: channels and grey levels of the model that the images are for, which decide where the file leaves a doubt.

    Raises:
        Missing: no array of the split.
        InputError: another format, pickled objects, a dtype or shape without images, a value not finite.
    """
    labels, remarks, single = None, (), path.suffix.lower() != ".npz"
    if path.is_dir():
        raise InputError(f"{path}: a folder; the path of one .npy or .npz file would be right")
    if single and split == "test":
        raise Missing(f"{path}: one array has no 'test' split; 'train', 'all' or an .npz with x_test would be right")
    if single:
        pixels = map_npy(path)
    else:
        pixels, labels, remarks = _from_npz(path, split)
    if pixels is None:
        wanted = "x_test or test_images" if split == "test" else "images, x or arr_0"
        raise Missing(f"{path}: no {wanted} among its arrays ({', '.join(remarks) or 'none'})")
    if 0 in pixels.shape:
        raise InputError(f"{path}: holds no images: shape {'x'.join(map(str, pixels.shape))}")
    if like is not None and pixels.ndim == 4 and _doubtful(pixels.shape):
        channels = like[0]
    pixels, layout = _channels_first(pixels, path, channels)
    notes, rounded = [f"{path.name} read as {layout}", *remarks], 0.0
    if pixels.dtype.kind == "f":
        if levels is not None:
            raise InputError(f"{option('levels', levels)}: {path} has floats; whole numbers have levels")
        pixels, quantised, rounded = _quantise(pixels, path)
        notes.append(quantised)
        held = BYTE_LEVELS
    elif pixels.dtype.kind in "biu":
        before = pixels.dtype
        pixels, held = whole_levels(pixels, str(path))
        if pixels.dtype != before:
            notes.append(f"{before} values kept exactly, as {held:,} grey levels")
        if like is not None and BYTE_LEVELS < (like[1] or 0) < held and int(pixels.max()) < (like[1] or 0):
            levels = like[1]
            notes.append(f"values taken as the model's {levels:,} grey levels")
    else:
        right = "whole numbers, bool or floats in [0, 1] or [-1, 1] would be right"
        raise InputError(f"{path}: values of type {pixels.dtype}; {right}")
    if levels is not None:
        pixels, held = with_levels(pixels, levels, f"{option('levels', levels)}: {path}"), levels
    return Images(pixels, labels, held, name=path.stem, notes=tuple(notes), rounded=rounded)
