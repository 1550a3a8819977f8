"""A folder of pictures: which files belong to it, which split and which class, and how they become one array."""

import os
from pathlib import Path

import numpy as np

from diffprob.base.errors import InputError, Missing
from diffprob.data.classes import natural
from diffprob.data.formats.files import blank_pixels, reading
from diffprob.data.formats.pictures import SUFFIXES, Tally, open_picture, prepare
from diffprob.data.images import Images, Labels

_TEST = ("test", "val", "valid", "validation")


def split_roots(root: Path, split: str) -> list[Path]:
    """The folders that make up a split: sub-folders named train and test (or val), else the folder itself.

    A folder counts as split when it has ``train`` and one of ``test, val, valid, validation``, or when it holds no
    other sub-folder than these and no picture.

    Raises:
        Missing: the split does not exist.
    """
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    test = next((name for name in _TEST if name in names), None)
    beside = any(p.suffix.lower() in SUFFIXES for p in root.iterdir())
    both = "train" in names and test is not None
    if not both and (beside or not names or any(name != "train" and name not in _TEST for name in names)):
        if split != "test":
            return [root]
        raise Missing(f"{root}: no 'test' split; sub-folders train and test, or split 'all', would be right")
    if split == "all":
        return [root / name for name in ("train", *_TEST) if name in names]
    chosen = "train" if split == "train" else test
    if chosen not in names:
        raise Missing(f"{root}: no {split!r} split; it has the sub-folders {', '.join(names)}")
    return [root / str(chosen)]


def list_pictures(root: Path) -> tuple[list[Path], list[Path]]:
    """The PNG, JPEG and WebP files below ``root``, sorted by relative path, and the other files and hidden folders."""
    pictures: list[Path] = []
    others: list[Path] = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        if here in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(here)
        hidden = [name for name in folders if name.startswith(".")]
        folders[:] = sorted(set(folders) - set(hidden))
        others += [Path(folder) / name for name in hidden]
        for name in files:
            visible = not name.startswith(".") and name.lower().endswith(SUFFIXES)
            (pictures if visible else others).append(Path(folder) / name)
    return sorted(pictures, key=lambda p: p.relative_to(root).as_posix()), sorted(others)


def _classes(files: list[tuple[Path, Path]]) -> tuple[Labels | None, tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
    """Labels by the first sub-folder of every (root, picture), names, their places among names sorted as text, notes.

    There are no labels when a picture lies outside.
    """
    parts = [file.relative_to(root).parts for root, file in files]
    outside = sum(len(part) == 1 for part in parts)
    if outside:
        inside = len(parts) - outside
        note = (f"no classes: {outside} of {len(parts)} images lie outside the sub-folders",) if inside else ()
        return None, (), (), note
    names = tuple(sorted({part[0] for part in parts}, key=natural))
    index = {name: k for k, name in enumerate(names)}
    former = {name: k for k, name in enumerate(sorted(names))}
    values = () if former == index else tuple(former[name] for name in names)
    return np.array([index[part[0]] for part in parts], dtype=np.int64), names, values, ()


def read_folder(path: Path, split: str, tally: Tally) -> Images:
    """Every picture of a split as one array, in the sorted order of the relative paths.

    Raises:
        Missing: no such split.
        InputError: not a folder, no picture, a damaged one, or pictures of different sizes and no ``size``.
    """
    if not path.is_dir():
        raise InputError(f"{path}: a file; a folder of PNG, JPEG or WebP images would be right")
    with reading(path):
        roots = split_roots(path, split)
        listed = [(root, *list_pictures(root)) for root in roots]
    files = [(root, file) for root, pictures, _ in listed for file in pictures]
    others = [file for _, _, rest in listed for file in rest]
    if not files:
        held = f" among its {len(others)} files ({others[0].name}, ...)" if others else ", it is empty"
        raise InputError(f"{roots[0]}: no PNG, JPEG or WebP image{held}")
    pixels = None
    for k, (_, file) in enumerate(files):
        array = prepare(open_picture(file), tally)
        if pixels is None:
            pixels = blank_pixels((len(files), *array.shape))
        if array.shape != pixels.shape[1:]:
            raise InputError(
                f"{file}: {array.shape[2]}x{array.shape[1]} pixels, while {files[0][1].name} has "
                f"{pixels.shape[3]}x{pixels.shape[2]}; give a size to resize and crop them all"
            )
        pixels[k] = array
    labels, names, values, notes = _classes(files)
    if others:
        notes += (f"{len(others)} other files passed over ({', '.join(file.name for file in others[:3])})",)
    if split == "test" and roots[0].name != "test":
        notes += (f"split 'test' is the sub-folder {roots[0].name}",)
    assert pixels is not None
    return Images(
        pixels,
        labels,
        name=path.absolute().name,
        notes=tally.notes() + notes,
        class_names=names,
        label_values=values,
    )
