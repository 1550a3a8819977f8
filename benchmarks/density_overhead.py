"""What scoring images costs besides the network: the share of the processor's time of every proxy.

    python benchmarks/density_overhead.py mnist --data data/mnist -n 1000 --out overhead.json

Processor time of the process, so that other work on the machine does not count; the share is 1 - network/whole.
Gradients through the network (of `Scoped`) count as its own.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from quality import answer, finish

from diffprob.base.rng import Rng
from diffprob.density.defaults import STANDARD
from diffprob.runs.folder import Run
from diffprob.tasks.images import splits
from diffprob.tasks.scoring import label

LIMIT = 0.05


class Stopwatch:
    """Processor time spent in a network and in gradients through it."""

    def __init__(self, model: Any) -> None:
        self.seconds = 0.0
        model.net.forward = self.timed(model.net.forward)
        torch.autograd.grad = self.timed(torch.autograd.grad)

    def timed(self, function: Any) -> Any:
        """The function, whose time is counted."""

        def call(*values: Any, **named: Any) -> Any:
            began = time.process_time()
            found = function(*values, **named)
            self.seconds += time.process_time() - began
            return found

        return call


def main() -> int:
    """Measure, print, and say whether every share is below the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run", nargs="?", default="mnist")
    parser.add_argument("--data")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = Run.open(arguments.run)
    model = run.load(precision=arguments.precision)
    test, train = splits(run, arguments.data)[1], splits(run, arguments.data)[0]
    x0 = run.space.to_model(torch.from_numpy((test or train).take(range(arguments.n))))
    watch, block, rows = Stopwatch(model), 4 * (model.evaluation.chunk or arguments.n), []
    for proxy in STANDARD:
        bound = proxy.bind(run.space)
        bound.statistics(model, x0[:block], Rng.of(0, min(block, arguments.n)))  # what is computed once
        watch.seconds, began = 0.0, time.process_time()
        parts = [
            bound.statistics(model, x0[first : first + block], Rng.of(first, len(x0[first : first + block])))
            for first in range(0, arguments.n, block)
        ]
        if bound.needs_fit:
            bound.score(torch.cat(parts), bound.fit(torch.cat(parts)))
        whole = time.process_time() - began
        share = 1 - watch.seconds / whole
        rows.append({"proxy": label(proxy), "seconds": whole, "share outside": share, f"< {LIMIT}": share < LIMIT})
    passed = all(row[f"< {LIMIT}"] for row in rows)
    return finish(rows, passed, {"run": run.name, "n": arguments.n, "precision": arguments.precision}, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
