"""Data sets by name: where on this machine each lies, for all runs that were trained on one."""

import json
import re
from pathlib import Path

from diffprob.base.errors import InputError, Missing, did_you_mean
from diffprob.storage.files import read_bytes, saying, write_file
from diffprob.storage.folders import settings_folder
from diffprob.storage.foreign import parsing

FILE = "data.json"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
_VERSION = 1


def known_places() -> dict[str, str]:
    """Absolute paths by name, in the order of the names; empty where none was added.

    Raises:
        InputError: the list is damaged.
    """
    path = settings_folder() / FILE
    try:
        content = read_bytes(path)
    except Missing:
        return {}
    with parsing(path, "list of data sets", "delete it, and add the data sets again"):
        stored = json.loads(content)
        places = {str(name): str(place) for name, place in stored["places"].items()}
        assert stored["version"] == _VERSION and all(map(_NAME.fullmatch, places))
    return dict(sorted(places.items()))


def add_place(name: str, path: str | Path) -> Path:
    """Note where the data set ``name`` lies, in the place of what was noted before; returns the absolute path.

    Raises:
        Missing: nothing there.
        InputError: no name, or the list cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name for data: letters, digits, dots, dashes and underscores would be right")
    place = Path(path).expanduser().absolute()
    if not place.exists():
        raise Missing(f"{path}: no such file or folder")
    _write({**known_places(), name: str(place)})
    return place


def remove_place(name: str) -> None:
    """Forget the data set; its files stay.

    Raises:
        Missing: no such name.
    """
    places = known_places()
    if name not in places:
        raise Missing(f"no data set {name!r} was added{did_you_mean(name, places)}")
    _write({known: place for known, place in places.items() if known != name})


def place_of(text: str) -> str:
    """The path of the data set that was added under a name; any other text as it is. What lies here comes first."""
    if not text or "/" in text or Path(text).exists():
        return text
    return known_places().get(text, text)


def _write(places: dict[str, str]) -> None:
    folder = settings_folder()
    with saying(f"write {folder / FILE}"):
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"version": _VERSION, "places": dict(sorted(places.items()))}, indent=1)
        write_file(folder / FILE, [text.encode()])
