"""Images as numpy arrays: .npy (memory-mapped where it is uint8) and .npz, never with pickled objects."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from diffprob.base.errors import InputError, Missing
from diffprob.base.text import one_line
from diffprob.data.formats.files import blank_pixels, reading
from diffprob.data.images import CHUNK_BYTES, Images, Labels, Pixels

_SPLITS = {"train": ("train",), "test": ("test", "val"), "all": ()}
_DAMAGED = (LookupError, ValueError, TypeError, EOFError, SyntaxError, MemoryError, zipfile.BadZipFile, zlib.error)


def _damage(path: Path, error: BaseException) -> InputError:
    text = one_line(error)
    if "allow_pickle" in text or "pickle" in text:
        return InputError(f"{path}: holds pickled objects, which are never loaded; save a plain uint8 or float array")
    return InputError(f"{path}: not a readable {path.suffix} file, or cut short ({text[:200]})")


def _from_npz(path: Path, split: str) -> tuple[Any, Any, tuple[str, ...]]:
    """The arrays of images and of labels (or None) in an .npz, and the keys tried for the images."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        own = [(f"x_{s}", f"y_{s}") for s in _SPLITS[split]] + [(f"{s}_images", f"{s}_labels") for s in _SPLITS[split]]
        whole = [("images", "labels"), ("x", "y"), ("arr_0", "y")] if split != "test" else []
        for images, labels in own + whole:
            if images in archive.files:
                label_key = next((key for key in (labels, "labels", "y") if key in archive.files), None)
                if (images, labels) in own:
                    label_key = labels if labels in archive.files else None
                return archive[images], archive[label_key] if label_key else None, ()
        return None, None, tuple(archive.files)


def _channels_first(x: Any, path: Path) -> tuple[Any, str]:
    """View the array as (N, C, H, W); says which layout was recognised."""
    sizes = "x".join(map(str, x.shape))
    if x.ndim == 3:
        return x[:, None], "(N, H, W)"
    if x.ndim != 4:
        raise InputError(f"{path}: an array of shape {sizes}; (N, H, W), (N, C, H, W) or (N, H, W, C) would be right")
    first, last = x.shape[1] in (1, 3), x.shape[3] in (1, 3)
    if first and last:
        raise InputError(f"{path}: shape {sizes} may be (N, C, H, W) or (N, H, W, C): ambiguous")
    if not (first or last):
        raise InputError(f"{path}: shape {sizes} has no 1 or 3 channels; (N, C, H, W) or (N, H, W, C) would be right")
    return (x, "(N, C, H, W)") if first else (x.transpose(0, 3, 1, 2), "(N, H, W, C)")


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


def _labels(y: Any, n: int, path: Path) -> Labels | None:
    if y is None:
        return None
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind not in "iu" or y.ndim != 1:
        raise InputError(f"{path}: labels are {y.dtype} {y.shape}; integers of shape (N,) would be right")
    if len(y) != n:
        raise InputError(f"{path}: {len(y)} labels for {n} images")
    return y.astype(np.int64)


def read_array_file(path: Path, split: str) -> Images:
    """Images from an .npy or .npz file (keys images, x, arr_0; labels, y; x_train, train_images, ... for a split).

    Raises:
        Missing: no array of the split.
        InputError: another format, pickled objects, a dtype or shape without images, a value not finite.
    """
    labels, keys, single = None, (), path.suffix.lower() != ".npz"
    if path.is_dir():
        raise InputError(f"{path}: a folder; the path of one .npy or .npz file would be right")
    if single and split == "test":
        raise Missing(f"{path}: one array has no 'test' split; 'train', 'all' or an .npz with x_test would be right")
    with reading(path):
        try:
            if single:
                # `open_memmap` reads nothing else than the .npy format: a zip or a pickle under that name is refused.
                pixels = np.lib.format.open_memmap(path, mode="r")
            else:
                pixels, labels, keys = _from_npz(path, split)
        except _DAMAGED as error:
            raise _damage(path, error) from error
    if pixels is None:
        wanted = "x_test or test_images" if split == "test" else "images, x or arr_0"
        raise Missing(f"{path}: no {wanted} among its arrays ({', '.join(keys) or 'none'})")
    if 0 in pixels.shape:
        raise InputError(f"{path}: holds no images: shape {'x'.join(map(str, pixels.shape))}")
    pixels, layout = _channels_first(pixels, path)
    notes, rounded = [f"{path.name} read as {layout}"], 0.0
    if pixels.dtype.kind == "f":
        pixels, quantised, rounded = _quantise(pixels, path)
        notes.append(quantised)
    elif pixels.dtype != np.uint8:
        raise InputError(f"{path}: values of type {pixels.dtype}; uint8 or floats in [0, 1] or [-1, 1] would be right")
    labels = _labels(labels, len(pixels), path)
    return Images(pixels, labels, name=path.stem, notes=tuple(notes), rounded=rounded)
