"""Progress on stderr: a live bar on a terminal, else a line every so often."""

import contextlib
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from diffprob.base.text import printable
from diffprob.tasks.progress import EVERY, TimedProgress
from diffprob.tasks.signals import stopping


def say(text: str) -> None:
    """One printable line on stderr; nobody being there to read it stops no work."""
    with contextlib.suppress(OSError, ValueError):  # closed by whoever read it, or from the start
        print(printable(text), file=sys.stderr, flush=True)


class Progress(TimedProgress):
    """How far something is, at which rate, and how long it will still take.

    A context manager; call `update` as often as you like.

    Args:
        what: the task, for instance "train".
        total: how many units there are, None where nobody knows.
        unit: what is counted, for instance "step".
        done: units that were done before.
    """

    def __init__(self, what: str, total: int | None, unit: str = "step", done: int = 0) -> None:
        super().__init__(what, total, unit, done)
        self.printed, self.last = self.began, done  # when, and what, a plain line told
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            # Names are data: nothing in them is markup.
            parts = ("{task.description}", "{task.fields[text]}")
            what, text = (TextColumn(part, markup=False) for part in parts)
            columns = (what, BarColumn(), text)
            self._bar = Bar(*columns, console=Console(stderr=True), refresh_per_second=4)
            self._task = self._bar.add_task(printable(self.what), total=self.total, completed=self.done, text="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and self.done > self.last:
            say(self.text())

    def update(self, done: int, detail: str = "") -> None:
        """Say that ``done`` units are done in all; ``detail`` stands beside, for instance "loss 0.031"."""
        now = self.count(done, detail)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self.total, text=printable(self.text(bare=True)))
        elif now - self.printed >= EVERY:
            self.printed, self.last = now, done
            say(self.text())

    def note(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is None:
            say(text)
        else:
            self._bar.console.print(printable(text), highlight=False, markup=False)


class Terminal:
    """The reporter of the command line (`diffprob.tasks.reporter.Reporter`): everything goes to stderr."""

    def progress(self, what: str, total: int | None, unit: str = "step", done: int = 0) -> Progress:
        """A bar, or a line every so often."""
        return Progress(what, total, unit, done)

    def note(self, text: str) -> None:
        """A line that says it is a note."""
        say(f"note: {text}")


TERMINAL = Terminal()


def trained(dry_run: bool, prepared: Any, train: Callable[..., Any]) -> dict[str, Any] | None:
    """What a training gives, or would take; None in all processes but the first."""
    from diffprob.tasks.training_plan import estimate_training

    if dry_run:
        return estimate_training(getattr(prepared, "training", prepared), TERMINAL).to_json()
    with stopping() as halt:
        result = train(prepared, TERMINAL, halt)
    return None if result is None else result.to_json()
