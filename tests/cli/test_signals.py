"""A signal at whatever moment of a training is heeded between two steps, and the outcome is the same to the bit."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from cli.commands import TINY

from diffprob.cli.main import main
from diffprob.runs import states
from diffprob.tasks import signals, training_run
from diffprob.tasks.signals import AT_ONCE, Stopped, heeding, noting
from diffprob.training.loop import Trainer

TERMINATED = 143
# Two steps, the first with picture and checkpoint, the second with log line, picture and checkpoint.
COMMAND = ["train", "digits", *TINY, "--steps", "2", "--set", "training.sample_every=1", "--out"]
TRACED = ("training/loop.py", "training/optimise.py", "training/batches.py", "tasks/training_run.py", "runs/writer.py")
MOMENTS = 11


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(training_run, "PREVIEW_STEPS", 1)
    if sys.platform == "win32":
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and stays so
    yield
    signal.signal(signal.SIGHUP, before)


class Line:
    """Counts the lines that are run in the modules of a training step, and sends a signal before line ``at``."""

    def __init__(self, at: int, number: int) -> None:
        self.at, self.number, self.count = at, number, 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        return self.line if frame.f_code.co_filename.replace(os.sep, "/").endswith(TRACED) else None

    def line(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            self.count += 1
            if self.count == self.at:
                signal.raise_signal(self.number)
        return self.line


def trained(out: Path, monkeypatch: pytest.MonkeyPatch, at: int = 0, number: int = signal.SIGTERM) -> tuple[int, int]:
    """Train with a signal at line ``at`` of `Trainer.run`; the exit code and the lines that were run."""
    line, run = Line(at, number), Trainer.run

    def traced(self: Trainer) -> None:
        before = sys.gettrace()
        sys.settrace(line)
        try:
            run(self)
        finally:
            sys.settrace(before)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", traced)
        return main([*COMMAND, str(out)]), line.count


def final_state(out: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Tensors, weights and pictures, and the log without its clock."""
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for record in log:
        del record["seconds"]
    kept = [*out.glob("state/step-00000002/*.safetensors"), out / "model.safetensors", *out.glob("samples/*.png")]
    assert len(kept) == 6
    return {str(path.relative_to(out)): path.read_bytes() for path in kept}, log


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_signal_at_any_moment_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole"
    code, lines = trained(whole, monkeypatch)
    assert code == 0 and lines > 2 * MOMENTS
    wanted, stopped_at = final_state(whole), []
    for k in range(MOMENTS):
        out = tmp_path / str(k)
        assert trained(out, monkeypatch, 1 + k * (lines - 1) // (MOMENTS - 1))[0] == TERMINATED
        state = states.newest(out / "state")
        stopped_at.append(state[0].step if state else 0)
        assert main([*COMMAND, str(out)]) == 0
        assert final_state(out) == wanted, f"stopped at step {stopped_at[-1]}, moment {k}"
    assert stopped_at == sorted(stopped_at) and set(stopped_at) == {0, 1, 2}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_after_a_signal_stops_without_saving(
    diffprob: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(self: Trainer) -> None:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(signals, "TWICE", 0)
    monkeypatch.setattr(Trainer, "advance", twice)
    done = diffprob(*COMMAND, "run")
    assert (done.code, AT_ONCE in done.err) == (128 + signal.SIGINT, True)
    assert not (tmp_path / "run" / "state").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_repeated_signals_count_once() -> None:
    with noting() as notice:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
    assert notice.number == signal.SIGTERM


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_verb_reports_the_signal_that_stopped_it(
    diffprob: Callable, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    from diffprob.cli import doctor

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    monkeypatch.setattr(doctor, "run", lambda _: signal.raise_signal(number))
    assert diffprob("doctor").code == 128 + number
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ignored_signals_stay_ignored_and_handlers_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "TWICE", 0)
    own = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with heeding(), noting() as notice:
            signal.raise_signal(signal.SIGHUP)
            assert not notice()
            signal.raise_signal(signal.SIGTERM)
            assert notice.number == signal.SIGTERM
            with pytest.raises(Stopped):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, own)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_threads_install_no_signal_handlers() -> None:
    seen = []

    def work() -> None:
        with noting() as notice:
            seen.append((signal.getsignal(signal.SIGTERM), notice()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(signal.SIG_DFL, False)]


@pytest.mark.parametrize(
    ("command", "optimiser", "message"),
    [
        (["baseline", "classifier", "digits", "--epochs", "1"], "AdamW", "nothing of the classifier is kept, and it"),
        (["fit", "RUN", "analytic", "npr"], "Adam", "nothing of npr is kept, and begins anew; analytic is kept"),
    ],
)
def test_verbs_that_cannot_resume_report_what_is_lost(
    diffprob: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], optimiser: str, message: str
) -> None:
    """The signal comes in a step; nothing half-written is left behind, and what was done before is."""
    from diffprob.runs.folder import Run

    monkeypatch.setenv("DIFFPROB_CACHE", "cache")
    before = {path.name for path in tiny.rglob("*")}
    short = ["--times", "3", "-n", "8", "--steps", "4", "--batch", "8"] if command[0] == "fit" else []
    kind, count = getattr(torch.optim, optimiser), 0
    step = kind.step

    def signalled(self: Any, *args: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            signal.raise_signal(signal.SIGTERM)
        return step(self, *args, **more)

    monkeypatch.setattr(kind, "step", signalled)
    done = diffprob(*[str(tiny) if word == "RUN" else word for word in command], *short, "--device", "cpu")
    assert (done.code, done.out) == (TERMINATED, "") and message in done.err
    assert [path for path in Path("cache").rglob("*") if path.is_file()] == []
    assert {path.name for path in tiny.rglob("*")} - before == ({"fit-analytic.safetensors"} if short else set())
    assert Run.open(tiny).meta["step"] == 4
