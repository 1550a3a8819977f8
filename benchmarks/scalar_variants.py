"""Potentials of a run by every method and variant: how near their gradient comes to the noise, and at what cost.

    python benchmarks/scalar_variants.py digits --steps 600 --out variants.json

Each variant is a distillation with a few fields set, all from one seed, saved as a run in ``--runs`` (the same
command again goes on). Errors are on held-out images, all models on the same noise: of the true noise, whose floor is
what no model can know, and of the teacher's prediction. The Frechet distance is that of `diffprob evaluate`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from quality import answer, finish

from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.runs.folder import Run
from diffprob.sampling.between import add_noise
from diffprob.tasks.distillation import DistillRequest, distill
from diffprob.tasks.evaluation import EvaluationRequest, evaluate
from diffprob.tasks.images import splits
from diffprob.tasks.plan import Sampling


def _head(**fields: Any) -> dict[str, Any]:
    """A head on the frozen body, with these fields."""
    overrides = {f"network.body.{name}": value for name, value in fields.items()}
    return {"method": "scalar", "frozen": True, "overrides": overrides}


VARIANTS: dict[str, dict[str, Any]] = {
    "head as reported: BatchNorm, ReLU": _head(norm="batch", activation="relu"),
    "head: SiLU, no norm": _head(),
    "head: SiLU, group norm": _head(norm="group"),
    "head: softplus, no norm": _head(activation="softplus"),
    "head: SiLU, sum over pixels": _head(pool="sum"),
    "head: SiLU, a third of the rate": {**_head(), "overrides": {"training.lr": 0.00033}},
    "head: SiLU, wider": _head(head_widths=(256, 128)),
    "SiLU, body learns in the second half": {"method": "scalar"},
    "whole U-Net": {"method": "full"},
    "gradient distillation": {"method": "gradient"},
}
TIMES = 50  # of the errors


def main() -> int:
    """Train every variant, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run", nargs="?", default="digits")
    parser.add_argument("--data")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--runs", type=Path, default=Path("runs/variants"))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("-n", type=int, default=360, help="held-out images, and samples")
    parser.add_argument("--samples", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    teacher = Run.open(arguments.run)
    cases = list(_cases(teacher, arguments))
    rows = [{"variant": "teacher", **_errors(teacher.load(), teacher.load(), cases), **_frechet(teacher, arguments)}]
    for name in arguments.variants:
        folder = arguments.runs / str(list(VARIANTS).index(name))
        overrides = {"training.sample_every": 0, **VARIANTS[name].get("overrides", {})}
        place = {"data": arguments.data, "out": folder, "steps": arguments.steps}
        done = distill(teacher, DistillRequest(**{**VARIANTS[name], **place, "overrides": overrides}))
        assert done is not None
        run, training = Run.open(folder), done.training
        how = {"training loss": training.loss, "seconds": training.seconds_training}
        errors = _errors(run.load(), teacher.load(), cases)
        rows.append({"variant": name, **how, **errors, **_frechet(run, arguments)})
    return finish(rows, True, {"run": teacher.name, "steps": arguments.steps, "n": arguments.n}, arguments.out)


def _cases(run: Run, arguments: argparse.Namespace) -> Iterator[tuple[Any, ...]]:
    """(t, x_t, noise) of the held-out images, the same for all models."""
    train, test = splits(run, arguments.data)
    x0 = run.space.to_model(torch.from_numpy((test or train).take(range(arguments.n))))
    for k in range(TIMES):
        t = run.process.schedule.snap(torch.tensor((k + 0.5) / TIMES, dtype=torch.float64))
        xt = add_noise(run.process, x0, t, Rng.of(7, len(x0)).at(k))
        alpha, sigma = (float(c) for c in run.process.coefficients(t))
        yield t, xt, (xt - alpha * x0) / sigma


@torch.no_grad()
def _errors(model: NetDenoiser, teacher: NetDenoiser, cases: list[tuple[Any, ...]]) -> dict[str, float]:
    true, learned = [], []
    for t, xt, noise in cases:
        one, two = (one.process.predicted_noise(one(xt, t).mean, xt, t) for one in (model, teacher))
        true.append(float((one - noise).square().mean()))
        learned.append(float((one - two).square().mean()))
    return {"noise error": sum(true) / len(true), "error of the teacher's": sum(learned) / len(learned)}


def _frechet(run: Run, arguments: argparse.Namespace) -> dict[str, float]:
    if not arguments.samples:
        return {}
    sampling = Sampling(n=arguments.n, steps=20)
    result = evaluate(run, EvaluationRequest(sampling=sampling, place=arguments.data, metrics=("frechet",)))
    return {"Frechet": result.estimates["Frechet distance"].value}


if __name__ == "__main__":
    raise SystemExit(answer(main))
