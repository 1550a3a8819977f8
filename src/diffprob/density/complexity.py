"""How long an image is in a lossless code that knows no model: the filters of PNG and zlib."""

import zlib

import numpy as np
import torch
from torch import Tensor

_MOST = 0xFFFF


def code_length(levels: Tensor) -> Tensor:
    """Bits of the image data of a PNG file, for each image of (B, C, H, W) grey levels, float64 (B,).

    uint8 are bytes; of other types two bytes each where one is above 255, the high one first. PNG has up to four
    channels; more are interleaved in the same way.

    Rows of interleaved channels are filtered (none, left, up, average, Paeth), and zlib codes what is left. Of six
    choices of filters the shortest code counts: one of the five for all rows, or for each row the one with the smallest
    sum of absolute differences. Six bytes are zlib's frame.

    Raises:
        ValueError: another shape, or levels that are not whole numbers from 0 to 65,535.

    Exact when: always a code: Pillow reads back the image from it.

    Reference: W3C, "Portable network graphics (PNG) specification", section 9 for the filters.
    """
    if levels.ndim != 4:
        raise ValueError(f"levels must have shape (B, C, H, W), got {tuple(levels.shape)}")
    if levels.is_floating_point():
        raise ValueError(f"levels must be whole numbers from 0 to {_MOST}")
    images = levels.detach().cpu().permute(0, 2, 3, 1).numpy()
    if images.size and not 0 <= int(images.min()) <= int(images.max()) <= _MOST:
        raise ValueError(f"levels must be whole numbers from 0 to {_MOST}")
    deep = images.dtype == np.uint16 or (images.size and int(images.max()) > 0xFF)
    images = np.ascontiguousarray(images, ">u2").view(np.uint8) if deep else images.astype(np.uint8)
    bits = [8.0 * len(encoded(image)) for image in images]
    return torch.tensor(bits, dtype=torch.float64, device=levels.device)


def encoded(image: np.ndarray) -> bytes:
    """The shortest zlib stream of the filtered rows of an image, uint8 (H, W, C): what a PNG file has as its data."""
    filtered = _filtered(image)
    rows = np.arange(len(image))
    # A difference of 255 modulo 256 is one of -1.
    cost = np.minimum(filtered, 256 - filtered.astype(np.int16)).sum(-1)
    choices = [np.full(len(image), k) for k in range(len(filtered))] + [cost.argmin(0)]
    streams = [np.concatenate([kind[:, None].astype(np.uint8), filtered[kind, rows]], 1).tobytes() for kind in choices]
    return min((zlib.compress(stream, 9) for stream in streams), key=len)


def _filtered(image: np.ndarray) -> np.ndarray:
    """What each of the five filters leaves of every row, uint8 (5, H, W C)."""
    x = image.astype(np.int16)
    left, up, corner = (np.zeros_like(x) for _ in range(3))
    left[:, 1:], up[1:], corner[1:, 1:] = x[:, :-1], x[:-1], x[:-1, :-1]
    distances = np.abs(np.stack([up - corner, left - corner, left + up - 2 * corner]))
    nearest = np.choose(distances.argmin(0), [left, up, corner])  # Paeth: of those equally near the first
    guesses = np.stack([np.zeros_like(x), left, up, (left + up) // 2, nearest])
    return ((x - guesses) % 256).astype(np.uint8).reshape(5, len(image), -1)
