"""How results show themselves in a notebook."""

from collections.abc import Iterable
from html import escape


def html_table(title: str, rows: Iterable[tuple[str, ...]]) -> str:
    """A line and a table below it, as HTML; everything in it is text."""
    cells = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div>{escape(title)}</div><table>{cells}</table>"
