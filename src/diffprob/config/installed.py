"""Tables of components by name, to which those of installed packages are added when they are first needed.

A package names a module in the entry-point group ``diffprob.components``; importing the module registers what it
offers (`diffprob.config.registry.register`). All of them are imported once, when a name is looked up that no table has
or when a table is listed. A name in a recipe, whoever wrote it, so never decides what is imported: the packages do that
the user has installed.
"""

import keyword
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from diffprob.base.errors import InputError
from diffprob.base.text import one_line

GROUP = "diffprob.components"
LITERALS = ("inf", "nan")  # what a specification reads as a number

Maker = Callable[..., Any]


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


_listener: ContextVar[Callable[[str], None]] = ContextVar("listener", default=_warn)


@contextmanager
def notes_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Hand what is to be said of installed packages to ``listener`` while the block runs, instead of a warning."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Installed:
    """The packages that offer components, imported once.

    Args:
        group: of entry points.
    """

    def __init__(self, group: str = GROUP) -> None:
        self.group = group
        self._begun = self._done = False
        self._lock = threading.RLock()  # an import that looks up a name comes in again

    def load(self) -> None:
        """Import them, if that was not done; one that cannot be imported is said in one line and stops nothing."""
        if self._done:
            return
        with self._lock:
            if self._begun:
                return
            self._begun = True
            for point in self._points():
                try:
                    point.load()
                except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever another's package does
                    why = f"{type(error).__name__}: {one_line(error, 120)}"
                    package = point.dist.name if point.dist else point.value
                    _listener.get()(f"components of {one_line(package, 60)} are left out, {why}")
            self._done = True

    def _points(self) -> list[Any]:
        from importlib.metadata import entry_points

        return sorted(entry_points(group=self.group), key=lambda point: (point.name, point.value))


INSTALLED = Installed()


class Components(dict[str, Maker]):
    """A table of components by name; whoever misses a name, or asks for all, sees those of installed packages too."""

    def __missing__(self, name: str) -> Maker:
        INSTALLED.load()
        if dict.__contains__(self, name):
            return dict.__getitem__(self, name)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        if not dict.__contains__(self, name):
            INSTALLED.load()
        return dict.__contains__(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The component, or ``default``."""
        try:
            return self[name]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        INSTALLED.load()
        return dict.__iter__(self)

    def __len__(self) -> int:
        INSTALLED.load()
        return dict.__len__(self)

    def keys(self) -> Any:
        """All names."""
        INSTALLED.load()
        return dict.keys(self)

    def values(self) -> Any:
        """All components."""
        INSTALLED.load()
        return dict.values(self)

    def items(self) -> Any:
        """All of both."""
        INSTALLED.load()
        return dict.items(self)


def check_component(component: Any, family: str, abilities: tuple[str, ...]) -> None:
    """Refuse what cannot stand in a recipe, or lacks what the family does.

    Raises:
        InputError: no class, no name that a recipe can hold, no frozen dataclass whose repr
            its constructor could read, or without one of the ``abilities``: methods, properties or fields.
    """
    if not isinstance(component, type):
        raise InputError(f"a component is a class, got {one_line(repr(component), 80)}")
    name = component.__name__
    if not name.isidentifier() or keyword.iskeyword(name) or name in LITERALS or name.startswith("_"):
        raise InputError(f"{one_line(name, 60)!r} cannot name a component in a recipe: an identifier would be right")
    if not is_dataclass(component) or not component.__dataclass_params__.frozen:  # pyright: ignore[reportAttributeAccessIssue]
        raise InputError(f"{name} is no frozen dataclass, whose repr is its configuration: @dataclass(frozen=True)")
    known = {field.name: field for field in fields(component)}
    for field in known.values():
        required = field.default is MISSING and field.default_factory is MISSING
        if field.init and required and not field.repr:
            raise InputError(f"{name}.{field.name} does not stand in the repr, so a recipe could not read it back")
        if field.repr and not field.init:
            reason = "the constructor does not take it: repr=False"
            raise InputError(f"{name}.{field.name} stands in the repr, but {reason}")
    having = {*known, *(name for kind in component.__mro__[:-1] for name in vars(kind))}
    lacking = [ability for ability in abilities if ability not in having]
    if lacking:
        article = "an" if family[0] in "aeio" else "a"
        raise InputError(
            f"{name} cannot be {article} {family}: it lacks {', '.join(lacking)} (needed: {', '.join(abilities)})"
        )
