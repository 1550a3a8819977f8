"""Results as files: pictures, arrays, folders; each written under a temporary name first, so none is half there."""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.finite import check_numbers
from diffprob.storage import files

if TYPE_CHECKING:
    import numpy as np

PICTURE, ARRAYS = ".png", ".npz"


def kind_of(out: str) -> str:
    """What ``--out`` asks for: "png", "npz" or "folder".

    Raises:
        InputError: another suffix, a folder where a file should be or the other way round, a parent that is no folder.
    """
    path = Path(out)
    suffix = path.suffix.lower()
    if out.endswith("/") or path.is_dir() or (not suffix and not path.exists()):
        if suffix in {PICTURE, ARRAYS} and not out.endswith("/"):
            raise InputError(f"--out {out} is a folder; give another name")
        kind = "folder"
    elif suffix in {PICTURE, ARRAYS} and not path.is_dir():
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


def check_writable(out: str | Path, what: str = "--out") -> None:
    """Look, before any work is done, whether ``out`` could be written; what is made for that is gone again.

    Raises:
        InputError: a folder above it is a file or takes no new files, a pipe or device lies there, or the system takes
            no such name.
    """
    path = Path(out)
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


def write_file(path: str | Path, contents: bytes) -> None:
    """Write a whole file or none, over an older one of the same name; folders above it are made.

    Raises:
        InputError: a folder, pipe or device lies there, or the disk refuses; what existed before is intact.
    """
    path = Path(path)
    files.check_replaceable(path)
    with files.saying(f"write {path}", "; what existed before is intact"):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_file(path, [contents])


def json_bytes(result: Mapping[str, Any]) -> bytes:
    """A result as a JSON file.

    Raises:
        NumericalError: a number in it is not finite; its field is named.
    """
    check_numbers(result)
    return (json.dumps(result, indent=1, allow_nan=False) + "\n").encode()


def png(image: Any, facts: Mapping[str, Any]) -> bytes:
    """A picture (a Pillow image) as PNG, with ``facts`` as text inside it."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, value in facts.items():
        info.add_itxt(name, value if isinstance(value, str) else json.dumps(value))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def grid_png(levels: "np.ndarray", most: int, facts: Mapping[str, Any], columns: int | None = None) -> bytes:
    """Images of grey levels 0..most-1, uint8 (N, C, H, W), side by side."""
    from diffprob.reporting.figures import grid_image

    return png(grid_image(levels, columns, levels=most), facts)


def named_png(levels: "np.ndarray", most: int, names: Sequence[str], facts: Mapping[str, Any], columns: int) -> bytes:
    """Images of grey levels 0..most-1, uint8 (N, C, H, W), side by side above their names."""
    from diffprob.reporting.figures import named_grid

    return png(named_grid(levels, names, columns, most), facts)


def tile_png(image: "np.ndarray", most: int, facts: Mapping[str, Any]) -> bytes:
    """One image of grey levels 0..most-1, uint8 (C, H, W), in its own size."""
    from diffprob.reporting.figures import grid_image

    return png(grid_image(image[None], 1, 1, 0, most), facts)


def progression_png(frames: Sequence["np.ndarray"], most: int, times: Sequence[float]) -> bytes:
    """The way from noise to data: one row a sample, one column a time."""
    from diffprob.reporting.figures import progression_image

    buffer = io.BytesIO()
    progression_image(frames, times, levels=most).save(buffer, "PNG")
    return buffer.getvalue()


def arrays(levels: "np.ndarray", seeds: "np.ndarray", facts: Mapping[str, Any]) -> bytes:
    """An .npz file with ``images``, ``seeds`` and ``metadata`` (JSON text); the same input gives the same bytes."""
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in (("images", levels), ("seeds", seeds), ("metadata", np.array(json.dumps(facts)))):
            member = io.BytesIO()
            np.lib.format.write_array(member, value, allow_pickle=False)
            # A fixed date: numpy would write the present one into every file.
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue(), zipfile.ZIP_DEFLATED
            )
    return buffer.getvalue()


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
