"""A writer of TIFF that shares nothing with the reader."""

import struct
import zlib

import numpy as np


def tiff(
    pages: list[np.ndarray], order: str = "<", deflate: bool = False, planar: bool = False, rows: int = 3, predict=False
) -> bytes:
    """A TIFF of pages (C, H, W), as section 2 of its specification has it: written here, read by nobody's library."""
    out, links = bytearray(struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 0)), [4]
    for page in pages:
        bands, height, width = page.shape
        samples = page.astype(page.dtype.newbyteorder(order))
        planes = [samples[k : k + 1] for k in range(bands)] if planar else [samples]
        offsets, counts = [], []
        for plane in planes:
            for first in range(0, height, rows):
                strip = np.ascontiguousarray(plane[:, first : first + rows].transpose(1, 2, 0))
                if predict:
                    strip = np.diff(strip.astype(np.int64), axis=1, prepend=0).astype(strip.dtype)
                packed = zlib.compress(strip.tobytes()) if deflate else strip.tobytes()
                offsets.append(len(out))
                counts.append(len(packed))
                out += packed
        bits = 8 * page.dtype.itemsize
        tags = {256: [width], 257: [height], 258: [bits] * bands, 259: [8 if deflate else 1], 262: [1], 273: offsets}
        tags |= {277: [bands], 278: [rows], 279: counts, 284: [2 if planar else 1], 317: [2 if predict else 1]}
        entries = b""
        for tag, values in tags.items():
            packed = struct.pack(f"{order}{len(values)}I", *values)
            if len(values) > 1:
                place = len(out)
                out += packed
                packed = struct.pack(order + "I", place)
            entries += struct.pack(order + "HHI", tag, 4, len(values)) + packed
        struct.pack_into(order + "I", out, links[-1], len(out))
        out += struct.pack(order + "H", len(tags)) + entries
        links.append(len(out))
        out += bytes(4)
    return bytes(out)
