"""Pictures inside a page: every image its own data: URI, so that each has its own text and the page its own layout."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from diffprob.base.rng import Rng
from diffprob.process.process import Process
from diffprob.reporting.figures import grid_image
from diffprob.reporting.flat import is_flat
from diffprob.reporting.numbers import bounds, is_drawn, scale_bar
from diffprob.reporting.numbers import tiles as number_tiles
from diffprob.space.space import Space

if TYPE_CHECKING:
    from PIL.Image import Image

SHARP = 96  # smaller images are enlarged by a whole factor to at least this, so that the page only ever reduces them
LOSSLESS = 64 * 64  # pixels of an image up to which it is kept as PNG


@dataclass(frozen=True)
class Picture:
    """An image on a page.

    Args:
        source: data: URI.
        alt: text in its place.
        caption: under it, or "".
        whole: whether it is all that there is to see, and not one of many.
    """

    source: str
    alt: str
    caption: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Strip:
    """The same images at several times: a row an image, a column a time.

    Args:
        times: t above each column, with its log-SNR.
        rows: (name of the row, a picture for each column).
    """

    times: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[Picture, ...]], ...]


def data_uri(image: np.ndarray, levels: int | None) -> str:
    """One image, (C, H, W) of grey levels 0 .. ``levels`` - 1: a PNG when it is small, else a JPEG."""
    _, height, width = image.shape
    picture = grid_image(image[None], 1, max(1, math.ceil(SHARP / max(height, width))), 0, levels)
    return _uri(picture, "png" if height * width <= LOSSLESS else "jpeg")


def _uri(picture: "Image", kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"optimize": True} if kind == "png" else {"quality": 88}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def tiles(
    pixels: np.ndarray, levels: int | None, alts: Sequence[str], captions: Sequence[str] | None = None
) -> tuple[Picture, ...]:
    """Images (N, C, H, W) one by one; those of one row of pixels, such as points of the plane, in one picture.

    Of real numbers signals and few columns are one figure, others colours, with their scale at the end.
    """
    scale = None
    if levels is None and is_drawn(pixels):
        return (together(pixels, levels, f"{len(alts):,} together, from {alts[0]} on"),)
    if levels is None:
        (low, high), sheet = bounds(pixels), scale_bar(SHARP, pixels)
        scale = Picture(_uri(sheet, "png"), f"Colours from {low:.4g} to {high:.4g}", f"{low:.3g} to {high:.3g}")
        pixels, levels = number_tiles(pixels), 256
    elif is_flat(pixels.shape):
        return (together(pixels, levels, f"{alts[0]} and {len(alts) - 1:,} more" if len(alts) > 1 else alts[0]),)
    under = [""] * len(pixels) if captions is None else captions
    parts = zip(pixels, alts, under, strict=True)
    shown = tuple(Picture(data_uri(image, levels), alt, caption) for image, alt, caption in parts)
    return shown if scale is None else (*shown, scale)


def together(pixels: np.ndarray, levels: int | None, alt: str) -> Picture:
    """Images (N, C, 1, W), signals or vectors in one picture, as `diffprob.reporting.figures.grid_image` has them."""
    return Picture(_uri(grid_image(pixels, levels=levels), "png"), alt, whole=True)


def strip(
    frames: Sequence[np.ndarray],
    times: Sequence[float],
    process: Process,
    levels: int | None,
    names: Sequence[str],
    what: str,
) -> Strip:
    """A strip of frames, each (rows, C, H, W); all in one row where they are of one row of pixels.

    Args:
        times: t of each frame; 0 is the image itself.
        names: of the rows, for instance "seed 3".
        what: is shown, for the text in place of a picture: "{what} of {name} at t = 0.5".
    """
    heads = tuple((f"{time:.3g}", log_snr(process, time)) for time in times)
    rows, n = list[tuple[str, tuple[Picture, ...]]](), len(names)
    if levels is not None and is_flat(frames[0].shape):
        alts = [f"{what} of {n:,} together at t = {label}" for label, _ in heads]
        row = tuple(together(frame, levels, alt) for frame, alt in zip(frames, alts, strict=True))
        return Strip(heads, ((f"{n:,} together", row),))
    for k, name in enumerate(names):
        alts = [f"{what} of {name} at t = {label}" for label, _ in heads]
        row = np.stack([frame[k] for frame in frames])
        if levels is None:  # colours by one scale in each row
            row = number_tiles(row)
        rows.append((name, tiles(row, levels or 256, alts)))
    return Strip(heads, tuple(rows))


def log_snr(process: Process, t: float) -> str:
    """log(alpha^2/sigma^2) at ``t``, in words where that is infinite."""
    value = float(process.logsnr(t))
    if math.isfinite(value) and abs(value) < 100:
        return f"{round(value, 1) + 0.0:.1f}".replace("-", "\u2212")  # + 0.0 turns -0.0 into 0.0
    return "no noise" if value > 0 else "no signal"


def noising(
    pixels: np.ndarray, times: Sequence[float], process: Process, space: Space, rng: Rng
) -> tuple[list[np.ndarray], list[float]]:
    """Images (N, C, H, W) on their way to noise, x_t ~ q(x_t | x_0) with the same z at every t.

    They are made visible as `diffprob.process.process.Process.visible` says.

    Args:
        times: moved to times that the schedule has; 0 is the images themselves.

    Returns:
        (frames, the times as they were taken).
    """
    x0 = space.to_model(torch.from_numpy(pixels))
    process, frames, taken = process.begin(rng, x0), list[np.ndarray](), list[float]()
    for time in times:
        if time == 0:
            frames.append(pixels)
            taken.append(0.0)
            continue
        t = process.schedule.snap(torch.tensor(time, dtype=torch.float64))
        xt = process.visible(process.marginal(x0, t).sample(rng.fold("noising")), t)
        frames.append(space.nearest(xt).numpy())
        taken.append(float(t))
    return frames, taken
