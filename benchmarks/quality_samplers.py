"""Samplers and grids at few evaluations: the Frechet distance and KID of a run's samples to held-out images.

    python benchmarks/quality_samplers.py mnist --data data/mnist -n 1000 --steps 10 20 --out samplers.json

Every row draws from the same seeds. The features are those of `diffprob evaluate`: a classifier trained on the labels.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from quality import answer, finish

from diffprob.base.rng import Rng
from diffprob.cli.drawing import draw, make_times
from diffprob.cli.lens import choose_features
from diffprob.cli.reals import splits
from diffprob.evaluate.cache import FeatureCache
from diffprob.evaluate.features import describe, extract
from diffprob.evaluate.frechet import frechet
from diffprob.evaluate.kernel import kid
from diffprob.recipe.checkpoint import Run
from diffprob.recipe.spec import parse
from diffprob.recipe.tables import ALL
from diffprob.sample.simulate import points

SAMPLERS = ("DDIM()", "DPMpp(2)", "DPMpp(3)", "UniPC(2)", "Heun()", "DPMppSDE(2)", "Ancestral()")
GRIDS = ("Uniform()", "LogSNR()")


def main() -> int:
    """Draw and compare, a row for each sampler, grid and number of evaluations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run", nargs="?", default="mnist")
    parser.add_argument("--data")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--grids", nargs="+", default=list(GRIDS))
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    model = run.load(chunk=arguments.chunk, precision=arguments.precision)
    train, test = splits(run, arguments.data)
    features = choose_features("auto", train, test, torch.device("cpu"))
    reference = train if test is None else test
    indices = np.arange(len(reference))
    held = FeatureCache().extract(features, reference, reference.digest(), indices).features
    rows = []
    for steps in arguments.steps:
        for sampler, grid in ((s, g) for s in arguments.samplers for g in arguments.grids):
            solver, began = parse(sampler, ALL), time.perf_counter()
            times = make_times(parse(grid, ALL), model.process, points(solver, steps))
            levels = draw(model, solver, times, Rng.of(0, arguments.n), run.space).levels
            seconds = time.perf_counter() - began
            found = extract(features, levels)
            distance, kernel = frechet(found, held), kid(found, held)
            rows.append(
                {
                    "evaluations": (len(times) - 1) * solver.evaluations + 1,
                    "sampler": sampler,
                    "grid": grid,
                    "Frechet": distance.value,
                    "extrapolated": distance.details["extrapolated"],
                    "low": distance.details["low_inf"],
                    "high": distance.details["high_inf"],
                    "KID": kernel.value,
                    "seconds": seconds,
                }
            )
            print(f"{steps} {sampler} {grid}: {distance.value:.3g} in {seconds:.0f} s", file=sys.stderr, flush=True)
    details = {"run": run.name, "n": arguments.n, "features": describe(features), "chunk": arguments.chunk}
    return finish(rows, True, details, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
