"""Train something to compare with.

classifier: of your labelled images; judges samples and gives features for them. glow and ebm: densities of your images
without a diffusion model, saved as runs; `detect --with` reads them.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError, Missing, did_you_mean
from diffprob.cli import output
from diffprob.cli.parser import add_device, add_dry_run, add_seed, whole
from diffprob.cli.progress import TERMINAL, duration, say

if TYPE_CHECKING:
    from diffprob.data.images import Images
    from diffprob.evaluation.classifier import Plan, TrainedClassifier

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
    """The options of the verb."""
    parser.add_argument("kind", metavar="KIND", help="classifier, glow or ebm")
    parser.add_argument(
        "data", metavar="DATA", help='images (for a classifier labelled): a folder, a file, "digits" or "hf:NAME"'
    )
    parser.add_argument("--size", type=whole(2), metavar="N", help="scale and crop pictures to NxN")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="read pictures as grey (1) or colour (3)")
    parser.add_argument("--epochs", type=whole(1), metavar="N", help="classifier: passes over the images")
    parser.add_argument("--steps", type=whole(1), metavar="N", help="glow, ebm: train until this step")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="glow, ebm: change one field of the recipe"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="classifier: the .safetensors file; glow, ebm: the run (runs/NAME-KIND)"
    )
    add_seed(parser, "decides weights at the start, order and shifts (0)")
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
    if args.kind != "classifier":
        return _density(args)
    return _classifier(args)


def _density(args: argparse.Namespace) -> dict[str, Any]:
    """Train a run of glow or ebm, or go on with it."""
    from diffprob.cli.automatic import data_name, folder_name, opened
    from diffprob.cli.train import dry_run, set_fields
    from diffprob.cli.training import train
    from diffprob.recipes import densities
    from diffprob.space.pixels import Pixels
    from diffprob.tasks.compute import choose_device

    there = Path(args.out or f"runs/{data_name(args.data)}-{args.kind}")
    source, images, said = opened(args.data, args.size, args.channels, there)
    make = {"glow": densities.glow, "ebm": densities.ebm}[args.kind]
    recipe = make(data_name(args.data), source, Pixels(images.event_shape, images.levels))
    if args.out:
        recipe = replace(recipe, name=folder_name(Path(args.out)))
    training = {name: getattr(args, name) for name in ("steps", "seed") if getattr(args, name) is not None}
    recipe = replace(recipe, training=replace(recipe.training, **training))
    recipe = set_fields(recipe, args.set)
    out = Path(args.out or f"runs/{recipe.name}")
    if args.dry_run:
        return {"kind": args.kind, **dry_run(recipe, out, choose_device(args.device), 1, images)}
    for note in (*images.notes, *said):
        say(f"{images.name}: {note}")
    return {"kind": args.kind, **(train(recipe, out, args.device, images=images) or {})}


def _classifier(args: argparse.Namespace) -> dict[str, Any]:
    from diffprob.tasks.compute import choose_device

    if args.out is not None and not args.out.endswith(".safetensors"):
        raise InputError(f"--out {args.out}: a name that ends in .safetensors would be right")
    from diffprob.cli.automatic import opened
    from diffprob.evaluation.classifier import default_epochs, plan
    from diffprob.evaluation.classify import FitSettings
    from diffprob.tasks.classifier import trained_classifier

    device = choose_device(args.device)
    _, images, said = opened(args.data, args.size, args.channels)
    for note in (*images.notes, *said):
        say(f"{images.name}: {note}")
    test = find_test(images, args.data, args.size, args.channels or (images.event_shape[0] if said else None))
    settings = FitSettings(epochs=args.epochs or default_epochs(len(images)), seed=args.seed)
    wanted = plan(images, test, settings)
    output.check_writable(args.out or wanted.path)
    result = {"kind": args.kind, "data": args.data, "images": len(images), **_about(wanted), "device": str(device)}
    if args.dry_run:
        path = Path(args.out) if args.out else wanted.path
        return {**result, "dry_run": True, "path": str(path), "exists": path.exists(), "next": None}
    began = time.monotonic()
    made = trained_classifier(images, test, settings, device, args.out, TERMINAL)
    return {**result, **_outcome(made, args), "seconds": round(time.monotonic() - began, 1), "dry_run": False}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.text import table

    if result["kind"] != "classifier":
        from diffprob.cli.train import lines as trained

        yield from trained(result)
        return
    rows = [
        ("data", f"{result['data']}, {result['images']:,} images in {result['classes']} classes"),
        ("network", f"{result['network']}, {result['parameters']:,} parameters"),
        ("training", result["settings"]),
    ]
    if result["dry_run"]:
        there = "there already, and would be compared with this" if result["exists"] else "new"
        yield from table([*rows, ("file", f"{result['path']} ({there})")])
        return
    done = f"trained in {duration(result['seconds'])}" if result["fresh"] else "was trained before"
    rows += [
        ("accuracy", f"{result['accuracy']:.2%} of {result['tested']:,} images ({result['on']})"),
        ("features", result["features"]),
        ("file", f"{result['path'] or 'not kept'} ({done})"),
    ]
    yield from table(rows)
    yield f"next: {result['next']}"


def find_test(images: "Images", data: str, size: int | None = None, channels: int | None = None) -> "Images | None":
    """The labelled test split of ``data``, whose training split is ``images``; None, and a line, without one."""
    from diffprob.data import open_data

    try:
        test = open_data(data, size=size, channels=channels, split="test").load()
    except Missing as error:
        say(f"no test split ({error}): a tenth of the images is held back to measure the accuracy")
        return None
    if test.labels is None or test.digest() == images.digest():  # one file is all splits
        say("no labelled test split: a tenth of the images is held back to measure the accuracy")
        return None
    return test


def _about(wanted: "Plan") -> dict[str, Any]:
    import torch

    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in wanted.spec.build().parameters())
    about = {"classes": wanted.spec.classes, "network": repr(wanted.spec), "parameters": parameters}
    return {**about, "settings": repr(wanted.settings), "data_sha256": wanted.data, "held_back": wanted.held}


def _outcome(made: "TrainedClassifier", args: argparse.Namespace) -> dict[str, Any]:
    from diffprob.evaluation.features import describe

    features = made.features()
    chosen = f" --features classifier:{made.path}" if args.out else ""
    return {
        "accuracy": made.accuracy,
        "tested": made.tested,
        "on": made.on,
        "class_names": list(made.class_names),
        "features": describe(features),
        "features_sha256": features.digest,
        "path": None if made.path is None else str(made.path),
        "fresh": made.fresh,
        "next": f"diffprob evaluate RUN {args.data}{chosen}",
    }
