"""JSON that somebody else may have written, read by type: what does not fit is one line and never a traceback."""

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from diffprob.base.errors import InputError
from diffprob.storage.files import RECORDS_LIMIT, kind_of, open_file, read_bytes

LOG = "log.jsonl"  # append-only: its entry in the inventory covers the first ``bytes`` bytes, and more may follow
LOG_LIMIT = 1 << 30
TAIL = 1 << 16  # bytes at a time of a log that is read from its end
LONGEST_LINE = 1 << 20  # bytes of a record
DEEPEST = 16  # values inside values; reprs, tables and comparisons go down them by recursion
LONGEST = 10_000  # characters of a text, digits of a whole number included

T = TypeVar("T")


def load(contents: bytes | str, where: object) -> Any:
    """A JSON value of at most 16 levels whose numbers are finite and below 2^63 in size.

    Raises:
        InputError: it is none; the message begins with ``where``.
    """
    try:
        value = json.loads(contents, parse_constant=_refuse)
        _check(value, DEEPEST)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is damaged: {_said(error)}") from error
    return value


def read_json(path: Path, most: int = RECORDS_LIMIT) -> Any:
    """`load` of a regular file of at most ``most`` bytes.

    Raises:
        Missing, InputError: as `diffprob.storage.files.open_file`, or it holds no such value.
    """
    return load(read_bytes(path, most), path)


def record(kind: type[T], value: Any, where: object) -> T:
    """A dataclass of JSON values, by name; its annotations say what fits.

    Raises:
        InputError: not an object, a field too much or too few, a value of another type, or one that ``kind`` refuses.
    """
    name = kind.__name__
    if not isinstance(value, dict):
        raise InputError(f"{where} is damaged: a {name} is an object, got {type(value).__name__}")
    hints, known = _hints(kind), {field.name: field for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    for field, item in value.items():
        if field not in known:
            raise InputError(f"{where} is damaged: a {name} has no field {field!r}")
        if not fits(item, hints[field]):
            raise InputError(f"{where} is damaged: {field} of a {name} cannot be {item!r}")
    for field in known.values():
        if field.default is MISSING and field.default_factory is MISSING and field.name not in value:
            raise InputError(f"{where} is damaged: a {name} lacks its {field.name}")
    try:
        return kind(**value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where} is damaged: {error}") from error


def fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of the type that an annotation names; a whole number fits where a float is wanted.

    Known are None, bool, int, float, str, Any, dict, list, tuple and unions of them.
    """
    if hint is Any:
        return True
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return any(fits(value, part) for part in get_args(hint))
    if hint in {None, type(None)}:
        return value is None
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    if origin in {dict, Mapping}:
        names, values = get_args(hint)
        return isinstance(value, dict) and all(fits(k, names) and fits(item, values) for k, item in value.items())
    if origin in {list, tuple}:
        return isinstance(value, list) and all(fits(item, get_args(hint)[0]) for item in value)
    return isinstance(hint, type) and isinstance(value, hint)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's log: objects, each with the step it was written at.

    A last line without its end, which a reader meets while a training writes it, is left out.

    Raises:
        InputError: the log is no file of the run itself, or a line is damaged; its number is named.
    """
    path, records = folder / LOG, []
    if kind_of(path) is None:
        return []
    with open_file(path, LOG_LIMIT) as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            records.append(_log_record(line, f"line {number} of {path}"))
    return records


def last_record(folder: Path, field: str) -> dict[str, Any] | None:
    """The last record of a run's log whose ``field`` is a number, or None; of a long log only the end is read.

    Exact when: the log is sound, then as the last of those that `read_log` gives.

    Raises:
        InputError: the log is no file of the run itself, or a line behind that record is damaged.
    """
    path = folder / LOG
    if kind_of(path) is None:
        return None
    where = f"a line near the end of {path}"
    with open_file(path, LOG_LIMIT) as file:
        end, rest, whole = file.seek(0, 2), b"", False  # ``rest``: what is read of a line whose begin is not
        while end:
            start = max(0, end - TAIL)
            file.seek(start)
            lines = (file.read(end - start) + rest).split(b"\n")
            rest, end = lines.pop(0) if start else b"", start
            if len(rest) > LONGEST_LINE:
                raise InputError(f"{where} is damaged: it has more than {LONGEST_LINE:,} bytes")
            if not whole and lines:  # what follows the last end of a line is nothing, or being written
                del lines[-1]
                whole = True
            for line in reversed(lines):
                value = _log_record(line, where)
                if fits(value.get(field), float):
                    return value
    return None


def _log_record(line: bytes, where: str) -> dict[str, Any]:
    value = load(line, where)
    if not (isinstance(value, dict) and fits(value.get("step"), int) and value["step"] >= 0):
        raise InputError(f"{where} is damaged: it is no record of a step")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        raise ValueError(f"more than {DEEPEST} levels")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth - 1)
        if isinstance(value, dict):
            _check(list(value), depth)
    elif isinstance(value, str) and len(value) > LONGEST:
        raise ValueError(f"a text of {len(value):,} characters")
    elif isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError("a whole number of more than 63 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is not finite")


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _said(error: Exception) -> str:
    return "it goes too deep" if isinstance(error, RecursionError) else f"no JSON that is known here ({error})"
