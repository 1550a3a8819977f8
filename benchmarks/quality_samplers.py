"""Samplers and grids at few evaluations: the Frechet distance and KID of a run's samples to held-out images.

    python benchmarks/quality_samplers.py mnist --data data/mnist -n 1000 --steps 10 20 --out samplers.json

Every row draws from the same seeds. The features are those of `diffprob evaluate`: a classifier trained on the labels.
"""

import argparse
from pathlib import Path

from quality import answer, finish
from quality_rows import Drawing, Method, Yardstick, row

from diffprob.recipe.checkpoint import Run

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
    parser.add_argument("--variance", default="Zero()", help="of the samplers that use one")
    parser.add_argument("--split", choices=("test", "train"), default="test", help="what samples are compared with")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--keep", type=Path, help="keep the samples in this folder, and use what is there")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    yardstick = Yardstick(run, arguments.data, arguments.split)
    drawing = Drawing(arguments.n, 0, arguments.precision, arguments.chunk, arguments.keep)
    rows = [
        row(run, Method(sampler, steps, grid, arguments.variance), drawing, yardstick)
        for steps in arguments.steps
        for sampler in arguments.samplers
        for grid in arguments.grids
    ]
    details = {"run": run.name, "n": arguments.n, **yardstick.facts(), "chunk": arguments.chunk}
    return finish(rows, True, details, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
