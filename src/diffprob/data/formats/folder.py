"""A folder of pictures: which files belong to it, which split and which class, and how they become one array."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from diffprob.base.errors import InputError, Missing
from diffprob.base.text import composed
from diffprob.data.classes import natural
from diffprob.data.formats.decoded import read_pictures
from diffprob.data.formats.files import reading
from diffprob.data.formats.pictures import KINDS, SUFFIXES, Tally, converting, unread
from diffprob.data.formats.splits import like_split, parts_of, split_of
from diffprob.data.images import Images, Labels

MOST_OTHERS = 1_000_000  # folders, and files that are no pictures, that are passed over before the first picture


def split_roots(root: Path, split: str) -> list[Path]:
    """The folders that make up a split: sub-folders named train and test, say (`formats.splits`), or the folder itself.

    A folder counts as split when it has sub-folders for both, or when it holds no other sub-folder than such ones and
    no picture. Of several for one split the first is taken, for "all" every one of them, train before test.

    Raises:
        Missing: the split does not exist.
        InputError: it is a link to nowhere.
    """
    for name in parts_of((p.name for p in root.iterdir() if not p.exists()), split):
        raise _nowhere(root / name)
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    has_pictures = any(p.suffix.lower() in SUFFIXES for p in root.iterdir())
    both = bool(parts_of(names, "train") and parts_of(names, "test"))
    if not both and (has_pictures or not names or any(split_of(name) is None for name in names)):
        if split != "test":
            return [root]
        raise Missing(f"{root}: no 'test' split; sub-folders train and test, or split 'all', would be right")
    chosen = parts_of(names, split)
    if not chosen:
        raise Missing(f"{root}: no {split!r} split; it has the sub-folders {', '.join(names)}")
    return [root / name for name in (chosen if split == "all" else chosen[:1])]


def _nowhere(path: Path) -> InputError:
    return InputError(f"{path}: cannot be read (a link to nowhere); remove it, or what it leads to would be right")


def _refuse(error: OSError) -> None:
    raise error


def list_pictures(root: Path) -> tuple[list[Path], list[Path]]:
    """The picture files below ``root``, sorted by relative path, and the other files and hidden folders.

    Raises:
        InputError: a link to nowhere, which may have been a folder of pictures; or no folder of pictures, since hardly
            one is among a million other files and folders.
        OSError: a folder that cannot be looked into.
    """
    pictures: list[Path] = []
    others: list[Path] = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=_refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        hidden = [name for name in folders if name.startswith(".")]
        folders[:] = sorted(set(folders) - set(hidden))
        others += [Path(folder) / name for name in hidden]
        for name in files:
            visible = not name.startswith(".") and name.lower().endswith(SUFFIXES)
            if not visible and not name.startswith(".") and not (Path(folder) / name).exists():
                raise _nowhere(Path(folder) / name)
            (pictures if visible else others).append(Path(folder) / name)
        if len(seen) + len(others) > MOST_OTHERS + 10 * len(pictures):
            raise InputError(
                f"{root}: {len(pictures)} pictures among more than {MOST_OTHERS:,} other files and folders: it was not "
                "searched to its end; the folder of the pictures alone would be right"
            )
    return sorted(pictures, key=lambda p: p.relative_to(root).as_posix()), sorted(others)


def _classes(files: list[tuple[Path, Path]]) -> tuple[Labels | None, tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
    """Labels by the first sub-folder of every (root, picture), names, their places among names sorted as text, notes.

    There are no labels when a picture lies outside. Sub-folders whose names differ in their Unicode form alone, as
    those of two systems do, are one class.
    """
    parts = [file.relative_to(root).parts for root, file in files]
    outside = sum(len(part) == 1 for part in parts)
    if outside:
        in_folders = len(parts) - outside
        note = (f"no classes: {outside} of {len(parts)} images lie outside the sub-folders",) if in_folders else ()
        return None, (), (), note
    called = {folder: composed(folder) for folder in sorted({part[0] for part in parts})}
    names = tuple(sorted(set(called.values()), key=natural))
    index = {name: k for k, name in enumerate(names)}
    # in the order of the folders as they are written: digests go by it
    former = {name: k for k, name in enumerate(dict.fromkeys(called.values()))}
    values = () if former == index else tuple(former[name] for name in names)
    note = (f"{len(called)} sub-folders are {len(names)} classes: some have one name in two Unicode forms",)
    labels = np.array([index[called[part[0]]] for part in parts], dtype=np.int64)
    return labels, names, values, note if len(called) > len(names) else ()


def read_folder(path: Path, split: str, tally: Tally, first: int | None = None) -> Images:
    """Every picture of a split as one array, in the sorted order of the relative paths.

    Args:
        path: the folder.
        split: "train", "test" or "all".
        tally: what is done to each picture; it counts.
        first: only so many of them, the first, are opened; None: all.

    Raises:
        Missing: no such split.
        MixedSizes: pictures of different sizes and no ``size``.
        InputError: not a folder, the whole file system, no picture, or a damaged one.
    """
    if not path.is_dir():
        raise InputError(f"{path}: a file; a folder of {KINDS} images would be right")
    if path.resolve() == path.resolve().parent:
        raise InputError(f"{path}: the whole file system, which is not searched; a folder in it would be right")
    with reading(path):
        roots = split_roots(path, split)
        listed = [(root, *list_pictures(root)) for root in roots]
    files = [(root, file) for root, pictures, _ in listed for file in pictures]
    others = [file for _, _, rest in listed for file in rest]
    if not files:
        held = f" among its {len(others)} files ({others[0].name}, ...)" if others else ", it is empty"
        raise InputError(f"{roots[0]}: no {KINDS} image{held}{converting(others)}")
    taken = files[:first]
    pixels, kept = read_pictures(path, [file for _, file in taken], tally)
    labels, names, values, notes = _classes(files)
    missed = unread(others)
    if rest := sorted(set(others) - set(missed)):
        notes += (f"{len(rest)} other files passed over ({_few(rest)})",)
    notes += tuple(_split_notes(path, split, roots))
    doubts = (*_unread_notes(missed), *_missed_splits(path, files))
    return Images(
        pixels,
        None if labels is None else labels[:first],
        name=path.absolute().name,
        notes=tally.notes() + notes + doubts + kept,
        class_names=names,
        label_values=values,
        doubts=doubts,
        files=tuple(file.relative_to(path).as_posix() for _, file in taken),
    )


def _split_notes(path: Path, split: str, roots: list[Path]) -> Iterator[str]:
    """Which sub-folder a split is, where its name leaves a doubt."""
    if roots == [path]:
        return
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if split != "all":
        if roots[0].name != split:
            yield f"split {split!r} is the sub-folder {roots[0].name}"
        if passed := ", ".join(parts_of(names, split)[1:]):
            yield f"split {split!r} is {roots[0].name} alone: {passed} not taken"
    if others := ", ".join(name for name in names if split_of(name) is None):
        yield f"sub-folders beside train and test not read: {others}"


def _unread_notes(images: list[Path]) -> Iterator[str]:
    """Files that hold images in a format that is not read, and may be missed."""
    if images:
        count = f"{len(images)} image{'s' * (len(images) > 1)}"
        yield f"{count} in other formats not read ({_few(images)}){converting(images)}"


def _few(files: list[Path]) -> str:
    return ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")


def _missed_splits(path: Path, files: list[tuple[Path, Path]]) -> Iterator[str]:
    """Folders on the way to the pictures that have the name of a split and are not taken for one."""
    held: dict[str, str] = {}  # the kind of each such name
    for root, file in files:
        for level, name in enumerate(file.relative_to(root).parts[:-1]):
            # below the first level a single one may well be a class
            if (kind := like_split(name)) is not None:
                held[name] = kind if level or root != path else "both"
    if "both" in held.values() or len(set(held.values())) > 1:
        names = ", ".join(sorted(held)[:4])
        yield (
            f"folders called {names} are read like any other: sub-folders train and test, and none beside them, "
            "would be splits; or give the path of one"
        )
