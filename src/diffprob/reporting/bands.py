"""What is seen of images of any number of channels and levels: grey or three colours of a byte each."""

from collections.abc import Sequence

import numpy as np

from diffprob.base.errors import InputError
from diffprob.base.levels import BYTE_LEVELS, MOST_LEVELS, TYPES, are_images, to_bytes
from diffprob.reporting.numbers import tiles


def shown_bands(channels: int, bands: Sequence[int] | None = None) -> tuple[int, ...]:
    """The channels that are shown, counted from 0: one as grey, or three as red, green and blue.

    By default the only one, the first of two, and of more the first three.

    Raises:
        ValueError: bands that there are not, or not one or three of them.
    """
    if bands is None:
        return (0,) if channels < 3 else (0, 1, 2)
    if len(bands) not in (1, 3) or not all(0 <= band < channels for band in bands):
        raise ValueError(f"bands must be one or three of 0..{channels - 1}, got {tuple(bands)}")
    return tuple(bands)


def bands_text(channels: int, bands: Sequence[int] | None = None) -> str:
    """Which bands are shown, in words, counted from 1; "" where they are all."""
    shown = [band + 1 for band in shown_bands(channels, bands)]
    if len(shown) == channels:
        return ""
    if len(shown) == 1:
        return f"band {shown[0]} of {channels} as grey"
    return f"bands {shown[0]}, {shown[1]} and {shown[2]} of {channels} as red, green and blue"


def shown_text(channels: int, levels: int) -> str:
    """What a picture shows of images that it does not hold whole, in words; "" where it holds them."""
    parts = [bands_text(channels), "" if levels <= BYTE_LEVELS else f"{levels:,} levels as 256"]
    return ", ".join(filter(None, parts))


def visible(pixels: np.ndarray, levels: int | None, bands: Sequence[int] | None = None) -> np.ndarray:
    """Images (N, C, H, W) of K levels as uint8 (N, 1 or 3, H, W) on the scale of 0 to 255; real numbers by colours.

    Raises:
        ValueError: levels or bands out of range.
        InputError: no images, or a level that there is not.
    """
    if levels is None:
        return tiles(pixels)
    if not 2 <= levels <= MOST_LEVELS:
        raise ValueError(f"levels must lie in 2..{MOST_LEVELS}, got {levels}")
    if not are_images(pixels):
        raise InputError(f"expected {TYPES} (N, C, H, W), got {pixels.dtype} {tuple(pixels.shape)}")
    shown = shown_bands(pixels.shape[1], bands)
    pixels = pixels if len(shown) == pixels.shape[1] and bands is None else pixels[:, shown]
    if levels <= np.iinfo(pixels.dtype).max and (highest := pixels.max()) >= levels:
        raise InputError(f"a grey level of {highest} among images of {levels} levels")
    return to_bytes(pixels, levels)
