"""Grey levels as whole numbers: how many there may be, and the types that hold them."""

from typing import Any

import numpy as np

from diffprob.base.checks import whole
from diffprob.base.errors import InputError

BYTE_LEVELS = 1 << 8
MOST_LEVELS = 1 << 16
MOST_BANDS = 16  # channels of the images that are read
TYPES = "uint8 images (uint16 of more than 256 levels)"  # for messages


def check_levels(levels: int | None, name: str = "levels") -> None:
    """Refuse what is no number of grey levels; None stands for those of a pixel space to come.

    Raises:
        ValueError: less than 2, or more than 16 bits have.
    """
    whole(name, levels, 2, MOST_LEVELS, none=True)


def level_dtype(levels: int) -> np.dtype[Any]:
    """The type of an array of K levels: uint8 of at most 256, uint16 of more."""
    return np.dtype(np.uint8 if levels <= BYTE_LEVELS else np.uint16)


def levels_held(dtype: np.dtype[Any]) -> int | None:
    """All the levels that an array of the type can hold; None: it holds no levels."""
    return {np.dtype(np.uint8): BYTE_LEVELS, np.dtype(np.uint16): MOST_LEVELS}.get(dtype)


def are_images(pixels: np.ndarray) -> bool:
    """Whether an array is one of images in grey levels: uint8 or uint16 (N, C, H, W), none of them 0."""
    return levels_held(pixels.dtype) is not None and pixels.ndim == 4 and 0 not in pixels.shape


def whole_levels(values: np.ndarray, where: str) -> tuple[np.ndarray, int]:
    """Whole numbers or truth values as grey levels, exactly, and K: 2 of bool, 256 where those hold all, or 65,536.

    Returns:
        (the values as uint8 or uint16, K).

    Raises:
        InputError: another type, or a number that is no level; ``where`` stands before what is said.
    """
    if (held := levels_held(values.dtype.newbyteorder("="))) is not None:
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("=")), held
    if values.dtype == bool:
        return values.view(np.uint8), 2
    if values.dtype.kind not in "iu":
        raise InputError(f"{where}: values of type {values.dtype}; whole numbers or bool would be right")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= MOST_LEVELS:
        wrong = low if low < 0 else high
        raise InputError(
            f"{where}: the value {wrong} is no grey level; whole numbers 0..{MOST_LEVELS - 1} would be right"
        )
    levels = BYTE_LEVELS if high < BYTE_LEVELS else MOST_LEVELS
    return values.astype(level_dtype(levels)), levels


def with_levels(pixels: np.ndarray, levels: int, where: str) -> np.ndarray:
    """Grey levels as those of K, in the type that holds K.

    Raises:
        InputError: one that is none of 0..K-1; ``where`` stands before what is said.
    """
    if (most := int(pixels.max())) >= levels:
        raise InputError(f"{where}: the value {most} occurs, none of {levels} grey levels; more would be right")
    return pixels.astype(level_dtype(levels), copy=False)


def to_bytes(pixels: np.ndarray, levels: int) -> np.ndarray:
    """Grey levels 0..K-1 on the scale of 0 to 255, uint8: what screens show."""
    if levels == BYTE_LEVELS:
        return pixels
    return np.round(pixels * ((BYTE_LEVELS - 1) / (levels - 1))).astype(np.uint8)


def kind_text(channels: int) -> str:
    """What images of so many channels are called: grey, colour, or by their bands."""
    return {1: "grey", 3: "colour"}.get(channels, f"{channels}-band")
