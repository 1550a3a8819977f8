"""Pictures and bands brought to a size: scaled in their aspect until they cover it, and the middle cut out."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601


def recoloured(image: np.ndarray, channels: int) -> np.ndarray:
    """One image (C, H, W) of grey made colour, or of colour made grey, in its own type; else as it is."""
    if len(image) == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, 0)
    return np.rint(np.einsum("chw,c->hw", image.astype(np.float64), _LUMA)).astype(image.dtype)[None]


def scaled_bands(image: np.ndarray, height: int, width: int, filter: str) -> np.ndarray:
    """One image (C, H, W) of any number of bands and 8 or 16 bits, scaled to cover and cropped: (C, height, width).

    Each band for itself, in float32, rounded to the nearest level.
    """
    from PIL import Image

    most = np.iinfo(image.dtype).max
    bands = [cover(Image.fromarray(band.astype(np.float32)), height, width, filter) for band in image]
    return np.stack([np.rint(np.asarray(band)).clip(0, most).astype(image.dtype) for band in bands])


def covering(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """(width, height) of the smallest picture of the aspect of ``size`` that covers so many pixels."""
    wide, high = size
    if width * high >= height * wide:
        return width, max(height, round(high * width / wide))
    return max(width, round(wide * height / high)), height


def cover(image: "Image", height: int, width: int, filter: str) -> "Image":
    """The picture scaled, in its aspect, until it covers height x width pixels, and the middle of that cut out."""
    from PIL import Image

    scaled = covering(image.size, height, width)
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling[filter.upper()])
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return image if scaled == (width, height) else image.crop((left, top, left + width, top + height))
