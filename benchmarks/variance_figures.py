"""Two figures and a table of a fitted run: the variance of its reverse steps against t, where the least-cost path
steps, and what the steps cost with either.

diffprob fit runs/mnist analytic steps
python benchmarks/variance_figures.py runs/mnist --out docs/images/variances-mnist.png docs/images/paths-mnist.png
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch
from quality import answer
from torch import Tensor

from diffprob.denoise.variance import Analytic, UnitData, Variance, Zero
from diffprob.process.grids import Grid, LogSNR, QuadraticTimes, Uniform
from diffprob.process.linear import LinearProcess
from diffprob.process.path import LeastCost
from diffprob.runs.fits import bind_grid, read_moments
from diffprob.runs.folder import Run


def step_variances(process: LinearProcess, variance: Variance, times: Tensor) -> Tensor:
    """The variance of every step of a chain on decreasing times, (n - 1,)."""
    x, found = torch.zeros(1, 1, dtype=torch.float64), []
    for t, s in pairwise(times):
        found.append(process.reverse(variance.posterior(process, t, x, None), x, s, t).variance.reshape(()))
    return torch.stack(found)


def draw_variances(process: LinearProcess, fitted: Analytic, path: Path) -> None:
    """beta, beta-tilde and the analytic variance of each step, on 1000 and on 50 uniform times."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
    curves = {"beta": UnitData(), "analytic": fitted, "beta-tilde": Zero()}
    for axis, n in zip(axes, (process.schedule.steps or 1000, 50), strict=True):
        times = Uniform()(process, n)
        for (name, variance), style in zip(curves.items(), ("--", "-", ":"), strict=True):
            axis.plot(times[:-1], step_variances(process, variance, times), style, label=name)
        axis.set(yscale="log", xlabel="t", title=f"{n} steps")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("variance of the step that starts at t")
    axes[1].legend()
    figure.savefig(path, dpi=110)


def cost(process: LinearProcess, residual: Analytic, variance: Variance, times: Tensor) -> float:
    """E KL(q(x_s|x_t,x_0) || p(x_s|x_t)) summed over the steps, nats per dimension, of the network's own mean.

    With v the variance of a step: 1/2 [log(v/ell^2) + (ell^2 + c0^2 E(x_0 - x0h)^2)/v - 1].
    """
    steps = step_variances(process, variance, times)
    total = 0.0
    for v, (t, s) in zip(steps, pairwise(times), strict=True):
        bridge = process.bridge_coefficients(s, t)
        spread = bridge.ell**2 + bridge.c0**2 * residual(process, t)
        total += 0.5 * float(torch.log(v / bridge.ell**2) + spread / v - 1)
    return total


def print_costs(process: LinearProcess, fitted: Analytic, best: Grid) -> None:
    """A row for each number of evaluations."""
    uniform = Uniform()
    choices: dict[str, tuple[Variance, Grid]] = {
        "beta-tilde": (Zero(), uniform),
        "beta": (UnitData(), uniform),
        "analytic": (fitted, uniform),
        "beta, least cost": (UnitData(), best),
        "analytic, least cost": (fitted, best),
    }
    print("| evaluations | " + " | ".join(choices) + " |")
    print("|---" * (len(choices) + 1) + "|")
    for n in (10, 25, 50, 100, 200, process.schedule.steps or 1000):
        cells = [
            "-" if grid is best and n > 256 else f"{cost(process, fitted, variance, grid(process, n)):.4g}"
            for variance, grid in choices.values()
        ]
        print(f"| {n} | " + " | ".join(cells) + " |")


def draw_grids(process: LinearProcess, grids: dict[str, Grid], n: int, path: Path) -> None:
    """Where n times lie, in t and in log-SNR."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 2.6), sharey=True, layout="constrained")
    for row, (_, grid) in enumerate(grids.items()):
        times = grid(process, n)
        for axis, x in zip(axes, (times, process.logsnr(times)), strict=True):
            axis.plot(x, torch.full_like(times, row), "|", markersize=12)
    axes[0].set(xlabel="t", yticks=range(len(grids)), yticklabels=list(grids), ylim=(-0.6, len(grids) - 0.4))
    axes[1].set(xlabel="log-SNR")
    axes[1].invert_xaxis()
    figure.suptitle(f"{n} evaluations", fontsize=10)
    figure.savefig(path, dpi=110)


def main() -> int:
    """Write both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, default=50, help="evaluations of the second figure")
    parser.add_argument("--out", type=Path, nargs=2, required=True, metavar=("VARIANCES.png", "GRIDS.png"))
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    process = run.process
    fitted = Analytic(moments=read_moments(run), last=float("inf"))
    draw_variances(process, fitted, arguments.out[0])
    best = bind_grid(run, LeastCost())
    print_costs(process, fitted, best)
    grids = {"least cost": best, "log-SNR": LogSNR(), "quadratic": QuadraticTimes(), "uniform": Uniform()}
    draw_grids(process, grids, arguments.steps, arguments.out[1])
    print(f"wrote {arguments.out[0]} and {arguments.out[1]}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(answer(main))
