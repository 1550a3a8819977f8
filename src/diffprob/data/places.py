"""Where a source's images lie: the same data at another place, at an absolute one, and without private folders."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.base.options import option
from diffprob.data.combined import innermost
from diffprob.data.images import Source
from diffprob.data.kinds import open_data
from diffprob.data.library import place_of
from diffprob.data.train_test_split import SeparateTestSet


def at_place(source: Source, place: str) -> Source:
    """The same data at another place, with all its options: `Subset` and `Concatenated` keep what they take of it.

    Args:
        source: images with a path; where it is joined of several, all of one path.
        place: a folder or file, or the name of data that was added to the library. A folder above that of this kind of
            data will do, as for `open_data`.

    Raises:
        InputError: a source without a path, or joined of several.
    """
    place = place_of(place)
    if isinstance(source, SeparateTestSet):  # the place of the training images
        return replace(source, source=at_place(source.source, place))
    known = paths(source)
    if None in known:
        raise InputError(
            f"{option('data', place)}: {source!r} has no path to replace; other data takes a recipe of its own"
        )
    if len(known) > 1:
        raise InputError(f"{option('data', place)}: {source!r} lies in {len(known)} places, which one cannot replace")
    opened: Any = open_data(place) if Path(place).expanduser().exists() else None
    return innermost(source, lambda part: replace(part, path=opened.path if type(opened) is type(part) else place))


def is_kind(source: Source, other: Source) -> bool:
    """Whether ``other``, a source with a path, is the kind of data that ``source`` takes its images from."""
    kinds: set[type] = set()
    innermost(source, _noting(lambda part: kinds.add(type(part))))
    return hasattr(other, "path") and kinds == {type(other)}


def absolute(source: Source) -> Source:
    """The source with absolute paths, so that it means the same in every working directory."""
    return innermost(source, _with_path(lambda path: str(Path(path).expanduser().absolute())))


def without_folders(source: Source) -> Source:
    """The source with every path cut to its last part: what lies above it means nothing on another machine."""
    return innermost(source, _with_path(lambda path: Path(path).name))


def paths(source: Source) -> set[str | None]:
    """The paths of all that the source is made of; None for what has none."""
    places: set[str | None] = set()
    innermost(source, _noting(lambda part: places.add(getattr(part, "path", None))))
    return places


def _noting(note: Callable[[Any], None]) -> Callable[[Any], Any]:
    def change(part: Any) -> Any:
        note(part)
        return part

    return change


def _with_path(change: Callable[[str], str]) -> Callable[[Any], Any]:
    return lambda part: replace(part, path=change(part.path)) if hasattr(part, "path") else part
