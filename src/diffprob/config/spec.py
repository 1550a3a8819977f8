"""Text to components and back: literals and calls of names from a table, nothing else; there is no eval."""

import ast
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from diffprob.base.checks import listed, shown
from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.text import one_line, text_fields
from diffprob.config.old_names import current_field, current_name

Table = Mapping[str, Callable[..., Any]]

LONGEST = 100_000  # characters of a specification: far above any real one, far below what exhausts the parser


class UnknownName(InputError):
    """A name that no component has here.

    Args:
        name: as it stands in the text.
        table: where it was looked for.
    """

    def __init__(self, name: str, table: Table) -> None:
        known = listed(table, name, more="diffprob show")
        super().__init__(f"unknown name {shown(name)} (known: {known}){did_you_mean(name, table)}")
        self.in_recipe = (
            f"unknown name {shown(name)} (of a package that is not installed, or that no dp.register was called for)"
            f"{did_you_mean(name, table, 0.8)}"
        )


def why_unread(error: InputError) -> str:
    """What `parse` refused, of a recipe: a name in it that is unknown here may be known where it was written."""
    return error.in_recipe if isinstance(error, UnknownName) else str(error)


def parse(text: str, table: Table, inner: Table | None = None) -> Any:
    """Read a literal, or a call such as ``DDIM(eta=0.0)`` of a name in ``table``; ``DDIM`` alone is ``DDIM()``.

    ``inner`` holds the names allowed inside a call (by default those of ``table``). Names that components and
    their fields had before are read as today's (`config.old_names`).

    Raises:
        InputError: not such a text, an unknown name or field (with what is possible), or a constructor that refused.

    Exact when: ``parse(repr(x), table) == x`` for every component x of the table.
    """
    try:
        if len(text) > LONGEST:
            raise InputError(f"a specification of {len(text)} characters is too long (at most {LONGEST})")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backslash in a Windows path is not worth a warning
            body = ast.parse(text.strip(), mode="eval").body
        return _Reader(table, table if inner is None else inner).outer(body)
    except (SyntaxError, ValueError, TypeError) as error:
        reason = str(error.msg if isinstance(error, SyntaxError) else error).partition(";")[0][:80]
        raise InputError(f"cannot read {_short(text)}: {one_line(reason)}; write it like DDIM(eta=0.0)") from error
    except (RecursionError, MemoryError) as error:
        raise InputError(f"cannot read {_short(text)}: nested too deeply") from error


class _Reader:
    """Walks the syntax tree; the outermost name comes from one table, those inside from another."""

    def __init__(self, table: Table, inner: Table) -> None:
        self.table, self.inner = table, inner

    def outer(self, node: ast.expr) -> Any:
        return self.value(node, self.table)

    def value(self, node: ast.expr, table: Table | None = None) -> Any:
        """The Python value of one node, or InputError."""
        table = self.inner if table is None else table
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as literal):
                return literal
            case ast.UnaryOp(op=ast.USub(), operand=operand) if _is_number(operand):
                return -self.value(operand)
            case ast.Tuple(elts=items):
                return tuple(self.value(item) for item in items)
            case ast.List(elts=items):
                return [self.value(item) for item in items]
            case ast.Dict(keys=keys, values=values) if None not in keys:
                return {self.value(key): self.value(value) for key, value in zip(keys, values, strict=True) if key}
            case ast.Name(id="inf"):
                return math.inf
            case ast.Name(id=name):
                return call(table, name, (), {})
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
                named = {keyword.arg: self.value(keyword.value) for keyword in keywords if keyword.arg}
                if len(named) == len(keywords):
                    return call(table, name, tuple(self.value(arg) for arg in args), named)
        raise InputError(f"{_short(ast.unparse(node))} is neither a literal nor a name with arguments")


def call(table: Table, name: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Build the component ``name`` of ``table``; a refusal names the component."""
    name = current_name(name, table)
    if name not in table:
        raise UnknownName(name, table)
    maker = table[name]
    signature = _signature(maker)
    parameters = signature.parameters
    today = {field: current_field(name, field, parameters) for field in named}
    named = {field if new in named else new: named[field] for field, new in today.items()}
    for field in named:
        if field not in parameters:
            known = _fields(parameters, field)
            raise InputError(f"{name} has no field {shown(field)} ({known}){did_you_mean(field, parameters)}")
    try:
        signature.bind(*args, **named)
    except TypeError as error:
        raise InputError(f"{name}: {one_line(error, 100)} ({_fields(parameters)})") from error
    try:
        return maker(*args, **named)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: {one_line(error)}") from error


def render(value: Any, indent: str = "") -> str:
    """The repr of ``value`` over several lines, one field to a line; `parse` reads it back.

    Raises:
        ValueError: something inside is neither a literal nor a dataclass, so that no text can stand for it.
    """
    deeper = indent + "    "
    if is_dataclass(value) and not isinstance(value, type):
        items = [f"{name}={render(child, deeper)}" for name, child in text_fields(value)]
        return _block(f"{type(value).__name__}(", items, ")", indent)
    if isinstance(value, tuple | list) and any(is_dataclass(item) for item in value):
        left, right = "()" if isinstance(value, tuple) else "[]"
        return _block(left, [render(item, deeper) for item in value], right, indent)
    if not is_literal(value):
        kind = type(value).__name__
        raise ValueError(f"{value!r} ({kind}) cannot be written as text: use numbers, strings or components")
    return repr(value)


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of the fields that a dataclass's repr shows and its constructor takes."""
    return ((field.name, getattr(value, field.name)) for field in fields(value) if field.init and field.repr)


def is_literal(value: Any) -> bool:
    """Whether `parse` reads ``repr(value)`` back without any table (exact types: a NumPy scalar is no literal)."""
    if type(value) in {tuple, list}:
        return all(is_literal(item) for item in value)
    if type(value) is dict:
        return all(is_literal(key) and is_literal(item) for key, item in value.items())
    return value is None or (type(value) in {bool, int, float, str} and value == value)


def first_difference(old: Any, new: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """(path, old, new) of the first field in which two components differ, or None when they are equal."""
    if type(old) is type(new) and is_dataclass(old):
        for (name, left), (_, right) in zip(children(old), children(new), strict=True):
            difference = first_difference(left, right, f"{path}.{name}" if path else name)
            if difference:
                return difference
        return None
    return None if old == new else (path, old, new)


@cache
def _signature(maker: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(maker)


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in {int, float}
    return isinstance(node, ast.Name) and node.id == "inf"


def _block(left: str, items: list[str], right: str, indent: str) -> str:
    if not items:
        return left + right
    return left + "".join(f"\n{indent}    {item}," for item in items) + f"\n{indent}{right}"


def _fields(parameters: Mapping[str, Any], word: str = "") -> str:
    return f"fields: {listed(parameters, word, 12)}"


def _short(text: str) -> str:
    text = one_line(text)
    return repr(text if len(text) <= 60 else text[:57] + "...")
