"""Samplers and grids at few evaluations: the Frechet distance and KID of a run's samples to held-out images.

    python benchmarks/quality_samplers.py mnist --data data/mnist -n 1000 --steps 10 20 --out samplers.json

Every row draws from the same seeds. The features are those of `diffprob evaluate`: a classifier trained on the labels.
"""

from quality import answer, finish
from quality_rows import Drawing, Method, Yardstick, options, row

from diffprob.runs.folder import Run

SAMPLERS = ("DDIM()", "DPMpp(2)", "DPMpp(3)", "UniPC(2)", "Heun()", "DPMppSDE(2)", "Ancestral()")
GRIDS = ("Uniform()", "LogSNR()")


def main() -> int:
    """Draw and compare, a row for each sampler, grid and number of evaluations."""
    parser = options(__doc__ or "", 1000, [10, 20])
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--grids", nargs="+", default=list(GRIDS))
    parser.add_argument("--variance", default="Zero()", help="of the samplers that use one")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    yardstick = Yardstick(run, arguments.data, arguments.split)
    drawing = Drawing.of(arguments)
    rows = [
        row(run, Method(sampler, steps, grid, arguments.variance), drawing, yardstick)
        for steps in arguments.steps
        for sampler in arguments.samplers
        for grid in arguments.grids
    ]
    details = {"run": run.name, "n": arguments.n, "seed": arguments.seed, **yardstick.facts(), "chunk": arguments.chunk}
    return finish(rows, True, details, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
