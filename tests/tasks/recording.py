"""A reporter that records what a task reports."""

from diffprob.tasks.reporter import Silent, SilentProgress


class RecordingReporter(Silent):
    """Bars as (what, total, progress), and notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.bars: list[tuple[str, int | None, SilentProgress]] = []

    def progress(self, what: str, total: int | None, unit: str = "step", done: int = 0) -> SilentProgress:
        self.bars.append((what, total, SilentProgress(done)))
        return self.bars[-1][2]

    def note(self, text: str) -> None:
        self.notes.append(text)
