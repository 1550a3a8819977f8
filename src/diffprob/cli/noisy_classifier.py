"""Train a classifier of noisy images, with the noise of a run, starting from the run's weights.

With one DATA it learns the labels. With several it learns which of them an image is from, which is what `translate`
needs: the source's images first, then the target's. The same command again resumes. At the end it prints the accuracy
on held-out images at some times t, from little noise to much.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli.options import training_fields
from diffprob.cli.parser import add_device, add_dry_run, add_seed, add_set, whole
from diffprob.cli.progress import TERMINAL, trained
from diffprob.cli.text import format_training, table

EXAMPLES = (
    "diffprob noisy-classifier runs/dresses pictures/shirts pictures/dresses   # which folder is a noised image from?",
    "diffprob noisy-classifier mnist path/to/mnist --out runs/mnist-digits     # which digit is it?",
    "diffprob noisy-classifier digits digits --steps 300 --set training.lr=1e-3",
    "diffprob translate runs/dresses pictures/shirts --classifier runs/dresses-noisy-classifier --out translated",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of which run the classifier is, and how long to train it."""
    parser.add_argument(
        "run", metavar="RUN", help="the run whose noise and weights are used: its folder, or the name of a packaged run"
    )
    parser.add_argument("data", metavar="DATA", nargs="+", help="labelled images, or two or more sources of images")
    parser.add_argument("--size", type=whole(2), metavar="N", help="scale and crop pictures to NxN")
    parser.add_argument("--out", metavar="RUN", help="the new run's folder (default runs/NAME-noisy-classifier)")
    parser.add_argument("--steps", type=whole(1), metavar="N", help="train up to this step (default 600)")
    add_set(parser)
    add_seed(parser, "decides the order of images, and noise (default: the run's)", None)
    add_device(parser)
    add_dry_run(parser, "say what it would take (parameters, memory, time) and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Train, or go on; then test."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.noisy_classifier import NoisyClassifierRequest, prepare_noisy_classifier, run_noisy_classifier

    request = NoisyClassifierRequest(
        data=tuple(args.data),
        size=args.size,
        **training_fields(args),
    )
    prepared = prepare_noisy_classifier(Run.open(args.run), request, TERMINAL)
    return trained(args.dry_run, prepared, run_noisy_classifier)


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    text = list(format_training(result))
    if not result.get("dry_run"):
        rows = [(f"{t:g}", f"{share:.1%}") for t, share in zip(result["at"], result["accuracy"], strict=True)]
        what = f"{result['tested']:,} images of {result['on']}"
        text[1:1] = [f"recognised of {what}, {len(result['classes'])} classes:", *table(rows, ("t", "share"))]
    yield from text
