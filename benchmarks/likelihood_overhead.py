"""What measuring a bound costs besides the network: its share of the processor's time, 50 steps on MNIST images.

    python benchmarks/likelihood_overhead.py mnist --data data/mnist -n 1000 --out overhead.json

Processor time of the process, so that other work on the machine does not count; the share is 1 - network/whole.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from quality import answer, finish

from diffprob.base.rng import Rng
from diffprob.denoise.clipping import Clip
from diffprob.denoise.variance import Analytic
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.process.path import LeastCost
from diffprob.runs.fits import bind_grid
from diffprob.runs.folder import Run
from diffprob.tasks.images import splits

LIMIT = 0.05


def main() -> int:
    """Measure, print, and say whether the share is below the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run", nargs="?", default="mnist")
    parser.add_argument("--data")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = Run.open(arguments.run)
    model = run.load(precision=arguments.precision, variance=Analytic(last=math.inf))
    images = splits(run, arguments.data)[1] or splits(run, arguments.data)[0]
    x0 = run.space.to_model(torch.from_numpy(images.take(range(arguments.n))), torch.float64)
    times = bind_grid(run, LeastCost(whole=True))(model.process, arguments.steps)
    forward, inside = model.net.forward, [0.0]

    def timed(*values: Any, **named: Any) -> Any:
        began = time.process_time()
        found = forward(*values, **named)
        inside[0] += time.process_time() - began
        return found

    model.net.forward = timed
    rows = []
    for _ in range(arguments.reps):
        inside[0], began = 0.0, time.process_time()
        for first in range(0, arguments.n, 4 * (model.evaluation.chunk or arguments.n)):
            block = x0[first : first + 4 * (model.evaluation.chunk or arguments.n)]
            variational_bound(Clip(model), block, times, Rng.of(first, len(block)), Decoder(run.space.levels))
        whole = time.process_time() - began
        share = 1 - inside[0] / whole
        rows.append(
            {"seconds": whole, "in the network": inside[0], "share outside": share, f"< {LIMIT}": share < LIMIT}
        )
    passed = all(row[f"< {LIMIT}"] for row in rows)
    details = {"run": run.name, "n": arguments.n, "steps": arguments.steps, "precision": arguments.precision}
    return finish(rows, passed, details, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
