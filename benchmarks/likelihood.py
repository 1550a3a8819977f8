"""Bits/dim of a run by every bound: chains of 1000 and of 50 steps with every variance, and the probability flow.

    python benchmarks/likelihood.py mnist --data data/mnist -n 1000 --precision bf16 --out likelihood.json
    python benchmarks/likelihood.py digits -n 360 --out likelihood.json

Every row measures the same images with the same noise. ``--keep`` keeps each result, so
that a stopped table goes on where it was. `likelihood_baselines.py` has what else these images cost.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality import answer, finish

from diffprob.denoise.variance import Analytic, NoiseResidual, OptimalCovariance, UnitData, Zero
from diffprob.process.grids import Native, Uniform
from diffprob.process.path import LeastCost
from diffprob.runs.folder import Run
from diffprob.tasks.bounds import ChainBound
from diffprob.tasks.compute import Compute
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.likelihood import ContinuousTimeBound, LikelihoodRequest, ProbabilityFlow, likelihood

BEST, NATIVE = LeastCost(whole=True), Native()


@dataclass(frozen=True)
class Row:
    """How images are measured, and which."""

    method: ChainBound | ContinuousTimeBound | ProbabilityFlow = ChainBound()
    split: str = "auto"


def chain(grid: Any, steps: int, variance: Any) -> Row:
    """1000 steps by 50 random terms, or fewer steps by all of them."""
    more: dict[str, Any] = {} if steps == 1000 else {"terms": None}
    return Row(ChainBound(grid=grid, steps=steps, variance=variance, **more))


ROWS = {
    "fitted path, analytic": Row(),
    "fitted path, analytic, training images": Row(split="train"),
    "fitted path, NPR": Row(ChainBound(variance=NoiseResidual())),
    "1000 steps, beta-tilde": chain(NATIVE, 1000, Zero()),
    "1000 steps, beta": chain(NATIVE, 1000, UnitData()),
    "1000 steps, analytic": chain(NATIVE, 1000, Analytic()),
    "1000 steps, NPR": chain(NATIVE, 1000, NoiseResidual()),
    "1000 steps, OCM": chain(NATIVE, 1000, OptimalCovariance()),
    "50 steps of the path, beta-tilde": chain(BEST, 50, Zero()),
    "50 steps of the path, beta": chain(BEST, 50, UnitData()),
    "50 steps of the path, analytic": chain(BEST, 50, Analytic()),
    "50 steps of the path, NPR": chain(BEST, 50, NoiseResidual()),
    "50 steps of the path, OCM": chain(BEST, 50, OptimalCovariance()),
    "50 uniform steps, beta-tilde": chain(Uniform(), 50, Zero()),
    "50 uniform steps, beta": chain(Uniform(), 50, UnitData()),
    "50 uniform steps, analytic": chain(Uniform(), 50, Analytic()),
    "infinitely many steps": Row(ContinuousTimeBound()),
    "probability flow": Row(ProbabilityFlow(tolerance=1e-4)),
}


def measured(name: str, run: Run, arguments: argparse.Namespace) -> dict[str, Any]:
    """The result of one row."""
    flow = name == "probability flow"
    images = ImageSelection(images=arguments.data, split=ROWS[name].split, n=arguments.flow if flow else arguments.n)
    compute = Compute(precision="fp32" if flow else arguments.precision)
    request = LikelihoodRequest(images=images, method=ROWS[name].method, compute=compute)
    kept = None
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(f"{arguments.run} {request!r}".encode()).hexdigest()[:16]
        kept = arguments.keep / f"{digest}.json"
        if kept.exists():
            return json.loads(kept.read_text())
    print(f"{name}: {request!r}", file=sys.stderr, flush=True)
    result = likelihood(run, request).to_json()
    if kept:
        kept.write_text(json.dumps(result))
    return result


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
    rows, run = [], Run.open(arguments.run)
    for name in arguments.rows:
        result = measured(name, run, arguments)
        row = {"": name, "bits/dim": result["bits_per_dim"], "+-": result["standard_error"]}
        parts = result["terms_bits_per_dim"]
        rows.append({**row, "n": result["n"], **{p: parts[p] for p in ("steps", "reconstruction") if p in parts}})
    return finish(rows, True, {"run": arguments.run, "precision": arguments.precision}, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
