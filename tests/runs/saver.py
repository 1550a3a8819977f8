"""Saves a run in a forked child, again and again, to be killed by test_killed.py.

Each line on standard input is ``FOLDER MODE NUMBER``:
``die`` ends the child without any clean-up just before its NUMBER-th change to the file system;
``loop`` saves steps until somebody kills it. The child's process id and then its exit status are printed.
"""

import io
import itertools
import os
import sys
from pathlib import Path

import torch

from diffprob.config.recipe import parameter_count
from diffprob.runs.files import read_recipe
from diffprob.runs.writer import RunWriter
from diffprob.training.store import Snapshot

CHANGES = [(os, name) for name in ("open", "rename", "replace", "mkdir", "unlink", "rmdir", "ftruncate")]
CHANGES += [(io, "open")]


def full(step: int) -> dict[str, torch.Tensor]:
    """Tensors that hold their step: mixtures of two steps are seen."""
    return {f"net.{i}": torch.full((500,), float(step)) for i in range(4)}


def arm(number: int) -> None:
    """Let the process be gone just before its ``number``-th change from now on."""
    counter, opened, buffered = itertools.count(), os.open, io.open

    def wrap(call):
        def counted(*args, **kwargs):
            how = args[1] if len(args) > 1 else None
            reads = call is opened and not how & (os.O_WRONLY | os.O_RDWR)
            reads = reads or (call is buffered and (how in {"r", "rb"} or isinstance(args[0], int)))
            if not reads and next(counter) == number:
                os._exit(9)
            return call(*args, **kwargs)

        return counted

    for module, name in CHANGES:
        setattr(module, name, wrap(getattr(module, name)))


def child(folder: Path, mode: str, number: int) -> None:
    """Open the run, resume it, save the next step (``die``) or all that follow (``loop``)."""
    if mode == "die":
        arm(number)
    writer = RunWriter.open(folder, read_recipe(Path(sys.argv[1])), "ab" * 32)
    snapshot = writer.load()
    first = snapshot.step + 1 if snapshot else 1
    for step in [first] if mode == "die" else itertools.count(first):
        writer.append({"step": step})
        writer.sample_path(step).write_bytes(b"picture %d" % step)
        writer.save(Snapshot(step, full(step), full(step), full(step), {"step": step}))


def no_sync(_descriptor: int) -> None:
    """Syncing guards against power cuts, which cannot be tested here, and takes most of the time."""


def main() -> None:
    """One forked child for each line: torch is imported, and the network counted for the card, once."""
    os.fsync = no_sync
    parameter_count(read_recipe(Path(sys.argv[1])))
    for line in sys.stdin:
        folder, mode, number = line.split()
        pid = os.fork()
        if pid == 0:
            child(Path(folder), mode, int(number))
            os._exit(0)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
