"""Pictures: grids of images, the way from noise to data, loss curves."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from diffprob.base.errors import InputError
from diffprob.base.text import printable
from diffprob.reporting.bands import visible
from diffprob.reporting.flat import is_point, scatter_image
from diffprob.reporting.numbers import figure_image, is_drawn, scale_bar, tiles
from diffprob.storage.files import expanded, saying, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

Records = Iterable[Mapping[str, Any]]

_SEPARATOR = 112  # a grey that shows between black tiles and between white ones
_TILE = 56  # pixels that the shorter side of a tile should have at least
_NAMED = 112  # pixels of an image above its name, about
_CAPTION = 13  # height of a caption's letters
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def grid_image(
    pixels: np.ndarray, columns: int | None = None, scale: int | None = None, pad: int = 2, levels: int | None = 256
) -> "Image":
    """Images (N, C, H, W) side by side, row by row, with a thin separator.

    Without a scale points of the plane, of 1x2 pixels, lie in one square (`diffprob.reporting.flat.scatter_image`), and
    of images of one row of pixels fewer are side by side.

    Args:
        pixels: grey levels 0 .. ``levels`` - 1; of other than 1 or 3 channels some (`reporting.bands.shown_bands`).
        columns: tiles in a row; None makes the grid about square.
        scale: whole factor of the nearest-neighbour enlargement; None enlarges tiny images to about 56 pixels.
        pad: width of the separator.
        levels: number K of grey levels; level K - 1 becomes 255. None: real numbers, shown as in
            `diffprob.reporting.numbers`.

    Raises:
        ValueError: columns, scale, pad or levels out of range.
        InputError: no images, or not grey levels (N, C, H, W).
    """
    from PIL import Image

    if levels is None and scale is None:
        return _numbers_image(pixels, columns, pad)
    pixels = visible(pixels, levels)
    if scale is None and is_point(pixels.shape):
        return scatter_image(pixels)
    count, channels, height, width = pixels.shape
    flat = height == 1 < width
    square = math.ceil(math.sqrt(count / width if flat else count))
    across = min(count, square if columns is None else columns)
    factor = max(1, round(4 * _TILE / width if flat else _TILE / min(height, width))) if scale is None else scale
    if across < 1 or factor < 1 or pad < 0:
        raise ValueError(f"columns and scale must be at least 1, pad at least 0, got {across}, {factor}, {pad}")
    down = math.ceil(count / across)
    high, wide = height * factor, width * factor
    sheet = np.full((down * (high + pad) + pad, across * (wide + pad) + pad, channels), _SEPARATOR, np.uint8)
    for index, tile in enumerate(pixels):
        top, left = pad + index // across * (high + pad), pad + index % across * (wide + pad)
        sheet[top : top + high, left : left + wide] = tile.transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1)
    return Image.fromarray(sheet[..., 0] if channels == 1 else sheet)


def _numbers_image(values: np.ndarray, columns: int | None, pad: int) -> "Image":
    """Real numbers (N, C, ...): one figure of curves or points, or a grid of colours above their scale."""
    from PIL import Image

    if columns is None and is_drawn(values):
        return figure_image(values)
    sheet = grid_image(tiles(values), columns, None if values.ndim > 3 else 3, pad)
    scale = scale_bar(sheet.width, values)
    both = Image.new("RGB", (sheet.width, sheet.height + scale.height), "white")
    both.paste(sheet, (0, 0))
    both.paste(scale, (0, sheet.height))
    return both


def named_grid(pixels: np.ndarray, names: Sequence[str], columns: int, levels: int | None = 256) -> "Image":
    """Images (N, C, H, W) side by side, each above its name, which is cut in the middle where it is too long; real
    numbers (``levels`` None) in colours of one scale.

    Args:
        pixels: grey levels 0 .. ``levels`` - 1; of other than 1 or 3 channels some (`reporting.bands.shown_bands`).
        names: one for each image; "" leaves its place empty.
        columns: tiles in a row.
        levels: number K of grey levels; level K - 1 becomes 255.
    """
    from PIL import Image, ImageDraw, ImageFont

    shown = tiles(pixels) if levels is None else visible(pixels, levels)
    _, channels, height, width = shown.shape
    factor, font, line = max(1, round(_NAMED / width)), ImageFont.load_default(10), 14
    high, wide = height * factor + line, width * factor
    down, pad = math.ceil(len(shown) / columns), 2
    sheet = Image.new("RGB", (columns * (wide + pad) + pad, down * (high + pad) + pad), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (tile, name) in enumerate(zip(shown, names, strict=True)):
        left, top = pad + index % columns * (wide + pad), pad + index // columns * (high + pad)
        picture = Image.fromarray(tile[0] if channels == 1 else np.ascontiguousarray(tile.transpose(1, 2, 0)))
        sheet.paste(picture.resize((wide, high - line), Image.Resampling.NEAREST), (left, top))
        text, kept = printable(name), len(name)
        while kept > 2 and draw.textlength(text, font) > wide:
            kept -= 1
            text = printable(f"{name[: kept // 2]}...{name[len(name) - (kept - kept // 2) :]}")
        draw.text((left, top + high - line), text, "black", font)
    return sheet


def in_a_row(pictures: "Sequence[Image]") -> "Image":
    """Grey pictures of one size in a row."""
    from PIL import Image

    return Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures], 1))


def side_by_side(pictures: "Mapping[str, Image]") -> "Image":
    """Pictures of one size and mode in a row, each under its caption."""
    from PIL import Image, ImageDraw, ImageFont

    first = next(iter(pictures.values()))
    width, height = first.size
    gap, top = 12, 20
    sheet = Image.new(first.mode, (len(pictures) * (width + gap) - gap, height + top), "white")
    font = ImageFont.load_default(_CAPTION)
    for k, (caption, picture) in enumerate(pictures.items()):
        sheet.paste(picture, (k * (width + gap), top))
        ImageDraw.Draw(sheet).text(
            (k * (width + gap) + width / 2, top / 2), caption, fill="black", font=font, anchor="mm"
        )
    return sheet


def save_grid(
    pixels: np.ndarray,
    path: str | Path,
    columns: int | None = None,
    scale: int | None = None,
    pad: int = 2,
    levels: int = 256,
) -> None:
    """Write `grid_image` to a .png, .jpg or .webp file.

    Raises:
        InputError: another suffix, or a file that cannot be written; else as `grid_image`.
    """
    _save(grid_image(pixels, columns, scale, pad, levels), path)


def progression_image(
    frames: Sequence[np.ndarray],
    times: Sequence[float] | None = None,
    scale: int | None = None,
    levels: int | None = 256,
    captions: Sequence[str] | None = None,
) -> "Image":
    """The way from noise to data: one row a sample, one column a time, with t above each column.

    Points of the plane are in one square for each time.

    Args:
        frames: the same N samples at successive times, each (N, C, H, W).
        times: t of each frame; None leaves the captions out.
        scale: see `grid_image`.
        levels: see `grid_image`.
        captions: in place of the times.

    Raises:
        ValueError: as many times or captions as frames are needed.
        InputError: no frames, or frames of different shapes.
    """
    if not frames or any(frame.shape != frames[0].shape for frame in frames):
        raise InputError(f"a progression needs frames of one shape, got {[tuple(frame.shape) for frame in frames]}")
    if captions is None and times is not None:
        captions = [f"t = {time:.3g}" for time in times]
    if captions is not None and len(captions) != len(frames):
        raise ValueError(f"{len(frames)} frames need {len(frames)} times, got {len(captions)}")
    ordered = np.stack(list(frames), 1).reshape(-1, *frames[0].shape[1:])
    if is_point(ordered.shape):
        grid = in_a_row([grid_image(frame, levels=levels) for frame in frames])
    else:
        grid = grid_image(ordered, len(frames), scale, levels=levels)
    return grid if captions is None else _captioned(grid, captions)


def progression(
    frames: Sequence[np.ndarray],
    path: str | Path,
    times: Sequence[float] | None = None,
    scale: int | None = None,
    levels: int = 256,
) -> None:
    """Write `progression_image` to a .png, .jpg or .webp file.

    Raises:
        InputError: another suffix, or a file that cannot be written; else as `progression_image`.
    """
    _save(progression_image(frames, times, scale, levels), path)


def loss_curve(
    records: Records | Mapping[str, Records], path: str | Path, title: str = "Training loss", label: str = "loss"
) -> None:
    """Write loss against step: the logged values in a light colour, their running median over them.

    The axis is logarithmic when the smoothed values span more than a factor of four.

    Args:
        records: lines of a training log, mappings with ``step`` and ``loss``; or several logs by name, to compare.
        path: a .png, .svg or .pdf file.
        label: of the vertical axis.

    Raises:
        InputError: nothing to draw, matplotlib is missing, or a file that cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
    except ImportError as error:
        raise InputError("loss curves need matplotlib: pip install matplotlib") from error
    curves = records if isinstance(records, Mapping) else {"": records}
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lowest, highest = math.inf, -math.inf
    for index, (name, log) in enumerate(curves.items()):
        steps, losses = _series(log)
        if not steps:
            raise InputError(f"no record of {name or 'the log'} has a step and a finite loss")
        smooth = running_median(losses, max(3, len(losses) // 24 * 2 + 1))
        lowest, highest = min(lowest, *smooth), max(highest, *smooth)
        axes.plot(steps, losses, color=f"C{index}", alpha=0.35, linewidth=0.8, label=None if name else "logged")
        axes.plot(steps, smooth, color=f"C{index}", linewidth=1.8, label=name or "running median")
    if 0 < 4 * lowest < highest:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(title=title, xlabel="step", ylabel=label)
    axes.margins(x=0.01)
    axes.grid(alpha=0.25, which="both", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save_figure(figure, path)


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a figure of matplotlib, in the format that the name ends in; whole or not at all.

    Raises:
        InputError: no such format, or the disk refuses.
    """
    path, buffer = expanded(path), io.BytesIO()
    try:
        figure.savefig(buffer, format=path.suffix[1:] or "png", dpi=150)
    except ValueError as error:
        raise InputError(f"cannot write the figure {path}: {error}") from error
    with saying(f"write the figure {path}"):
        write_file(path, [buffer.getvalue()])


def running_median(values: Sequence[float], width: int) -> list[float]:
    """Median over a centred window of ``width`` (odd) values.

    The window narrows on both sides towards the start, where a loss falls too steeply for a lopsided one; at the end
    it only loses the side that does not exist, so that the last value does not stand for itself.
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"width must be odd and positive, got {width}")
    reach = width // 2
    return [median(values[max(i - reach, 0) : i + min(reach, i) + 1]) for i in range(len(values))]


def _series(log: Records) -> tuple[list[float], list[float]]:
    """Steps and losses of the records that have both, as finite numbers."""
    pairs = [(record.get("step"), record.get("loss")) for record in log]
    kept = [
        (float(step), float(loss))
        for step, loss in pairs
        if isinstance(step, int | float) and isinstance(loss, int | float) and math.isfinite(loss)
    ]
    return [step for step, _ in kept], [loss for _, loss in kept]


def _captioned(grid: "Image", captions: Sequence[str]) -> "Image":
    """The grid with one caption above each of its columns."""
    from PIL import Image, ImageDraw, ImageFont

    white, black = (255, 0) if grid.mode == "L" else ((255, 255, 255), (0, 0, 0))
    top = 2 * _CAPTION
    sheet = Image.new(grid.mode, (grid.width, grid.height + top), white)
    sheet.paste(grid, (0, top))
    draw = ImageDraw.Draw(sheet)
    pitch, size = grid.width / len(captions), _CAPTION
    # Letters shrink until the widest caption fits its column.
    while size > 6 and max(draw.textlength(text, ImageFont.load_default(size)) for text in captions) > pitch - 4:
        size -= 1
    for column, text in enumerate(captions):
        middle = (pitch * (column + 0.5), top / 2)
        draw.text(middle, text, fill=black, font=ImageFont.load_default(size), anchor="mm")
    return sheet


def _save(image: "Image", path: str | Path) -> None:
    path = expanded(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"cannot write a picture to {path}: its name must end in {', '.join(_FORMATS)}")
    buffer = io.BytesIO()
    image.save(buffer, kind)
    with saying(f"write the picture {path}"):
        write_file(path, [buffer.getvalue()])
