"""One picture file to an array of levels: what is refused, what is changed, and a count of every change."""

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from diffprob.base.errors import InputError
from diffprob.base.levels import MOST_LEVELS, whole_levels, with_levels
from diffprob.base.options import option
from diffprob.data.formats.files import opened
from diffprob.data.formats.scaling import cover, covering, recoloured, scaled_bands
from diffprob.data.formats.tiff import MOST_PAGES, is_tiff, read_pages, read_samples
from diffprob.data.images import Pixels
from diffprob.storage.files import PICTURE_LIMIT
from diffprob.storage.foreign import parsing

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
KINDS = "PNG, JPEG, WebP, TIFF, BMP or GIF"
# What also holds images, by suffix, and is not read: how to make it something that is.
CONVERTIBLE = (
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
        channels: 1 or 3; 2 and 4 keep transparency, and any number is that of the bands of a TIFF.
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
        kind = {1: "greyscale", 3: "RGB"}.get(self.channels, f"{self.channels} channels")
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

    None where the file is of none of the formats.
    """
    from PIL.BmpImagePlugin import BmpImageFile
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
    elif head[:2] == b"BM":
        file.seek(0)
        width, height = BmpImageFile(file).size
    elif head[:6] in (b"GIF87a", b"GIF89a"):
        width, height = struct.unpack("<HH", head[6:10])
    else:
        return None
    return width, height


def read_frames(path: Path, tally: Tally, first: int | None = None) -> list[Pixels]:
    """The pages or frames of one file, each as `read_picture` has it; of most files there is one.

    Args:
        path: the file.
        tally: what is done to each; it counts.
        first: at most so many; None: all.

    Raises:
        Missing: nothing there.
        InputError: another format under that name, more than 2^26 pixels or 256 MiB, 16 bits a channel in colour (but
            of a TIFF), floats, an empty or damaged file, or a pipe or device.
    """
    with opened(path, PICTURE_LIMIT) as file, parsing(path, "image", _ADVICE):
        if is_tiff(_start(file)):
            file.seek(0)
            pages = read_pages(file, path, *(() if first is None else (first,)))
            for page in pages:
                _check(path, page.size)
            if any(page.is_deep for page in pages):
                tally.pictures += len(pages)
                return [_prepare_bands(read_samples(file, page, path), tally, path) for page in pages]
        image = _opened(file, path)
        frames: list[Pixels] = []
        for k in range(min(getattr(image, "n_frames", 1), first or MOST_PAGES)):
            if k:
                image.seek(k)
                _check(path, image.size)
            image.load()
            image.getexif()  # parsed here, where a damaged block is named
            # seeking on needs the image that was opened as it is: a frame is a copy
            frames.append(prepare(image if first == 1 else image.copy(), tally, path))
        return frames


def count_frames(path: Path) -> int:
    """How many pages or frames a file has; 1 where it is no picture, which whoever reads it is told.

    Raises:
        Missing, InputError: it cannot be opened.
    """
    from PIL import Image

    with opened(path, PICTURE_LIMIT) as file:
        try:
            with parsing(path, "image"):
                if is_tiff(_start(file)):
                    return len(read_pages(file, path))
                file.seek(0)
                return getattr(Image.open(file, formats=FORMATS), "n_frames", 1)
        except InputError:
            return 1


def _opened(file: IO[bytes], path: Path) -> "Image":
    """Open and check a picture, whose samples are not read yet."""
    from PIL import Image, UnidentifiedImageError

    file.seek(0)
    if not is_tiff(_start(file)):
        file.seek(0)
        _check(path, _claimed_size(file))
    if _start(file)[:8] == _PNG:
        deep, colours = _start(file)[24:25] == b"\x10", _start(file)[25:26]
        if deep and colours not in (b"\0", b""):
            raise InputError(
                f"{path}: 16 bits a channel in colour, of which Pillow reads 8; a TIFF, an .npy array or 8 bits would "
                "be right"
            )
        file.seek(0)
        Image.open(file, formats=("PNG",)).verify()  # all checksums up to the end mark: decoding does not look
    file.seek(0)
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: a damaged or truncated image, not to be recognised; {_ADVICE}") from error
    _check(path, image.size)
    return image


def _start(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(26)


def _check(path: Path, size: tuple[int, int] | None) -> None:
    if size is None:
        raise InputError(f"{path}: not a {KINDS} image in spite of its name; convert or remove it")
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"{path}: {size[0]}x{size[1]} pixels; at most {MAX_PIXELS} in all (8192x8192) would be right")


def read_picture(path: Path, tally: Tally) -> Pixels:
    """One picture file as uint8 or uint16 (C, H, W), the first of its pages or frames: `read_frames`.

    Raises:
        Missing, InputError: as `read_frames`.
    """
    return read_frames(path, tally, 1)[0]


def _flatten(image: "Image", tally: Tally) -> "Image":
    """Composite transparency over white and convert to the tally's channels, counting both."""
    from PIL import Image

    if tally.channels in (2, 4):  # transparency is a channel
        wanted = "LA" if tally.channels == 2 else "RGBA"
        tally.counts["coloured"] += image.mode != wanted
        return image.convert("RGBA").convert(wanted)
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


def prepare(image: "Image", tally: Tally, path: object = "the picture") -> Pixels:
    """Upright, opaque, in the tally's channels, scaled to cover ``size`` and centre-cropped: (C, H, W).

    uint8, or uint16 of pictures in whole numbers of more than 8 bits.

    The scaling is Pillow's: with reduction the filter's support grows with the factor, so that nothing aliases.
    """
    from PIL import ImageOps

    tally.pictures += 1
    tally.counts["frames"] += getattr(image, "n_frames", 1) > 1
    if image.getexif().get(0x0112, 1) in range(2, 9):
        tally.counts["turned"] += 1
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return _prepare_bands(_deep(image, path), tally, path)
    if tally.channels > 4:
        bands = len(image.getbands())
        raise InputError(f"{path}: {option('channels', tally.channels)}, and it has {bands}")
    image = _flatten(image, tally)
    if tally.size is not None:
        image = cover(image, *_counted(image.size, tally), tally.filter)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _counted(before: tuple[int, int], tally: Tally) -> tuple[int, int]:
    """(height, width) that are asked for, with what brings a picture of the size ``before`` to them counted."""
    assert tally.size is not None
    height, width = tally.size if isinstance(tally.size, tuple) else (tally.size, tally.size)
    wide, high = covering(before, height, width)
    tally.sizes.add(before)
    tally.counts["reduced"] += wide < before[0] or high < before[1]
    tally.counts["enlarged"] += wide > before[0] or high > before[1]
    tally.counts["cropped"] += (wide, high) != (width, height)
    return height, width


def _deep(image: "Image", path: object) -> Pixels:
    """A grey picture of more than 8 bits as its levels, exactly, uint16 (1, H, W)."""
    if image.mode == "F":
        raise InputError(f"{path}: a picture of floats; whole numbers of 8 or 16 bits would be right")
    pixels, levels = whole_levels(np.asarray(image)[None], str(path))
    return with_levels(pixels, max(levels, MOST_LEVELS), str(path))


def _prepare_bands(pixels: Pixels, tally: Tally, path: object) -> Pixels:
    """Bands of 8 or 16 bits in the tally's channels, scaled and cropped: the same type, (C, H, W).

    Grey is made colour and colour grey; any other number of bands is taken as it is, if it is the one asked for.
    """
    bands = len(pixels)
    if bands != tally.channels and {bands, tally.channels} != {1, 3}:
        raise InputError(f"{path}: {bands} bands; {option('channels', bands)} would be right")
    tally.counts["coloured"] += bands != tally.channels
    tally.counts["discoloured"] += bands == 3 and tally.channels == 1 and not bool((pixels == pixels[:1]).all())
    pixels = recoloured(pixels, tally.channels)
    if tally.size is None:
        return pixels
    return scaled_bands(pixels, *_counted((pixels.shape[2], pixels.shape[1]), tally), tally.filter)
