"""Planted errors turn the tests red, in a process of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conform.mutants import MUTANTS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_planted_errors_turn_tests_red() -> None:
    script = Path(__file__).with_name("mutants.py")
    done = subprocess.run(
        [sys.executable, str(script), "--json"], capture_output=True, text=True, timeout=590, check=False
    )
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert result.pop("") == [], "red without a planted error"
    assert set(result) == set(MUTANTS)
    assert [name for name, failed in result.items() if not failed] == [], "planted and not noticed"
    assert done.returncode == 0
