"""Bits/dim of a run by every bound: chains of 1000 and of 50 steps with every variance, and the probability flow.

    python benchmarks/likelihood.py mnist --data data/mnist -n 1000 --precision bf16 --out likelihood.json
    python benchmarks/likelihood.py digits -n 360 --out likelihood.json

Every row is one call of `diffprob likelihood` on the same images with the same noise. ``--keep`` keeps each result, so
that a stopped table goes on where it was. `likelihood_baselines.py` has what else these images cost.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from quality import answer, finish

BEST = ("--grid", "best")
ROWS: dict[str, tuple[str, ...]] = {
    "fitted path, analytic": (),
    "fitted path, analytic, training images": ("--split", "train"),
    "fitted path, NPR": ("--variance", "NoiseResidual()"),
    "1000 steps, beta-tilde": ("--grid", "Native()", "--steps", "1000", "--variance", "Zero()"),
    "1000 steps, beta": ("--grid", "Native()", "--steps", "1000", "--variance", "UnitData()"),
    "1000 steps, analytic": ("--grid", "Native()", "--steps", "1000", "--variance", "Analytic()"),
    "1000 steps, NPR": ("--grid", "Native()", "--steps", "1000", "--variance", "NoiseResidual()"),
    "1000 steps, OCM": ("--grid", "Native()", "--steps", "1000", "--variance", "OptimalCovariance()"),
    "50 steps of the path, beta-tilde": (*BEST, "--steps", "50", "--terms", "all", "--variance", "Zero()"),
    "50 steps of the path, beta": (*BEST, "--steps", "50", "--terms", "all", "--variance", "UnitData()"),
    "50 steps of the path, analytic": (*BEST, "--steps", "50", "--terms", "all", "--variance", "Analytic()"),
    "50 steps of the path, NPR": (*BEST, "--steps", "50", "--terms", "all", "--variance", "NoiseResidual()"),
    "50 steps of the path, OCM": (*BEST, "--steps", "50", "--terms", "all", "--variance", "OptimalCovariance()"),
    "50 uniform steps, beta-tilde": ("--grid", "Uniform()", "--steps", "50", "--terms", "all", "--variance", "Zero()"),
    "50 uniform steps, beta": ("--grid", "Uniform()", "--steps", "50", "--terms", "all", "--variance", "UnitData()"),
    "50 uniform steps, analytic": (
        *("--grid", "Uniform()", "--steps", "50", "--terms", "all", "--variance", "Analytic()"),
    ),
    "infinitely many steps": ("--method", "continuous"),
    "probability flow": ("--method", "flow", "--tolerance", "1e-4"),
}


def measured(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The result of one row."""
    n = arguments.flow if name == "probability flow" else arguments.n
    command = ["likelihood", arguments.run, *([arguments.data] if arguments.data else []), "-n", str(n)]
    precision = "fp32" if name == "probability flow" else arguments.precision
    command += [*ROWS[name], "--precision", precision, "--seed", "0", "--no-record", "--json"]
    kept = None
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        kept = arguments.keep / f"{hashlib.sha256(repr(command).encode()).hexdigest()[:16]}.json"
        if kept.exists():
            return json.loads(kept.read_text())
    print(f"{name}: diffprob {' '.join(command)}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "diffprob", *command], stdout=subprocess.PIPE, text=True, check=True)
    if kept:
        kept.write_text(done.stdout)
    return json.loads(done.stdout)


def main() -> int:
    """Measure, a row for each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run", nargs="?", default="digits")
    parser.add_argument("--data")
    parser.add_argument("-n", type=int, default=1000, help="images of every bound")
    parser.add_argument("--flow", type=int, default=100, help="images of the probability flow")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--keep", type=Path, help="keep every result in this folder, and use what is there")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.rows:
        found = measured(name, arguments)
        row = {"": name, "bits/dim": found["bits_per_dim"], "+-": found["standard_error"]}
        parts = found["terms_bits_per_dim"]
        rows.append({**row, "n": found["n"], **{p: parts[p] for p in ("steps", "reconstruction") if p in parts}})
    return finish(rows, True, {"run": arguments.run, "precision": arguments.precision}, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
