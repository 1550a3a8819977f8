"""One picture file to a uint8 array: what is refused, what is changed, and a count of every change."""

import struct
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffprob.base.errors import InputError
from diffprob.base.text import one_line
from diffprob.data.images import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FILTERS = ("box", "bilinear", "hamming", "bicubic", "lanczos")
MAX_PIXELS = 1 << 26
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Tally:
    """How many pictures each change was made to; `notes` says it in sentences.

    Args:
        size: side of the square result in pixels, or None to take pictures as they are.
        filter: name of the resampling filter.
        channels: 1 or 3.
    """

    size: int | None
    filter: str
    channels: int
    pictures: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def notes(self) -> tuple[str, ...]:
        """One sentence for each kind of change that happened."""
        kind = "greyscale" if self.channels == 1 else "RGB"
        meaning = {
            "reduced": f"reduced to a shorter side of {self.size} ({self.filter}, antialiased)",
            "enlarged": f"enlarged to a shorter side of {self.size} ({self.filter})",
            "cropped": f"centre-cropped to {self.size}x{self.size}",
            "turned": "turned upright as their EXIF orientation says",
            "alpha": "with transparency composited over white",
            "coloured": f"converted to {kind}",
            "frames": "of several frames: the first taken",
        }
        return tuple(
            f"{self.counts[key]} of {self.pictures} images {text}" for key, text in meaning.items() if self.counts[key]
        )


def _claimed_size(path: Path) -> str:
    """Width x height as the header claims them, read without Pillow's check, which refuses before it tells the size."""
    from PIL.JpegImagePlugin import JpegImageFile

    with path.open("rb") as file:
        head = file.read(30).ljust(30, b"\0")
        if head[:8] == _PNG:
            width, height = struct.unpack(">II", head[16:24])
        elif head[:4] == b"RIFF" and head[12:16] == b"VP8X":
            width, height = (1 + int.from_bytes(head[k : k + 3], "little") for k in (24, 27))
        elif head[:4] == b"RIFF" and head[12:16] == b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif head[:4] == b"RIFF":
            width, height = (size & 0x3FFF for size in struct.unpack("<HH", head[26:30]))
        else:
            file.seek(0)
            # the class itself, unlike `Image.open`, makes no check
            width, height = JpegImageFile(file).size
    return f"{width}x{height}"


def _too_large(path: Path) -> InputError:
    return InputError(f"{path}: {_claimed_size(path)} pixels; at most {MAX_PIXELS} in all (8192x8192) would be right")


def open_picture(path: Path) -> "Image":
    """Open, check and decode a PNG, JPEG or WebP file.

    Raises:
        InputError: another format under that name, more than 2^26 pixels, 16 bits a channel, a damaged file.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            head = file.read(26)
            if head[:8] == _PNG:
                _check_png(head, path)
                with Image.open(path, formats=("PNG",)) as unread:
                    unread.verify()  # checksums of all chunks up to the end mark, which decoding does not look at
            file.seek(0)
            image = Image.open(file, formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(path)
            image.load()
            image.getexif()  # parsed here, where a damaged block is named
            return image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a PNG, JPEG or WebP image in spite of its name; convert or remove it") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, MemoryError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(f"{path}: a damaged or truncated image ({reason}); replace or remove it") from error


def _check_png(head: bytes, path: Path) -> None:
    if len(head) < 26:
        raise InputError(f"{path}: a damaged or truncated image ({len(head)} bytes); replace or remove it")
    width, height, depth = struct.unpack(">IIB", head[16:25])
    if width * height > MAX_PIXELS:
        raise _too_large(path)
    if depth == 16:
        raise InputError(f"{path}: 16 bits a channel; save it with 8, a model here has at most 256 grey levels")


def _flatten(image: "Image", tally: Tally) -> "Image":
    """Composite transparency over white and convert to the tally's channels, counting both."""
    from PIL import Image

    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        layered = image.convert("RGBA")
        if layered.getchannel("A").getextrema() != (255, 255):
            tally.counts["alpha"] += 1
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        grey = image.mode in ("L", "LA", "La", "1")
        image = Image.alpha_composite(white, layered).convert("L" if grey else "RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    wanted = "L" if tally.channels == 1 else "RGB"
    if image.mode != wanted:
        # "1" holds the same two greys as "L": nothing is lost and nothing is counted
        tally.counts["coloured"] += (image.mode, wanted) != ("1", "L")
        image = image.convert(wanted)
    return image


def prepare(image: "Image", tally: Tally) -> Pixels:
    """Upright, opaque, in 1 or 3 channels, shorter side scaled to ``size``, centre-cropped: uint8 (C, H, W).

    The scaling is Pillow's: with reduction the filter's support grows with the factor, so that nothing aliases.
    """
    from PIL import Image, ImageOps

    tally.pictures += 1
    tally.counts["frames"] += getattr(image, "n_frames", 1) > 1
    if image.getexif().get(0x0112, 1) in range(2, 9):
        tally.counts["turned"] += 1
        image = ImageOps.exif_transpose(image)
    image = _flatten(image, tally)
    if tally.size is not None:
        size, short = tally.size, min(image.size)
        if short != size:
            tally.counts["reduced" if short > size else "enlarged"] += 1
            scaled = tuple(max(size, round(side * size / short)) for side in image.size)
            image = image.resize((scaled[0], scaled[1]), Image.Resampling[tally.filter.upper()])
        left, top = (image.width - size) // 2, (image.height - size) // 2
        if (image.width, image.height) != (size, size):
            tally.counts["cropped"] += 1
            image = image.crop((left, top, left + size, top + size))
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))
