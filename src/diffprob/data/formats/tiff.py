"""TIFF with more bands or bits than Pillow shows: its strips, uncompressed or deflated, of 8 or 16 bits.

Pillow keeps 8 of 16 bits a channel in colour, and opens no picture of more than four bands; both are what satellites,
microscopes and scanners write. So the tags are read by Pillow, and the samples here (TIFF 6.0, Adobe 1992, sections 3
to 8 and 14 for the differences of predictor 2; Adobe's Photoshop technical note of 2002 for deflate).
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from diffprob.base.errors import InputError
from diffprob.base.levels import MOST_BANDS
from diffprob.data.formats.files import check_unpacked

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS, _SAMPLES = 256, 257, 258, 259, 273, 277
_STRIP_ROWS, _COUNTS, _PLANAR, _PREDICTOR, _TILES, _FORMAT = 278, 279, 284, 317, 322, 339
_PLAIN, _DEFLATED = 1, (8, 32946)
_STARTS = (b"II*\0", b"MM\0*")
MOST_PAGES = 100_000
_RIGHT = "uncompressed or deflated strips of whole numbers of 8 or 16 bits, or an .npy array, would be right"


@dataclass(frozen=True)
class Page:
    """What the tags of one page say.

    Args:
        tags: value by number, as Pillow reads them.
        order: "<" or ">", of the bytes of a sample.
    """

    tags: dict[int, Any]
    order: str

    def number(self, tag: int, default: int = 0) -> int:
        """One whole number, the first where there are several."""
        value = self.tags.get(tag, default)
        value = value[0] if isinstance(value, tuple) else value
        return int(value)

    def several(self, tag: int) -> list[int]:
        """Whole numbers, one for each strip."""
        value = self.tags.get(tag, ())
        return [int(one) for one in (value if isinstance(value, tuple) else (value,))]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.number(_WIDTH), self.number(_HEIGHT)

    @property
    def bands(self) -> int:
        """Samples of a pixel."""
        return self.number(_SAMPLES, 1)

    @property
    def bits(self) -> int:
        """Of a sample."""
        return self.number(_BITS, 1)

    @property
    def is_deep(self) -> bool:
        """Whether Pillow would lose some of it: more than 8 bits in colour, or more than four bands."""
        return self.bands > 4 or (self.bands > 1 and self.bits > 8)


def is_tiff(start: bytes) -> bool:
    """Whether a file begins as a TIFF does."""
    return start[:4] in _STARTS


def read_pages(file: IO[bytes], path: Path, most: int = MOST_PAGES) -> list[Page]:
    """The tags of the first ``most`` pages.

    Raises:
        InputError: pages in a circle, or none.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file.seek(0)
    head = file.read(8)
    order = "<" if head[:2] == b"II" else ">"
    directory = ImageFileDirectory_v2(head)
    pages: list[Page] = []
    seen: set[int] = set()
    place = directory.next
    while place and len(pages) < most:
        if place in seen:
            raise InputError(f"{path}: a damaged or truncated image (its pages follow one another in a circle)")
        seen.add(place)
        file.seek(place)
        directory.load(file)
        pages.append(Page(dict(directory), order))
        place = directory.next
    if not pages:
        raise InputError(f"{path}: a damaged or truncated image (no page)")
    return pages


def read_samples(file: IO[bytes], page: Page, path: Path) -> np.ndarray:
    """The samples of a page, uint8 or uint16 (bands, H, W).

    Raises:
        InputError: another compression, tiles, floats, more than 16 bands or bits, or strips that are cut short.
    """
    width, height = page.size
    bands, bits, compression = page.bands, page.bits, page.number(_COMPRESSION, 1)
    if _TILES in page.tags or compression not in (_PLAIN, *_DEFLATED) or bits not in (8, 16):
        kind = "tiles" if _TILES in page.tags else f"compression {compression}, {bits} bits"
        raise InputError(f"{path}: a TIFF of {bands} bands in {kind}; {_RIGHT}")
    if page.number(_FORMAT, 1) != 1 or page.number(_PREDICTOR, 1) not in (1, 2):
        raise InputError(f"{path}: a TIFF of {bands} bands of other numbers than whole ones; {_RIGHT}")
    if not 1 <= bands <= MOST_BANDS:
        raise InputError(f"{path}: a TIFF of {bands} bands; 1 to {MOST_BANDS} would be right")
    planes = bands if page.number(_PLANAR, 1) == 2 else 1
    inside = bands // planes
    rows = min(page.number(_STRIP_ROWS, height) or height, height)
    offsets, counts = page.several(_OFFSETS), page.several(_COUNTS)
    strips = -(-height // rows)
    if len(offsets) != strips * planes or len(counts) != len(offsets):
        raise InputError(f"{path}: a damaged or truncated image ({len(offsets)} strips, not {strips * planes})")
    size = bits // 8
    check_unpacked(path, height * width * bands * size, max(1, sum(counts)))
    out = np.empty((planes, height, width, inside), np.uint8 if bits == 8 else np.uint16)
    for k, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
        plane, first = k // strips, k % strips * rows
        down = min(rows, height - first)
        wanted = down * width * inside * size
        file.seek(offset)
        packed = file.read(min(count, wanted) if compression == _PLAIN else count)
        strip = packed if compression == _PLAIN else zlib.decompressobj().decompress(packed, wanted)
        if len(strip) < wanted:
            raise InputError(f"{path}: a damaged or truncated image (strip {k} has {len(strip)} of {wanted} bytes)")
        samples = np.frombuffer(strip, f"{page.order}u{size}").reshape(down, width, inside).astype(out.dtype)
        if page.number(_PREDICTOR, 1) == 2:
            samples = np.cumsum(samples, 1, dtype=out.dtype)
        out[plane, first : first + down] = samples
    return np.ascontiguousarray(out.transpose(0, 3, 1, 2).reshape(bands, height, width))
