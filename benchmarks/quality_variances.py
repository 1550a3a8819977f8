"""The table of the reverse variances: how good samples are with every method, from 10 evaluations to 1000.

    diffprob fit runs/mnist analytic npr sn ocm
    python benchmarks/quality_variances.py runs/mnist --data data/mnist -n 1000 --steps 10 25 50 --out variances.json

The rows of Bao et al. 2022, table 2, and what came later; every cell draws from the same seeds. The run needs the fits.
``--keep`` keeps the samples, so that a stopped table goes on where it was.
"""

import argparse
from pathlib import Path

from quality import answer, finish
from quality_rows import Drawing, Method, Yardstick, row

from diffprob.recipe.checkpoint import Run

METHODS = {
    "Euler-Maruyama": ("EulerMaruyama()", "Zero()"),
    "ancestral, beta": ("Ancestral()", "UnitData()"),
    "ancestral, beta-tilde": ("Ancestral()", "Zero()"),
    "probability flow": ("DDIM()", "Zero()"),
    "analytic": ("Ancestral()", "Analytic()"),
    "analytic, norm": ("Ancestral()", 'Analytic(moment="norm")'),
    "NPR": ("Ancestral()", "NoiseResidual()"),
    "SN": ("Ancestral()", "SquaredNoise()"),
    "OCM": ("Ancestral()", "OptimalCovariance()"),
}


def main() -> int:
    """Draw and compare, a row for each method and number of evaluations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run")
    parser.add_argument("--data")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 25, 50, 100, 200, 1000])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--grid", default="Uniform()")
    parser.add_argument("--split", choices=("test", "train"), default="test", help="what samples are compared with")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--keep", type=Path, help="keep the samples in this folder, and use what is there")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    yardstick = Yardstick(run, arguments.data, arguments.split)
    drawing = Drawing(arguments.n, 0, arguments.precision, arguments.chunk, arguments.keep)
    rows = []
    for steps in arguments.steps:
        for name in arguments.methods:
            sampler, variance = METHODS[name]
            rows.append(
                {"method": name, **row(run, Method(sampler, steps, arguments.grid, variance), drawing, yardstick)}
            )
    details = {"run": run.name, "n": arguments.n, **yardstick.facts(), "chunk": arguments.chunk}
    return finish(rows, True, details, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
