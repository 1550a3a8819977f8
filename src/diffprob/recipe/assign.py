"""One field of a nested component, named by its path and given as text: ``--set process.schedule.shift=0.01``."""

import types
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from typing import Any

from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.text import one_line
from diffprob.recipe.spec import Table, children, parse

SCALARS = (bool, int, float, str, type(None), tuple, list, dict)


def assign(value: Any, path: str, text: str, families: Mapping[str, Table] | None = None) -> Any:
    """A copy of ``value`` with the field at ``path`` (``a.b.c``; a number selects from a tuple) replaced by ``text``.

    ``text`` is read as by `spec.parse`; a string needs no quotes. The field keeps its type: an integer may become a
    float where a float stands (and 1e5 an integer), one value may stand for a tuple of one, and a component may only
    be replaced by another of its family (an entry of ``families``, by default those of `diffprob.recipe.tables`).

    Raises:
        InputError: no such field (with those there are), a value of the wrong type, or one that the component refuses.
    """
    if families is None:
        from diffprob.recipe.tables import FAMILIES

        families = FAMILIES
    return _Assignment(path, text, families).inside(value, path.split("."), value)


class _Assignment:
    """One assignment: what every message about it has to say."""

    def __init__(self, path: str, text: str, families: Mapping[str, Table]) -> None:
        self.path, self.text, self.families = path, text, families
        self.table = {name: maker for family in families.values() for name, maker in family.items()}

    def inside(self, value: Any, names: list[str], root: Any) -> Any:
        """``value`` with the field ``names`` of it replaced."""
        head, rest = names[0], names[1:]
        here = self.path.removesuffix(".".join(names)).removesuffix(".") or type(root).__name__
        if isinstance(value, tuple):
            if not head.isdecimal() or int(head) >= len(value):
                raise InputError(f"{here} has no entry {head!r} (it has {len(value)}, counted from 0)")
            at = int(head)
            new = self.inside(value[at], rest, root) if rest else self.read(value[at], None)
            return (*value[:at], new, *value[at + 1 :])
        if not is_dataclass(value) or isinstance(value, type):
            raise InputError(f"{here} is {value!r}, which has no fields; set it as a whole with {here}=...")
        known = dict(children(value))
        if head not in known:
            there, hint = ", ".join(known) or "none", _nearest(names, known, root)
            raise InputError(f"{here} has no field {head!r} (fields: {there}){hint}")
        old = known[head]
        new = self.inside(old, rest, root) if rest else self.read(old, _hint(type(value), head))
        try:
            return replace(value, **{head: new})
        except (TypeError, ValueError, OverflowError) as error:
            kind = type(value).__name__
            raise InputError(f"{self.path}={self.text} is refused by {kind}: {one_line(error)}") from error

    def read(self, old: Any, hint: Any) -> Any:
        """The text as a value that may stand where ``old`` stands."""
        kin = {n: m for family in self.families.values() if type(old).__name__ in family for n, m in family.items()}
        if kin and is_dataclass(old):
            new = self.parse(kin)
            if type(new).__name__ not in kin:
                raise InputError(f"{self.path} takes one of {', '.join(kin)}, got {self.text}")
            return new
        allowed = _allowed(old, hint)
        if str in allowed:
            return self.string(allowed)
        return self.fit(self.parse(self.table), allowed, old)

    def string(self, allowed: set[type]) -> Any:
        """A string, quoted or bare, or a literal of another type that the field takes."""
        try:
            literal = parse(self.text, {})
        except InputError:
            return self.text
        return literal if type(literal) in allowed else self.text

    def parse(self, table: Table) -> Any:
        try:
            return parse(self.text, table, self.table)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error

    def fit(self, new: Any, allowed: set[type], old: Any) -> Any:
        """``new`` as one of the ``allowed`` types."""
        if not allowed or type(new) in allowed - {tuple, list}:
            return new
        if type(new) is int and float in allowed:
            return float(new)
        if type(new) is float and int in allowed and new.is_integer():
            return int(new)
        if tuple in allowed:
            items = tuple(new) if isinstance(new, tuple | list) else (new,)
            inner = {type(item) for item in old} if isinstance(old, tuple) else set()
            plain = inner if inner and inner <= set(SCALARS) else set()
            return tuple(self.fit(item, plain, None) for item in items)
        names = " or ".join(sorted("None" if kind is type(None) else kind.__name__ for kind in allowed))
        raise InputError(f"{self.path} takes {names}, got {self.text} (it is {old!r} now)")


def leaves(value: Any, path: str = "") -> list[str]:
    """The paths of every field inside a component, deepest included."""
    if not is_dataclass(value) or isinstance(value, type):
        return []
    found = []
    for name, child in children(value):
        here = f"{path}.{name}" if path else name
        found += [here, *leaves(child, here)]
    return found


def _nearest(names: list[str], known: Mapping[str, Any], root: Any) -> str:
    """A hint: a field of the same component that is spelt alike, or the path of a deeper one with this very name."""
    tail = "." + ".".join(names)
    deeper = [path for path in leaves(root) if path.endswith(tail)]
    return did_you_mean(names[0], known) or (f"; did you mean {deeper[0]!r}?" if deeper else "")


def _hint(kind: type, name: str) -> Any:
    try:
        return typing.get_type_hints(kind).get(name)
    except NameError:  # a name that exists for type checkers only: the present value has to tell
        return None


def _allowed(old: Any, hint: Any) -> set[type]:
    """The plain types a field may hold, from its annotation or else from its present value; empty: anything."""
    members = typing.get_args(hint) if typing.get_origin(hint) in {typing.Union, types.UnionType} else (hint,)
    kinds = {typing.get_origin(member) or member for member in members if member is not None}
    if kinds and all(kind in SCALARS for kind in kinds):
        return kinds
    return {type(old)} if type(old) in SCALARS and old is not None else set()
