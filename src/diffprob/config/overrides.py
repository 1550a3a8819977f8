"""Fields of a nested component, named by their paths and given as text: ``process.schedule.shift=0.01``.

Settings are made together: every component is opened into its fields, all of them are set, and then each is made anew
from the inside out. So fields that have to fit each other can be set in any order, and in a recipe what has to agree
with them is set too (`config.agreement`).
"""

import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

from diffprob.base.checks import listed, shown
from diffprob.base.errors import FieldError, InputError, did_you_mean
from diffprob.base.options import option
from diffprob.base.text import one_line
from diffprob.config.old_names import current_field
from diffprob.config.spec import Table, children, parse

SCALARS = (bool, int, float, str, type(None), tuple, list, dict)
LONGEST_PATH = 120  # characters; those of the deepest fields have 60


def assign(value: Any, path: str, text: str, families: Mapping[str, Table] | None = None) -> Any:
    """A copy of ``value`` with the field at ``path`` replaced by ``text``; see `assign_all`.

    Raises:
        InputError: as there.
    """
    return assign_all(value, [(path, text)], families)


def assign_all(
    value: Any,
    settings: Sequence[tuple[str, str]],
    families: Mapping[str, Table] | None = None,
    notes: list[str] | None = None,
) -> Any:
    """A copy of ``value`` with fields replaced: (path, text), a path ``a.b.c``, where a number selects from a tuple.

    ``text`` is read as by `spec.parse`; a string needs no quotes. The field keeps its type: an integer may become a
    float where a float stands (and 1e5 an integer), one value may stand for a tuple of one, and a component may only
    be replaced by another of its family (an entry of ``families``, by default those of `diffprob.config.registry`).

    The order does not matter, but that of two settings of one field the later counts: a component that is replaced as a
    whole comes before its fields, and no component is checked before all its fields are set. What was set with them,
    because it has to agree, is said in a line that is added to ``notes``.

    Raises:
        InputError: no such field (with those there are), a value of the wrong type, or one that the component refuses,
            with what would have to be set too.
    """
    if families is None:
        from diffprob.config.registry import FAMILIES

        families = FAMILIES
    root = _opened(value)
    for path, text in sorted(settings, key=lambda setting: setting[0].count(".")):
        names = path.split(".")
        if len(path) > LONGEST_PATH:
            raise InputError(f"{one_line(path, 60)} is no field: it has {len(path)} characters")
        root = _Assignment(path, text, families).assign(root, names, value)
    tree = _Tree(root, dict(settings))
    also = tree.agree(list(tree.texts))
    made = tree.closed(tree.root)
    if also and notes is not None:
        notes.append("set with it: " + ", ".join(f"{path}={tree.get(path)!r}" for path in also))
    return made


@dataclass
class _Open:
    """A component opened into its fields, some of which may be open themselves."""

    kind: type
    values: dict[str, Any]
    like: Any


def _opened(value: Any) -> Any:
    """The component as its fields, ready to be set; anything else as it is."""
    if not is_dataclass(value) or isinstance(value, type | _Open):
        return value
    return _Open(type(value), {field.name: getattr(value, field.name) for field in fields(value) if field.init}, value)


@dataclass
class _Tree:
    """A component whose fields are being set.

    Args:
        root: the component, open wherever a field is set.
        texts: what was set, by the path of the field.
    """

    root: Any
    texts: Mapping[str, str]

    def agree(self, changed: Sequence[str], all_fields: bool = False) -> list[str]:
        """Set what has to agree with what was changed, in a recipe; returns the paths of what was."""
        if not isinstance(self.root, _Open) or not {"network", "space", "training"} <= self.root.values.keys():
            return []
        from diffprob.config.agreement import agreeing

        return agreeing(self.get, self.put, changed, all_fields)

    def get(self, path: str) -> Any:
        """The value at a path, or `MISSING`."""
        value = self.root
        for name in path.split("."):
            value = _opened(value)
            if not isinstance(value, _Open) or name not in value.values:
                return MISSING
            value = value.values[name]
        return self.closed(value, path)

    def put(self, path: str, value: Any) -> None:
        """Set the value at a path that there is."""

        def within(whole: Any, names: list[str]) -> Any:
            if not names:
                return value
            whole = _opened(whole)
            return _Open(whole.kind, {**whole.values, names[0]: within(whole.values[names[0]], names[1:])}, whole.like)

        self.root = within(self.root, path.split("."))

    def closed(self, value: Any, path: str = "") -> Any:
        """What was opened, made anew from the inside out.

        Raises:
            InputError: a component refuses its fields; with what would be right.
        """
        below = f"{path}." if path else ""
        if isinstance(value, tuple):
            return tuple(self.closed(entry, f"{below}{index}") for index, entry in enumerate(value))
        if not isinstance(value, _Open):
            return value
        values = {name: self.closed(field, below + name) for name, field in value.values.items()}
        try:
            return value.kind(**values)
        except (TypeError, ValueError, OverflowError) as error:
            paths = [path for path in self.texts if path.startswith(below)]
            settings = one_line(", ".join(f"{path}={one_line(self.texts[path], 40)}" for path in paths), 120)
            kind, message = value.kind.__name__, one_line(error, 140)
            hint = self.hint(error.field, below, paths, values) if isinstance(error, FieldError) else ""
            raise InputError(f"{settings} is refused by {kind}: {message}{hint}") from error

    def hint(self, field: str, below: str, paths: Sequence[str], values: Mapping[str, Any]) -> str:
        """What the field that was refused would have to be, or that it is none of those that were set."""
        whole, other = below + field, _Tree(self.root, self.texts)
        if field.partition(".")[0] not in values:
            return ""
        try:
            right = other.agree((), all_fields=True)
        except InputError:  # of another part, which is refused as well
            right = []
        right = [path for path in right if path.startswith(below)]
        text = option("overrides", {path: repr(other.get(path)) for path in right} or {whole: "..."})
        if any(f"{path}.".startswith(f"{mine}.") for mine in paths for path in right or [whole]):
            return f"; {text} would be right" if right else ""
        return f"; also {text}" if right or other.get(whole) is not MISSING else ""


class _Assignment:
    """One assignment: what every message about it has to say."""

    def __init__(self, path: str, text: str, families: Mapping[str, Table]) -> None:
        self.path, self.text, self.families = path, text, families
        self.table = {name: maker for family in families.values() for name, maker in family.items()}

    def assign(self, value: Any, names: list[str], root: Any) -> Any:
        """``value`` with the field ``names`` of it replaced, open wherever that leads through a component."""
        head, rest = names[0], names[1:]
        here = self.path.removesuffix(".".join(names)).removesuffix(".") or type(root).__name__
        if isinstance(value, tuple):
            if not re.fullmatch(r"[0-9]{1,9}", head) or int(head) >= len(value):
                raise InputError(f"{here} has no entry {shown(head)} (it has {len(value)}, counted from 0)")
            at = int(head)
            new = self.assign(value[at], rest, root) if rest else self.read(value[at], None, False)
            return (*value[:at], new, *value[at + 1 :])
        value = _opened(value)
        if not isinstance(value, _Open):
            raise InputError(f"{here} is {shown(value)}, which has no fields; set it as a whole with {here}=...")
        known = [name for name, _ in children(value.like)]
        head = current_field(value.kind.__name__, head, known)
        if head not in known:
            hint = _nearest(names, known, root)
            raise InputError(f"{here} has no field {shown(head)} (fields: {listed(known, head)}){hint}")
        old = value.values[head]
        hint, none = _hint(value.kind, head), _may_be_none(value.kind, head)
        new = self.assign(old, rest, root) if rest else self.read(old, hint, none)
        return _Open(value.kind, {**value.values, head: new}, value.like)

    def read(self, old: Any, hint: Any, none: bool) -> Any:
        """The text as a value that may stand where ``old`` stands, or None where it may be left out."""
        old = old.like if isinstance(old, _Open) else old
        kin = {n: m for family in self.families.values() if type(old).__name__ in family for n, m in family.items()}
        if kin and is_dataclass(old):
            new = self.parse(kin)
            if type(new).__name__ not in kin and not (none and new is None):
                or_none = " or None" if none else ""
                raise InputError(f"{self.path} takes one of {listed(kin, self.text)}{or_none}, got {shown(new)}")
            return new
        allowed = _allowed(old, hint)
        if str in allowed:
            return self.string(allowed)
        if not allowed or allowed & {tuple, list, dict}:
            return self.fit(self.parse(self.table), allowed, old)
        try:
            return self.fit(parse(self.text, {}), allowed, old)
        except InputError as error:
            raise self.refused(allowed, old) from error

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
        if type(new) is int and float in allowed and abs(new) < 1e300:
            return float(new)
        if type(new) is float and int in allowed and new.is_integer():
            return int(new)
        if tuple in allowed:
            items = tuple(new) if isinstance(new, tuple | list) else (new,)
            inner = {type(item) for item in old} if isinstance(old, tuple) else set()
            plain = inner if inner and inner <= set(SCALARS) else set()
            return tuple(self.fit(item, plain, None) for item in items)
        raise self.refused(allowed, old)

    def refused(self, allowed: set[type], old: Any) -> InputError:
        """What the field takes, beside what it was given and what it is now."""
        names = " or ".join(sorted("None" if kind is type(None) else kind.__name__ for kind in allowed))
        now = "" if old is None else f" (it is {shown(old)} now)"
        return InputError(f"{self.path} takes {names}, got {one_line(self.text, 60)}{now}")


def leaves(value: Any, path: str = "") -> list[str]:
    """The paths of every field inside a component, deepest included."""
    if not is_dataclass(value) or isinstance(value, type):
        return []
    paths = []
    for name, child in children(value):
        here = f"{path}.{name}" if path else name
        paths += [here, *leaves(child, here)]
    return paths


def _nearest(names: list[str], known: Sequence[str], root: Any) -> str:
    """A hint: a field of the same component that is spelt alike, or the path of a deeper one with this very name."""
    tail = "." + ".".join(names)
    deeper = [path for path in leaves(root) if path.endswith(tail)]
    return did_you_mean(names[0], known) or (f"; did you mean {deeper[0]!r}?" if deeper else "")


def _hint(kind: type, name: str) -> Any:
    try:
        return typing.get_type_hints(kind).get(name)
    except NameError:  # a name that exists for type checkers only: the present value has to tell
        return None


def _may_be_none(kind: type, name: str) -> bool:
    """Whether a component may be left out there: by its annotation, or as it is by default."""
    default = next((field.default for field in fields(kind) if field.name == name), MISSING)
    return default is None or type(None) in typing.get_args(_hint(kind, name))


def _allowed(old: Any, hint: Any) -> set[type]:
    """The plain types a field may hold, from its annotation or else from its present value; empty: anything."""
    members = typing.get_args(hint) if typing.get_origin(hint) in {typing.Union, types.UnionType} else (hint,)
    kinds = {typing.get_origin(member) or member for member in members if member is not None}
    if kinds and all(kind in SCALARS for kind in kinds):
        return kinds
    return {type(old)} if type(old) in SCALARS and old is not None else set()
