"""Fit to a run what its training did not: the best variances of its reverse steps, and the best steps.

analytic: one variance per time by Monte Carlo, without training (Analytic-DPM). npr, sn, ocm: heads on the frozen
network that predict a variance for every pixel. steps: the least-cost path, for --grid best. The run keeps each in a
file of its own, with the SHA-256 of the weights that it belongs to.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError, did_you_mean
from diffprob.cli.parser import add_device, add_dry_run, add_seed, whole
from diffprob.cli.progress import Progress, duration, say
from diffprob.cli.signals import saying

if TYPE_CHECKING:
    from torch import Tensor

    from diffprob.data.images import Images
    from diffprob.denoise.denoiser import NetDenoiser
    from diffprob.denoise.moments import NoiseMoments
    from diffprob.runs.folder import Run

EXAMPLES = (
    "diffprob fit runs/mnist analytic steps           # one variance per time, and the least-cost path",
    'diffprob sample runs/mnist --steps 25 --grid best --sampler "Ancestral()" --variance "Analytic()"',
    "diffprob fit runs/mnist npr sn ocm --steps 3000  # three heads in one pass, a variance for every pixel",
    'diffprob sample runs/mnist --steps 25 --sampler "Ancestral()" --variance "SquaredNoise()"',
    "diffprob fit runs/mine analytic --data pictures/ -n 200 --seed 1",
)

LONGEST_PATH = 256  # times; the cost hardly falls any more before that
KNOTS = 1000  # times of the analytic fit on a schedule without times of its own
SHOWN = 50  # evaluations at which the cost of the best path is compared with the uniform one's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("what", nargs="+", metavar="WHAT", help="analytic, npr, sn, ocm, steps: one or several")
    parser.add_argument("--data", metavar="PATH", help="where the run's own images lie, if not where its recipe says")
    parser.add_argument("-n", type=whole(2), default=64, metavar="N", help="analytic: images at each time (64)")
    parser.add_argument("--times", type=whole(2), metavar="N", help="analytic: at how many times (all of the schedule)")
    parser.add_argument("--steps", type=whole(1), default=3000, metavar="N", help="heads: optimiser steps (3,000)")
    parser.add_argument("--batch", type=whole(2), default=64, metavar="N", help="heads: images in a step (64)")
    parser.add_argument("--lr", type=float, default=1e-3, metavar="X", help="heads: largest learning rate (0.001)")
    parser.add_argument("--blocks", type=whole(0), default=0, metavar="N", help="heads: residual blocks in front (0)")
    parser.add_argument("--best", action="store_true", help="fit to the best weights that the training watched for")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (fp32)")
    parser.add_argument("--record", action="store_true", help="write also into a run that comes with the library")
    add_seed(parser, "which images, times and noise (0)")
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be fitted, without fitting")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Fit, one file after the other."""
    from diffprob.denoise.variance import Zero
    from diffprob.runs.fits import fit_path
    from diffprob.runs.folder import Run
    from diffprob.runs.images import OwnImages
    from diffprob.tasks.compute import choose_device

    found = Run.open(args.run)
    kinds = _kinds(args, found)
    _check(args, found)
    model = found.load(choose_device(args.device), "auto", args.precision, args.best, Zero())
    needs = [kind for kind in kinds if kind != "steps"]
    images = OwnImages(found, args.data).train.images if needs else None
    result: dict[str, Any] = {
        "run": found.place,
        "what": kinds,
        "files": {kind: f"{found.place}/{fit_path(found, kind).name}" for kind in kinds},
        "seed": args.seed,
        "device": str(choose_device(args.device)),
        "dry_run": args.dry_run,
        "fits": {},
    }
    if args.dry_run:
        return result
    with saying(lambda: _left(kinds, result["fits"])):
        if images is not None and "analytic" in kinds:
            result["fits"]["analytic"] = _fit_analytic(args, found, model, images)
        heads = tuple(kind for kind in kinds if kind not in ("analytic", "steps"))
        if images is not None and heads:
            result["fits"].update(_fit_heads(args, heads, found, model, images))
        if "steps" in kinds:
            result["fits"]["steps"] = _fit_steps(args, found, model)
    return result


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.text import table

    if result["dry_run"]:
        yield from table([(kind, f"would be written to {path}") for kind, path in result["files"].items()])
        return
    yield from table(
        [(kind, about["summary"], duration(about["seconds"])) for kind, about in result["fits"].items()],
        ("fit", "", "took"),
    )
    for kind, about in result["fits"].items():
        yield f"{kind}: {about['use']}"


def _left(kinds: list[str], done: Iterable[str]) -> str:
    """What a signal leaves of a command: a fit is kept whole or not at all, and one that is not begins anew."""
    kept = ", ".join(done)
    rest = ", ".join(kind for kind in kinds if kind not in set(done))
    return f"interrupted: nothing of {rest} is kept, and begins anew" + (f"; {kept} is kept" if kept else "")


def _kinds(args: argparse.Namespace, run: "Run") -> list[str]:
    """What to fit, in order; the path needs the analytic fit of the same weights."""
    from diffprob.runs.fits import KINDS, fitted

    for kind in args.what:
        if kind not in KINDS:
            raise InputError(
                f"nothing to fit is called {kind!r} (one of {', '.join(KINDS)}){did_you_mean(kind, KINDS)}"
            )
    wanted = set(args.what)
    if "steps" in wanted and "analytic" not in wanted and "analytic" not in fitted(run, args.best):
        say("steps follow from the analytic variance: that is fitted first")
        wanted.add("analytic")
    return [kind for kind in KINDS if kind in wanted]


def _check(args: argparse.Namespace, run: "Run") -> None:
    from diffprob.tasks.recording import check_writable

    if not 0 < args.lr < 1:
        raise InputError(f"--lr {args.lr}: a learning rate between 0 and 1, such as 0.001, would be right")
    if run.is_packaged and not args.record and not args.dry_run:
        raise InputError(
            f"{args.run} comes with the library and is only read: --record would write into it all the same"
        )
    if not args.dry_run:
        check_writable(run)


def _fit_analytic(args: argparse.Namespace, run: "Run", model: "NetDenoiser", images: "Images") -> dict[str, Any]:
    """Estimate the moments at every time and keep them."""
    from diffprob.base.rng import Rng
    from diffprob.process.grids import Uniform
    from diffprob.runs.fits import moments_tensors
    from diffprob.training.moments import noise_moments

    began, device = time.monotonic(), next(model.parameters()).device
    most = model.process.schedule.steps or KNOTS
    times = Uniform()(model.process, min(args.times or most, most)).flip(0)
    rng = Rng.of(args.seed, args.n, device=device)
    take = _taker(run, images, args.seed, args.n, device)
    with Progress("analytic", len(times), "time") as progress:
        moments = noise_moments(model, take, times.to(device), rng, progress.update)
    about = {"n": args.n, "times": len(times), "seed": args.seed, "precision": args.precision}
    _keep(run, "analytic", moments_tensors(moments), about, args.best)
    used = {"use": 'sample --variance "Analytic()", or Analytic(moment="norm")', **_seconds(began)}
    return {**about, "summary": _worth(moments, args.n), **used}


def _worth(moments: "NoiseMoments", n: int) -> str:
    """What the fit says, in a line; how far both estimates are apart tells how imperfect the mean is."""
    apart = float((moments.residual / moments.norm.clamp_min(1e-12)).median())
    error = float((moments.residual_error / moments.residual).median())
    return (
        f"{len(moments.times):,} times, {n} images each; typical standard error {error:.1%}; "
        f"residual/norm {apart:.3f} (1: a perfect mean)"
    )


def _fit_heads(
    args: argparse.Namespace, kinds: tuple[str, ...], run: "Run", model: "NetDenoiser", images: "Images"
) -> dict[str, dict[str, Any]]:
    """Fit the heads together and keep each."""
    from diffprob.denoise.variance import HEADS
    from diffprob.runs.fits import head_tensors
    from diffprob.training.heads import CovarianceFit, fit_heads, head_spec

    began, device = time.monotonic(), next(model.parameters()).device
    fit = CovarianceFit(kinds, args.steps, args.lr, min(100, args.steps), seed=args.seed)
    take = _taker(run, images, args.seed, args.batch, device)
    losses: dict[str, float] = {}
    with Progress(f"heads {', '.join(kinds)}", fit.steps, "step") as progress:

        def tell(step: int, now: dict[str, float]) -> None:
            for kind, loss in now.items():
                losses[kind] = 0.98 * losses.get(kind, loss) + 0.02 * loss
            progress.update(step, ", ".join(f"{kind} {loss:.3f}" for kind, loss in losses.items()))

        state = fit_heads(model, (take(k) for k in range(fit.pilot + fit.steps)), fit, args.blocks, tell)
    spec, found = head_spec(model, args.blocks), {}
    names = {kind: f"{variance.__name__}()" for variance, kind in HEADS.items()}
    for kind in kinds:
        tensors, settings = head_tensors(spec, state.heads[kind])
        about = {**settings, "fit": repr(fit), "batch": args.batch, "loss": losses[kind], "precision": args.precision}
        _keep(run, kind, tensors, about, args.best)
        summary = f"{fit.steps:,} steps of {args.batch} images; weighted squared error {losses[kind]:.3f}"
        found[kind] = {**about, "summary": summary, "use": f'sample --variance "{names[kind]}"', **_seconds(began)}
    return found


def _fit_steps(args: argparse.Namespace, run: "Run", model: "NetDenoiser") -> dict[str, Any]:
    """The least-cost paths from the fitted variance, and what they save."""
    from diffprob.denoise.variance import Analytic
    from diffprob.process.grids import Uniform
    from diffprob.process.path import cheapest_paths, path_cost, reconstruction_costs, step_costs
    from diffprob.runs.fits import path_tensors, read_moments

    began = time.monotonic()
    moments = read_moments(run, args.best)
    times, process = moments.times, model.process
    variance = Analytic(moment="residual", moments=moments)(process, times).clamp(0, 1)
    costs = step_costs(process, times, variance)
    paths = cheapest_paths(costs, min(LONGEST_PATH, len(times)))
    whole = cheapest_paths(costs, len(paths), reconstruction_costs(variance, run.space.levels))
    about = {"moment": "residual", "longest": len(paths)}
    _keep(run, "steps", path_tensors(times, paths, whole), about, args.best)
    n = min(SHOWN, len(paths))
    uniform = Uniform()(process, n).flip(0)
    nearest = (times[:, None] - uniform).abs().argmin(0)
    best, plain = path_cost(costs, paths[n - 1]), path_cost(costs, nearest)
    summary = f"paths of 1 to {len(paths)} times; {n} cost {best:.4f} nats/dim, uniform ones {plain:.4f}"
    costs_found = {"evaluations": n, "cost": best, "uniform_cost": plain}
    return {**about, **costs_found, "summary": summary, "use": "sample --grid best", **_seconds(began)}


def _taker(run: "Run", images: "Images", seed: int, size: int, device: Any) -> Any:
    """batch k -> images (size, C, H, W) in model space, from an endless stream of shuffled epochs."""
    import torch

    from diffprob.training.batches import order

    if len(images) < size:
        raise InputError(
            f"{images.name} has {len(images)} images, fewer than the {size} of a batch; give a smaller one"
        )

    def take(k: int) -> "Tensor":
        levels = torch.from_numpy(images.take(order(seed, k * size, size, len(images))))
        return run.space.to_model(levels.to(device))

    return take


def _keep(run: "Run", kind: str, found: dict[str, Any], about: dict[str, Any], best: bool) -> None:
    from diffprob.runs.fits import fit_bytes, fit_path

    run.add(fit_path(run, kind).name, fit_bytes(run, kind, found, about, best))


def _seconds(began: float) -> dict[str, float]:
    return {"seconds": round(time.monotonic() - began, 1)}
