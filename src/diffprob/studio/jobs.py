"""What the studio computes: one job at a time in the order of asking, each with its progress, and an end to it."""

import itertools
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from diffprob.base.errors import DiffprobError
from diffprob.base.text import one_line
from diffprob.tasks.progress import TimedProgress

MOST_WAITING = 8
MOST_KEPT = 64  # of those that ended
QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"


class Cancelled(KeyboardInterrupt):
    """Somebody pressed the button: to a task this is Ctrl-C."""


class Busy(Exception):
    """As many jobs wait as may."""


@dataclass(frozen=True)
class JobResult:
    """What a job made.

    Args:
        template: of ``templates``, which shows it.
        values: for the template.
        files: media type and bytes by name.
    """

    template: str
    values: Mapping[str, object]
    files: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)


class Job:
    """Something that takes a while; a `diffprob.tasks.reporter.Reporter` for the task that does it.

    Args:
        number: by which pages ask for it.
        what: in words.
        work: does it; gets the job, whose `check` it may call.
    """

    def __init__(self, number: int, what: str, work: "Callable[[Job], JobResult]") -> None:
        self.number, self.what, self.work = number, what, work
        self.state, self.error, self.version = QUEUED, "", 0
        self.result: JobResult | None = None
        self.bar: JobProgress | None = None
        self.notes: list[str] = []
        self.live: Mapping[str, tuple[str, bytes]] = {}
        self.cancelled = threading.Event()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in (DONE, FAILED, CANCELLED)

    def changed(self) -> None:
        """Pages that watch the job show it again."""
        self.version += 1

    def check(self) -> None:
        """Go on, or not.

        Raises:
            Cancelled: the job was.
        """
        if self.cancelled.is_set():
            raise Cancelled

    def note(self, text: str) -> None:
        """A line for the reader."""
        self.notes.append(one_line(text))
        self.changed()

    def progress(self, what: str, total: int | None, unit: str = "step", done: int = 0) -> "JobProgress":
        """A bar on the page, in the place of the one before."""
        self.check()
        self.bar = JobProgress(self, what, total, unit, done)
        self.changed()
        return self.bar

    def show(self, files: Mapping[str, tuple[str, bytes]]) -> None:
        """Pictures of how far it is, in the place of those before."""
        self.live = dict(files)
        self.changed()

    def run(self) -> None:
        """Do it, unless it was cancelled before. Whatever goes wrong is the job's end, and of no other job."""
        if self.has_ended:
            return
        self.state = RUNNING
        self.changed()
        try:
            self.check()
            self.result = self.work(self)
            self.state = DONE
        except KeyboardInterrupt:
            self.state = CANCELLED
        except DiffprobError as error:
            self.state, self.error = FAILED, one_line(str(error))
        finally:
            if self.state == RUNNING:  # an error of our own: `Jobs` shows it in the terminal
                self.state, self.error = FAILED, "an error in the studio itself; its terminal says which"
            self.bar = None  # live pictures stay: a page may just be asking for the last one
            self.changed()


class JobProgress(TimedProgress):
    """How far a job is; where it is cancelled, the next word of it ends it."""

    def __init__(self, job: Job, what: str, total: int | None, unit: str, done: int) -> None:
        super().__init__(what, total, unit, done)
        self.job = job

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.job.changed()

    def update(self, done: int, detail: str = "") -> None:
        """Count."""
        self.job.check()
        self.count(done, detail)
        self.job.changed()

    def note(self, text: str) -> None:
        """To the job's notes."""
        self.job.note(text)


class Jobs:
    """All jobs of a studio, and the thread that does them."""

    def __init__(self) -> None:
        self.known: OrderedDict[int, Job] = OrderedDict()
        self.numbers, self.lock = itertools.count(1), threading.Lock()
        self.worker = ThreadPoolExecutor(1, "studio")

    def begin(self, what: str, work: Callable[[Job], JobResult]) -> Job:
        """A job at the end of the queue.

        Raises:
            Busy: the queue is full.
        """
        with self.lock:
            if sum(job.state == QUEUED for job in self.known.values()) >= MOST_WAITING:
                raise Busy(f"{MOST_WAITING} jobs wait already; try again when one has ended")
            job = Job(next(self.numbers), what, work)
            self.known[job.number] = job
            self.worker.submit(job.run).add_done_callback(_show)
            ended = [number for number, known in self.known.items() if known.has_ended]
            for number in ended[: max(0, len(ended) - MOST_KEPT)]:
                del self.known[number]
        return job

    def get(self, number: int) -> Job | None:
        """The job of this number, unless there is none, or it is too long ago."""
        return self.known.get(number)

    def cancel(self, job: Job) -> None:
        """End it, at its next word at the latest."""
        job.cancelled.set()
        if job.state == QUEUED:
            job.state = CANCELLED
        job.changed()

    def close(self) -> None:
        """End all of them."""
        for job in list(self.known.values()):
            self.cancel(job)
        self.worker.shutdown()


def _show(job: "Future[None]") -> None:
    if error := job.exception():
        traceback.print_exception(error)
