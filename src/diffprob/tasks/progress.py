"""How far something is, at which rate, and how long it will still take; and who says so in a Python session."""

import contextlib
import sys
import time
import warnings
from html import escape
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from diffprob.base.checks import able, flag
from diffprob.base.text import printable
from diffprob.tasks.reporter import Reporter

AFTER = 0.5  # seconds that something may take before a bar is worth showing
OFTEN = 0.2  # seconds between two pictures of a bar
EVERY = 10.0  # seconds between two plain lines, in a file


def duration(seconds: float) -> str:
    """1:05 for 65 seconds, 2:00:00 for two hours, "3.5 days" from two days on."""
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:,.1f} days"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _write(text: str) -> None:
    """On stderr; nobody being there to read it stops no work."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed by whoever read it, or from the start
        sys.stderr.write(text)
        sys.stderr.flush()


class TimedProgress:
    """Counts, and knows the rate: what every kind of progress has that is seen.

    Args:
        what: the task, for instance "train".
        total: how many units there are, None where nobody knows.
        unit: what is counted, for instance "step".
        done: units that were done before.
    """

    def __init__(self, what: str, total: int | None, unit: str = "step", done: int = 0) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done, self.detail = done, ""
        self.began = time.monotonic()
        self._recent = [(self.began, done)]

    def count(self, done: int, detail: str = "") -> float:
        """Note that ``done`` units are done in all; returns the time."""
        now = time.monotonic()
        self.done, self.detail = done, detail
        if now - self._recent[-1][0] > 1 or len(self._recent) == 1:
            # The last half minute decides the rate: start-up is slow, and machines are shared.
            self._recent = [point for point in self._recent if now - point[0] < 30] or [self._recent[-1]]
            self._recent.append((now, done))
        return now

    @property
    def rate(self) -> float:
        """Units a second, lately; 0 when not known yet."""
        (then, before), now = self._recent[0], time.monotonic()
        return (self.done - before) / (now - then) if now > then else 0.0

    def text(self, bare: bool = False, rate: bool = False) -> str:
        """How far it is, on one line; ``bare``: without what it is; ``rate``: with units a second."""
        parts = [f"{self.unit} {self.done:,}" + ("" if self.total is None else f" of {self.total:,}")]
        if self.detail:
            parts.append(self.detail)
        if rate and self.rate > 0:
            parts.append(f"{self.rate:,.3g} {self.unit}s/s")
        if self.total is None:
            parts.append(f"{duration(time.monotonic() - self.began)} so far")
        elif self.done >= self.total:
            parts.append(f"took {duration(time.monotonic() - self.began)}")
        elif self.rate > 0:
            parts.append(f"{duration((self.total - self.done) / self.rate)} left")
        return ("" if bare else f"{self.what}: ") + ", ".join(parts)


class Session:
    """The reporter of a Python session (`diffprob.tasks.reporter.Reporter`).

    In a notebook a bar that is drawn anew, on a terminal a line that is written anew; notes are lines above it. Where
    there is neither, nothing shows how far it is unless asked, and notes are warnings.

    Args:
        progress: True: show how far things are, in a file too, a line now and then; False: never; None: where it can be
            seen.
    """

    def __init__(self, progress: bool | None = None) -> None:
        self.wanted = progress

    def progress(self, what: str, total: int | None, unit: str = "step", done: int = 0) -> "SessionProgress":
        """A bar."""
        return SessionProgress(self.wanted, what, total, unit, done)

    def note(self, text: str) -> None:
        """A line, or a warning."""
        _tell(f"note: {text}", text)


class SessionProgress(TimedProgress):
    """A bar of a `Session`.

    Args:
        wanted: as ``progress`` of a `Session`.
        what, total, unit, done: as in `TimedProgress`.
    """

    def __init__(self, wanted: bool | None, what: str, total: int | None, unit: str, done: int) -> None:
        super().__init__(what, total, unit, done)
        self._handle, self._drawn, self._width = None, self.began, 0
        self._display = None if wanted is False else _display()
        terminal = wanted is not False and self._display is None and _on_terminal()
        self._terminal, self._plain = terminal, bool(wanted) and self._display is None and not terminal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn == self.began:  # too short to be shown
            return
        self._draw()
        if self._width:
            _write("\n")

    def update(self, done: int, detail: str = "") -> None:
        """Say that ``done`` units are done in all; ``detail`` stands beside, for instance "loss 0.031"."""
        now = self.count(done, detail)
        pause = EVERY if self._plain else AFTER if self._drawn == self.began else OFTEN
        if now - self._drawn >= pause:
            self._drawn = now
            self._draw()

    def note(self, text: str) -> None:
        """A line above the bar, or a warning."""
        if self._width:
            _write(f"\r{' ' * self._width}\r")
            self._width = 0
        _tell(text, text)

    def _draw(self) -> None:
        text = printable(self.text(rate=True))
        if self._display is not None:
            bundle = _bundle(text, (self.done, self.total))
            if self._handle is None:
                self._handle = self._display(bundle, raw=True, display_id=True)
            else:
                self._handle.update(bundle, raw=True)
        elif self._terminal:
            _write(f"\r{text:<{self._width}}")
            self._width = len(text)
        elif self._plain:
            _write(f"{text}\n")


def reporter_of(reporter: Reporter | None, progress: bool | None) -> Reporter:
    """The reporter that was given, or that of a session."""
    if progress is not None:
        flag("progress", progress)
    for ability in ("note", "progress") if reporter is not None else ():
        able("reporter", reporter, ability, "a subclass of diffprob.tasks.reporter.Silent")
    return Session(progress) if reporter is None else reporter


def _bundle(text: str, part: tuple[int, int | None] | None = None) -> dict[str, str]:
    """What a notebook shows, in the forms it may choose from."""
    done, total = part or (0, None)
    bar = f'<progress value="{done}" max="{total}" style="vertical-align: middle"></progress> ' if total else ""
    return {"text/plain": text, "text/html": f"<div>{bar}{escape(text)}</div>"}


def _tell(line: str, warning: str) -> None:
    if (display := _display()) is not None:
        display(_bundle(printable(line)), raw=True)
    elif _on_terminal():
        _write(f"{printable(line)}\n")
    else:
        warnings.warn(warning, stacklevel=5)


def _display() -> Any:
    """What shows things in the notebook that this is; None where it is none. A shell on a terminal shows text alone."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return None
    return import_module("IPython.display").display


def _on_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False
