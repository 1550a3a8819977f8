"""Train a classifier of noisy images, with the noise of a run, starting from the run's weights.

With one DATA it learns the labels. With several it learns which of them an image is from, which is what `translate`
needs: the source's images first, then the target's. The same command again resumes. At the end it prints the accuracy
on held-out images at some times t, from little noise to much.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.cli.options import overrides
from diffprob.cli.parser import add_device, add_dry_run, add_seed, whole
from diffprob.cli.progress import TERMINAL
from diffprob.cli.text import format_training, table
from diffprob.tasks.signals import stopping

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
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the recipe, such as training.lr=1e-4; may be repeated",
    )
    add_seed(parser, "decides the order of images, and noise (default: the run's)", None)
    add_device(parser)
    add_dry_run(parser, "say what it would take (parameters, memory, time) and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Train, or go on; then test."""
    from diffprob.runs.folder import Run
    from diffprob.tasks.noisy_classifier import NoisyClassifierRequest, prepare_noisy_classifier, run_noisy_classifier
    from diffprob.tasks.training_plan import estimate_training

    request = NoisyClassifierRequest(
        data=tuple(args.data),
        size=args.size,
        out=args.out,
        steps=args.steps,
        overrides=overrides(args.set),
        seed=args.seed,
        device=args.device,
    )
    prepared = prepare_noisy_classifier(Run.open(args.run), request, TERMINAL)
    if args.dry_run:
        return estimate_training(prepared.training, TERMINAL).to_json()
    with stopping() as halt:
        result = run_noisy_classifier(prepared, TERMINAL, halt)
    return None if result is None else result.to_json()


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    text = list(format_training(result))
    if not result.get("dry_run"):
        rows = [(f"{t:g}", f"{share:.1%}") for t, share in zip(result["at"], result["accuracy"], strict=True)]
        what = f"{result['tested']:,} images of {result['on']}"
        text[1:1] = [f"recognised of {what}, {len(result['classes'])} classes:", *table(rows, ("t", "share"))]
    yield from text
