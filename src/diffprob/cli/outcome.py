"""What `restore` leaves behind: pictures, a grid, facts, and how near the images come to clean ones."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli import output

if TYPE_CHECKING:
    import numpy as np

    from diffprob.cli.restoring import Flaw

FACTS = "facts.json"
ACROSS, MOST = 12, 60  # images in a row of the picture of all, and in all of it


def check_out(out: str) -> None:
    """Look whether results can be written to the folder ``out`` and, beside it, the picture of all, `together`.

    Raises:
        InputError: no name of a folder, or something is there already: nothing is overwritten.
    """
    path = Path(out)
    if output.kind_of(out) != "folder":
        raise InputError(f"--out {out}: a picture for each image needs a folder")
    for taken in (path if path.is_dir() and any(path.iterdir()) else None, together(out)):
        if taken is not None and taken.exists():
            raise InputError(f"--out {out}: {taken} is there already; another name would be right")


def together(out: str) -> Path:
    """The picture of the first images, given above restored."""
    path = Path(out)
    return path.with_name(f"{path.name}.png")


def compared(flaw: "Flaw", levels: "np.ndarray", clean: "np.ndarray") -> dict[str, list[float | None]]:
    """Mean and standard error of the peak signal-to-noise ratio in decibels, by name; None: infinite, not known."""
    from diffprob.evaluation.likeness import mean_and_error, psnr

    told = {}
    for name, images in {**flaw.beside(), "restored": levels}.items():
        both = mean_and_error(psnr(images, clean, flaw.given.levels, flaw.missing))
        told[name] = [value if math.isfinite(value) else None for value in both]
    return told


def write(out: str, flaw: "Flaw", levels: "np.ndarray", clean: "np.ndarray | None", facts: dict[str, Any]) -> None:
    """A picture for each image, under the name of what it was made of; one of them together; the facts as JSON."""
    most, names, first = flaw.given.levels, flaw.given.names, int(facts["seeds"].partition("..")[0])
    shared = {name: value for name, value in facts.items() if name != "stds"}
    for k, (name, image) in enumerate(zip(names, levels, strict=True)):
        own = {**shared, "seeds": str(first + k), **({"std": facts["stds"][k]} if facts["stds"] else {})}
        output.write_file(Path(out) / f"{name}.png", output.tile_png(image, most, own))
    grid, across = _rows([flaw.shown(), levels, *([] if clean is None else [clean])])
    output.write_file(together(out), output.grid_png(grid, most, shared, across))
    output.write_file(Path(out) / FACTS, output.json_bytes({**facts, "names": list(names)}))


def _rows(sets: "list[np.ndarray]") -> "tuple[np.ndarray, int]":
    """Images of each set below those of the one before, at most `ACROSS` side by side, and how many are."""
    import numpy as np

    n = min(len(sets[0]), MOST)
    across, rows = min(n, ACROSS), []
    for first in range(0, n, across):
        for images in sets:
            row = images[first : min(first + across, n)]
            # The last rows are filled up with black.
            rows.append(np.concatenate([row, np.zeros((across - len(row), *row.shape[1:]), row.dtype)]))
    return np.concatenate(rows), across
