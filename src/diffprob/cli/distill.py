"""Make a potential of a trained run: a network whose gradient is the noise, so that its value is -log p up to scale.

The result is a run like any other: it samples, evaluates and resumes, and `detect --with` reads its density.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.cli.parser import add_device, add_dry_run, add_seed, whole
from diffprob.cli.progress import TERMINAL, say

if TYPE_CHECKING:
    from diffprob.data.images import Images
    from diffprob.runs.folder import Run

EXAMPLES = (
    "diffprob distill digits --method gradient                # V_0 from the packaged digits, runs/digits-gradient",
    "diffprob distill runs/mnist --method scalar --steps 4000 # a scalar head on the frozen body, then the body too",
    "diffprob distill runs/mnist --method scalar --frozen --set 'network.body.norm=\"batch\"'",
    "diffprob distill runs/mnist --method full                # the whole U-Net's gradient learns the noise",
    "diffprob detect mnist --outside data/fashion-mnist --with runs/mnist-gradient",
)

FIELDS, COMPARED = "fields.png", 16  # images over which the difference is averaged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
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
    from diffprob.base.errors import InputError
    from diffprob.cli.train import dry_run, set_fields
    from diffprob.cli.training import train
    from diffprob.recipes.distilled import STEPS, distilled
    from diffprob.runs.folder import Run
    from diffprob.runs.images import OwnImages
    from diffprob.tasks.compute import choose_device

    if args.frozen and args.method != "scalar":
        raise InputError(f"--frozen belongs to --method scalar, not to --method {args.method}")
    found = Run.open(args.run)
    recipe = distilled(found, args.method, args.steps or STEPS, not args.frozen)
    own = OwnImages(found, args.data)
    if args.data is not None:
        recipe = replace(recipe, data=own.source)
        _ = own.train  # refuses other images than the teacher's, in a dry run too
    place = recipe.data
    recipe = set_fields(recipe, args.set)
    if args.seed is not None:
        recipe = replace(recipe, training=replace(recipe.training, seed=args.seed))
    out = Path(args.out or f"runs/{recipe.name}")
    if args.dry_run:
        return dry_run(recipe, out, choose_device(args.device), 1, None)
    images = own.train.images if recipe.data == place else recipe.data.load()
    for note in images.notes:
        say(f"{images.name}: {note}")
    result = train(recipe, out, args.device, images=images)
    if result is None:
        return None
    if recipe.data == place and not own.may_be_shown:
        say(f"note: no {FIELDS}, which shows an image: {found.place} does not say which it was trained on; --data does")
        return {**result, "fields": None}
    return {**result, "fields": _fields(found, out, images)}


def _fields(teacher: "Run", out: Path, images: "Images") -> str | None:
    """Draw both fields into the new run; None where matplotlib is missing, or the run cannot be written to."""
    from importlib.util import find_spec

    from diffprob.tasks.recording import recorded

    if find_spec("matplotlib") is None:
        return None
    import torch

    from diffprob.base.rng import Rng
    from diffprob.reporting.fields import fields_figure
    from diffprob.runs.folder import Run

    made, n = Run.open(out), COMPARED
    x0 = made.space.to_model(torch.from_numpy(images.take(range(min(n, len(images))))))
    picture = fields_figure(teacher.load(chunk=None), made.load(chunk=None), x0, Rng.of(0, len(x0)))
    kept = recorded(made, lambda: made.add(FIELDS, picture), TERMINAL)
    return str(out / FIELDS) if kept["recorded"] else None


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.train import lines as trained

    yield from trained(result)
    if result.get("fields"):
        yield f"both noise predictions: {result['fields']}"
