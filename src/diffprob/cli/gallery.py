"""A folder of pictures that `sample` writes: what an earlier call of it left there goes, and nothing else ever does."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.cli import output
from diffprob.storage.files import is_file, kind_of, remove, saying

FACTS = "facts.json"  # says which pictures are this program's, and how they were drawn
PROGRESSION = "progression.png"
_OURS = re.compile(r"seed-[0-9]{8,20}\.png|progression\.png")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def name_of(seed: int) -> str:
    """The picture of a seed."""
    return f"seed-{seed:08d}.png"


def check(out: str) -> None:
    """Look, before anything is drawn, whether the folder takes pictures: no others than those of `sample` lie there.

    Raises:
        InputError: pictures that no facts.json of `sample` lists; the first is named, and nothing is changed.
    """
    folder = Path(out)
    if not folder.is_dir():
        return
    known = _listed(folder)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _PICTURES and path.name not in known:
            raise InputError(
                f"--out {out}: {path.name} is there already, and new pictures would be mixed with it; "
                "another folder would be right"
            )


def write(out: str, pictures: Iterable[tuple[str, bytes]], names: list[str], facts: dict[str, Any]) -> None:
    """Write pictures by name and facts.json, and remove those of the call before that are not written again.

    Raises:
        InputError: as `check`, or the disk refuses.
    """
    check(out)
    folder = Path(out)
    old = _listed(folder) if folder.is_dir() else set()
    _keep(folder, sorted({*old, *names}), facts)  # whoever is stopped in between can begin again
    for name, contents in pictures:
        output.write_file(folder / name, contents)
    with saying(f"write {out}"):
        for name in sorted(old - set(names)):
            if is_file(folder / name):
                remove(folder / name)
    _keep(folder, names, facts)


def _keep(folder: Path, names: list[str], facts: dict[str, Any]) -> None:
    text = json.dumps({**facts, "pictures": names}, indent=1, allow_nan=False) + "\n"
    output.write_file(folder / FACTS, text.encode())


def _listed(folder: Path) -> set[str]:
    """The pictures of an earlier call; only names that `sample` gives, whatever a file says."""
    from diffprob.storage.records import read_json

    if kind_of(folder / FACTS) is None:
        return set()
    try:
        found = read_json(folder / FACTS)
    except InputError:  # not ours, or damaged: then no picture is ours either
        return set()
    names = found.get("pictures") if isinstance(found, dict) else None
    return {name for name in names or [] if isinstance(name, str) and _OURS.fullmatch(name)}
