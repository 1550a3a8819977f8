"""Is this data usable: counts, levels, moments, classes, duplicates, and what a network for it may look like."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from diffprob.base.checks import able
from diffprob.base.errors import InputError
from diffprob.base.levels import levels_held
from diffprob.base.text import printable
from diffprob.data.images import Images, Source

_FEW_IMAGES = 100
_SHOWN = 10


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Args:
        source: repr of the source; name: of the data; digest: SHA-256 of shape, pixels and labels.
        images, channels, height, width: shape of the data.
        levels: grey levels the format allows; used_levels: how many occur; lowest, highest: first and last that do.
        mean, std: per channel, with the grey levels scaled to [0, 1].
        classes: images per class, by name, of the classes that occur; None without labels.
        duplicates: images that repeat an earlier one; duplicate_pairs: the first of them as (index, earlier).
        constant: images of one single value; constant_indices: the first of them.
        network_levels: most resolutions L with both sides divisible by 2^(L-1), the coarsest at least 4.
        notes: what loading changed; warnings: what may be wrong, one sentence each.
    """

    source: str
    name: str
    digest: str
    images: int
    channels: int
    height: int
    width: int
    levels: int
    used_levels: int
    lowest: int
    highest: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: dict[str, int] | None
    duplicates: int
    duplicate_pairs: tuple[tuple[int, int], ...]
    constant: int
    constant_indices: tuple[int, ...]
    network_levels: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass
class _Scan:
    """Everything that one pass over the pixels collects."""

    histogram: np.ndarray  # (C, 256), or (C, 65536) where the pixels have 16 bits
    duplicates: list[tuple[int, int]]
    conflicting: int  # duplicates under different labels
    constant: list[int]
    grey: bool  # RGB with three equal channels throughout


def _scan(images: Images) -> _Scan:
    channels, held = images.event_shape[0], levels_held(np.asarray(images.pixels).dtype) or 0
    scan = _Scan(np.zeros((channels, held), np.int64), [], 0, [], channels == 3)
    first: dict[bytes, int] = {}
    index = 0
    for chunk in images.chunks():
        for c in range(channels):
            scan.histogram[c] += np.bincount(chunk[:, c].reshape(-1), minlength=held)
        scan.grey = scan.grey and bool((chunk == chunk[:, :1]).all())
        flat = chunk.reshape(len(chunk), -1)
        scan.constant += [index + int(k) for k in np.flatnonzero((flat == flat[:, :1]).all(1))]
        for row in flat:
            # 128 bits: a chance collision among a billion images has probability 1e-21
            earlier = first.setdefault(hashlib.blake2b(row.data, digest_size=16).digest(), index)
            if earlier != index:
                scan.duplicates.append((index, earlier))
                scan.conflicting += images.labels is not None and images.labels[index] != images.labels[earlier]
            index += 1
    return scan


def network_levels(height: int, width: int) -> int:
    """Most levels L, at most 6, with both sides divisible by 2^(L-1) and the coarsest side at least 4."""
    levels = 1
    while levels < 6 and height % 2**levels == 0 and width % 2**levels == 0 and min(height, width) >= 4 * 2**levels:
        levels += 1
    return levels


def _classes(images: Images) -> dict[str, int] | None:
    if images.labels is None:
        return None
    return {name: n for name, n in zip(images.class_names, images.class_counts, strict=True) if n}


def _warnings(images: Images, scan: _Scan, classes: dict[str, int] | None) -> Iterator[str]:
    n, (_, height, width) = len(images), images.event_shape
    used = np.flatnonzero(scan.histogram.sum(0))
    yield from images.doubts
    if n < _FEW_IMAGES:
        yield f"only {n} images: a model will learn them by heart"
    if used[-1] >= images.levels:
        yield f"grey level {used[-1]} occurs, but the format has only {images.levels} levels (0..{images.levels - 1})"
    if len(used) == 1:
        yield f"all pixels are {used[0]}: there is nothing to learn"
    elif len(used) <= images.levels // 4:
        yield f"only {len(used)} of {images.levels} grey levels occur; bits/dim counts all {images.levels}"
    if scan.duplicates:
        share = 100 * len(scan.duplicates) / n
        yield f"{len(scan.duplicates)} images ({share:.2g}%) repeat an earlier one exactly"
    if scan.conflicting:
        yield f"{scan.conflicting} of the repeated images have another label than the first of their kind"
    if scan.constant:
        yield f"{len(scan.constant)} images are of one single value (first: {scan.constant[0]})"
    if scan.grey:
        yield "all three channels are equal in every image: channels=1 has a third of the dimensions"
    if network_levels(height, width) == 1:
        yield f"{width}x{height} has room for one network level only: sides divisible by 4 or 8 would be right"
    if classes and max(classes.values()) > 10 * min(classes.values()):
        low, high = min(classes, key=lambda k: classes[k]), max(classes, key=lambda k: classes[k])
        yield printable(f"classes are uneven: {classes[high]} images of {high}, {classes[low]} of {low}")


def check(source: Source) -> Report:
    """Load the data, look at every pixel once, and report; see `Report` for the fields.

    Raises:
        InputError: the data cannot be loaded.
        ValueError: something that is no source.
    """
    able("source", source, "load", "open_data('digits')")
    images = source.load()
    if images.levels is None:
        raise InputError(
            f"{images.name}: real numbers, and a check looks at grey levels; training without a recipe looks at numbers"
        )
    scan = _scan(images)
    channels, height, width = images.event_shape
    used = np.flatnonzero(scan.histogram.sum(0))
    values = np.arange(scan.histogram.shape[1]) / (images.levels - 1)
    count = scan.histogram[0].sum()
    mean = scan.histogram @ values / count
    std = np.sqrt((scan.histogram * (values - mean[:, None]) ** 2).sum(1) / count)
    classes = _classes(images)
    return Report(
        source=repr(source), name=images.name, digest=images.digest(),
        images=len(images), channels=channels, height=height, width=width,
        levels=images.levels, used_levels=len(used), lowest=int(used[0]), highest=int(used[-1]),
        mean=tuple(float(m) for m in mean), std=tuple(float(s) for s in std),
        classes=classes, duplicates=len(scan.duplicates), duplicate_pairs=tuple(scan.duplicates[:_SHOWN]),
        constant=len(scan.constant), constant_indices=tuple(scan.constant[:_SHOWN]),
        network_levels=network_levels(height, width),
        notes=tuple(note for note in images.notes if note not in images.doubts),
        warnings=tuple(_warnings(images, scan, classes)),
    )  # fmt: skip
