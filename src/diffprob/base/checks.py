"""Checks of a component's arguments: each refuses with the field's name, what would be right, and what came instead.

A constructor names its fields with these and nothing else, so that no type, sign or size comes through unlooked at. A
message is one line and short, whatever the value is.
"""

import math
from collections.abc import Callable, Collection, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import FieldError, did_you_mean
from diffprob.base.text import one_line

if TYPE_CHECKING:  # the command line checks arguments without importing numpy
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

MOST = 10**9  # of what is counted, where nothing smaller is the limit
MOST_STEPS = 10**6  # times of a discrete schedule
MOST_TEXT = 1000  # characters of a name or a path
MOST_CHANNELS = 4096  # of images and of a network's answer
MOST_SIDE = 16384  # pixels of a side of an image
MOST_VALUES = 2**28  # numbers of one image: 1 GiB in float32


def whole(name: str, value: object, low: int = 0, high: int = MOST, none: bool = False) -> None:
    """Refuse what is not an int from ``low`` to ``high``; ``none`` also takes None.

    Raises:
        FieldError: the field, its range and the value.
    """
    if none and value is None:
        return
    wanted = f"at least {low}"
    if not isinstance(value, int) or isinstance(value, bool):
        wanted = f"a whole number of at least {low}"
    elif value > high:
        wanted = f"at most {high}"
    elif value >= low:
        return
    hint = f"; int({name}) would be right" if hasattr(value, "__index__") and not isinstance(value, int) else ""
    raise FieldError(name, f"must be {wanted}{_or_none(none)}, got {shown(value)}{hint}")


def real(name: str, value: object, interval: str, none: bool = False) -> None:
    """Refuse what is not a number in an interval such as ``"(0, 1]"``; an end at inf that is open takes finite ones.

    Raises:
        FieldError: the field, its interval and the value.
    """
    if none and value is None:
        return
    low, open_low, high, open_high = _ends(interval)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        size = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        size = math.nan
    in_interval = (low < size if open_low else low <= size) and (size < high if open_high else size <= high)
    if not (number and in_interval):
        raise FieldError(name, f"must {_within(interval, number, size < math.inf)}{_or_none(none)}, got {shown(value)}")


def flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        FieldError: the field and the value.
    """
    if not isinstance(value, bool):
        raise FieldError(name, f"must be True or False, got {shown(value)}")


def one_of(name: str, value: object, choices: Iterable[Any]) -> None:
    """Refuse what is none of the choices, which are strings or numbers; 1 is not True.

    Raises:
        FieldError: the field, the choices, the value and the nearest choice.
    """
    choices = tuple(choices)
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return
    names = [choice for choice in choices if isinstance(choice, str)]
    hint = did_you_mean(value, names) if isinstance(value, str) and len(value) <= MOST_TEXT else ""
    known = f"one of {', '.join(names)}" if names else f"{', '.join(map(str, choices[:-1]))} or {choices[-1]}"
    raise FieldError(name, f"must be {known}, got {shown(value)}{hint}")


def text(name: str, value: object, least: int = 1, most: int = MOST_TEXT) -> None:
    """Refuse what is not a string of ``least`` to ``most`` characters.

    Raises:
        FieldError: the field and the value.
    """
    if not isinstance(value, str) or len(value) < least:
        kind = "a non-empty string" if least else "a string"
        raise FieldError(name, f"must be {kind}, got {shown(value)}")
    if len(value) > most:
        raise FieldError(name, f"must have at most {most} characters, got {len(value)}: {shown(value)}")


def several(
    name: str, value: object, check: Callable[[str, Any], object], least: int = 1, most: int = 100, like: str = ""
) -> None:
    """Refuse what is not a tuple of ``least`` to ``most`` entries that each pass ``check(name, entry)``.

    Args:
        name: of the field; its third entry is called ``name[2]``.
        value: of the field.
        check: one of this module, with its bounds.
        least, most: numbers of entries.
        like: an example, for the message.

    Raises:
        FieldError: the field, what was expected and the value.
    """
    example = f" such as {like}" if like else ""
    if not isinstance(value, tuple):
        raise FieldError(name, f"must be a tuple{example}, got {shown(value)}")
    if not least <= len(value) <= most:
        count = f"{least}" if least == most else f"{least} to {most}"
        raise FieldError(name, f"must have {count} entries{example}, got {len(value)}: {shown(value)}")
    for index, entry in enumerate(value):
        check(f"{name}[{index}]", entry)


def image_shape(name: str, value: object) -> None:
    """Refuse what is not (channels, height, width) of an image that fits into memory.

    Raises:
        FieldError: the field and the value.
    """
    if not isinstance(value, tuple) or len(value) != 3:
        raise FieldError(name, f"must be (channels, height, width), got {shown(value)}")
    for index, (number, most) in enumerate(zip(value, (MOST_CHANNELS, MOST_SIDE, MOST_SIDE), strict=True)):
        whole(f"{name}[{index}]", number, 1, most)
    if math.prod(value) > MOST_VALUES:
        raise FieldError(name, f"must have at most {MOST_VALUES} values in all, got {shown(value)}")


def instance(name: str, value: object, kinds: type | tuple[type, ...], like: str = "", none: bool = False) -> None:
    """Refuse what is not an instance of one of the classes.

    Raises:
        FieldError: the field, the classes (or ``like``, an example) and the value.
    """
    if none and value is None:
        return
    if not isinstance(value, kinds):
        known = kinds if isinstance(kinds, tuple) else (kinds,)
        wanted = like or " or ".join(
            f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}(...)" for kind in known
        )
        raise FieldError(name, f"must be {wanted}{_or_none(none)}, got {shown(value)}")


def able(name: str, value: object, ability: str, like: str = "") -> None:
    """Refuse a class, and what lacks the method ``ability``.

    Raises:
        FieldError: the field, the method and the value.
    """
    if isinstance(value, type) or not callable(getattr(value, ability, None)):
        example = f"; {like} would be right" if like else ""
        raise FieldError(name, f"cannot be {shown(value)}: it has no {ability}(){example}")


def positions(indices: "ArrayLike", n: int) -> "NDArray[np.int64]":
    """Places of n items, int64 (m,): none is cut to a whole number, counted from the end, or a mask's 0 and 1.

    Raises:
        ValueError: another shape, another type than whole numbers, or outside 0..n - 1.
    """
    import numpy as np

    array = np.asarray(indices)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise ValueError(f"indices must be whole numbers (m,), got {array.dtype} {array.shape}")
    if array.size and not (array.min() >= 0 and array.max() < n):
        wrong = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"indices must lie in 0..{n - 1}, got {wrong}")
    return array.astype(np.int64)


def shown(value: object, most: int = 60) -> str:
    """The repr of anything, printable, on one line of at most ``most`` characters."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return f"a number of about 10^{math.floor((value.bit_length() - 1) * math.log10(2))}"
    if isinstance(value, str | bytes | tuple | list) and len(value) > MOST_TEXT:
        return f"{type(value).__name__} of {len(value)} entries"
    return one_line(repr(value), most)


def listed(names: Collection[str], word: str = "", most: int = 8, more: str = "") -> str:
    """Names for a message: all where they are few, else those nearest to ``word``, or the first, and how many more.

    Args:
        names: what there is.
        word: what was typed.
        most: names that are written.
        more: where the rest are listed, such as "diffprob show samplers".
    """
    if not names:
        return "none"
    if len(names) <= most:
        return ", ".join(names)
    near = _nearest(word, names, most) or list(names)[:most]
    return f"{', '.join(near)} and {len(names) - len(near)} more{f': {more}' if more else ''}"


def _nearest(word: str, names: Collection[str], most: int) -> list[str]:
    import difflib

    return difflib.get_close_matches(word, names, n=most, cutoff=0.4) if 0 < len(word) <= MOST_TEXT else []


def _or_none(none: bool) -> str:
    return " or None" if none else ""


@cache
def _ends(interval: str) -> tuple[float, bool, float, bool]:
    low, high = (float(end) for end in interval[1:-1].split(","))
    return low, interval[0] == "(", high, interval[-1] == ")"


def _within(interval: str, number: bool, finite: bool) -> str:
    low, open_low, high, open_high = _ends(interval)
    noun = "a number " if not number else ""
    if high < math.inf or low == -math.inf:
        if (low, high) == (-math.inf, math.inf):
            return "be a finite number"
        return f"be a number in {interval}" if not number else f"lie in {interval}"
    side = f"above {low:g}" if open_low else f"{'of ' if noun else ''}at least {low:g}"
    return f"be {noun}{side}" + ("" if finite or not number or not open_high else " and finite")
