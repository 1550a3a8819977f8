"""What a test of the command line needs besides fixtures: a tiny training, and what a command left behind."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

# The smallest training of the digits that has every part: a fraction of a second.
TINY = [
    *("--set", "network.widths=(8,8)", "--set", "network.groups=4", "--set", "training.batch=8"),
    *("--set", "training.samples=2", "--set", "training.checkpoint_every=2", "--set", "training.sample_every=0"),
    *("--set", "training.precision=fp32", "--device", "cpu"),
]  # fmt: skip


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        """The one JSON object on stdout."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of the error, which is the last one."""
        lines = self.err.strip().splitlines()
        assert [line.startswith("diffprob: error: ") for line in lines].count(True) == 1, self.err
        assert lines[-1].startswith("diffprob: error: "), self.err
        assert "Traceback" not in self.err
        assert not self.out
        return lines[-1].removeprefix("diffprob: error: ")


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
