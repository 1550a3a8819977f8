"""Rows of quality tables: samples of one run by one method, drawn or read again, against held-out images."""

import argparse
import hashlib
import sys
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffprob.base.rng import Rng
from diffprob.config.registry import ALL
from diffprob.config.spec import parse
from diffprob.evaluation.cache import FeatureCache
from diffprob.evaluation.features import Features, describe, extract
from diffprob.evaluation.frechet import frechet
from diffprob.evaluation.kernel import kid
from diffprob.runs.fits import bind_grid
from diffprob.runs.folder import Run
from diffprob.sampling.simulate import cost, plan
from diffprob.tasks.drawing import draw, make_times
from diffprob.tasks.features import Auto
from diffprob.tasks.images import splits


@dataclass(frozen=True)
class Method:
    """How samples are drawn: reprs of a sampler, a grid and a variance, and the evaluations for each sample."""

    sampler: str
    steps: int
    grid: str = "Uniform()"
    variance: str = "Zero()"


def options(description: str, n: int, steps: list[int]) -> argparse.ArgumentParser:
    """The options of the scripts that make tables of samples."""
    parser = argparse.ArgumentParser(description=description.split("\n", 1)[0])
    parser.add_argument("run", nargs="?", default="mnist", help="a run's folder, or the name of a packaged run")
    parser.add_argument("--data", help="the images it was trained on")
    parser.add_argument("-n", type=int, default=n, help="samples in every row")
    parser.add_argument("--seed", type=int, default=0, help="of the first sample; sample i has the seed plus i")
    parser.add_argument("--steps", type=int, nargs="+", default=steps, help="evaluations for each sample")
    parser.add_argument("--split", choices=("test", "train"), default="test", help="what samples are compared with")
    parser.add_argument("--precision", default="bf16", help="of the network: fp32, bf16 or fp16")
    parser.add_argument("--chunk", type=int, default=128, help="samples per network call")
    parser.add_argument("--keep", type=Path, help="keep our samples in this folder, and use what is there")
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    return parser


@dataclass(frozen=True)
class Drawing:
    """What all rows of a table share."""

    n: int
    seed: int = 0
    precision: str = "fp32"
    chunk: int = 128
    keep: Path | None = None

    @classmethod
    def of(cls, given: argparse.Namespace) -> "Drawing":
        """What the `options` say."""
        return cls(given.n, given.seed, given.precision, given.chunk, given.keep)


class Yardstick:
    """Held-out images of a run's data, in the features of `diffprob evaluate`."""

    def __init__(self, run: Run, data: str | None, split: str = "test") -> None:
        train, test = splits(run, data)
        self.features: Features = Auto().fit(train, test)
        held = train if test is None or split == "train" else test
        self.split, self.count = split if test is not None else "train", len(held)
        self.held = FeatureCache().extract(self.features, held, held.digest(), np.arange(len(held))).features

    def __call__(self, levels: np.ndarray) -> dict[str, Any]:
        """Frechet distance, with its extrapolation to infinitely many samples and that one's interval, and KID."""
        found = extract(self.features, levels)
        distance, kernel = frechet(found, self.held), kid(found, self.held)
        return {
            "Frechet": distance.value,
            "extrapolated": distance.details["extrapolated"],
            "low": distance.details["low_inf"],
            "high": distance.details["high_inf"],
            "KID": kernel.value,
        }

    def facts(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {"features": describe(self.features), "held out": f"{self.split}, {self.count} images"}


def row(run: Run, method: Method, drawing: Drawing, yardstick: Yardstick) -> dict[str, Any]:
    """Draw by a method (or read what was drawn so before), compare, and say how long it took."""
    levels, seconds, evaluations = _levels(run, method, drawing)
    made = {"evaluations": evaluations, "sampler": method.sampler, "grid": method.grid, "variance": method.variance}
    found = {**made, **yardstick(levels), "seconds": seconds}
    said = f"{method.steps} {method.sampler} {method.grid} {method.variance}"
    # Few samples have no extrapolation.
    best = found["Frechet"] if found["extrapolated"] is None else found["extrapolated"]
    print(f"{said}: {best:.3g} in {seconds:.0f} s", file=sys.stderr, flush=True)
    return found


def _levels(run: Run, method: Method, drawing: Drawing) -> tuple[np.ndarray, float, int]:
    """uint8 samples (n, C, H, W), seconds, and evaluations for each sample."""
    solver, size = plan(parse(method.sampler, ALL), method.steps)
    grid = bind_grid(run, parse(method.grid, ALL))
    times = make_times(grid, run.process, size)
    evaluations = cost(solver, len(times)) or 0
    key = (run.meta["step"], *astuple(method), drawing.n, drawing.seed, drawing.precision, drawing.chunk)
    name = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    path = drawing.keep / f"{run.name}-{name}.npz" if drawing.keep else None
    if path is not None and path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return stored["images"], float(stored["seconds"]), evaluations
    began = time.perf_counter()
    model = run.load(chunk=drawing.chunk, precision=drawing.precision, variance=parse(method.variance, ALL))
    levels = draw(model, solver, times, Rng.of(drawing.seed, drawing.n), run.space).levels
    seconds = time.perf_counter() - began
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, images=levels, seconds=seconds, key=repr(key))
    return levels, seconds, evaluations
