"""Train a recipe, or a model of your own images. The same command again resumes; a larger --steps goes on."""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli.options import training_fields
from diffprob.cli.parser import add_device, add_dry_run, add_reading, add_seed, add_set, whole
from diffprob.cli.progress import TERMINAL, trained
from diffprob.cli.text import format_training
from diffprob.tasks.options import requesting

EXAMPLES = (
    "diffprob train digits                                    # the embedded digits, into runs/digits",
    "diffprob train mnist --data path/to/mnist --out runs/mnist",
    "diffprob train --data path/to/pictures --for 20m      # ends on time; again: 20 minutes more",
    "diffprob train --data path/to/pictures --size 64         # a recipe is made from the data",
    "diffprob train cifar10 --set training.lr=1e-4 --set network.dropout=0.0 --seed 1 --out runs/other",
    "diffprob train digits --set 'training.monitor=Monitor(epochs=5, best=\"frechet\")' --tensorboard",
    "diffprob train fashion --labels --data data/fashion      # diffprob sample runs/fashion --label 3 --guidance 1",
    "diffprob train lsun256 --dry-run                         # parameters, memory, time; needs no data",
    "diffprob train runs/digits --steps 8000                  # a run, its recipe and its data again: go on",
    "torchrun --nproc-per-node 2 -m diffprob train cifar10 --processes 2",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe or data, settings of its fields, where the run goes, and when to stop."""
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help="a recipe's name (diffprob show recipes), a recipe.txt, or a run to go on with",
    )
    parser.add_argument(
        "--data", metavar="PATH", help="folder or file of images; without RECIPE, a recipe is made to suit them"
    )
    parser.add_argument(
        "--held-out",
        metavar="SHARE|none|PATH",
        help="with --data and no RECIPE: images never trained on (default: a tenth, where the data has no test part)",
    )
    add_reading(parser, "with --data and no RECIPE: ")
    parser.add_argument(
        "--dims", type=int, choices=(0, 1, 2, 3), help="of an array of floats: vectors 0, signals 1, ..."
    )
    parser.add_argument(
        "--labels", action="store_true", help="train on the labels too, so that sample takes --label and --guidance"
    )
    parser.add_argument("--out", metavar="RUN", help="the run's folder (default runs/NAME)")
    add_set(parser)
    parser.add_argument("--steps", type=whole(1), metavar="N", help="train up to this step (default: the recipe's)")
    parser.add_argument(
        "--for",
        dest="duration",
        metavar="TIME",
        help="train for so long, as 20m, 2h or 1h30m; again is as much more (pictures without --steps: 1h)",
    )
    parser.add_argument(
        "--processes", type=whole(1), metavar="N", help="stop with an error unless torchrun started N processes"
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="also write the log for TensorBoard (RUN/tensorboard)"
    )
    parser.add_argument(
        "--report",
        action=argparse.BooleanOptionalAction,
        help="also fit, measure and write RUN/report.html at the end (default: for --data without RECIPE and --steps)",
    )
    add_seed(parser, "decides initial weights, the order of images, and noise (default: the recipe's)", None)
    add_device(parser)
    add_dry_run(parser, "say what it would take (parameters, memory, time) and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Train, resume or estimate."""
    from diffprob.tasks.training import TrainRequest, prepare_training
    from diffprob.tasks.training_run import run_training

    with requesting():
        request = TrainRequest(
            recipe=args.recipe,
            data=args.data,
            size=args.size,
            channels=args.channels,
            levels=args.levels,
            dims=args.dims,
            held_out=args.held_out,
            labels=args.labels,
            duration=args.duration,
            **training_fields(args),
            processes=args.processes,
            tensorboard=args.tensorboard,
            report=args.report,
        )
    prepared = prepare_training(request, TERMINAL, args.began)
    return trained(args.dry_run, prepared, run_training)


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    yield from format_training(result)
