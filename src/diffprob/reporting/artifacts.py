"""Results as the bytes of files: pictures with what decided them inside, and arrays; the same input, the same bytes."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffprob.base.levels import BYTE_LEVELS
from diffprob.reporting.figures import grid_image, in_a_row, named_grid, progression_image
from diffprob.reporting.flat import is_flat, is_point, scatter_image


def png(image: Any, metadata: Mapping[str, Any]) -> bytes:
    """A picture (a Pillow image) as PNG, with ``metadata`` as text inside it."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, value in metadata.items():
        info.add_itxt(name, value if isinstance(value, str) else json.dumps(value))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def grid_png(levels: np.ndarray, most: int | None, metadata: Mapping[str, Any], columns: int | None = None) -> bytes:
    """Images of grey levels 0..most-1, (N, C, H, W), side by side."""
    return png(grid_image(levels, columns, levels=most), metadata)


def paths_png(rows: np.ndarray, most: int | None, metadata: Mapping[str, Any]) -> bytes:
    """Ways from image to image of grey levels 0..most-1, (rows, columns, C, H, W): a row each; through the plane,
    where images are points of it."""
    if most is not None and is_point(rows.shape):
        return png(scatter_image(rows, most, paths=True), metadata)
    return grid_png(rows.reshape(-1, *rows.shape[2:]), most, metadata, rows.shape[1])


def above_png(
    sets: Sequence[np.ndarray], levels: int | None, metadata: Mapping[str, Any], most: int, fill: int, across: int = 12
) -> bytes:
    """The first images of several sets, (N, C, H, W) each: those of a set below those of the set before; of
    points of the plane, a square of each set.

    Args:
        sets: of equal length.
        levels: their grey levels.
        metadata: what decided them.
        most: images of a set that are shown.
        fill: the grey level with which an incomplete row ends.
        across: images side by side.
    """
    if is_point(sets[0].shape):
        return png(in_a_row([grid_image(images[:most], levels=levels) for images in sets]), metadata)
    n, flat = min(len(sets[0]), most), is_flat(sets[0].shape)
    across = 1 if flat else across
    across, rows = min(n, across), []
    for first in range(0, n, across):
        for images in sets:
            row = images[first : min(first + across, n)]
            rows.append(np.concatenate([row, np.full((across - len(row), *row.shape[1:]), fill, row.dtype)]))
    return grid_png(np.concatenate(rows), levels, metadata, across)


def named_png(
    levels: np.ndarray, most: int | None, names: Sequence[str], metadata: Mapping[str, Any], columns: int
) -> bytes:
    """Images of grey levels 0..most-1, (N, C, H, W), side by side above their names."""
    return png(named_grid(levels, names, columns, most), metadata)


def tile_png(image: np.ndarray, most: int | None, metadata: Mapping[str, Any]) -> bytes:
    """One image of grey levels 0..most-1, (C, H, W), in its own size."""
    return png(grid_image(image[None], 1, 1, 0, most), metadata)


def image_suffix(channels: int, levels: int | None) -> str:
    """Of the file that holds one image whole: ".png" of grey, and of colour in 8 bits; ".npy" of all others, and of
    real numbers."""
    if levels is None:
        return ".npy"
    return ".png" if channels == 1 or (channels == 3 and levels <= BYTE_LEVELS) else ".npy"


def image_bytes(image: np.ndarray, most: int | None, metadata: Mapping[str, Any]) -> bytes:
    """One image of levels 0..most-1, (C, H, W), as the file of `image_suffix`; no level is lost.

    An array is (1, C, H, W), so that it is read again as an image.

    Of more than 256 levels a grey PNG has the levels themselves, in 16 bits.
    """
    from PIL import Image

    if most is None or image_suffix(len(image), most) == ".npy":
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.ascontiguousarray(image)[None], allow_pickle=False)
        return buffer.getvalue()
    return tile_png(image, most, metadata) if most <= BYTE_LEVELS else png(Image.fromarray(image[0]), metadata)


def progression_png(
    frames: Sequence[np.ndarray],
    most: int | None,
    times: Sequence[float] | None = None,
    captions: Sequence[str] | None = None,
) -> bytes:
    """The way from noise to data: one row a sample, one column a time, or one for each caption."""
    buffer = io.BytesIO()
    progression_image(frames, times, levels=most, captions=captions).save(buffer, "PNG")
    return buffer.getvalue()


def array(values: np.ndarray) -> bytes:
    """An .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def arrays(
    levels: np.ndarray, seeds: np.ndarray, metadata: Mapping[str, Any], labels: np.ndarray | None = None
) -> bytes:
    """An .npz file with ``images``, ``seeds``, ``labels`` where there are some, and ``metadata`` (JSON text); the same
    input gives the same bytes."""
    buffer, of_labels = io.BytesIO(), () if labels is None else (("labels", labels),)
    members = (("images", levels), ("seeds", seeds), *of_labels, ("metadata", np.array(json.dumps(metadata))))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members:
            member = io.BytesIO()
            np.lib.format.write_array(member, value, allow_pickle=False)
            # A fixed date: numpy would write the present one into every file.
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue(), zipfile.ZIP_DEFLATED
            )
    return buffer.getvalue()
