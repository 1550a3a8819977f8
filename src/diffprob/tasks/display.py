"""How results show themselves in a notebook, and become files."""

from collections.abc import Callable, Iterable, Mapping
from html import escape
from pathlib import Path

from diffprob.base.errors import InputError
from diffprob.storage import files


def html_table(title: str, rows: Iterable[tuple[str, ...]]) -> str:
    """A line and a table below it, as HTML; everything in it is text."""
    cells = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div>{escape(title)}</div><table>{cells}</table>"


def save(path: str | Path, kinds: Mapping[str, Callable[[], bytes]]) -> None:
    """Write a whole file or none; ``kinds`` are its contents by its suffix, such as ".png".

    Raises:
        InputError: another suffix, or the disk refuses; what existed before is intact.
    """
    path = Path(path)
    contents = kinds.get(path.suffix.lower())
    if contents is None:
        raise InputError(f"{path}: {' or '.join(f'x{suffix}' for suffix in kinds)} would be right")
    with files.saying(f"write {path}", "; what existed before is intact"):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_file(path, [contents()])
