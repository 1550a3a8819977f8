"""How the door spells options: `diffprob.base.options`, which every layer may ask."""

from collections.abc import Iterator
from contextlib import contextmanager

from diffprob.base.errors import FieldError, InputError
from diffprob.base.options import Spelling, option, spelt

__all__ = ["Spelling", "option", "requesting", "spelt"]


@contextmanager
def requesting() -> Iterator[None]:
    """Make a request of what was typed: a field that it refuses is called as the user knows it.

    Raises:
        InputError: in the place of a ValueError.
    """
    try:
        yield
    except FieldError as error:
        raise InputError(f"{option(error.field.partition('[')[0])} {error.why}") from error
    except ValueError as error:
        raise InputError(error) from error
