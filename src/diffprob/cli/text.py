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


def how(result: dict[str, Any]) -> Iterator[str]:
    """What decided the images, and where it was computed."""
    clip = {True: "clipped", False: "not clipped"}.get(result["clip"], f"clipped ({result['clip']})")
    steps = "steps by tolerance" if result["steps"] is None else f"{result['steps']} steps"
    if result["told"] is not None:
        guided = "" if result["guidance"] is None else f", guided by {result['guidance']}"
        yield f"told: {result['told']}{guided}"
    yield f"{result['sampler']}, {steps} on {result['grid']}, {result['variance']}, {clip}"
    where = f"{result['device']} in {result['precision']}, chunks of {result['chunk']}"
    if result["network_calls"] is None:
        yield f"on {where}: as many network calls as the tolerances need"
    else:
        told = result["steps"] is None and isinstance(result["evaluations"], float)
        each = f" ({result['evaluations']:g} evaluations an image)" if told else ""
        yield f"on {where}: {result['network_calls']:,} network calls{each}"
