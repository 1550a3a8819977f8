"""How the door that a request came through spells its fields, for messages that name one.

A field is ``decoder_std`` in Python, and ``--decoder-std`` at the command line: a message says what its reader typed.
"""

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Spelling = Callable[[str, Any], str]


_PLACEHOLDER = re.compile(r"[A-Z]{1,12}")  # what stands for a value, such as N or PATH


def _python(name: str, value: Any) -> str:
    """A keyword argument that Python reads: text in quotes, but numbers and components as they are written."""
    name = "labels" if name == "label" else name  # methods of a model take one or several
    if value is None:
        return name
    return f"{name}={_literal(value) if isinstance(value, str) else value}"


def _literal(text: str) -> str:
    try:
        kind = type(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError):
        kind = ast.Name
    if kind is ast.Tuple and not text.startswith("("):
        return f"({text})"
    if kind in {ast.Tuple, ast.Call, ast.Constant, ast.UnaryOp, ast.Dict, ast.List} or _PLACEHOLDER.fullmatch(text):
        return text
    return repr(text) if '"' in text or "\\" in text else f'"{text}"'


_spelling: ContextVar[Spelling] = ContextVar("spelling", default=_python)


def option(name: str, value: Any = None) -> str:
    """A field as the user knows it, with what was given for it: "decoder_std=-1", or "--decoder-std -1".

    Several values are a tuple; text that stands for a value is in capitals.
    """
    return _spelling.get()(name, value)


@contextmanager
def spelt(spelling: Spelling) -> Iterator[None]:
    """Spell fields in this way while the block runs."""
    token = _spelling.set(spelling)
    try:
        yield
    finally:
        _spelling.reset(token)
