"""One way of bringing images to another size, colour and number of grey levels, the same for all that is compared."""

import numpy as np

from diffprob.base.checks import image_shape, whole
from diffprob.base.errors import InputError
from diffprob.base.levels import MOST_LEVELS, TYPES, level_dtype, levels_held
from diffprob.data.formats.scaling import cover, recoloured, scaled_bands


def resized(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 or uint16 (N, C, H, W) -> the same type (N, *shape): antialiased bicubic; grey is ITU-R 601 luma.

    As pictures are brought to the size of a training (`formats.scaling.cover`): scaled in their aspect until they
    cover the shape, and the middle cut out. A grey one in colour has its grey three times. Images that have the shape
    already stay as they are.

    Raises:
        InputError: another number of channels, unless grey is made colour or colour grey.
        ValueError: pixels that are no grey levels, or a shape that is none of images.
    """
    from PIL import Image

    image_shape("shape", tuple(shape))
    if levels_held(pixels.dtype) is None or pixels.ndim != 4:
        raise ValueError(f"pixels must be {TYPES} (N, C, H, W), got {pixels.dtype} {pixels.shape}")
    (channels, height, width), theirs = shape, pixels.shape[1]
    if theirs != channels and {theirs, channels} != {1, 3}:
        raise InputError(f"images of {theirs} channels cannot be made ones of {channels}; {channels} would be right")
    if tuple(pixels.shape[1:]) == tuple(shape):
        return pixels
    out = np.empty((len(pixels), *shape), dtype=pixels.dtype)
    if pixels.dtype != np.uint8 or channels not in (1, 3) or theirs not in (1, 3):
        for place, image in enumerate(pixels):
            out[place] = scaled_bands(recoloured(image, channels), height, width, "bicubic")
        return out
    mode = "L" if channels == 1 else "RGB"
    for place, image in enumerate(pixels):
        picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
        array = np.asarray(cover(picture.convert(mode), height, width, "bicubic"))
        out[place] = array[None] if channels == 1 else array.transpose(2, 0, 1)
    return out


def requantised(pixels: np.ndarray, levels: int, wanted: int) -> np.ndarray:
    """Grey levels 0..levels-1 as the nearest of 0..wanted-1 on the same scale from black to white.

    Raises:
        ValueError: numbers of levels outside 2..65536, or pixels that are none of them.
    """
    whole("levels", levels, 2, MOST_LEVELS)
    whole("wanted", wanted, 2, MOST_LEVELS)
    if pixels.dtype != level_dtype(levels) or (pixels.size and int(pixels.max()) >= levels):
        what = f"{level_dtype(levels)} levels 0..{levels - 1}"
        raise ValueError(f"pixels must be {what}, got {pixels.dtype} up to {pixels.max()}")
    table = np.rint(np.arange(levels) * ((wanted - 1) / (levels - 1))).astype(level_dtype(wanted))
    return pixels if levels == wanted else table[pixels]
