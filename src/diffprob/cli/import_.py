"""Make a run of a diffusers folder (DDPMPipeline or UNet2DModel, in safetensors); diffusers itself is not needed."""

import argparse
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli.parser import add_dry_run, whole
from diffprob.cli.progress import say

if TYPE_CHECKING:
    from diffprob.conditions.condition import Labels
    from diffprob.config.recipe import Recipe
    from diffprob.interop.configs import Scheduling
    from diffprob.interop.diffusers import Pipeline

EXAMPLES = (
    "diffprob import path/to/ddpm-cifar10-32 --out runs/ddpm",
    "diffprob import path/to/unet --size 28 --data path/to/mnist --out runs/imported",
    "diffprob sample runs/ddpm -n 16",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("folder", metavar="FOLDER", help="what diffusers' save_pretrained wrote")
    parser.add_argument("--out", required=True, metavar="RUN", help="the new run's folder")
    parser.add_argument("--size", type=whole(1), metavar="N", help="of the images, if the folder does not say")
    parser.add_argument(
        "--levels", type=whole(2, 256), metavar="K", help="grey levels (what the folder says, else 256)"
    )
    parser.add_argument(
        "--null-label",
        action="store_true",
        help="the network's last class stands for no label, which guidance needs (what the folder says)",
    )
    parser.add_argument("--data", metavar="PATH", help="what it was trained on, for the recipe (not known)")
    parser.add_argument("--step", type=whole(0), default=0, metavar="N", help="training steps behind the weights")
    add_dry_run(parser, "read and check the folder, and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Read the folder, write the run, open it."""
    from diffprob.config.recipe import parameter_count
    from diffprob.interop.configs import scheduling
    from diffprob.interop.diffusers import load_pipeline
    from diffprob.runs.folder import Run
    from diffprob.runs.publish import write_run

    out = Path(args.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already and is not an empty folder: choose another --out")
    pipeline = load_pipeline(args.folder)
    settings = scheduling(pipeline.scheduler or {}, f"scheduler_config.json of {args.folder}")
    recipe = _recipe(args, pipeline, settings)
    if not args.dry_run:
        write_run(out, recipe, {f"net.{name}": tensor for name, tensor in pipeline.state.items()}, step=args.step)
        Run.open(out)
    return {
        "dry_run": args.dry_run,
        "run": str(out),
        "parameters": parameter_count(recipe),
        "shape": list(recipe.space.shape),
        "network": repr(recipe.network),
        "process": repr(recipe.process),
        "prediction": repr(recipe.prediction),
        "variance": repr(recipe.variance),
        "weights": pipeline.variant or "float32",
        "clip": settings.clip,
    }


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.text import table

    channels, height, width = result["shape"]
    yield from table(
        [
            ("would write" if result["dry_run"] else "wrote", result["run"]),
            ("images", f"{height}x{width}, {channels} channel(s)"),
            ("parameters", f"{result['parameters']:,}"),
            *((name, result[name]) for name in ("network", "process", "prediction", "variance", "weights")),
        ]
    )
    if result["clip"] is None:
        yield f"its sampler does not clip: diffprob sample {result['run']} --no-clip"
    elif result["clip"] != 1:
        yield f"its sampler clips to {result['clip']:g}; diffprob sample clips to 1, or with --no-clip not at all"
    else:
        yield f"to draw from it: diffprob sample {result['run']}"


def _recipe(args: argparse.Namespace, pipeline: "Pipeline", settings: "Scheduling") -> "Recipe":
    from diffprob.config.recipe import Recipe
    from diffprob.data import Folder, HuggingFace, open_data
    from diffprob.data.places import absolute
    from diffprob.space.pixels import Pixels
    from diffprob.training.settings import Training

    spec, size = pipeline.spec, pipeline.size
    if args.size is not None:
        if size is not None and size != (args.size, args.size):
            raise InputError(f"--size {args.size}: {args.folder} says that its images are {size[0]}x{size[1]}")
        size = (args.size, args.size)
    if size is None:
        raise InputError(f"{args.folder} does not say the size of its images; give --size N")
    if spec.in_channels not in {1, 3}:
        raise InputError(f"{args.folder}: a network of images with {spec.in_channels} channels; 1 or 3 can be a run")
    height, width = size
    square = height if height == width else None
    data: Any = absolute(open_data(args.data)) if args.data else Folder("not-known", square, spec.in_channels)
    if isinstance(data, Folder | HuggingFace):
        data = replace(data, channels=spec.in_channels)
    try:
        return Recipe(
            name=re.sub(r"[^\w.-]+", "-", Path(args.out).resolve().name),
            data=data,
            space=Pixels((spec.in_channels, height, width), _levels(pipeline, args)),
            network=spec,
            process=settings.process,
            prediction=settings.prediction,
            clock=settings.clock,
            variance=settings.variance,
            condition=_condition(pipeline, args),
            training=Training(steps=max(1, args.step)),
        )
    except ValueError as error:
        raise InputError(f"{args.folder}: {error}") from error


def _levels(pipeline: "Pipeline", args: argparse.Namespace) -> int:
    if args.levels is not None and pipeline.levels not in (None, args.levels):
        raise InputError(f"--levels {args.levels}: {args.folder} says that its images have {pipeline.levels}")
    return args.levels or pipeline.levels or 256


def _condition(pipeline: "Pipeline", args: argparse.Namespace) -> "Labels | None":
    """The labels that the network is told."""
    from diffprob.conditions.condition import Labels

    classes = pipeline.spec.classes
    if pipeline.condition is not None:
        if args.null_label and not pipeline.condition.drop:
            raise InputError(f"--null-label: {args.folder} says that each of its {classes} labels is a class")
        return pipeline.condition
    if not classes:
        if args.null_label:
            raise InputError(f"--null-label: the network of {args.folder} is told no labels")
        return None
    if not args.null_label:
        say(f"note: {args.folder} names none of its {classes} classes; if the last stands for no label: --null-label")
    # How often training dropped the label is not known; that it did is all that counts afterwards.
    return Labels(classes - 1) if args.null_label else Labels(classes, drop=0.0)
