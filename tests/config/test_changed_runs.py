"""Runs that are sealed anew after one change: each use of them works, or ends in one line."""

import os
import random
import shutil

import pytest
from fuzz.runs import targets

TARGETS = targets()


@pytest.mark.parametrize("name", TARGETS)
def test_changed_run_works_or_gives_a_one_line_error(name, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    for seed in range(int(os.environ.get("DIFFPROB_FUZZ", "3"))):
        folder = tmp_path / str(seed)
        folder.mkdir()
        TARGETS[name](random.Random(f"{name} {seed}"), folder)
        shutil.rmtree(folder)
