"""Planted errors turn the tests red, in a process of their own."""

import json
import subprocess
import sys
from pathlib import Path

from conform.mutants import MUTANTS


def test_planted_errors_are_found() -> None:
    script = Path(__file__).with_name("mutants.py")
    done = subprocess.run([sys.executable, str(script), "--json"], capture_output=True, text=True, timeout=170, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("") == [], "red without a planted error"
    assert set(found) == set(MUTANTS)
    assert [name for name, failed in found.items() if not failed] == [], "planted and not noticed"
    assert done.returncode == 0
