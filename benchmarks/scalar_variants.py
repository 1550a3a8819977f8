"""Potentials of a run by every method and variant: how near their gradient comes to the noise, and at what cost.

    python benchmarks/scalar_variants.py digits --steps 600 --out variants.json

Each variant is `diffprob distill` with a few fields set, all from one seed, saved as a run in ``--runs`` (the same
command again goes on). Errors are on held-out images, all models on the same noise: of the true noise, whose floor is
what no model can know, and of the teacher's prediction. The Frechet distance is `diffprob evaluate`'s.
"""

import argparse
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from quality import answer, finish

from diffprob.base.rng import Rng
from diffprob.cli.main import main as diffprob
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.runs.folder import Run
from diffprob.sampling.between import add_noise
from diffprob.tasks.images import splits

HEAD = "network.body."
VARIANTS: dict[str, tuple[str, ...]] = {
    "head as reported: BatchNorm, ReLU": ("scalar", "--frozen", f"{HEAD}norm=batch", f"{HEAD}activation=relu"),
    "head: SiLU, no norm": ("scalar", "--frozen"),
    "head: SiLU, group norm": ("scalar", "--frozen", f"{HEAD}norm=group"),
    "head: softplus, no norm": ("scalar", "--frozen", f"{HEAD}activation=softplus"),
    "head: SiLU, sum over pixels": ("scalar", "--frozen", f"{HEAD}pool=sum"),
    "head: SiLU, a third of the rate": ("scalar", "--frozen", "training.lr=0.00033"),
    "head: SiLU, wider": ("scalar", "--frozen", f"{HEAD}head_widths=(256,128)"),
    "SiLU, body learns in the second half": ("scalar",),
    "whole U-Net": ("full",),
    "gradient distillation": ("gradient",),
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
    rows = [
        {"variant": "teacher", **_errors(teacher.load(), teacher.load(), cases), **_frechet(arguments.run, arguments)}
    ]
    for name in arguments.variants:
        method, *settings = VARIANTS[name]
        folder = str(arguments.runs / str(list(VARIANTS).index(name)))
        words = [word for text in settings if "=" in text for word in ("--set", text)]
        options = [text for text in settings if "=" not in text]
        data = [] if arguments.data is None else ["--data", arguments.data]
        quiet = ("--set", "training.sample_every=0", "--steps", str(arguments.steps), "--out", folder)
        done = _json("distill", arguments.run, "--method", method, *data, *quiet, *options, *words)
        found = _errors(Run.open(folder).load(), teacher.load(), cases)
        facts = {"training loss": done["loss"], "seconds": done["seconds_training"]}
        rows.append({"variant": name, **facts, **found, **_frechet(folder, arguments)})
    return finish(rows, True, {"run": teacher.name, "steps": arguments.steps, "n": arguments.n}, arguments.out)


def _json(*words: str) -> dict[str, Any]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = diffprob([*words, "--json"])
    if code:
        raise SystemExit(f"diffprob {' '.join(words)} ended with code {code}")
    return json.loads(text.getvalue())


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
        one, two = (each.process.predicted_noise(each(xt, t).mean, xt, t) for each in (model, teacher))
        true.append(float((one - noise).square().mean()))
        learned.append(float((one - two).square().mean()))
    return {"noise error": sum(true) / len(true), "error of the teacher's": sum(learned) / len(learned)}


def _frechet(run: str, arguments: argparse.Namespace) -> dict[str, float]:
    if not arguments.samples:
        return {}
    data = [] if arguments.data is None else [arguments.data]
    found = _json(
        "evaluate", run, *data, "-n", str(arguments.n), "--metrics", "frechet", "--steps", "20", "--no-record"
    )
    return {"Frechet": next(row["value"] for row in found["rows"] if row["title"] == "Frechet distance")}


if __name__ == "__main__":
    raise SystemExit(answer(main))
