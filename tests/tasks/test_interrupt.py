"""A Ctrl-C during `dp.train`: a checkpoint first, then the interruption; a second one at once."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diffprob.tasks.signals import CALLED_OFF, ctrl_c

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

SCRIPT = """
import os, signal
import diffprob as dp
from diffprob.tasks import signals
from diffprob.tasks.reporter import Silent, SilentProgress

signals.TWICE = 0

class Hit(SilentProgress):
    def update(self, done, detail=""):
        super().update(done)
        for _ in range({2: 1, 4: 2}.get(done, 0)):
            os.kill(os.getpid(), signal.SIGINT)

class Interrupting(Silent):
    def progress(self, what, total, unit="step", done=0):
        return Hit(done)

overrides = {
    "network.widths": (8, 8), "network.groups": 4, "training.batch": 8, "training.precision": "fp32",
    "training.sample_every": 0,
}
for _ in range(2):
    try:
        dp.train("digits", overrides=overrides, steps=50, out="run", device="cpu", reporter=Interrupting())
    except KeyboardInterrupt as stop:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        print(type(stop).__name__, getattr(stop, "step", None), dp.Run.open("run").meta["step"], stop)
"""


def test_ctrl_c_saves_and_a_second_one_stops_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Halted 2 2 stopped at step 2; the same request resumes",
        f"Stopped None 2 {CALLED_OFF}",
    ]
    assert done.stderr.count("with a checkpoint") == 2


def test_existing_signal_handler_is_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with ctrl_c() as notice:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert not notice()
    finally:
        signal.signal(signal.SIGINT, before)
