"""Which models the studio shows: the runs below the folder that was opened, and the packaged ones."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diffprob.base.errors import InputError
from diffprob.runs.folder import Run, packaged
from diffprob.storage.folders import is_run

DEPTH = 4  # folders below the one that was opened
MOST = 500  # runs


@dataclass(frozen=True)
class Shelved:
    """A run that may be opened.

    Args:
        key: names it in addresses.
        name: is shown: the path below the folder, or that of a packaged run.
        place: what `Run.open` takes.
    """

    key: str
    name: str
    place: str


class Shelf:
    """Runs by key. A key that is not on the list opens nothing: no path comes from an address.

    Args:
        folder: below which runs are looked for, at every page anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def runs(self) -> list[Shelved]:
        """What there is now: those of the folder first, by name."""
        own = [Shelved(_key(name), name, str(self.folder / name)) for name in sorted(self._below(self.folder, DEPTH))]
        return [*own[:MOST], *(Shelved(name, name, name) for name in packaged())]

    def run_of(self, key: str) -> tuple[Shelved, Run]:
        """The run of this key.

        Raises:
            InputError: there is none, it is damaged, or no diffusion model.
        """
        shelved = next((run for run in self.runs() if run.key == key), None)
        if shelved is None:
            raise InputError("no such run in the folder of this studio; the list of models has those that there are")
        return shelved, Run.open(shelved.place)

    def _below(self, folder: Path, depth: int) -> Iterator[str]:
        try:
            inside = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except OSError:  # a folder of somebody else
            return
        for entry in inside:
            if is_run(Path(entry.path)):
                yield str(Path(entry.path).relative_to(self.folder))
            elif depth > 1 and not entry.name.startswith("."):
                yield from self._below(Path(entry.path), depth - 1)


def _key(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
