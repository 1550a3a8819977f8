"""Samplers against those of diffusers where the truth is known: Gaussian mixtures with an exact score.

    python benchmarks/samplers.py --out peers.json

Every seed is a fresh mixture, fresh noise and fresh true samples; all methods of a seed start from the same noise. The
rows of diffusers are first screened, on a mixture of its own; those that were among the best by either metric, and the
best setting of every scheduler, are measured on all seeds. Ours are given the posterior mean alone.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.utils.logging import set_verbosity_error
from mixtures import Blend, Mean
from peers import Peer, peers
from quality import answer, finish
from torch import Tensor

from diffprob.base.rng import Rng
from diffprob.evaluation.transport import unit_directions
from diffprob.process.grids import GrainGrid, LogSNR, Uniform
from diffprob.process.linear import LinearProcess
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.defaults import default
from diffprob.sampling.exponential import DPMpp, UniPC
from diffprob.sampling.grain import GrainSolver
from diffprob.sampling.simulate import plan, simulate

METRICS = ("SW2", "NLL gap")
ENTROPY_SAMPLES = 200_000
EXACT = 100  # evaluations after which the solver's own error is far below that of the samples
SCREENED = 5000  # the seed of the screening; the measured ones begin at 30,000


class Task:
    """One mixture with the noise that all methods start from and the true samples they are compared with.

    Args:
        seed: of everything.
        d: dimension.
        n: samples.
        directions: of the sliced distance.
    """

    def __init__(self, seed: int, d: int, n: int, directions: int = 200) -> None:
        self.seed, self.d, self.n = seed, d, n
        self.blend = Blend.random(seed, d)
        first = seed * 10_000_000
        self.rng = Rng.of(first, n)
        self.unit = unit_directions(d, directions, seed).numpy().T.copy()
        self.truth = self._columns(self.blend.sample(Rng.of(first + 1_000_000, n)))
        self.other = self.blend.sample(Rng.of(first + 2_000_000, n))
        known = self.blend.sample(Rng.of(first + 3_000_000, ENTROPY_SAMPLES))
        self.entropy = -float(self.blend.log_prob(known).mean())

    @property
    def noise(self) -> Tensor:
        """The standard normal noise at t = 1 that `diffprob.sampling.simulate.start` scales, (n, d)."""
        return self.rng.fold("prior").normal((self.d,), torch.float64)

    def _columns(self, x: Tensor) -> np.ndarray:
        return np.sort(self.unit @ x.numpy().T, axis=1)

    def score(self, x: Tensor) -> tuple[float, float]:
        """Sliced W2 to the true samples (exact, by sorting), |mean NLL - entropy| in nats."""
        if not bool(torch.isfinite(x).all()):
            return float("inf"), float("inf")
        sliced = float(np.sqrt(np.square(self._columns(x) - self.truth).mean()))
        return sliced, abs(-float(self.blend.log_prob(x).mean()) - self.entropy)


@dataclass(frozen=True)
class Ours:
    """A sampler of this library and the grid it runs on; without, what `default` chooses."""

    sampler: Any = None
    grid: Any = None

    @property
    def name(self) -> str:
        """The reprs."""
        return "default" if self.sampler is None else f"{self.sampler!r} {self.grid!r}"

    def sample(self, model: Mean, task: Task, evaluations: int) -> Tensor:
        """Samples with at most so many evaluations."""
        sampler, grid = (self.sampler, self.grid) if self.sampler else default(evaluations, model.process, (task.d,))
        solver, points = plan(sampler, evaluations)
        times = grid(model.process, points)
        x = task.noise * model.process.sigma(1.0)
        for state in simulate(model, solver, x, times, task.rng):
            x = state.x
        return x


OURS = (
    Ours(),
    Ours(UniPC(2), LogSNR()),
    Ours(DPMpp(2), LogSNR()),
    Ours(DPMpp(3), LogSNR()),
    Ours(UniPC(2), Uniform()),
    Ours(DDIM(), Uniform()),
    Ours(Ancestral(), Uniform()),
)


def measure(methods: Iterable[Ours | Peer], task: Task, evaluations: int) -> dict[str, tuple[float, float]]:
    """{name: scores} of the methods that can do with so many evaluations."""
    found = {}
    for method in methods:
        model = Mean(task.blend)
        if isinstance(method, Ours):
            x = method.sample(model, task, evaluations)
        else:
            x = method.sample(model, task.noise, evaluations, task.seed)
        if x is None:
            continue
        if model.calls > evaluations:
            raise AssertionError(f"{method.name} took {model.calls} evaluations of {evaluations}")
        found[method.name] = task.score(x)
    return found


def screen(everything: list[Peer], arguments: argparse.Namespace, evaluations: int) -> list[Peer]:
    """The settings worth measuring: the best by each metric in each dimension, and the best of each scheduler."""
    kept: set[str] = set()
    kinds = {peer.name: peer.kind for peer in everything}
    for d in arguments.dimensions:
        found = measure(everything, Task(SCREENED, d, 512, 50), evaluations)
        for metric in (0, 1):
            ranked = sorted(found, key=lambda name, m=metric: found[name][m])
            firsts = {kinds[name]: name for name in reversed(ranked)}
            kept |= {*ranked[: arguments.keep], *(firsts.values() if metric == 0 else ())}
    return [peer for peer in everything if peer.name in kept]


def summary(values: np.ndarray) -> tuple[float, float]:
    """Mean over seeds and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def rows_of(d: int, evaluations: int, cells: dict[str, np.ndarray], theirs: set[str]) -> list[dict[str, Any]]:
    """One row a method, both metrics, each with its difference to the best of theirs; (seeds, 2) in each cell."""
    best = {m: min(theirs, key=lambda name, m=m: cells[name][:, m].mean()) for m in (0, 1) if theirs}
    rows = []
    for name, values in cells.items():
        row: dict[str, Any] = {"d": d, "evaluations": evaluations, "method": name, "theirs": name in theirs}
        for m, metric in enumerate(METRICS):
            row[metric], row[f"{metric} se"] = summary(values[:, m])
            if best:
                row[f"{metric} - best"], row[f"{metric} - best se"] = summary(values[:, m] - cells[best[m]][:, m])
            row[f"{metric} - floor"], row[f"{metric} - floor se"] = summary(values[:, m] - cells["floor"][:, m])
        row["best of theirs by"] = ", ".join(metric for m, metric in enumerate(METRICS) if best.get(m) == name)
        rows.append(row)
    return sorted(rows, key=lambda row: row["SW2"])


def compare(arguments: argparse.Namespace, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """All rows."""
    everything, rows = [] if arguments.alone else peers(), []
    say(f"{len(everything)} settings of diffusers")
    tasks = {
        d: [Task(arguments.first + k, d, arguments.n) for k in range(arguments.seeds)] for d in arguments.dimensions
    }
    flow = Ours(GrainSolver(3), GrainGrid())
    exact = {d: [task.score(flow.sample(Mean(task.blend), task, EXACT)) for task in tasks[d]] for d in tasks}
    for evaluations in arguments.evaluations:
        chosen = screen(everything, arguments, evaluations) if everything else []
        say(f"{evaluations} evaluations: {len(chosen)} settings kept")
        for d in arguments.dimensions:
            found = [measure([*OURS, *chosen], task, evaluations) for task in tasks[d]]
            cells = {name: np.array([each[name] for each in found]) for name in found[0]}
            cells["exact flow"] = np.array(exact[d])
            cells["floor"] = np.array([task.score(task.other) for task in tasks[d]])
            rows += rows_of(d, evaluations, cells, {peer.name for peer in chosen} & set(cells))
            mine = next(row for row in rows[::-1] if row["method"] == "default")
            say(f"d = {d}: " + ", ".join(f"{k} {v:.4g}" for k, v in mine.items() if isinstance(v, float)))
    return rows


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is printed: ours, the floor, the best two of theirs by each metric."""
    shown = []
    for row in rows:
        cell = [r for r in rows if (r["d"], r["evaluations"], r["theirs"]) == (row["d"], row["evaluations"], True)]
        best = [r for metric in METRICS for r in sorted(cell, key=lambda r, m=metric: r[m])[:2]]
        if not row["theirs"] or row in best:
            shown.append({k: v for k, v in row.items() if "floor" not in k and k != "theirs"})
    return shown


def main() -> int:
    """Measure, print the table, write the JSON; passed: the default is ahead of the best of theirs by 2 standard
    errors wherever it has at most 10 evaluations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--evaluations", type=int, nargs="+", default=[5, 8, 10, 20, 50])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--first", type=int, default=30_000, help="the first seed")
    parser.add_argument("-n", type=int, default=4096, help="samples of each method and seed")
    parser.add_argument("--keep", type=int, default=5, help="settings of theirs kept by each metric and dimension")
    parser.add_argument("--alone", action="store_true", help="ours and the floor, without diffusers")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    set_verbosity_error()
    began = time.process_time()
    rows = compare(arguments, lambda text: print(f"{time.process_time() - began:.0f} s: {text}", file=sys.stderr))
    passed = all(
        row[f"{metric} - best"] + 2 * row[f"{metric} - best se"] < 0
        for row in rows
        for metric in METRICS
        if row["method"] == "default" and row["evaluations"] <= 10 and not arguments.alone
    )
    details = {
        "n": arguments.n,
        "seeds": [arguments.first, arguments.first + arguments.seeds - 1],
        "default": {
            f"d = {d}, {k}": " ".join(map(repr, default(k, LinearProcess(), (d,))))
            for d in arguments.dimensions
            for k in arguments.evaluations
        },
        "versions": {"diffusers": diffusers.__version__, "torch": torch.__version__},
        "cpu seconds": time.process_time() - began,
        "all": rows,
    }
    return finish(table(rows), passed, details, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
