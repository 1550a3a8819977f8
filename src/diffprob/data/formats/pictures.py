"""One picture file to a uint8 array: what is refused, what is changed, and a count of every change."""

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from diffprob.base.errors import InputError
from diffprob.data.formats.files import opened
from diffprob.data.images import Pixels
from diffprob.storage.files import PICTURE_LIMIT
from diffprob.storage.foreign import parsing

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
# What also holds images, by suffix, and is not read: how to make it something that is.
CONVERTIBLE = (
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".jp2",
    ".jpe",
    ".jfif",
    ".avif",
    ".heic",
    ".ppm",
    ".pgm",
    ".pnm",
    ".tga",
    ".dds",
    ".ico",
)
VOLUMES = (".nii", ".nii.gz", ".dcm", ".mha", ".nrrd", ".h5", ".hdf5", ".tfrecord", ".parquet", ".lmdb", ".pkl", ".pt")
FILTERS = ("box", "bilinear", "hamming", "bicubic", "lanczos")
MAX_PIXELS = 1 << 26
_ADVICE = "replace or remove it"
# Changes to what a picture shows that nobody asked for, as `Tally.notes` say them.
UNASKED = {
    "turned": "turned upright as their EXIF orientation says",
    "alpha": "with transparency composited over white",
    "frames": "of several frames: the first taken",
}
_PNG = b"\x89PNG\r\n\x1a\n"


class MixedSizes(InputError):
    """Pictures of different sizes, and no size that they are to be brought to.

    Args:
        what: which, without what would be right.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; give a size to resize and crop them all")
        self.what = what


def converting(files: Sequence[Path]) -> str:
    """How files that hold images but are not read can be made such as are, after a semicolon; or nothing."""
    held = Counter(_suffix(file.name) for file in files)
    pictures = next((suffix for suffix, _ in held.most_common() if suffix in CONVERTIBLE), None)
    if pictures is not None:
        return f"; convert them, for instance with ImageMagick: mogrify -format png *{pictures}"
    if any(suffix in VOLUMES for suffix in held):
        return "; their images as PNGs, or as one .npy array (N, H, W) or (N, H, W, 3) of uint8, would be right"
    return ""


def unread(files: Sequence[Path]) -> list[Path]:
    """Those of the files that hold images by their suffix, in a format that is not read."""
    return [file for file in files if not file.name.startswith(".") and _suffix(file.name)]


def _suffix(name: str) -> str:
    lower = name.lower()
    return next((end for end in sorted((*CONVERTIBLE, *VOLUMES), key=len)[::-1] if lower.endswith(end)), "")


@dataclass
class Tally:
    """How many pictures each change was made to; `notes` says it in sentences.

    Args:
        size: side of the square result in pixels, or its (height, width), or None to take pictures as they are.
        filter: name of the resampling filter.
        channels: 1 or 3.
    """

    size: int | tuple[int, int] | None
    filter: str
    channels: int
    pictures: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    sizes: set[tuple[int, int]] = field(default_factory=set)  # (width, height) before, where a size is asked for

    @property
    def side(self) -> str:
        """The size in words."""
        return f"{self.size[1]}x{self.size[0]}" if isinstance(self.size, tuple) else f"a shorter side of {self.size}"

    def notes(self) -> tuple[str, ...]:
        """One sentence for each kind of change that happened."""
        kind = "greyscale" if self.channels == 1 else "RGB"
        meaning = {
            "reduced": f"reduced to {self.side} ({self.filter}, antialiased)",
            "enlarged": f"enlarged to {self.side} ({self.filter})",
            "cropped": f"centre-cropped to {self.side if isinstance(self.size, tuple) else f'{self.size}x{self.size}'}",
            "coloured": f"converted to {kind}",
            **UNASKED,
        }
        return tuple(
            f"{self.counts[key]} of {self.pictures} images {text}" for key, text in meaning.items() if self.counts[key]
        )


def _claimed_size(file: IO[bytes]) -> tuple[int, int] | None:
    """(width, height) as the header claims them, before a decoder sees the file: one for WebP makes room at once.

    None where the file is of none of the three formats.
    """
    from PIL.JpegImagePlugin import JpegImageFile

    head = file.read(30).ljust(30, b"\0")
    if head[:8] == _PNG:
        width, height = struct.unpack(">II", head[16:24])
    elif head[:4] + head[8:12] == b"RIFFWEBP":
        if head[12:16] == b"VP8X":
            width, height = (1 + int.from_bytes(head[k : k + 3], "little") for k in (24, 27))
        elif head[12:16] == b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        else:
            width, height = (size & 0x3FFF for size in struct.unpack("<HH", head[26:30]))
    elif head[:3] == b"\xff\xd8\xff":
        file.seek(0)
        # the class itself, unlike `Image.open`, makes no check of its own
        width, height = JpegImageFile(file).size
    else:
        return None
    return width, height


def open_picture(path: Path) -> "Image":
    """Open, check and decode a PNG, JPEG or WebP file.

    Raises:
        Missing: nothing there.
        InputError: another format under that name, more than 2^26 pixels or 256 MiB, 16 bits a channel, an empty or
            damaged file, or a pipe or device.
    """
    from PIL import Image, UnidentifiedImageError

    with opened(path, PICTURE_LIMIT) as file, parsing(path, "image", _ADVICE):
        _check(path, _claimed_size(file))
        if _start(file)[:8] == _PNG:
            if _start(file)[24:25] == b"\x10":
                raise InputError(f"{path}: 16 bits a channel; save it with 8, a model here has at most 256 grey levels")
            file.seek(0)
            Image.open(file, formats=("PNG",)).verify()  # all checksums up to the end mark: decoding does not look
        file.seek(0)
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError as error:
            raise InputError(f"{path}: a damaged or truncated image, not to be recognised; {_ADVICE}") from error
        _check(path, image.size)
        image.load()
        image.getexif()  # parsed here, where a damaged block is named
        return image


def _start(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(26)


def _check(path: Path, size: tuple[int, int] | None) -> None:
    if size is None:
        raise InputError(f"{path}: not a PNG, JPEG or WebP image in spite of its name; convert or remove it")
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"{path}: {size[0]}x{size[1]} pixels; at most {MAX_PIXELS} in all (8192x8192) would be right")


def read_picture(path: Path, tally: Tally) -> Pixels:
    """One picture file as uint8 (C, H, W): `open_picture`, then `prepare`.

    Raises:
        Missing, InputError: as `open_picture`.
    """
    image = open_picture(path)
    with parsing(path, "image", _ADVICE):  # what the orientation, palette and transparency say is read only now
        return prepare(image, tally)


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
        before, image = image, image.convert(wanted)
        # RGB whose channels agree is grey already.
        tally.counts["discoloured"] += before.mode == "RGB" and any(
            image.tobytes() != before.getchannel(k).tobytes() for k in range(3)
        )
    return image


def prepare(image: "Image", tally: Tally) -> Pixels:
    """Upright, opaque, in 1 or 3 channels, scaled to cover ``size`` and centre-cropped: uint8 (C, H, W).

    The scaling is Pillow's: with reduction the filter's support grows with the factor, so that nothing aliases.
    """
    from PIL import ImageOps

    tally.pictures += 1
    tally.counts["frames"] += getattr(image, "n_frames", 1) > 1
    if image.getexif().get(0x0112, 1) in range(2, 9):
        tally.counts["turned"] += 1
        image = ImageOps.exif_transpose(image)
    image = _flatten(image, tally)
    if tally.size is not None:
        height, width = tally.size if isinstance(tally.size, tuple) else (tally.size, tally.size)
        before, (wide, high) = image.size, covering(image.size, height, width)
        tally.sizes.add(before)
        tally.counts["reduced"] += wide < before[0] or high < before[1]
        tally.counts["enlarged"] += wide > before[0] or high > before[1]
        tally.counts["cropped"] += (wide, high) != (width, height)
        image = cover(image, height, width, tally.filter)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


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
