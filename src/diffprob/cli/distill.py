"""Distil a run into a potential: a scalar network whose gradient is the noise, so that its value is -log p up to scale.

The result is a run like any other: it samples, evaluates and resumes, and `detect --with` reads its density.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli.options import training_fields
from diffprob.cli.parser import add_device, add_dry_run, add_seed, add_set, whole
from diffprob.cli.progress import TERMINAL, trained
from diffprob.cli.text import format_training

EXAMPLES = (
    "diffprob distill digits --method gradient                # V_0 from the packaged digits, runs/digits-gradient",
    "diffprob distill runs/mnist --method scalar --steps 4000 # a scalar head on the frozen body, then the body too",
    "diffprob distill runs/mnist --method scalar --frozen --set 'network.body.norm=\"batch\"'",
    "diffprob distill runs/mnist --method full                # the whole U-Net's gradient learns the noise",
    "diffprob detect mnist --outside data/fashion-mnist --with runs/mnist-gradient",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The teacher, the student's recipe, and how long to train."""
    parser.add_argument("run", metavar="RUN", help="the teacher: a run's folder, or the name of a packaged run")
    parser.add_argument(
        "--method",
        required=True,
        metavar="M",
        help="gradient (a network that distils the run), scalar (a head on its body) or full (all of it)",
    )
    parser.add_argument("--data", metavar="PATH", help="where the run's own images are, if not where its recipe says")
    parser.add_argument("--out", metavar="RUN", help="the new run's folder (default runs/NAME-METHOD)")
    parser.add_argument("--steps", type=whole(1), metavar="N", help="train up to this step (default 2,000)")
    parser.add_argument("--frozen", action="store_true", help="scalar: train the head only, never the body")
    add_set(parser)
    add_seed(parser, "decides initial weights, the order of images, and noise (default: the run's)", None)
    add_device(parser)
    add_dry_run(parser, "say what it would take (parameters, memory, time) and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Train, or go on."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.distillation import DistillRequest, prepare_distillation, run_distillation

    request = DistillRequest(
        method=args.method,
        frozen=args.frozen,
        data=args.data,
        **training_fields(args),
    )
    prepared = prepare_distillation(Run.open(args.run), request, TERMINAL)
    return trained(args.dry_run, prepared, run_distillation)


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    yield from format_training(result)
    if result.get("fields"):
        yield f"both noise predictions: {result['fields']}"
