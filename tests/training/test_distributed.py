"""Several processes under torchrun are one training."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("two_processes.py")


def torchrun(processes, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", SCRIPT]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*map(str, command), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_two_processes_give_the_weights_of_one_process(tmp_path):
    """float64, 20 steps, the same global batch: 1e-6."""
    alone = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "one", "1"], capture_output=True, text=True, timeout=120, check=False
    )
    assert alone.returncode == 0, alone.stderr
    both = torchrun(2, tmp_path / "two", 2)
    assert both.returncode == 0, both.stderr
    one, two = load_file(tmp_path / "one" / "out.st"), load_file(tmp_path / "two" / "out.st")
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6


def test_fewer_processes_than_requested_is_an_error(tmp_path):
    alone = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "x", "2"], capture_output=True, text=True, timeout=120, check=False
    )
    assert alone.returncode == 1
    assert "2 processes were asked for but 1 run" in alone.stderr
    assert not (tmp_path / "x").exists()


def test_dead_process_ends_the_job(tmp_path):
    began = time.monotonic()
    dead = torchrun(2, tmp_path / "run", 2, "dies")
    assert dead.returncode != 0
    assert time.monotonic() - began < 30 + 30, "30 s after the death; the start takes some of the rest"
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "run" / "out.st")
