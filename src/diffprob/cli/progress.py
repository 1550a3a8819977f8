"""Progress on stderr: a live bar on a terminal, else a line every so often."""

import contextlib
import sys
import time
from types import TracebackType
from typing import Any, Self

from diffprob.base.text import printable

EVERY = 10.0  # seconds between two plain lines


def say(text: str) -> None:
    """One printable line on stderr; nobody being there to read it stops no work."""
    with contextlib.suppress(OSError, ValueError):  # closed by whoever read it, or from the start
        print(printable(text), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """1:05 for 65 seconds, 2:00:00 for two hours, "3.5 days" from two days on."""
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:,.1f} days"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


class Progress:
    """How far something is, at which rate, and how long it will still take.

    A context manager; call `update` as often as you like.

    Args:
        what: the task, for instance "train".
        total: how many units there are, None where nobody knows.
        unit: what is counted, for instance "step".
        done: units that were done before.
    """

    def __init__(self, what: str, total: int | None, unit: str = "step", done: int = 0) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done, self.facts = done, ""
        self.began = self.printed = time.monotonic()
        self.last = done  # that a plain line told
        self._recent = [(self.began, done)]
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
            say(self._text())

    def update(self, done: int, facts: str = "") -> None:
        """Say that ``done`` units are done in all; ``facts`` stands beside, for instance "loss 0.031"."""
        now = time.monotonic()
        self.done, self.facts = done, facts
        if now - self._recent[-1][0] > 1 or len(self._recent) == 1:
            # The last half minute decides the rate: start-up is slow, and machines are shared.
            self._recent = [point for point in self._recent if now - point[0] < 30] or [self._recent[-1]]
            self._recent.append((now, done))
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=printable(self._text(bare=True)))
        elif now - self.printed >= EVERY:
            self.printed, self.last = now, done
            say(self._text())

    def note(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is None:
            say(text)
        else:
            self._bar.console.print(printable(text), highlight=False, markup=False)

    @property
    def rate(self) -> float:
        """Units a second, lately; 0 when not known yet."""
        (then, before), now = self._recent[0], time.monotonic()
        return (self.done - before) / (now - then) if now > then else 0.0

    def _text(self, bare: bool = False) -> str:
        parts = [f"{self.unit} {self.done:,}" + ("" if self.total is None else f" of {self.total:,}")]
        if self.facts:
            parts.append(self.facts)
        if self.total is None:
            parts.append(f"{duration(time.monotonic() - self.began)} so far")
        elif self.done >= self.total:
            parts.append(f"took {duration(time.monotonic() - self.began)}")
        elif self.rate > 0:
            parts.append(f"{duration((self.total - self.done) / self.rate)} left")
        return ("" if bare else f"{self.what}: ") + ", ".join(parts)


class Terminal:
    """The reporter of the command line (`diffprob.tasks.reporter.Reporter`): everything goes to stderr."""

    def progress(self, what: str, total: int | None, unit: str = "step", done: int = 0) -> Progress:
        """A bar, or a line every so often."""
        return Progress(what, total, unit, done)

    def note(self, text: str) -> None:
        """A line that says it is a note."""
        say(f"note: {text}")


TERMINAL = Terminal()
