"""Results as files: pictures, arrays, folders; each written under a temporary name first, so none is half there."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError, did_you_mean
from diffprob.storage import files
from diffprob.tasks.display import write_file

if TYPE_CHECKING:
    from diffprob.tasks.rows import ImageRows

PICTURE, ARRAYS, TEXT, ARRAY = ".png", ".npz", ".txt", ".npy"


def kind_of(out: str) -> str:
    """What ``--out`` asks for: "png", "npz", "npy", "txt" (of a model of text) or "folder".

    Raises:
        InputError: another suffix, a folder where a file should be or the other way round, a parent that is no folder.
    """
    path = files.expanded(out)
    suffix = path.suffix.lower()
    if out.endswith("/") or path.is_dir() or (not suffix and not path.exists()):
        if suffix in {PICTURE, ARRAYS} and not out.endswith("/"):
            raise InputError(f"--out {out} is a folder; give another name")
        kind = "folder"
    elif suffix in {PICTURE, ARRAYS, TEXT, ARRAY} and not path.is_dir():
        kind = suffix[1:]
    else:
        near = did_you_mean(suffix, [PICTURE, ARRAYS])
        raise InputError(
            f"--out {out}: {suffix or 'this'} cannot be written; x.png, x.npz or a folder x/ would be right{near}"
        )
    below = next((parent for parent in [path, *path.parents][kind != "folder" :] if parent.exists()), Path())
    if not below.is_dir():
        raise InputError(f"--out {out}: {below} is a file, not a folder")
    return kind


def no_folder(out: str) -> str:
    """What ``--out`` asks for of rows of images, "png" or "npz".

    Raises:
        InputError: a folder, or as `kind_of`.
    """
    kind = kind_of(out)
    if kind == "folder":
        raise InputError(f"--out {out}: rows of images are one file; x.png or x.npz would be right")
    return kind


def beside(out: str, kind: str = "png") -> Path:
    """Where a progression goes: x-progression.png beside x.png or x.npz, progression.png in a folder.

    Raises:
        InputError: it could not be written.
    """
    path = Path(out)
    path = path / "progression.png" if kind == "folder" else path.with_name(f"{path.stem}-progression.png")
    check_writable(path, "--progressive")
    files.check_replaceable(path)
    return path


def check_writable(out: str | Path, what: str = "--out") -> None:
    """Look, before any work is done, whether ``out`` could be written; what is made for that is gone again.

    Raises:
        InputError: a folder above it is a file or takes no new files, a pipe or device lies there, or the system takes
            no such name.
    """
    path = files.expanded(out)
    try:
        here = next(place for place in (path, *path.parents) if place.exists())
        if not here.is_dir() and here != path:
            raise InputError(f"{what} {out}: {here} is a file, not a folder")
        if here == path and not path.is_dir():
            try:
                files.check_replaceable(files.followed(path))  # a link to a pipe is there to be written through
            except InputError as error:
                raise InputError(f"{what} {out}: {error}") from error
        # What is replaced is renamed over: its folder decides. A new folder is as good a test of a new name as a file.
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=here if here.is_dir() else here.parent) as probe:
            for name in (part for part in path.parts[len(here.parts) :] if part != ".."):
                (Path(probe) / name).touch()
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else error
        raise InputError(f"{what} {out} cannot be written: {reason}; another place would be right") from error


def write_rows(kind: str, out: str, rows: "ImageRows") -> None:
    """Write rows of images as a grid, or as arrays with images (rows, columns, C, H, W)."""
    write_file(out, rows.npz() if kind == "npz" else rows.png())


def written(write: Callable[[], None]) -> dict[str, Any]:
    """Call ``write``, which puts what was measured into the files of ``--out``.

    Where that fails, on a disk that is full by now, say, the result is printed all the same, and the error after it.

    Returns:
        For the result of the verb: nothing, or "not_written", why not, with which `main` ends with the exit code 2.
    """
    try:
        write()
    except InputError as error:
        return {"not_written": str(error)}
    return {}
