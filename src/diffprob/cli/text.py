"""Results as lines of text."""

from collections.abc import Iterator, Sequence
from typing import Any


def table(rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> Iterator[str]:
    """Lines of a table with aligned columns."""
    cells = [[str(cell) for cell in row] for row in ([head, *rows] if head else rows)]
    if not cells:
        return
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def images_measured(result: dict[str, Any]) -> str:
    """Which images, under which run, in words."""
    how = f", {result['converted']}" if result["converted"] else ""
    many = f"{result['n']:,} image{'s' if result['n'] > 1 else ''}"
    return f"{many} of {result['data']} ({result['role']}{how}) under {result['run']}"
