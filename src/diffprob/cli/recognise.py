"""Train a classifier of noised images under a run's noise, beginning with the run's weights.

With one DATA it learns the labels; with several, which of them an image is from, which is what `translate` needs: the
source's images first, then the target's. The same command again resumes. In the end it says how many held-out images it
recognises at some times t, from little noise to much.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.base.text import printable
from diffprob.cli.parser import add_device, add_dry_run, add_seed, is_run, whole
from diffprob.cli.progress import TERMINAL, say

if TYPE_CHECKING:
    from torch import Tensor

    from diffprob.data.images import Images
    from diffprob.runs.folder import RecogniserRun, Run

EXAMPLES = (
    "diffprob recognise runs/dresses pictures/shirts pictures/dresses   # which folder is a noised image from?",
    "diffprob recognise mnist path/to/mnist --out runs/mnist-digits     # which digit is it?",
    "diffprob recognise digits digits --steps 300 --set training.lr=1e-3",
    "diffprob translate runs/dresses pictures/shirts --recogniser runs/dresses-recogniser --out translated",
)

AT = (0.1, 0.3, 0.5, 0.7, 0.9)  # times at which it is tested
TESTED = 1000  # images at most
BATCH = 100  # of them at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("run", metavar="RUN", help="whose noise it is: a run's folder, or the name of a packaged run")
    parser.add_argument("data", metavar="DATA", nargs="+", help="labelled images, or two or more sources of images")
    parser.add_argument("--size", type=whole(2), metavar="N", help="scale and crop pictures to NxN")
    parser.add_argument("--out", metavar="RUN", help="the new run's folder (runs/NAME-recogniser)")
    parser.add_argument("--steps", type=whole(1), metavar="N", help="train until this step (600)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change one field of the recipe"
    )
    add_seed(parser, "decides order and noise (the run's)", None)
    add_device(parser)
    add_dry_run(parser, "say what it would take (parameters, memory, time) and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Train, or go on; then test."""
    from diffprob.cli.train import dry_run, set_fields
    from diffprob.cli.training import train
    from diffprob.config.classes import nameless
    from diffprob.data.joined import Joined
    from diffprob.recipes.recognisers import STEPS, recogniser
    from diffprob.runs.files import read_recipe
    from diffprob.runs.folder import RecogniserRun, Run, open_run
    from diffprob.tasks.compute import choose_device

    found = Run.open(args.run)
    sources = [source_for(text, found, args.size) for text in args.data]
    data = sources[0] if len(sources) == 1 else Joined(tuple(sources))
    images = data.load()
    _check_fits(images, found)
    names = _classes(images)
    held = _held_out(sources)
    if held is not None:  # before the training: a test split that cannot be used would be found after it
        _check_fits(held, found)
    recipe = recogniser(found, data, names, args.steps or STEPS)
    there = Path(args.out or f"runs/{recipe.name}")
    begun = nameless(read_recipe(there)) if is_run(there) else None
    if begun is not None:
        recipe = recogniser(found, data, begun.classes, args.steps or STEPS)
    recipe = set_fields(recipe, args.set)
    if args.seed is not None:
        recipe = replace(recipe, training=replace(recipe.training, seed=args.seed))
    out = Path(args.out or f"runs/{recipe.name}")
    if args.dry_run:
        return dry_run(recipe, out, choose_device(args.device), 1, images)
    for note in images.notes:
        say(f"{images.name}: {note}")
    result = train(recipe, out, args.device, images=images)
    if result is None:
        return None
    made = open_run(out)
    assert isinstance(made, RecogniserRun)
    return {**result, **_tested(made, images, held, choose_device(args.device))}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.text import table
    from diffprob.cli.train import lines as trained

    said = list(trained(result))
    if not result.get("dry_run"):
        rows = [(f"{t:g}", f"{share:.1%}") for t, share in zip(result["at"], result["accuracy"], strict=True)]
        what = f"{result['tested']:,} images of {result['on']}"
        said[1:1] = [f"recognised of {what}, {len(result['classes'])} classes:", *table(rows, ("t", "share"))]
    yield from said


def source_for(text: str, run: "Run", size: int | None = None, split: str = "train") -> Any:
    """The source that ``text`` means; pictures are read in the run's channels.

    Raises:
        InputError: as `diffprob.data.open_data`.
    """
    from diffprob.data.detect import open_data
    from diffprob.data.sources import Folder, HuggingFace

    source = open_data(text, size=size, split=split)
    return replace(source, channels=run.space.shape[0]) if isinstance(source, Folder | HuggingFace) else source


def _classes(images: "Images") -> tuple[str, ...]:
    """Names of the classes that occur.

    Raises:
        InputError: no labels, or a single one.
    """
    from diffprob.config.classes import labels_of

    if images.labels is None:
        raise InputError(
            f"{images.name} has no labels; those of sub-folders, or a second DATA to be told from it, would be right"
        )
    names = labels_of(images).names
    if len(names) < 2:
        raise InputError(f"{images.name} has one class; a second DATA to be told from it would be right")
    return names


def _check_fits(images: "Images", run: "Run") -> None:
    """Refuse images that are none for the run; they are not converted, for the new run is to find them again.

    Raises:
        InputError: another shape or number of grey levels.
    """
    theirs, ours = images.event_shape, run.space.shape
    found = (
        f"{images.name}: shape {theirs} and {images.levels} grey levels, {run.name} has {ours} and {run.space.levels}"
    )
    if images.levels != run.space.levels:
        raise InputError(f"{found}; the run's own images, or a run of {images.levels} grey levels, would be right")
    if theirs != ours:
        size = f" (of pictures --size {ours[1]} makes such)" if ours[1] == ours[2] and theirs[1:] != ours[1:] else ""
        raise InputError(f"{found}; images of that shape{size} would be right")


def _tested(made: "RecogniserRun", train: "Images", test: "Images | None", device: Any) -> dict[str, Any]:
    """The share of held-out images (or of the others without any) that is recognised at the times `AT`, also put down
    in the run.
    """
    import torch

    from diffprob.base.rng import Rng, permutation
    from diffprob.config.classes import agreed
    from diffprob.data.for_run import TEST, TRAIN, Selection
    from diffprob.data.nested import held_out_source
    from diffprob.data.places import without_folders
    from diffprob.evaluation.estimate import wilson
    from diffprob.runs.measurements import Measurement
    from diffprob.tasks.images import recorded_images
    from diffprob.tasks.recording import recorded

    images, on = (train, "the training data") if test is None else (test, "the test split")
    split, source = (TRAIN, made.recipe.data) if test is None else (TEST, held_out_source(made.recipe.data))
    said = recorded_images(Selection(images, repr(without_folders(source)), split, split, images.digest()))
    train, images = agreed(made.recipe, train, images)
    labels, names = images.labels, made.recipe.condition.names or train.class_names[: made.recipe.condition.classes]
    known = labels < made.recipe.condition.classes
    if not known.all():
        others = printable(", ".join(images.class_names[made.recipe.condition.classes :]))
        say(f"note: {len(known) - known.sum():,} images of classes that it was not trained on are left out: {others}")
    chosen = permutation(0, 0, len(images))
    chosen = chosen[known[chosen]][:TESTED]
    x0 = made.space.to_model(torch.from_numpy(images.take(chosen)))
    model, rng, shares = made.load(device), Rng.of(0, len(chosen), device=device), []
    found: list[Measurement] = []
    for t in AT:
        hits = _hits(model, x0.to(device), torch.from_numpy(labels[chosen]), t, rng)
        low, high = wilson(hits, len(chosen))
        shares.append(hits / len(chosen))
        name = f"accuracy at t = {t:g}"
        found.append(Measurement(name, shares[-1], len(chosen), 0, low=low, high=high, **said))
    kept = recorded(made, lambda: made.record(*found), TERMINAL)
    return {**kept, "at": list(AT), "accuracy": shares, "tested": len(chosen), "on": on, "classes": list(names)}


def _hits(model: Any, x0: "Tensor", labels: "Tensor", t: float, rng: Any) -> int:
    from diffprob.training.noisy_classifier import recognised

    parts = [slice(first, first + BATCH) for first in range(0, len(x0), BATCH)]
    return sum(int(recognised(model, x0[part], labels[part], t, rng.select(part)).sum()) for part in parts)


def _held_out(sources: list[Any]) -> "Images | None":
    """The test splits of all sources, joined as these are; None, and a line, where one has none."""
    from diffprob.data.joined import Joined, join
    from diffprob.tasks.images import held_out

    found = []
    for source in sources:
        images = held_out(source)
        if images is None or (images.labels is None and len(sources) == 1):
            say(f"note: {source!r} has no test split: tested on the training images, which flatters")
            return None
        found.append(images)
    return found[0] if len(found) == 1 else join(found, Joined(tuple(sources)).names)
