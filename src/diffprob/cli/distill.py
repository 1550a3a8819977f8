"""Make a potential of a trained run: a network whose gradient is the noise, so that its value is -log p up to scale.

The result is a run like any other: it samples, evaluates and resumes, and `detect --with` reads its density.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli import trained
from diffprob.cli.options import overrides
from diffprob.cli.parser import add_device, add_dry_run, add_seed, whole
from diffprob.cli.progress import TERMINAL
from diffprob.tasks.signals import stopping

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
    parser.add_argument("--method", required=True, metavar="M", help="gradient, scalar or full")
    parser.add_argument("--data", metavar="PATH", help="where the run's images lie, if not where its recipe says")
    parser.add_argument("--out", metavar="RUN", help="the new run's folder (runs/NAME-METHOD)")
    parser.add_argument("--steps", type=whole(1), metavar="N", help="train until this step (2,000)")
    parser.add_argument("--frozen", action="store_true", help="scalar: the body never learns")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change one field of the recipe"
    )
    add_seed(parser, "decides weights at the start, order and noise (the run's)", None)
    add_device(parser)
    add_dry_run(parser, "say what it would take (parameters, memory, time) and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Train, or go on."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.distillation import DistillRequest, prepare_distillation, run_distillation
    from diffprob.tasks.training_plan import estimate_training

    request = DistillRequest(
        method=args.method,
        frozen=args.frozen,
        data=args.data,
        out=args.out,
        steps=args.steps,
        overrides=overrides(args.set),
        seed=args.seed,
        device=args.device,
    )
    prepared = prepare_distillation(Run.open(args.run), request)
    if args.dry_run:
        return estimate_training(prepared.training, TERMINAL).to_json()
    with stopping() as halt:
        result = run_distillation(prepared, TERMINAL, halt)
    return None if result is None else result.to_json()


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    yield from trained.lines(result)
    if result.get("fields"):
        yield f"both noise predictions: {result['fields']}"
