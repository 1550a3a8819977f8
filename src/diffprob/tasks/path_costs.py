"""The least-cost paths of a chain of points, from the variances that were fitted to it."""

from typing import Any

from torch import Tensor

from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import Denoiser
from diffprob.denoise.moments import NoiseMoments
from diffprob.denoise.variance import Analytic
from diffprob.process.grids import Uniform
from diffprob.process.linear import LinearProcess
from diffprob.process.path import cheapest_paths, path_cost, reconstruction_costs, step_costs
from diffprob.runs.fits import path_tensors
from diffprob.tasks.reporter import Reporter
from diffprob.training.moments import variance_quantiles

KNOTS = 40  # times at which the variances of a head are looked at
SHOWN = 50  # evaluations at which the cost of the best path is compared with the uniform one's


def fit_times(
    moments: NoiseMoments,
    times: Tensor,
    longest: int,
    levels: int | None,
    model: Denoiser,
    x0: Tensor | None,
    seed: int,
    reporter: Reporter,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Paths of 1, 2, ... times: of the steps alone by the analytic variance, as published, and of the whole bound by
    the variances that the model foretells for each element, if it does.

    Args:
        moments: the analytic fit.
        times: to choose from, increasing, float64 (K,).
        longest: of the paths.
        levels: of grey; None: real numbers.
        model: with the variance that bounds take, clipped as they clip.
        x0: images (B, *event) at which its variances are looked at; None: the variance is the analytic one.
        seed: of the noise.
        reporter: who sees progress.

    Returns:
        What the run keeps, and what is said of it.
    """
    process: LinearProcess = model.process
    variance = Analytic(moment="residual", moments=moments)(process, times).clamp(0, 1)
    costs = step_costs(process, times, variance)
    paths = cheapest_paths(costs, min(longest, len(times)))
    spread, whole, costs_of_whole = None, variance, costs
    if x0 is not None:
        knots = Uniform()(process, min(KNOTS, process.schedule.steps or KNOTS)).flip(0).to(x0.device)
        with reporter.progress("steps", len(knots), "time") as progress:
            rng = Rng.of(seed, len(x0), device=x0.device)
            spread = variance_quantiles(model, x0, knots, rng, progress.update)
        whole = spread.variance(process, times).clamp(max=1)
        costs_of_whole = step_costs(process, times, whole)
    whole_paths = cheapest_paths(costs_of_whole, len(paths), reconstruction_costs(whole, levels))
    n = min(SHOWN, len(paths))
    uniform = Uniform()(process, n).flip(0)
    nearest = (times[:, None] - uniform).abs().argmin(0)
    best, plain = path_cost(costs, paths[n - 1]), path_cost(costs, nearest)
    summary = f"paths of 1 to {len(paths)} times; {n} cost {best:.4f} nats/dim, uniform ones {plain:.4f}"
    about = {"moment": "residual", "longest": len(paths), "evaluations": n, "cost": best, "uniform_cost": plain}
    return path_tensors(times, paths, whole_paths, spread), {**about, "summary": summary}
