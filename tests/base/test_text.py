"""Text from outside: nothing that a terminal obeys or hides gets through, and a message stays short."""

import sys
import unicodedata

import pytest

from diffprob.base.errors import InputError, Missing, NumericalError
from diffprob.base.text import one_line, printable


def test_control_characters_are_escaped_and_others_kept() -> None:
    for code in (*range(0x3000), 0xD800, 0xE000, 0xFEFF, 0xFFFF, 0x1F600, 0xE0001, sys.maxunicode):
        character = chr(code)
        if unicodedata.category(character)[0] == "C" or character in "\u2028\u2029":
            assert printable(character).startswith("\\"), hex(code)
            assert printable(character).isascii()
        else:
            assert printable(character) == character, hex(code)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\rforged\nline", "a forged line"),  # white space of any kind is one space
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("ünïcode 写真 é", "ünïcode 写真 é"),
    ],
)
def test_one_line_escapes_and_shortens(text: str, expected: str) -> None:
    assert one_line(text) == expected
    assert str(InputError(text)) == expected


@pytest.mark.parametrize("kind", [InputError, Missing, NumericalError])
def test_long_message_keeps_its_start_and_its_advice(kind: type[Exception]) -> None:
    message = str(kind("data x: " + "y" * 100_000 + "; a number would be right"))
    assert len(message) == 300
    assert message.startswith("data x: yyy") and message.endswith("yyy; a number would be right")


def test_length_limit_includes_escapes() -> None:
    assert len(one_line("\x1b" * 1000)) == 300
    assert one_line("a" * 300) == "a" * 300
