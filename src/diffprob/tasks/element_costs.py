"""The groups in which a model of levels draws its elements: what each costs, measured, and the cheapest of them."""

import time
from typing import Any

import torch
from torch import Tensor

from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import NetworkModel
from diffprob.likelihood.orders import element_nats
from diffprob.process.grids import Uniform
from diffprob.process.parallel import parallel_costs
from diffprob.process.path import cheapest_paths, path_cost
from diffprob.runs.fits import path_tensors
from diffprob.tasks.drawing import network_progress
from diffprob.tasks.forecast import forecast
from diffprob.tasks.reporter import Reporter

SHOWN = 16  # evaluations at which the cost of the best groups is compared with that of even ones


def fit_groups(
    model: NetworkModel, x0: Tensor, seed: int, longest: int, reporter: Reporter
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The least-cost groups of 1 to ``longest`` evaluations as the named tensors of a fit, and what is said of them.

    Args:
        model: of an order of elements, `diffprob.process.survival.Staircase`.
        x0: levels of training images (n, *event).
        seed: of orders.
        longest: evaluations.
        reporter: who hears progress.

    Reference: Hoogeboom et al., "Autoregressive diffusion models" (2022), sec. 3.1.
    """
    began, (n, d) = time.monotonic(), (len(x0), x0[0].numel())
    calls = d * -(-n // (model.evaluation.chunk or n))
    forecast(reporter, f"steps: {n} images x {d:,} elements", model, x0.shape[1:], calls)
    with network_progress(reporter, "steps", calls, model):
        nats = element_nats(model, x0, Rng.of(seed, n, device=x0.device))
    costs, times = parallel_costs(nats), torch.arange(1, d + 1, dtype=torch.float64) / d
    paths = [path[1:] - 1 for path in cheapest_paths(costs, min(longest, d) + 1)[1:]]
    shown = min(SHOWN, len(paths))
    even = (Uniform()(model.process, shown).flip(0) * d).round().long()
    nodes = [torch.cat([even.new_zeros(1), path]) for path in (paths[shown - 1] + 1, even)]
    best, plain = (path_cost(costs, path) / d for path in nodes)
    about = {"n": n, "seed": seed, "longest": len(paths), "evaluations": shown, "cost": best, "uniform_cost": plain}
    whole = float(nats.sum()) / d
    summary = f"groups of 1 to {len(paths)} evaluations; {shown} cost {best:.4f} nats/dim, even ones {plain:.4f}, "
    about |= {"summary": f"{summary}one element at a time {whole:.4f}", "use": f"sample --steps {shown}"}
    return path_tensors(times, paths, paths), {**about, "seconds": round(time.monotonic() - began, 1)}
