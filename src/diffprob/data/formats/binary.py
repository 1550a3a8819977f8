"""Fixed-layout files: CIFAR-10 and CIFAR-100 in the binary version, SVHN's cropped digits as MATLAB 5 files.

CIFAR (Krizhevsky 2009): records of one label byte (CIFAR-100: coarse, then fine) and 3072 bytes, the red, green and
blue planes of 32x32. SVHN (Netzer et al. 2011): variables X (32, 32, 3, N) and y (N, 1), where label 10 stands for the
digit 0.
"""

from pathlib import Path

import numpy as np

from diffprob.base.errors import InputError, Missing
from diffprob.data.formats.files import blank_pixels, entry, one_file, opened, reading
from diffprob.data.formats.mat import read_mat
from diffprob.data.images import Images
from diffprob.storage.files import TEXT_LIMIT
from diffprob.storage.foreign import parsing

_PLANES = 3 * 32 * 32
_RECORDS = 1000  # read at a time
_CIFAR_FILES = {
    (10, "train"): tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
    (10, "test"): ("test_batch.bin",),
    (100, "train"): ("train.bin",),
    (100, "test"): ("test.bin",),
}
_CIFAR_OFFICIAL = {(10, "train"): 10_000, (10, "test"): 10_000, (100, "train"): 50_000, (100, "test"): 10_000}
_NAME_FILES = {10: "batches.meta.txt", 100: "fine_label_names.txt"}


def _record_count(file: Path, record: int) -> int:
    with opened(file) as stream:
        size = stream.seek(0, 2)
    if size % record:
        raise InputError(f"{file}: cut short or no CIFAR file: {size} bytes, a multiple of {record} would be right")
    return size // record


def _read_records(file: Path, record: int, out: np.ndarray) -> np.ndarray:
    """Read one file into ``out`` (n, 3072); returns its labels (the last byte before the planes) as uint8 (n,)."""
    labels, done, block = np.empty(len(out), np.uint8), 0, _RECORDS * record
    with opened(file) as stream:
        while data := stream.read(min(block, (len(out) - done) * record)):
            if len(data) % record:
                raise InputError(f"{file}: cut short while it was read")
            raw = np.frombuffer(data, np.uint8).reshape(-1, record)
            out[done : done + len(raw)] = raw[:, record - _PLANES :]
            labels[done : done + len(raw)] = raw[:, record - _PLANES - 1]
            done += len(raw)
    if done < len(out):
        raise InputError(f"{file}: cut short while it was read")
    return labels


def _class_names(folder: Path, classes: int) -> tuple[str, ...]:
    """The names of the labels, if the official text file lies beside the batches."""
    file = folder / _NAME_FILES[classes]
    if not entry(file):
        return ()
    with opened(file, TEXT_LIMIT) as stream, parsing(file, "text file"):
        text = stream.read().decode("utf-8")
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) != classes:
        raise InputError(f"{file}: {len(names)} class names, {classes} would be right")
    if len(set(names)) < classes:
        raise InputError(f"{file}: {len(set(names))} different class names, {classes} would be right")
    return names


def read_cifar(path: Path, split: str, classes: int) -> Images:
    """CIFAR-10 or CIFAR-100 (fine labels) from the folder of .bin files, or from one such file.

    Raises:
        Missing: no batch of the split, or the test split of a single file that is not called test.
        InputError: one of several batches is missing, one is of the wrong length, or a label lies outside 0..classes-1.
    """
    record = _PLANES + (1 if classes == 10 else 2)
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        files = [path / name for name in _CIFAR_FILES[classes, split]]
        missing = [file.name for file in files if not entry(file)]
        if missing:
            # some of several batches are damage, none of them is absence
            kind = Missing if len(missing) == len(files) else InputError
            raise kind(f"{path}: no {', '.join(missing)}; the binary version of CIFAR-{classes} has them")
    else:
        files = [one_file(path, split, ("test",))]
    with reading(folder):
        counts = [_record_count(file, record) for file in files]
        if len(set(counts)) > 1:
            held = ", ".join(f"{file.name} {n}" for file, n in zip(files, counts, strict=True))
            raise InputError(f"{folder}: batches of different lengths, so at least one is cut short: {held} records")
        pixels = blank_pixels((sum(counts), _PLANES))
        labels = np.empty(sum(counts), np.int64)
        for k, (file, n) in enumerate(zip(files, counts, strict=True)):
            part = slice(k * n, (k + 1) * n)
            labels[part] = _read_records(file, record, pixels[part])
            if labels[part].max() >= classes:
                first = int(np.argmax(labels[part] >= classes))
                label = labels[part][first]
                raise InputError(f"{file}: record {first} has label {label}; 0..{classes - 1} would be right")
        names = _class_names(folder, classes)
    notes = () if names else (f"no {_NAME_FILES[classes]}: classes have no names",)
    official = _CIFAR_OFFICIAL[classes, split]
    if path.is_dir() and counts[0] != official:
        notes += (f"{counts[0]} records a file; the official files have {official}",)
    shaped = pixels.reshape(-1, 3, 32, 32)
    names = names or tuple(str(k) for k in range(classes))
    name = f"cifar{classes}/{split if path.is_dir() else path.stem}"
    return Images(shaped, labels, name=name, notes=notes, class_names=names)


def read_svhn(path: Path, split: str) -> Images:
    """SVHN's cropped digits from ``train_32x32.mat`` and its like, or from the folder that holds them.

    Raises:
        Missing: no such file, or another split of a single file than the one in its name.
        InputError: not a MATLAB 5 file, or X and y of other shapes than the format's.
    """
    file = path / f"{split}_32x32.mat" if path.is_dir() else one_file(path, split, ("test",))
    if not entry(file):
        raise Missing(f"{path}: no {split}_32x32.mat, which SVHN's cropped digits have")
    with reading(file):
        content = read_mat(file, ("X", "y"))
    x, y = content.get("X"), content.get("y")
    if x is None or y is None:
        raise InputError(f"{file}: has no variables X and y; SVHN's cropped digits (format 2) would be right")
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[2] != 3 or 0 in x.shape:
        raise InputError(f"{file}: X is {x.dtype} {x.shape}; uint8 (32, 32, 3, N) would be right")
    digits = y.reshape(-1)
    if len(digits) != x.shape[3]:
        raise InputError(f"{file}: {len(digits)} labels for {x.shape[3]} images")
    if digits.dtype.kind not in "iuf" or not np.isin(digits, np.arange(11)).all():
        raise InputError(f"{file}: y holds other labels than 1..10 (10 stands for the digit 0)")
    labels = np.where(digits == 10, 0, digits).astype(np.int64)
    name = f"svhn/{split if path.is_dir() else path.stem}"
    return Images(x.transpose(3, 2, 0, 1), labels, name=name, class_names=tuple("0123456789"))
