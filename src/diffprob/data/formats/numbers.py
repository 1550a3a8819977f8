"""Real numbers in files: .npy (memory-mapped where it is float32), .npz and .csv, as float32 (N, C, ...)."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffprob.base.errors import InputError, Missing
from diffprob.base.options import option
from diffprob.base.text import one_line
from diffprob.data.formats.arrays import label_array, split_keys
from diffprob.data.formats.files import opened
from diffprob.data.formats.npy import map_npy, open_npz, read_header

MOST_CHANNELS = 16  # that are looked for in an axis of the array
MOST_CSV = 1 << 30  # bytes of a table
_CHUNK = 1 << 20  # numbers looked at together
_CONDITIONS = ("condition", "conditions", "theta")


@dataclass(frozen=True, eq=False)
class Read:
    """What a file has.

    Args:
        values: float32 (N, C, ...).
        labels: int64 (N,), or None.
        conditions: float32 (N, K), or None.
        name: of the file.
        notes: what was assumed, one sentence each.
    """

    values: np.ndarray
    labels: np.ndarray | None
    conditions: np.ndarray | None
    name: str
    notes: tuple[str, ...]


def has_numbers(path: Path) -> bool:
    """Whether a file of arrays has floats, or rows of numbers, rather than images in levels.

    Raises:
        InputError: no array there.
    """
    if path.suffix.lower() == ".csv":
        return True
    if path.suffix.lower() != ".npz":
        with opened(path) as file:
            header = read_header(file, path)
    else:
        with open_npz(path) as archive:
            name = next((key for split in ("train", "test") if (key := split_keys(archive.names, split)[0])), None)
            if name is None:
                return False
            header = archive.header(name)
    return len(header.shape) in (2, 5) or header.dtype.kind == "f"


def read_numbers(path: Path, split: str, dims: int | None) -> Read:
    """The numbers of a split.

    Args:
        path: the file.
        split: "train", "test" or "all".
        dims: spatial dimensions; None: as the shape says.

    Raises:
        Missing: no array of the split.
        InputError: another format or type, a value that is not finite, or a shape that may be several things.
    """
    kind = path.suffix.lower()
    if path.is_dir():
        raise InputError(f"{path}: a folder; the path of one .npy, .npz or .csv file would be right")
    if kind not in (".npy", ".npz", ".csv"):
        raise InputError(f"{path}: no file of real numbers; .npy, .npz or .csv would be right")
    labels = conditions = None
    if kind == ".npz":
        values, labels, conditions, remarks = _from_npz(path, split)
    elif split == "test":
        raise Missing(f"{path}: one table has no 'test' split; 'train', 'all' or an .npz with x_test would be right")
    else:
        values, remarks = (map_npy(path), ()) if kind == ".npy" else _from_csv(path)
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path}: values of type {values.dtype}; real numbers would be right")
    if values.ndim < 2 or 0 in values.shape:
        sizes = "x".join(map(str, values.shape))
        raise InputError(f"{path}: an array of shape {sizes}; (N, C), (N, C, L), (N, C, H, W) ... would be right")
    arranged, layout = _arranged(values, path, dims)
    notes = (f"{path.name} read as {layout}", *remarks)
    return Read(_float32(arranged, path), labels, conditions, path.stem, notes)


def _from_npz(path: Path, split: str) -> tuple[Any, Any, Any, tuple[str, ...]]:
    with open_npz(path) as archive:
        key, label_key, notes = split_keys(archive.names, split)
        if key is None:
            wanted = "x_test" if split == "test" else "x"
            raise Missing(f"{path}: no {wanted} among its arrays ({', '.join(archive.names) or 'none'})")
        values = archive.read(key)
        labels = label_array(archive, label_key, values, path)
        word = key.lower().partition("_")[2]
        names = {name.lower(): name for name in archive.names}
        wanted = (f"{name}_{word}" if word else name for name in _CONDITIONS)
        conditions = next((archive.read(names[name]) for name in wanted if name in names), None)
    if conditions is None:
        return values, labels, None, notes
    rows = conditions[:, None] if conditions.ndim == 1 else conditions
    if rows.ndim != 2 or len(rows) != len(values) or rows.dtype.kind not in "fiu" or not rows.shape[1]:
        right = f"real numbers of shape ({len(values)}, K) would be right"
        raise InputError(f"{path}: condition is {conditions.dtype} {conditions.shape}; {right}")
    return values, labels, _float32(rows, path), notes


def _from_csv(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The rows of a table, float64 (N, C), and its header in words."""
    with opened(path, MOST_CSV) as file:
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no text in UTF-8 (byte {error.start:,} is none)") from error
    first = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"{path}: no table ({one_line(error)}); rows of numbers would be right") from error
    header: list[str] = []
    if rows and not all(map(_is_number, rows[0])):
        header, rows = rows[0], rows[1:]
    if not rows:
        raise InputError(f"{path}: holds no rows of numbers")
    width, line = len(rows[0]), 1 + bool(header)
    for k, row in enumerate(rows):
        if len(row) != width:
            raise InputError(f"{path}: row {line + k} has {len(row)} columns, the first {width}; all alike is right")
        wrong = next((c for c, cell in enumerate(row) if not _is_number(cell)), None)
        if wrong is not None:
            column = f"{wrong + 1}" + (f" ({header[wrong]})" if wrong < len(header) else "")
            got = one_line(repr(row[wrong]), 30)
            raise InputError(f"{path}: row {line + k}, column {column}: {got} is no number; numbers would be right")
    notes = (f"columns: {one_line(', '.join(header), 120)}",) if header else ()
    return np.array([[float(cell) for cell in row] for row in rows]), notes


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _arranged(x: np.ndarray, path: Path, dims: int | None) -> tuple[np.ndarray, str]:
    """View the array as (N, C, ...), and what it was read as; nothing is guessed where it may be several things."""
    sizes, own = "x".join(map(str, x.shape)), x.ndim - 1
    kind = _kind(x.shape[1:]) if dims is None else dims
    if kind is None and own not in (2, 3):
        raise InputError(f"{path}: an array of shape {sizes}; (N, C), (N, C, L), (N, C, H, W) ... would be right")
    if kind is None:
        small, large = (1, 2) if own == 2 else (2, 3)
        which = f"{option('dims', small)} or {option('dims', large)} says which"
        what = "signals (N, C, L) or images (N, H, W)" if own == 2 else "images (N, C, H, W) or volumes (N, D, H, W)"
        raise InputError(f"{path}: shape {sizes} may be {what}: ambiguous; {which}")
    axes = {0: "N, C", 1: "N, C, L", 2: "N, C, H, W", 3: "N, C, D, H, W"}[kind]
    if kind == 0 and own == 1:
        return x, f"({axes}), vectors"
    if own == kind and kind:
        return x[:, None], f"({axes.replace('C, ', '')})"
    if own != kind + 1 or not kind:
        raise InputError(f"{option('dims', kind)}: {path} has shape {sizes}; ({axes}) would be right")
    first, last = x.shape[1] <= MOST_CHANNELS, x.shape[-1] <= MOST_CHANNELS
    if kind > 1 and last and (not first or (x.shape[1] > x.shape[-1] and x.shape[-1] <= 4)):
        return np.moveaxis(x, -1, 1), f"({axes.replace('C, ', '')}, C)"
    return x, f"({axes})"


def _kind(shape: tuple[int, ...]) -> int | None:
    """Spatial dimensions of data of a shape; None where it may be several things.

    (A,) are vectors; (A, B) signals of few channels, or images of one; (A, B, C) images with channels first or last, or
    cubes of one channel; (C, D, H, W) volumes.
    """
    if len(shape) == 2:
        a, b = shape
        if a == b or a > MOST_CHANNELS:
            return 2
        return 1 if b >= 4 * a else None
    if len(shape) != 3:
        return {1: 0, 4: 3}.get(len(shape))
    a, b, c = shape
    if a == b == c and a > 4:
        return 3
    if a <= 4 or c <= 4:
        return 2
    if min(a, b, c) > MOST_CHANNELS:
        return 3
    return None


def _float32(x: np.ndarray, path: Path) -> np.ndarray:
    """The numbers in float32, after a look whether all are finite, there too."""
    step = max(1, _CHUNK // max(1, x[0].size))
    made = x if x.dtype == np.float32 else np.empty(x.shape, np.float32)
    for start in range(0, len(x), step):
        with np.errstate(over="ignore"):
            chunk = np.asarray(x[start : start + step]).astype(np.float32)
        bad = np.argwhere(~np.isfinite(chunk))
        if len(bad):
            place = (start + int(bad[0][0]), *(int(i) for i in bad[0][1:]))
            value = x[place]
            why = "too large for float32" if np.isfinite(value) else "not finite"
            raise InputError(f"{path}: holds {value} at {place}, {why}; finite float32 values would be right")
        if made is not x:
            made[start : start + step] = chunk
    return made
