"""Train a baseline to compare a diffusion model with: a classifier, a flow (Glow) or an energy-based model.

classifier: trained on labelled images; it judges samples and gives features for `evaluate`. glow and ebm: densities of
images, saved as runs; `detect --with` compares with them.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from diffprob.base.errors import InputError, did_you_mean
from diffprob.cli import output
from diffprob.cli.options import training_fields
from diffprob.cli.parser import add_device, add_dry_run, add_reading, add_seed, add_set, whole
from diffprob.cli.progress import TERMINAL, trained
from diffprob.cli.text import format_training, table
from diffprob.tasks.progress import duration

EXAMPLES = (
    "diffprob baseline classifier digits",
    "diffprob baseline classifier path/to/mnist --out mnist-classifier.safetensors",
    "diffprob baseline classifier path/to/pictures --size 64 --epochs 20 --seed 1 --json",
    "diffprob baseline glow path/to/fashion-mnist --steps 4000   # a flow, into runs/fashion-mnist-glow",
    "diffprob baseline ebm digits --set objective.steps=20       # an energy; the same command again resumes",
    "diffprob baseline classifier path/to/cifar --dry-run        # what would be trained, and where it would be kept",
)

KINDS = ("classifier", "glow", "ebm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to train (a classifier, a flow or an energy), on which data, and for how long."""
    parser.add_argument("kind", metavar="KIND", help="classifier, glow or ebm")
    parser.add_argument(
        "data", metavar="DATA", help='images (for a classifier, labelled ones): a folder, a file, "digits" or "hf:NAME"'
    )
    add_reading(parser)
    parser.add_argument("--epochs", type=whole(1), metavar="N", help="classifier: passes over the images")
    parser.add_argument("--steps", type=whole(1), metavar="N", help="glow, ebm: train up to this step")
    add_set(parser, "glow, ebm: change a field of the recipe; may be repeated")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="classifier: a .safetensors file; glow, ebm: the run's folder (default runs/NAME-KIND)",
    )
    add_seed(parser, "decides initial weights, the order of images, and noise or shifts (default 0)")
    add_device(parser)
    add_dry_run(parser, "say what would be trained and where it would be kept, and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train, or find what was trained before."""
    if args.kind not in KINDS:
        near = did_you_mean(args.kind, KINDS)
        raise InputError(f"no baseline {args.kind!r} (baselines: {', '.join(KINDS)}){near}")
    own = {"classifier": ("epochs",)}.get(args.kind, ("steps", "set"))
    for name in {"epochs", "steps", "set"} - set(own):
        if getattr(args, name):
            raise InputError(f"--{name} is not for the baseline {args.kind}, which takes --{', --'.join(own)}")
    return _classifier(args) if args.kind == "classifier" else _density(args)


def _density(args: argparse.Namespace) -> dict[str, Any]:
    """Train a run of glow or ebm, or go on with it."""
    from diffprob.tasks.baselines import BaselineRequest, prepare_baseline
    from diffprob.tasks.training_run import run_training

    request = BaselineRequest(
        kind=args.kind,
        data=args.data,
        size=args.size,
        channels=args.channels,
        levels=args.levels,
        **training_fields(args),
    )
    prepared = prepare_baseline(request, TERMINAL)
    return {"kind": args.kind, **(trained(args.dry_run, prepared, run_training) or {})}


def _classifier(args: argparse.Namespace) -> dict[str, Any]:
    from diffprob.tasks.classifier import ClassifierRequest, prepare_classifier, train_classifier

    request = ClassifierRequest(
        data=args.data,
        size=args.size,
        channels=args.channels,
        levels=args.levels,
        epochs=args.epochs,
        seed=args.seed,
        out=args.out,
        device=args.device,
    )
    prepared = prepare_classifier(request, TERMINAL)
    output.check_writable(args.out or prepared.path)
    if args.dry_run:
        path = prepared.path
        return {**prepared.settings, "dry_run": True, "path": str(path), "exists": path.exists(), "next": None}
    result = train_classifier(prepared, TERMINAL).to_json()
    chosen = f" --features classifier:{result['path']}" if args.out else ""
    last = {name: result.pop(name) for name in ("seconds", "dry_run")}
    return {**result, "next": f"diffprob evaluate RUN {args.data}{chosen}", **last}


def format_result(result: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed."""
    if result["kind"] != "classifier":
        yield from format_training(result)
        return
    rows = [
        ("data", f"{result['data']}, {result['images']:,} images in {result['classes']} classes"),
        ("network", f"{result['network']}, {result['parameters']:,} parameters"),
        ("training", result["settings"]),
    ]
    if result["dry_run"]:
        state = "there already, and would be compared with this" if result["exists"] else "new"
        yield from table([*rows, ("file", f"{result['path']} ({state})")])
        return
    done = f"trained in {duration(result['seconds'])}" if result["fresh"] else "was trained before"
    rows += [
        ("accuracy", f"{result['accuracy']:.2%} of {result['tested']:,} images ({result['on']})"),
        ("features", result["features"]),
        ("file", f"{result['path'] or 'not kept'} ({done})"),
    ]
    yield from table(rows)
    yield f"next: {result['next']}"
