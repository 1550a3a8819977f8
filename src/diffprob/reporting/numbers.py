"""Real numbers as pictures: a colour map with its scale, three slices of a volume, curves, and points of a table."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

COLOURS = "viridis"
PAIRED = 5  # columns of a table that are shown against each other
CURVES = 12  # signals in a figure
_SHARE = 0.5  # per cent at both ends that the colours do not tell apart, for one far value would leave them none
_INCHES, _DPI = 6.0, 96
_BAR = 22  # pixels of a datum without sides, and of the scale below a grid


def bounds(values: np.ndarray) -> tuple[float, float]:
    """From where to where the colours go: all but half a per cent at both ends, of finite numbers."""
    low, high = (float(end) for end in np.percentile(values[np.isfinite(values)], [_SHARE, 100 - _SHARE]))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def tiles(values: np.ndarray) -> np.ndarray:
    """Data (N, C, ...) as small pictures, uint8 (N, 3, H, W), all by one scale.

    The channels of an image stand below each other; of a volume so do its middle slices; a signal or a vector is a band
    of colours for each channel.
    """
    from matplotlib import colormaps

    low, high = bounds(values)
    flat = _in_a_plane(values)
    shades = colormaps[COLOURS](np.clip((flat - low) / (high - low), 0, 1))[..., :3]
    return np.ascontiguousarray(np.round(255 * shades).astype(np.uint8).transpose(0, 3, 1, 2))


def _in_a_plane(values: np.ndarray) -> np.ndarray:
    """(N, H, W) of data (N, C, ...)."""
    n, *sides = values.shape[0], *values.shape[2:]
    if not sides:
        return values.reshape(n, 1, -1).repeat(_BAR // 4, 1)
    if len(sides) == 1:
        return values.repeat(max(1, _BAR // values.shape[1]), 1)
    if len(sides) == 2:
        return values.reshape(n, -1, sides[1])
    depth, height, width = sides
    cuts = [values[:, :, depth // 2], values[:, :, :, height // 2], values[..., width // 2]]
    wide = max(cut.shape[-1] for cut in cuts)
    padded = [np.pad(cut, [(0, 0)] * 3 + [(0, wide - cut.shape[-1])], mode="edge") for cut in cuts]
    return np.concatenate([part.reshape(n, -1, wide) for part in padded], 1)


def scale_bar(width: int, values: np.ndarray) -> "Image":
    """The colours from left to right above the numbers that they stand for, ``width`` pixels wide."""
    from matplotlib import colormaps
    from PIL import Image, ImageDraw, ImageFont

    low, high = bounds(values)
    band = np.round(255 * colormaps[COLOURS](np.linspace(0, 1, width))[:, :3]).astype(np.uint8)
    sheet = Image.new("RGB", (width, _BAR), "white")
    sheet.paste(Image.fromarray(np.broadcast_to(band, (_BAR // 3, width, 3)).copy()), (0, 0))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    draw.text((1, _BAR), f"{low:.4g}", "black", font, anchor="lb")
    if width > 120:
        draw.text((width - 1, _BAR), f"{high:.4g}", "black", font, anchor="rb")
    return sheet


def is_drawn(values: np.ndarray) -> bool:
    """Whether many data are drawn as one figure: signals as curves, few columns against each other."""
    return values.ndim == 3 or (values.ndim == 2 and 2 <= values.shape[1] <= PAIRED)


def figure_image(values: np.ndarray) -> "Image":
    """Signals (N, C, L) as curves, a figure for each of the first; vectors (N, C) as points, each pair of columns."""
    import io

    from PIL import Image

    figure = _curves(values) if values.ndim == 3 else _points(values)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return Image.open(buffer).convert("RGB")


def _figure(rows: int, columns: int) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure((_INCHES, _INCHES), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _curves(values: np.ndarray) -> "Figure":
    count = min(CURVES, len(values))
    columns = 1 if count < 3 else 3
    figure, axes = _figure(-(-count // columns), columns)
    low, high = float(values[:count].min()), float(values[:count].max())
    pad = 0.05 * (high - low) or 0.5
    for k, ax in enumerate(axes.flat):
        ax.set_axis_off() if k >= count else ax.plot(values[k].T, linewidth=0.8)
        ax.set_ylim(low - pad, high + pad)
        ax.tick_params(labelsize=6)
    return figure


def _points(values: np.ndarray) -> "Figure":
    """Points of two columns; of more, every pair, and a histogram of each on the diagonal."""
    columns = values.shape[1]
    if columns == 2:
        figure, axes = _figure(1, 1)
        axes[0, 0].scatter(values[:, 0], values[:, 1], s=4, alpha=0.6)
        axes[0, 0].set_aspect("equal", "datalim")
        return figure
    figure, axes = _figure(columns, columns)
    for row in range(columns):
        for column in range(columns):
            ax = axes[row, column]
            ax.tick_params(labelsize=6)
            if row == column:
                ax.hist(values[:, row], 30)
            else:
                ax.scatter(values[:, column], values[:, row], s=1, alpha=0.5)
    return figure
