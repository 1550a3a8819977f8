"""The ablation of Ho et al. 2020 (table 2) on the digits: what is predicted, and which loss trains it.

    python benchmarks/ablation.py --steps 3000 --out ablation.json          # eight rows, three seeds
    python benchmarks/ablation.py --steps 20 --seeds 0 --chain 50 -n 100    # does it run: a minute

Every row trains the same network on the same images in the same order, and only prediction, variance and loss differ;
the last two also learn their noise schedule (Kingma et al. 2021), and the very last has Fourier features of its input.
Bits/dim are the variational bound on the test digits, with every term of the chain; a model that knows nothing but the
number of grey levels has log2 17 = 4.09. A row diverges when its training or its bound is not finite, or when the bound
is above that.
"""

import argparse
import math
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from quality import answer, finish
from quality_rows import Yardstick

from diffprob.base.errors import NumericalError
from diffprob.base.rng import Rng, derive
from diffprob.config.recipe import Recipe, build_model
from diffprob.data.sources import Digits
from diffprob.denoise.denoiser import Index
from diffprob.denoise.learned import LearnedDiagonal
from diffprob.denoise.prediction import Epsilon, Mu, Prediction
from diffprob.denoise.variance import UnitData, Variance, Zero
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.net.layers import fourier_powers
from diffprob.process.grids import Uniform
from diffprob.process.learned import Learned
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import LinearBetas, Schedule
from diffprob.recipes import named
from diffprob.runs.folder import Run
from diffprob.runs.writer import RunWriter
from diffprob.sampling.ancestral import Ancestral
from diffprob.tasks.drawing import draw
from diffprob.training.bound import VariationalBound
from diffprob.training.continuous import ContinuousBound
from diffprob.training.denoising import Denoising
from diffprob.training.loop import Trainer


@dataclass(frozen=True)
class Row:
    """What a row of the table changes; ``prediction`` and ``schedule`` may depend on the length of the chain."""

    prediction: str
    variance: Variance
    objective: Any
    learned_schedule: bool = False
    fourier: bool = False


ROWS = {
    "mu, L, learned diagonal": Row("mu", LearnedDiagonal(), VariationalBound()),
    "mu, L, fixed isotropic": Row("mu", UnitData(), VariationalBound()),
    "mu, |mu - muh|^2": Row("mu", UnitData(), Denoising()),
    "eps, L, learned diagonal": Row("eps", LearnedDiagonal(), VariationalBound()),
    "eps, L, fixed isotropic": Row("eps", UnitData(), VariationalBound()),
    "eps, L_simple": Row("eps", UnitData(), Denoising()),
    "eps, continuous L, learned schedule": Row("eps", Zero(), ContinuousBound(), learned_schedule=True),
    "the same with Fourier features": Row("eps", Zero(), ContinuousBound(), learned_schedule=True, fourier=True),
}


def options() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=3000, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the trainings")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--chain", type=int, default=1000, help="T")
    parser.add_argument("--width", type=int, default=32, help="of the network; 32 is the digits recipe")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--clip", type=float, default=1.0, help="largest gradient norm; inf never clips")
    parser.add_argument("-n", type=int, default=360, help="samples of the Frechet distance")
    parser.add_argument("--evaluations", type=int, default=100, help="network evaluations for each sample")
    parser.add_argument("--images", type=int, default=None, help="test digits of the bound; all unless given")
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder, and go on with those that are there")
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    return parser


def recipe_of(name: str, given: argparse.Namespace, seed: int) -> Recipe:
    """The recipe of a row: that of the digits, with DDPM's schedule kept to its total noise on shorter chains."""
    row, base = ROWS[name], named("digits")
    more = 1000 / given.chain
    schedule: Schedule = LinearBetas(given.chain, 1e-4 * more, 0.02 * more)
    prediction: Prediction = Mu(given.chain) if row.prediction == "mu" else Epsilon()
    if row.learned_schedule:  # between the ends that the table has
        first, last = schedule.logsnr(torch.tensor([1 / given.chain, 1.0], dtype=torch.float64)).tolist()
        schedule = Learned(round(first, 2), round(last, 2))
    outputs = 2 if isinstance(row.variance, LearnedDiagonal) else 1
    widths, powers = (given.width, given.width), fourier_powers(base.space.levels)
    training = replace(
        base.training, steps=given.steps, seed=seed, lr=given.lr, clip=given.clip, warmup=min(200, given.steps // 4)
    )
    return replace(
        base,
        network=replace(base.network, out_channels=outputs, widths=widths, fourier=powers if row.fourier else ()),
        process=LinearProcess(schedule),
        prediction=prediction,
        clock=Index(given.chain),
        variance=row.variance,
        objective=row.objective,
        training=replace(training, sample_every=0, checkpoint_every=max(1, given.steps // 4), precision="fp32"),
    )


def train(recipe: Recipe, folder: Path) -> tuple[str, float]:
    """Train into ``folder``, or go on there; ("" or what went wrong, seconds for 100 steps)."""
    images = recipe.data.load()
    torch.manual_seed(derive(recipe.training.seed, "weights"))
    store = RunWriter.open(folder, recipe, images.digest())
    try:
        trainer = Trainer(
            build_model(recipe), recipe.objective, images, recipe.space, recipe.training, store, device="cpu"
        )
        try:
            trainer.run()
        except NumericalError as error:
            return str(error), math.nan
        return "", 100 * trainer.seconds / trainer.step
    finally:
        store.close()


def measure(run: Run, given: argparse.Namespace, yardstick: Yardstick) -> dict[str, Any]:
    """Bits/dim of the test digits with their parts, and the Frechet distance of samples."""
    model, space, bits = run.load(chunk=128), run.space, run.space.dimensions * math.log(2)
    pixels = Digits("test").load().pixels[: given.images]
    x0 = space.to_model(torch.from_numpy(pixels), torch.float64)
    times = Uniform()(model.process, given.chain)
    began = time.perf_counter()
    bound = variational_bound(model, x0, times, Rng.of(0, len(x0)), Decoder(space.levels))
    found: dict[str, Any] = {"bits/dim": float(bound.total.mean()) / bits}
    found |= {name: float(getattr(bound, name).mean()) / bits for name in bound._fields}
    found |= {"error": float(bound.total.std()) / bits / len(x0) ** 0.5, "bound seconds": time.perf_counter() - began}
    began = time.perf_counter()
    try:
        few = Uniform()(model.process, min(given.evaluations, given.chain))
        levels = draw(model, Ancestral(), few, Rng.of(10**6, given.n), space).levels
        found |= {"Frechet": yardstick(levels)["Frechet"], "draw seconds": time.perf_counter() - began}
    except NumericalError:
        found["Frechet"] = math.nan
    return found


def trial(name: str, seed: int, given: argparse.Namespace, folder: Path, yardsticks: list[Yardstick]) -> dict[str, Any]:
    """One row and one seed: trained and measured."""
    recipe = recipe_of(name, given, seed)
    path = folder / f"{list(ROWS).index(name)}-{seed}"
    problem, seconds = train(recipe, path)
    found: dict[str, Any] = {"row": name, "seed": seed, "s/100 steps": seconds, "diverged": problem or "no"}
    if not problem:
        run = Run.open(path)
        yardsticks += [] if yardsticks else [Yardstick(run, None)]
        found |= measure(run, given, yardsticks[0])
        worst = math.log2(recipe.space.levels)
        if not found["bits/dim"] < worst:
            found["diverged"] = f"above {worst:.2f} bits/dim"
    said = f"{found.get('bits/dim', math.nan):.3f} bits/dim, {seconds:.1f} s/100 steps, diverged: {found['diverged']}"
    print(f"{name}, seed {seed}: {said}", file=sys.stderr, flush=True)
    return found


def summary(name: str, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of the table: mean and standard deviation over the seeds that have a number, and how many diverged."""
    row: dict[str, Any] = {"row": name, "seeds": len(trials)}
    for column in ("bits/dim", "prior", "steps", "reconstruction", "Frechet", "s/100 steps"):
        values = [trial[column] for trial in trials if math.isfinite(trial.get(column, math.nan))]
        row[column] = mean(values) if values else math.nan
        if column in ("bits/dim", "Frechet"):
            row[f"sd {column}"] = stdev(values) if len(values) > 1 else None
    return {**row, "diverged": sum(trial["diverged"] != "no" for trial in trials)}


def main() -> int:
    """Train, measure and print: a line for each row."""
    given = options().parse_args()
    torch.set_num_threads(min(torch.get_num_threads(), 2))
    trials: list[dict[str, Any]] = []
    yardsticks: list[Yardstick] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for seed in given.seeds:
            trials += [trial(name, seed, given, folder, yardsticks) for name in given.rows]
    rows = [summary(name, [one for one in trials if one["row"] == name]) for name in given.rows]
    facts = {name: getattr(given, name) for name in ("steps", "chain", "width", "lr", "clip", "n", "evaluations")}
    measured = yardsticks[0].facts() if yardsticks else {}
    return finish(rows, True, {**facts, **measured, "trials": trials}, given.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
