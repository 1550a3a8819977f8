"""How results show themselves in a notebook, and become files."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from diffprob.base.checks import instance
from diffprob.base.errors import InputError
from diffprob.base.finite import check_numbers
from diffprob.storage import files

if TYPE_CHECKING:  # the command line says its help without importing numpy
    import numpy as np


def html_table(title: str, rows: Iterable[tuple[str, ...]], head: tuple[str, ...] = ()) -> str:
    """A line and a table below it, with ``head`` above its columns, as HTML; everything in it is text."""

    def line(row: tuple[str, ...], kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in row) + "</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    body = "".join(line(row, "td") for row in rows)
    return f"<div>{escape(title)}</div><table>{top}<tbody>{body}</tbody></table>"


class _WithImages(Protocol):
    @property
    def images(self) -> "np.ndarray": ...


class OfImages:
    """A result with ``images`` is also their sequence: ``result[0]``, ``result[:3]``, ``np.asarray(result)``."""

    def __len__(self: _WithImages) -> int:
        return len(self.images)

    def __getitem__(self: _WithImages, which: Any) -> "np.ndarray":
        return self.images[which]

    def __iter__(self: _WithImages) -> "Iterator[np.ndarray]":
        return iter(self.images)

    def __array__(self: _WithImages, dtype: Any = None, copy: bool | None = None) -> "np.ndarray":
        import numpy as np

        return np.array(self.images, dtype) if copy else np.asarray(self.images, dtype)


def save(path: str | Path, kinds: Mapping[str, Callable[[], bytes]]) -> None:
    """Write a whole file or none; ``kinds`` are its contents by its suffix, such as ".png".

    Raises:
        InputError: another suffix, or the disk refuses; what existed before is intact.
    """
    instance("path", path, (str, Path), "the name of a file")
    path = Path(path)
    contents = kinds.get(path.suffix.lower())
    if contents is None:
        raise InputError(f"{path}: {' or '.join(f'x{suffix}' for suffix in kinds)} would be right")
    write_file(path, contents())


def write_file(path: str | Path, contents: bytes) -> None:
    """Write a whole file or none, over an older one of the same name; folders above it are made.

    Raises:
        InputError: a folder, pipe or device lies there, or the disk refuses; what existed before is intact.
    """
    path = files.expanded(path)
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
