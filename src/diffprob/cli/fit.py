"""Fit the variances of a trained run's reverse steps, and the steps that cost least. The network does not change.

analytic: one variance per time by Monte Carlo, without training (Analytic-DPM). npr, sn, ocm, nll: heads on the frozen
network that predict a variance for every pixel. steps: the least-cost path, for --grid best. Each is kept in a file of
the run, with the SHA-256 of the weights that it belongs to.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.base.errors import InputError
from diffprob.cli.options import add_precision
from diffprob.cli.parser import add_device, add_dry_run, add_seed, whole
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import table
from diffprob.tasks.progress import duration

EXAMPLES = (
    "diffprob fit runs/mnist                          # what makes bounds and codes cost least: analytic, nll, steps",
    'diffprob sample runs/mnist --steps 25 --grid best --sampler "Ancestral()" --variance "Analytic()"',
    "diffprob fit runs/mnist npr sn ocm --steps 3000  # three heads in one pass, a variance for every pixel",
    'diffprob sample runs/mnist --steps 25 --sampler "Ancestral()" --variance "SquaredNoise()"',
    "diffprob fit runs/mine analytic --data pictures/ -n 200 --seed 1",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, what is fitted, and how many images and times it takes."""
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    kinds = "some of analytic, npr, sn, ocm, nll, steps (default: with which bounds and codes cost least)"
    parser.add_argument("what", nargs="*", metavar="WHAT", help=kinds)
    parser.add_argument("--data", metavar="PATH", help="where the run's own images are, if not where its recipe says")
    parser.add_argument("-n", type=whole(2), default=64, metavar="N", help="analytic: images at each time (default 64)")
    parser.add_argument(
        "--times", type=whole(2), metavar="N", help="analytic: number of times (default: all of the schedule)"
    )
    parser.add_argument(
        "--steps", type=whole(1), default=3000, metavar="N", help="heads: optimiser steps (default 3,000)"
    )
    parser.add_argument("--batch", type=whole(2), default=64, metavar="N", help="heads: images in a step (default 64)")
    parser.add_argument(
        "--lr", type=float, default=1e-3, metavar="X", help="heads: largest learning rate (default 0.001)"
    )
    parser.add_argument(
        "--blocks",
        type=whole(0),
        metavar="N",
        help="heads: residual blocks before each (default: nll 1, others 0)",
    )
    parser.add_argument(
        "--best",
        action="store_true",
        help="fit to the weights that were best by the metric watched during training, not the last ones",
    )
    add_precision(parser, "auto: fp32")
    parser.add_argument("--record", action="store_true", help="write even into a run that comes with the library")
    add_seed(parser, "decides which images, times and noise (default 0)")
    add_device(parser)
    add_dry_run(parser, "check everything and say what would be fitted, without fitting")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Fit, one file after the other."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.compute import Compute
    from diffprob.tasks.fitting import AnalyticFit, FitRequest, HeadFit, prepare_fit, run_fit

    if not 0 < args.lr < 1:
        raise InputError(f"--lr {args.lr}: a learning rate between 0 and 1, such as 0.001, would be right")
    request = FitRequest(
        what=tuple(args.what),
        analytic=AnalyticFit(n=args.n, times=args.times),
        heads=HeadFit(steps=args.steps, batch=args.batch, lr=args.lr, blocks=args.blocks),
        data=args.data,
        seed=args.seed,
        record=args.record,
        compute=Compute(device=args.device, precision=args.precision, best=args.best),
    )
    prepared = prepare_fit(Run.open(args.run), request, TERMINAL, writing=not args.dry_run)
    if args.dry_run:
        return {**prepared.settings, "dry_run": True, "fits": {}}
    return run_fit(prepared, TERMINAL).to_json()


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    if result["dry_run"]:
        yield from table([(kind, f"would be written to {path}") for kind, path in result["files"].items()])
        return
    yield from table(
        [(kind, about["summary"], duration(about["seconds"])) for kind, about in result["fits"].items()],
        ("fit", "", "took"),
    )
    for kind, about in result["fits"].items():
        yield f"{kind}: {about['use']}"
