"""Average the weights of a trained run over more or less of its training than it was; of several lengths, the best.

A length is the standard deviation of an average's profile over the length of the training, which must have kept
averages to make others of: train --set "training.averages=(0.05, 0.1)". The measure is the loss of held-out images.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli.parser import add_device, add_dry_run, add_seed, whole
from diffprob.cli.progress import TERMINAL
from diffprob.tasks.options import requesting

EXAMPLES = (
    "diffprob average runs/mine --length 0.03 0.05 0.08 0.12    # which is best, by the loss of held-out images",
    "diffprob average runs/mine --length 0.08 --out runs/mine-0.08",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, which lengths, where the best goes, and the images that decide."""
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("--length", type=float, nargs="+", required=True, metavar="X", help="in 0.001 to 0.28")
    parser.add_argument("--out", metavar="RUN", help="the folder of a new run with the best (default: none is written)")
    parser.add_argument("--step", type=whole(1), metavar="N", help="end the training here (default: its last step)")
    parser.add_argument("-n", type=whole(16), default=1000, metavar="N", help="held-out images (default 1,000)")
    parser.add_argument("--data", metavar="PATH", help="where the run's own images are, if not where its recipe says")
    add_seed(parser, "decides which images, times and noise (default 0)")
    add_device(parser)
    add_dry_run(parser, "say how near the averages come to these lengths, and measure and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Compare, and write the best."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.averages import AveragesRequest, compare_averages
    from diffprob.tasks.compute import Compute

    own = {name: getattr(args, name) for name in ("out", "step", "n", "data", "seed", "dry_run")}
    with requesting():
        request = AveragesRequest(length=tuple(args.length), compute=Compute(device=args.device), **own)
    return compare_averages(Run.open(args.run), request, TERMINAL).to_json()


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    yield from result["lines"]
