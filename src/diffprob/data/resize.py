"""One way of bringing images to another size, colour and number of grey levels, the same for all that is compared."""

import numpy as np

from diffprob.base.checks import image_shape, whole
from diffprob.base.errors import InputError


def resized(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (N, C, H, W) -> uint8 (N, *shape): antialiased bicubic; grey is ITU-R 601 luma.

    As pictures are brought to the size of a training (`formats.pictures.cover`): scaled in their aspect until they
    cover the shape, and the middle cut out. A grey one in colour has its grey three times. Images that have the shape
    already stay as they are.

    Raises:
        InputError: a number of channels that is not 1 or 3.
        ValueError: pixels that are no grey levels, or a shape that is none of images.
    """
    from PIL import Image

    from diffprob.data.formats.pictures import cover

    image_shape("shape", tuple(shape))
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise ValueError(f"pixels must be uint8 (N, C, H, W), got {pixels.dtype} {pixels.shape}")
    channels, height, width = shape
    if channels not in (1, 3) or pixels.shape[1] not in (1, 3):
        raise InputError(
            f"images of {pixels.shape[1]} channels cannot be made ones of {channels}: 1 or 3 would be right"
        )
    if tuple(pixels.shape[1:]) == tuple(shape):
        return pixels
    mode, out = "L" if channels == 1 else "RGB", np.empty((len(pixels), *shape), dtype=np.uint8)
    for place, image in enumerate(pixels):
        picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
        array = np.asarray(cover(picture.convert(mode), height, width, "bicubic"))
        out[place] = array[None] if channels == 1 else array.transpose(2, 0, 1)
    return out


def requantised(pixels: np.ndarray, levels: int, wanted: int) -> np.ndarray:
    """Grey levels 0..levels-1 as the nearest of 0..wanted-1 on the same scale from black to white, uint8.

    Raises:
        ValueError: numbers of levels outside 2..256, or pixels that are none of them.
    """
    whole("levels", levels, 2, 256)
    whole("wanted", wanted, 2, 256)
    if pixels.dtype != np.uint8 or (pixels.size and int(pixels.max()) >= levels):
        raise ValueError(f"pixels must be uint8 levels 0..{levels - 1}, got {pixels.dtype} up to {pixels.max()}")
    table = np.rint(np.arange(levels) * ((wanted - 1) / (levels - 1))).astype(np.uint8)
    return pixels if levels == wanted else table[pixels]
