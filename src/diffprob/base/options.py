"""How the door that a request came through spells its fields, for messages that name one.

A field is ``decoder_std`` in Python, and ``--decoder-std`` at the command line: a message says what its reader typed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Spelling = Callable[[str, Any], str]


def _python(name: str, value: Any) -> str:
    return name if value is None else f"{name}={value}"


_spelling: ContextVar[Spelling] = ContextVar("spelling", default=_python)


def option(name: str, value: Any = None) -> str:
    """A field as the user knows it, with what was given for it: "decoder_std=-1", or "--decoder-std -1"."""
    return _spelling.get()(name, value)


@contextmanager
def spelt(spelling: Spelling) -> Iterator[None]:
    """Spell fields in this way while the block runs."""
    token = _spelling.set(spelling)
    try:
        yield
    finally:
        _spelling.reset(token)
