"""How a task says how far it is: a protocol that the terminal, a notebook and a web page each have one of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self


class Progress(Protocol):
    """Something that takes a while: a context manager, told how far it is as often as one likes."""

    done: int
    total: int | None  # may change meanwhile

    @property
    def rate(self) -> float:
        """Units a second, lately; 0 where nobody knows (yet)."""
        ...

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        ...

    def update(self, done: int, detail: str = "") -> None:
        """Say that ``done`` units are done in all; ``detail`` stands beside, for instance "loss 0.031"."""
        ...

    def note(self, text: str) -> None:
        """A line about what goes on."""
        ...


class Reporter(Protocol):
    """Who listens to a task; nothing below the doors prints."""

    def progress(self, what: str, total: int | None, unit: str = "step", done: int = 0) -> Progress:
        """Begin something of ``total`` units, None where nobody knows how many; ``done`` were done before."""
        ...

    def note(self, text: str) -> None:
        """One line that a user should read: what was converted, left out, or taken for something else."""
        ...


class SilentProgress:
    """Counts, and says nothing.

    Args:
        done: units that were done before.
    """

    rate = 0.0

    def __init__(self, done: int = 0) -> None:
        self.done = done
        self.total: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def update(self, done: int, detail: str = "") -> None:
        """Count."""
        self.done = done

    def note(self, text: str) -> None:
        """Nothing."""


class Silent:
    """A reporter whom nobody hears."""

    def progress(self, what: str, total: int | None, unit: str = "step", done: int = 0) -> SilentProgress:
        """Something that only counts."""
        return SilentProgress(done)

    def note(self, text: str) -> None:
        """Nothing."""


SILENT = Silent()


@contextmanager
def when_interrupted(left: Callable[[], str]) -> Iterator[None]:
    """Inside, an interruption that says nothing says what ``left`` does: what is lost, and what is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not str(stop):
            stop.args = (left(),)
        raise
