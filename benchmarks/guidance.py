"""Classifier-free guidance against its weight: does the classifier read the label that was asked for, what is lost.

    python benchmarks/guidance.py mnist_labels --data data/mnist -n 1000 --steps 25 --figure docs/images/guidance.png

Every row is an evaluation with another guidance: the same seeds, labels in turn, and the classifier that was
trained on the real training images; "real" is what a perfect model would get.
"""

import argparse
from pathlib import Path
from typing import Any

from quality import answer, finish

from diffprob.conditions.condition import Labels
from diffprob.runs.folder import Run
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.evaluation import EvaluationRequest, evaluate
from diffprob.tasks.plan import Sampling

WEIGHTS = (-0.5, 0.0, 0.5, 1.0, 2.0, 4.0)
ROWS = {
    "label accuracy": "label accuracy",
    "Frechet distance": "Frechet",
    "KID": "KID",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}


def main() -> int:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run", nargs="?", default="mnist_labels")
    parser.add_argument("--data")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--weights", nargs="+", type=float, default=WEIGHTS)
    parser.add_argument("--interval", nargs=2, help="guide within these times only")
    parser.add_argument("--least", type=float, default=0.97, help="label accuracy that w = 0.5 must reach")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    run, rows, real = Run.open(arguments.run), [], {}
    for weight in arguments.weights:
        measured = _evaluate(arguments, run, weight)
        rows.append({"w": weight, **{ROWS[row["title"]]: row["value"] for row in measured if row["title"] in ROWS}})
        real = {ROWS[row["title"]]: row["real"] for row in measured if row["title"] in ROWS}
    if arguments.figure:
        _draw(rows, real, arguments.figure)
    obeyed = all(row["label accuracy"] >= arguments.least for row in rows if row["w"] == 0.5)
    settings = {"run": arguments.run, "n": arguments.n, "steps": arguments.steps, "seed": arguments.seed}
    return finish([*rows, {"w": "real", **real}], obeyed, settings, arguments.out)


def _evaluate(arguments: argparse.Namespace, run: Run, weight: float) -> list[dict[str, Any]]:
    condition = run.recipe.condition
    assert isinstance(condition, Labels)
    names = tuple(condition.name(int(k)) for k in condition.example_rows(condition.classes))
    interval = tuple(map(float, arguments.interval)) if arguments.interval and weight else None
    request = EvaluationRequest(
        sampling=Sampling(
            n=arguments.n,
            seed=arguments.seed,
            steps=arguments.steps,
            conditioning=Conditioning(label=names, guidance=weight, guidance_interval=interval),
            compute=Compute(precision=arguments.precision),
        ),
        place=arguments.data,
        metrics=("labels", "frechet", "kid", "manifold"),
    )
    return evaluate(run, request).rows


def _draw(rows: list[dict[str, Any]], real: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, names in zip(axes, (("label accuracy",), ("precision", "recall"), ("Frechet",)), strict=True):
        for colour, name in zip(("C0", "C1"), names, strict=False):
            axis.plot([row["w"] for row in rows], [row[name] for row in rows], "o-", color=colour, label=name)
            axis.axhline(real[name], color=colour, linestyle=":", label=f"{name}, real images")
        axis.set_xlabel("guidance w")
        axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(answer(main))
