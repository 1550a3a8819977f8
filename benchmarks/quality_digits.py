"""Samples of a digits run against held-out digits: sliced Wasserstein-2, relative to that of random training digits.

    python benchmarks/quality_digits.py RUN --out digits.json

The criterion: SW2(samples, held-out) <= 1.25 SW2(training digits, held-out) with 360 of each, for every seed, and an
untrained network of the same recipe does not meet it. Seeds lie 1000 apart, because sample i of a draw has the seed of
the draw plus i.
"""

import torch
from quality import answer, draw_levels, drawing, finish, options

from diffprob.base.rng import permutation
from diffprob.config.recipe import build_model
from diffprob.data.sources import Digits
from diffprob.evaluation.transport import sliced_wasserstein2
from diffprob.reporting.figures import save_grid
from diffprob.runs.folder import Run
from diffprob.runs.measurements import Measurement

LIMIT = 1.25


def main() -> int:
    """Measure, print, and say whether the criterion is met."""
    parser = options(__doc__ or "", "digits")
    parser.add_argument("--directions", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1000, 2000])
    parser.add_argument("--no-untrained", action="store_true", help="leave the untrained network out")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    model = run.load(arguments.device, arguments.chunk, arguments.precision)
    train, test = Digits("train").load(), Digits("test").load()
    plans = [("trained", model, seed) for seed in arguments.seeds]
    if not arguments.no_untrained:
        torch.manual_seed(0)
        untrained = build_model(run.recipe, model.evaluation).to(arguments.device).eval().requires_grad_(False)
        plans.append(("untrained", untrained, arguments.seeds[0]))
    rows = []
    for name, network, seed in plans:
        samples, seconds = draw_levels(network, run.space, len(test), seed, arguments)
        real = train.take(permutation(seed, 0, len(train))[: len(test)])
        ours, theirs = (sliced_wasserstein2(x, test.pixels, arguments.directions, seed) for x in (samples, real))
        ratio = ours / theirs
        rows.append(
            {
                "network": name,
                "seed": seed,
                "SW2 samples": ours,
                "SW2 training digits": theirs,
                "ratio": ratio,
                f"<= {LIMIT}": ratio <= LIMIT,
                "seconds": seconds,
            }
        )
        if arguments.picture and (name, seed) == ("trained", arguments.seeds[0]):
            save_grid(samples[:100], arguments.picture, columns=10, levels=run.space.levels)
        if arguments.record and name == "trained":
            title = "sliced W2 to held-out digits, relative to training digits"
            how = {**drawing(model, arguments), "directions": arguments.directions}
            run.record(Measurement(title, ratio, len(test), seed, details=how))
    passed = all((row["ratio"] <= LIMIT) == (row["network"] == "trained") for row in rows)
    details = {
        "criterion": f"ratio <= {LIMIT} for every seed; not for the untrained network",
        "run": str(arguments.run),
        "step": run.meta["step"],
        "n": len(test),
        "directions": arguments.directions,
        "unit": "grey levels of 17",
        **drawing(model, arguments),
    }
    return finish(rows, passed, details, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
