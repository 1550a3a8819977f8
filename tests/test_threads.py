"""How torch's threads wait for each other, which is decided when the package is imported."""

import os
import subprocess
import sys

import pytest

ASK = "import diffprob, os; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("before", "count"),
    [({}, "20000"), ({"OMP_WAIT_POLICY": "active"}, "None"), ({"GOMP_SPINCOUNT": "10"}, "10")],
)
def test_threads_spin_shortly_while_they_wait_unless_somebody_has_chosen(before, count):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    plain = {name: value for name, value in os.environ.items() if name not in names}
    answer = subprocess.run([sys.executable, "-c", ASK], env=plain | before, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == count
