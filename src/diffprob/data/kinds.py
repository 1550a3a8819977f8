"""Which kind of data a path holds, and the source that reads it."""

import gzip
from dataclasses import replace
from pathlib import Path

from diffprob.base import checks
from diffprob.base.errors import InputError, Missing, did_you_mean
from diffprob.base.options import option
from diffprob.data.fields import Numbers
from diffprob.data.formats.files import existing, opened, reading
from diffprob.data.formats.numbers import has_numbers
from diffprob.data.formats.pictures import KINDS, SUFFIXES, converting, count_frames
from diffprob.data.images import Source
from diffprob.data.library import known_places, place_of
from diffprob.data.sources import Array, Cifar10, Cifar100, Digits, Folder, HuggingFace, Idx, Pages, Svhn
from diffprob.data.text import Text
from diffprob.storage.foreign import parsing

_IDX_START, _GZIP = b"\x00\x00\x08", b"\x1f\x8b"
_ARCHIVES = (".tar", ".tgz", ".tar.gz", ".zip", ".rar", ".7z")


def _unique(sources: dict[str, Source], path: Path) -> Source | None:
    if len(sources) > 1:
        raise InputError(f"{path}: holds several kinds of data ({', '.join(sources)}); give the folder or file of one")
    return next(iter(sources.values()), None)


def _in_folder(path: Path, split: str, size: int | None, channels: int | None) -> Source:
    with reading(path):
        names = {p.name for p in path.iterdir() if not p.name.startswith(".")}
    if "cifar-10-batches-bin" in names:
        return Cifar10(str(path / "cifar-10-batches-bin"), split)
    if "cifar-100-binary" in names:
        return Cifar100(str(path / "cifar-100-binary"), split)
    candidates: dict[str, Source] = {}
    if any("idx3-ubyte" in name for name in names):
        candidates["idx"] = Idx(str(path), split)
    if any(name.startswith(("data_batch_", "test_batch")) and name.endswith(".bin") for name in names):
        candidates["CIFAR-10"] = Cifar10(str(path), split)
    elif {"train.bin", "test.bin"} & names:
        candidates["CIFAR-100"] = Cifar100(str(path), split)
    if any(name.endswith("_32x32.mat") for name in names):
        candidates["SVHN"] = Svhn(str(path), split)
    arrays = sorted(name for name in names if name.endswith((".npy", ".npz")))
    if len(arrays) == 1:
        candidates[arrays[0]] = Array(str(path / arrays[0]), split)
    if any(name.lower().endswith(SUFFIXES) for name in names):
        candidates["images"] = Folder(str(path), size, channels or 3, split)
    source = _unique(candidates, path)
    if source is not None:
        return source
    if {"batches.meta", "data_batch_1", "meta"} & names:
        raise InputError(f"{path}: the pickled Python version of CIFAR; the binary version (.bin) would be right")
    if len(arrays) > 1:
        raise InputError(f"{path}: holds {len(arrays)} array files ({', '.join(arrays[:3])}); give the path of one")
    packed = next((name for name in sorted(names) if name.endswith(_ARCHIVES)), None)
    if packed and not any((path / name).is_dir() for name in names):
        raise InputError(f"{path}: holds the archive {packed}; unpack it first")
    return Folder(str(path), size, channels or 3, split)


def _in_file(path: Path, split: str, size: int | None, channels: int | None) -> Source:
    name = path.name.lower()
    if name.endswith((".npy", ".npz")):
        return Array(str(path), split)
    if name.endswith(".csv"):
        return Numbers(str(path), split)
    if name.endswith((".txt", ".md")):
        return Text(str(path), split=split)
    if name.endswith(".mat"):
        return Svhn(str(path), split)
    if name.endswith(".bin"):
        hundred = name in ("train.bin", "test.bin")
        return Cifar100(str(path), split) if hundred else Cifar10(str(path), split)
    if name.endswith(SUFFIXES):
        if count_frames(path) > 1:
            return Pages(str(path), size, channels or 3, split)
        raise InputError(f"{path}: one image; the folder that holds the images would be right")
    if name.endswith(_ARCHIVES):
        raise InputError(f"{path}: an archive; unpack it and give the folder")
    if "idx" in name:
        return Idx(str(path), split)
    with opened(path) as file:
        start = file.read(3)
    if start == _IDX_START or (start[:2] == _GZIP and _unpacks_to_idx(path)):
        return Idx(str(path), split)
    raise InputError(
        f"{path}: not a known format; idx, CIFAR .bin, SVHN .mat, .npy, .npz, .csv, .txt or a folder of {KINDS} files "
        f"would be right{converting([path])}"
    )


def _unpacks_to_idx(path: Path) -> bool:
    with opened(path) as file, parsing(path, ".gz", "download it again"), gzip.GzipFile(fileobj=file) as unpacked:
        return unpacked.read(3) == _IDX_START


def _existing(text: str) -> Path:
    name, text = text, place_of(text)
    if not text or ("/" not in text and not Path(text).exists()):
        near = did_you_mean(text, ("digits", *known_places()))
        raise Missing(f"data {text!r}: no such file or folder, nor 'digits', 'hf:NAME' or data that was added{near}")
    try:
        return existing(text)
    except Missing as error:
        if name == text:
            raise
        right = f"diffprob data-add {name} PATH would be right"
        raise Missing(f"data {name!r} was added as {text}, which is not there any more; {right}") from error


def open_data(
    text: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    levels: int | None = None,
    split: str = "train",
    real: bool | None = False,
    dims: int | None = None,
) -> Source:
    """The source that ``text`` means: "digits", "hf:NAME", a folder or a file, judged by names and first bytes.

    Args:
        text: "digits", "hf:" and a name on the Hugging Face hub, a path, or the name of data that was added to the
            library (`data.library`).
        size: for pictures only (a folder or the hub), which alone can be resized.
        channels: of pictures those that they are read in; of an array those that it has, where its shape leaves a
            doubt which axis they are.
        levels: K of whole numbers, where an array or pictures of 16 bits have fewer than these hold.
        split: passed on to the source.
        real: whether arrays are taken as real numbers rather than as images in levels; None: those of floats, and of
            rows of numbers.
        dims: spatial dimensions of real numbers (`data.fields.Numbers`).

    Raises:
        Missing: nothing there.
        InputError: nothing known, or options that this kind of data does not take.
    """
    try:
        checks.text("text", text, 0, checks.MOST)
        if text == "digits":
            source: Source = Digits(split)
        elif text.startswith("hf:"):
            source = HuggingFace(text[3:], split, size=size, channels=channels or 3)
        else:
            path = _existing(text)
            source = _in_folder(path, split, size, channels) if path.is_dir() else _in_file(path, split, size, channels)
    except ValueError as error:
        raise InputError(f"data {text!r}: {error}") from error
    if isinstance(source, Array) and (real or (real is None and levels is None and has_numbers(Path(source.path)))):
        source = Numbers(source.path, split)
    if isinstance(source, Numbers):
        source = replace(source, dims=dims)
    elif dims is not None:
        kind, given = type(source).__name__, option("dims", dims)
        raise InputError(f"{given}: {kind} data are images in levels; floats in .npy or .npz would be right")
    if isinstance(source, Array):
        source = replace(source, channels=channels, levels=levels)
    elif isinstance(source, Folder | Pages):
        source = replace(source, levels=levels)
    requested = (("size", size), ("channels", channels), ("levels", levels))
    options = [name for name, value in requested if value is not None and not hasattr(source, name)]
    if options:
        kind = type(source).__name__
        chosen = " and ".join(options)
        raise InputError(f"data {text!r}: {kind} data has its own {chosen}; only folders of images take another")
    return source
