"""Fields of a form as numbers and words: what is wrong is one line."""

import math
from collections.abc import Mapping
from typing import Any

from diffprob.base.errors import InputError

MOST_TEXT = 200


class Form:
    """What was filled in.

    Args:
        fields: text by name; files are left to who takes them.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = {name: value.strip() for name, value in fields.items() if isinstance(value, str)}

    def text(self, name: str) -> str:
        """A word, empty where nothing was filled in.

        Raises:
            InputError: too long.
        """
        value = self.fields.get(name, "")
        if len(value) > MOST_TEXT:
            raise InputError(f"{name}: at most {MOST_TEXT} characters would be right")
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number.

        Raises:
            InputError: something else, or out of range.
        """
        number = self.number(name, default, least, most)
        if number != int(number):
            raise InputError(f"{name}: a whole number would be right, got {self.text(name)}")
        return int(number)

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """A number.

        Raises:
            InputError: something else, or out of range.
        """
        value = self.text(name)
        try:
            number = float(value) if value else float(default)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise InputError(f"{name}: a number from {least:g} to {most:g} would be right, got {value!r}")
        return number
