"""The table of the reverse variances: how good samples are with every method, from 10 evaluations to 1000.

    diffprob fit runs/mnist analytic npr sn ocm
    python benchmarks/quality_variances.py runs/mnist --data data/mnist -n 1000 --steps 10 25 50 --out variances.json

The rows of Bao et al. 2022, table 2, and what came later; every cell draws from the same seeds. The run needs the fits.
``--keep`` keeps the samples, so that a stopped table goes on where it was.
"""

from quality import answer, finish
from quality_rows import Drawing, Method, Yardstick, options, row

from diffprob.runs.folder import Run

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
    parser = options(__doc__ or "", 1000, [10, 25, 50, 100, 200, 1000])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--grid", default="Uniform()")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    yardstick = Yardstick(run, arguments.data, arguments.split)
    drawing = Drawing.of(arguments)
    rows = []
    for steps in arguments.steps:
        for name in arguments.methods:
            sampler, variance = METHODS[name]
            rows.append(
                {"method": name, **row(run, Method(sampler, steps, arguments.grid, variance), drawing, yardstick)}
            )
    details = {"run": run.name, "n": arguments.n, "seed": arguments.seed, **yardstick.facts(), "chunk": arguments.chunk}
    return finish(rows, True, details, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
