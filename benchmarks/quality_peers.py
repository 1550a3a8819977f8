"""Few evaluations on a trained run: what `diffprob sample --steps N` chooses beside four schedulers of diffusers.

    python benchmarks/quality_peers.py mnist --data data/mnist -n 500 --steps 5 8 10 20 --out peers.json

Theirs are the settings that led on exact mixtures (`samplers.py`), driven through their own loops; the network, its
clipping, the starting noise and the features are the same. The last row is the ancestral chain of training.
"""

import sys
import time
from typing import Any

import numpy as np
import torch
from diffusers import DEISMultistepScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from quality import answer, finish
from quality_rows import Drawing, Method, Yardstick, options, row
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.denoise.clipping import Clip
from diffprob.interop.configs import Scheduling, scheduler_config
from diffprob.runs.folder import Run
from diffprob.sampling.defaults import default
from diffprob.sampling.simulate import start

TRAILING = {"timestep_spacing": "trailing"}
THEIRS: dict[str, tuple[Any, dict[str, Any]]] = {
    "UniPC, order 2, trailing": (UniPCMultistepScheduler, TRAILING),
    "DPM-Solver++ 2M, trailing": (DPMSolverMultistepScheduler, TRAILING),
    "SDE-DPM-Solver++ 2M, trailing": (
        DPMSolverMultistepScheduler,
        {**TRAILING, "algorithm_type": "sde-dpmsolver++"},
    ),
    "DEIS, order 3, trailing": (DEISMultistepScheduler, {**TRAILING, "solver_order": 3}),
}


def their_levels(run: Run, name: str, steps: int, drawing: Drawing) -> tuple[np.ndarray, float]:
    """Samples (n, C, H, W) by a scheduler of diffusers with our network, and the seconds they took."""
    model = run.load(chunk=drawing.chunk, precision=drawing.precision)
    kind, settings = THEIRS[name]
    config = scheduler_config(Scheduling(model.process, model.prediction))
    known = {key: config[key] for key in ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end")}
    scheduler = kind(**known, prediction_type=config["prediction_type"], **settings)
    scheduler.set_timesteps(steps)
    clipped, last = Clip(model), model.process.schedule.steps
    if last is None:
        raise InputError(f"{run.name} has a continuous schedule, which these schedulers do not have")
    began = time.perf_counter()
    x = start(model, Rng.of(drawing.seed, drawing.n), run.space.shape)
    more = {"generator": torch.Generator().manual_seed(drawing.seed)} if kind is DPMSolverMultistepScheduler else {}
    with torch.no_grad():
        for label in scheduler.timesteps:
            t = torch.tensor((float(label) + 1) / last, dtype=torch.float64)
            output = model.prediction.from_x0(model.process, x, t, clipped(x, t).mean)
            x = scheduler.step(output, label, x, **more).prev_sample
    levels: Tensor = run.space.to_data(x)
    return levels.numpy(), time.perf_counter() - began


def main() -> int:
    """Draw and compare."""
    parser = options(__doc__ or "", 500, [5, 8, 10, 20])
    parser.add_argument("--reference", type=int, default=0, help="also the ancestral chain of so many steps")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    yardstick = Yardstick(run, arguments.data, arguments.split)
    drawing = Drawing.of(arguments)
    rows: list[dict[str, Any]] = []
    for steps in arguments.steps:
        sampler, grid = default(steps, run.recipe.process, run.space.shape)
        ours = row(run, Method(repr(sampler), steps, repr(grid)), drawing, yardstick)
        rows.append({"method": "ours", **{k: v for k, v in ours.items() if k not in ("grid", "variance")}})
        for name in THEIRS:
            levels, seconds = their_levels(run, name, steps, drawing)
            found = {"method": name, "evaluations": steps, "sampler": "diffusers", **yardstick(levels)}
            rows.append({**found, "seconds": seconds})
            print(f"{steps} {name}: {found['Frechet']:.3g} in {seconds:.0f} s", file=sys.stderr, flush=True)
    if arguments.reference:
        last = row(run, Method("Ancestral()", arguments.reference), drawing, yardstick)
        rows.append({"method": "reference", **{k: v for k, v in last.items() if k not in ("grid", "variance")}})
    details = {"run": run.name, "n": arguments.n, "seed": arguments.seed, **yardstick.facts(), "chunk": arguments.chunk}
    return finish(rows, True, details, arguments.out)


if __name__ == "__main__":
    raise SystemExit(answer(main))
