"""Text that came from outside, made fit for one line of a terminal, a log or a message."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

LONGEST_MESSAGE = 300  # characters of an error: what is wrong, where, and what would be right fit in them
QUIET = "quiet"  # in a field's metadata: it came later, and text that does not name it is to stay what it was

# Control characters, formats (right-to-left marks, zero widths), lone surrogates, private use, line and paragraph ends.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: str) -> str:
    """The text with every character that a terminal would obey or hide written as an escape such as ``\\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def one_line(text: object, most: int = LONGEST_MESSAGE) -> str:
    """The text on one printable line of at most ``most`` characters; of a longer one the middle gives way to "...".

    Of an error its message, or its name where it has none.
    """
    if isinstance(text, BaseException):
        text = str(text) or type(text).__name__
    line = printable(" ".join(str(text).split()))
    if len(line) <= most:
        return line
    tail = (most - 3) // 3  # an error ends with what would be right
    return f"{line[: most - 3 - tail]}...{line[len(line) - tail :]}"


def bytes_text(count: float) -> str:
    """A number of bytes as people say it: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def composed(name: str) -> str:
    """The name in Unicode's normal form C, in which names are compared: systems write the same letters in two ways."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def all_composed(names: Iterable[str]) -> tuple[str, ...]:
    """All names in one normal form; as they are where two would become one name, which only older files can have."""
    names = tuple(names)
    normal_forms = tuple(composed(name) for name in names)
    return normal_forms if len(set(normal_forms)) == len(set(names)) else names


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def text_fields(value: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of a dataclass's fields that its text has: those of its repr, but no quiet one at its default."""
    for field in fields(value):
        item = getattr(value, field.name)
        if field.init and field.repr and not (field.metadata.get(QUIET) and item == field.default):
            yield field.name, item
