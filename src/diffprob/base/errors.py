"""The errors that a user can meet, and the help that goes with them."""

import difflib
from collections.abc import Iterable

from diffprob.base.text import one_line

LONGEST_WORD = 100  # characters that are compared with what there is


class DiffprobError(Exception):
    """Base of every error that diffprob raises on purpose: one printable line of at most 300 characters."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message))


class InputError(DiffprobError):
    """Bad usage or input: one line that says what is wrong, where, and what would be right (exit code 2)."""


class FieldError(ValueError):
    """A constructor refuses a field of its own, or of one of its parts: the field, what would be right, what came.

    Args:
        field: as it is written in Python, such as "steps" or "network.in_channels".
        why: the rest of the sentence that begins with the field.
    """

    def __init__(self, field: str, why: str) -> None:
        super().__init__(field, why)
        self.field, self.why = field, why

    def __str__(self) -> str:
        return f"{self.field} {self.why}"


class Missing(InputError):
    """What was wanted is not there at all: no such file, split or part. Never raised for what is there but damaged.

    Whoever falls back to something else may catch this one alone, so that damage is always said.
    """


class OtherImages(InputError):
    """Images that can be read and are not those that a source takes a part of: other classes, or too few.

    Whoever takes other images as well may catch this one alone, so that damage is always said.
    """


class MovedData(Missing):
    """The images that a run was trained on are not where they were.

    Args:
        message: what was expected where.
        name: of the data: the last part of its path.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class NumericalError(DiffprobError):
    """A computation left the finite numbers; the message names the step (exit code 3)."""


class ConformanceError(DiffprobError, AssertionError):
    """A component does not do what its family has to (`diffprob.conform`): one sentence that says what, and where."""


class NoClosedForm(DiffprobError):
    """The quantity has no closed form for this pair of distributions."""


def did_you_mean(word: str, choices: Iterable[str], alike: float = 0.6) -> str:
    """Return ``"; did you mean 'x'?"`` for the choice nearest to ``word``, ``alike`` of 0 to 1, or an empty string."""
    if len(word) > LONGEST_WORD:
        return ""
    choices = list(choices)
    near = difflib.get_close_matches(word.lower(), {choice.lower() for choice in choices}, n=1, cutoff=alike)
    if not near:
        return ""
    # Of those that differ in their case alone, such as the recipe digits and the source Digits, the one written alike.
    same = [choice for choice in choices if choice.lower() == near[0]]
    return f"; did you mean {difflib.get_close_matches(word, same, n=1, cutoff=0.0)[0]!r}?"
