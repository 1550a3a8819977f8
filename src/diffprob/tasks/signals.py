"""Signals that ask the program to stop: heeded at once, or noted and heeded between two steps of a training."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffprob.tasks.training_run import Halt

ASKING = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a scheduler or container, a closed terminal (not on Windows)
HEARD = "stopping after this step, with a checkpoint; Ctrl-C once more stops at once, without one"
TWICE = 0.5  # seconds up to which signals are one wish: whoever forwards them (torchrun, shells) sends them again
AT_ONCE = "stopped at once, without saving; the same command resumes from the last checkpoint"
CALLED_OFF = "stopped at once, without saving; the same call resumes from the last checkpoint"


class Stopped(KeyboardInterrupt):
    """A signal asked the program to stop.

    Args:
        number: of the signal; ``code``, the exit code, is 128 and this.
        message: what to tell the user.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.code = 128 + number


class Notice:
    """Which signal came first; ``number`` is 0 while none did."""

    number = 0

    def __call__(self) -> bool:
        """Whether one came."""
        return self.number != 0


@contextmanager
def heeding() -> Iterator[None]:
    """Inside, the first signal that asks to stop raises `Stopped`."""

    def heed(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    with _handled_by(heed):
        yield


@contextmanager
def noting(asking: Sequence[str] = ASKING, at_once: str = AT_ONCE) -> Iterator[Notice]:
    """Inside, the first signal that asks to stop is noted, and a Ctrl-C after it raises `Stopped`.

    Further SIGTERM and SIGHUP change nothing, nor what comes at the same time: a closed terminal, a service manager and
    a launcher send several.

    Args:
        asking: names of the signals.
        at_once: what `Stopped` says.
    """
    notice, first = Notice(), 0.0

    def note(number: int, _: FrameType | None) -> None:
        nonlocal first
        if notice():
            if number == signal.SIGINT and time.monotonic() - first >= TWICE:
                raise Stopped(number, at_once)
            return
        notice.number, first = number, time.monotonic()
        # Straight to the file: what is interrupted may be in the middle of printing.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.write(sys.__stderr__.fileno(), f"\n{HEARD}\n".encode())  # pyright: ignore[reportOptionalMemberAccess]

    with _handled_by(note, asking):
        yield notice


@contextmanager
def ctrl_c() -> Iterator[Notice]:
    """The ``halt`` of a training in a Python session: the first Ctrl-C, or interruption of a notebook, stops it with a
    checkpoint, the second at once. Other signals keep their meaning, as does a SIGINT for which there is a handler."""
    plain = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    with noting(("SIGINT",) if plain else (), CALLED_OFF) as notice:
        yield notice


@contextmanager
def stopping() -> Iterator["Halt"]:
    """What a task that trains takes as ``halt``: signals are noted during its steps, and in the end raise `Stopped`."""
    from diffprob.tasks.training_run import Halted

    notices: list[Notice] = []

    @contextmanager
    def halt() -> Iterator[Notice]:
        with noting() as notice:
            notices.append(notice)
            yield notice

    try:
        yield halt
    except Halted as halted:
        number = notices[-1].number or signal.SIGTERM  # of another process
        raise Stopped(number, f"stopped at step {halted.step:,}; the same command resumes") from halted


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None], asking: Sequence[str] = ASKING) -> Iterator[None]:
    """The handlers of before are back afterwards; a signal that is ignored (nohup) stays so, threads have none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in asking if hasattr(signal, name)]
    # None: a handler that Python did not set and could not set again.
    before = {n: own for n in numbers if (own := signal.getsignal(n)) not in {signal.SIG_IGN, None}}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)
