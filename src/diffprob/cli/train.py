"""Train a recipe, or a model of your own images. The same command again resumes; a larger --steps goes on."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from diffprob.base.errors import InputError, Missing
from diffprob.base.text import bytes_text, one_line
from diffprob.cli.parser import add_device, add_dry_run, add_seed, is_run, whole
from diffprob.cli.progress import duration, say
from diffprob.storage.files import TEXT_LIMIT, followed, kind_of, read_bytes

if TYPE_CHECKING:
    import torch

    from diffprob.config.recipe import Kind, Recipe
    from diffprob.data.images import Images

R = TypeVar("R", bound="Kind")

EXAMPLES = (
    "diffprob train digits                                    # the embedded digits, into runs/digits",
    "diffprob train mnist --data path/to/mnist --out runs/mnist",
    "diffprob train --data path/to/pictures --size 64         # a recipe is made from the data",
    "diffprob train cifar10 --set training.lr=1e-4 --set network.dropout=0.0 --seed 1 --out runs/other",
    "diffprob train digits --set 'training.monitor=Monitor(epochs=5, best=\"frechet\")' --tensorboard",
    "diffprob train fashion --labels --data data/fashion      # diffprob sample runs/fashion --label 3 --guidance 1",
    "diffprob train lsun256 --dry-run                         # parameters, memory, time; needs no data",
    "diffprob train runs/digits --steps 8000                  # a run, its recipe and its data again: go on",
    "torchrun --nproc-per-node 2 -m diffprob train cifar10 --processes 2",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help="a recipe's name (diffprob show recipes), a recipe.txt, or a run to go on with",
    )
    parser.add_argument(
        "--data", metavar="PATH", help="folder or file of images; without RECIPE a recipe is made for them"
    )
    parser.add_argument("--size", type=whole(2), metavar="N", help="with --data alone: scale and crop pictures to NxN")
    parser.add_argument(
        "--channels", type=int, choices=(1, 3), help="with --data alone: grey (1) or colour (3) pictures"
    )
    parser.add_argument(
        "--labels", action="store_true", help="tell the network the label of each image: sample --label, --guidance"
    )
    parser.add_argument("--out", metavar="RUN", help="the run's folder (runs/NAME)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change one field of the recipe; may be repeated",
    )
    parser.add_argument("--steps", type=whole(1), metavar="N", help="train until this step")
    parser.add_argument(
        "--processes", type=whole(1), metavar="N", help="fail unless torchrun started this many processes"
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="also write the log for TensorBoard (RUN/tensorboard)"
    )
    add_seed(parser, "decides weights at the start, order and noise (the recipe's)", None)
    add_device(parser)
    add_dry_run(parser, "say what it would take (parameters, memory, time) and write nothing")


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Train, resume or estimate."""
    from diffprob.cli.automatic import described, folder_name
    from diffprob.config.recipe import Recipe
    from diffprob.recipes import RECIPES
    from diffprob.tasks.compute import choose_device

    recipe, images = read_recipe(args)
    going_on = args.recipe not in {None, *RECIPES} and is_run(Path(args.recipe))

    def place() -> Path:
        return Path(args.out or (args.recipe if going_on else f"runs/{recipe.name}"))

    if args.labels:
        recipe, images = labelled(recipe, images, place())
    short = {f"training.{name}": getattr(args, name) for name in ("steps", "seed")}
    recipe = set_fields(recipe, [*args.set, *(f"{path}={n}" for path, n in short.items() if n is not None)])
    if not args.recipe and isinstance(recipe, Recipe):
        for text in described(recipe):
            say(text)
    out = place()
    if args.recipe is None and args.out:
        recipe = replace(recipe, name=folder_name(out))
    if going_on and not is_run(out) and getattr(recipe, "start", None) is None:
        say(_anew(str(args.recipe), out))
    if args.dry_run:
        return dry_run(recipe, out, choose_device(args.device), args.processes or 1, images)
    from diffprob.cli.training import train

    return train(recipe, out, args.device, args.processes, images, board=args.tensorboard)


def lines(result: dict[str, Any]) -> Iterator[str]:
    """For people."""
    from diffprob.cli.text import table

    if result.get("dry_run"):
        yield from table([*result["about"].items(), *cost_rows(result, result["steps"], result["batch"])])
        return
    state = "was finished already" if result["finished_before"] else "finished"
    loss = "" if result["loss"] is None else f", loss {result['loss']:.4g}"
    yield f"{result['run']}: {state} at step {result['step']:,}{loss}"
    yield from table(
        [(name, result[key]) for name, key in (("samples", "samples"), ("loss curve", "loss_curve")) if result[key]]
    )
    if result["finished_before"]:
        yield f"to go on: the same command with --steps above {result['step']:,}"
    if result["denoises"]:
        yield f"to draw from it: diffprob sample {result['run']}"
    elif result["recognises"]:
        yield f"to translate with it: diffprob translate RUN IMAGES --recogniser {result['run']} --out FOLDER"
    else:
        yield f"to compare with it: diffprob detect RUN --outside IMAGES --with {result['run']}"


def read_recipe(args: argparse.Namespace) -> "tuple[Kind, Images | None]":
    """The recipe that the arguments name, and the data where it had to be looked at.

    Raises:
        InputError: neither recipe nor data, or no such thing.
    """
    if args.recipe is None:
        if args.data is None:
            raise InputError("train needs a recipe (diffprob show recipes) or --data PATH")
        from diffprob.cli.automatic import automatic, data_name

        out = Path(args.out or f"runs/{data_name(args.data)}")
        recipe, images, said = automatic(args.data, args.size, args.channels, out)
        for text in (*images.notes, *said):
            say(text)
        return recipe, images
    if args.size or args.channels:
        raise InputError(
            "--size and --channels are for --data without a recipe; with one use --set, for instance data.size=64"
        )
    from diffprob.recipes import RECIPES, named

    if args.recipe in RECIPES or not _is_path(args.recipe):
        return named(args.recipe, args.data), None
    from diffprob.data.places import at_place

    recipe = _from_file(Path(args.recipe))
    return (recipe if args.data is None else replace(recipe, data=at_place(recipe.data, args.data))), None


def labelled(recipe: "Kind", images: "Images | None", out: Path) -> "tuple[Recipe, Images]":
    """The recipe for a network that is told the classes that occur in the images, and these.

    Args:
        out: where the run will be; one that was begun without names of the classes goes on with its numbers.

    Raises:
        InputError: images without labels, or a network that takes none.
    """
    from diffprob.config.classes import labels_of, nameless
    from diffprob.config.recipe import Recipe
    from diffprob.runs.files import read_recipe as recipe_of

    images = recipe.data.load() if images is None else images
    try:
        condition = labels_of(images)
    except InputError as error:
        raise InputError(f"--labels: {error}") from error
    condition = (nameless(recipe_of(out)) if is_run(out) else None) or condition
    if not isinstance(recipe, Recipe) or not hasattr(recipe.network, "classes"):
        raise InputError(f"--labels: {type(recipe.network).__name__} takes no labels; UNetSpec(...) would be right")
    network: Any = recipe.network
    return replace(recipe, condition=condition, network=replace(network, classes=condition.rows)), images


def _anew(run: str, out: Path) -> str:
    """What a training that takes the recipe of a run into a new folder does not take: its weights."""
    from diffprob.config.pretrained import Trained
    from diffprob.runs.folder import open_run

    text = f"{out}: begins anew, from random weights: of {run} it has the recipe alone"
    found = open_run(run)
    if not found.meta["step"] or not hasattr(found.recipe, "start"):
        return f"{text}; to go on with {run}, leave --out away"
    start = Trained(found.place, found.sha256()[:12])
    return f"{text}; to go on with {run}, leave --out away; to begin with its weights, --set 'start={start!r}'"


def _is_path(text: str | None) -> bool:
    return text is not None and ("/" in text or Path(text).exists())


def _from_file(path: Path) -> "Kind":
    from diffprob.config.recipe import Kind
    from diffprob.config.registry import ALL
    from diffprob.config.spec import parse

    place = followed(path)
    if place.is_dir():
        place /= "recipe.txt"
        if kind_of(place) is None:
            raise InputError(
                f"{path} is a folder without recipe.txt; for a folder of images: diffprob train --data {path}"
            )
    try:
        recipe = parse(read_bytes(place, TEXT_LIMIT).decode("utf-8"), ALL)
    except Missing as error:
        raise InputError(
            f"no recipe at {path}; a name (diffprob show recipes) or a recipe.txt would be right"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a recipe: it is not text; for data: diffprob train --data {path}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(recipe, Kind):
        raise InputError(f"{path} does not hold a Recipe(...), a Baseline(...) or a Recogniser(...)")
    return recipe


def set_fields(recipe: R, texts: Sequence[str]) -> R:
    """The recipe with the changes that every ``--set FIELD=VALUE`` asks for, made together.

    Raises:
        InputError: no such field, or a value that it does not take.
    """
    from diffprob.config.overrides import assign_all

    settings = []
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path or not value:
            said = one_line(text, 60)
            raise InputError(f"--set {said}: FIELD=VALUE would be right, for instance training.lr=1e-3")
        settings.append((path.strip(), value.strip()))
    return assign_all(recipe, settings) if settings else recipe


def dry_run(
    recipe: "Kind", out: Path, device: "torch.device", processes: int, images: "Images | None"
) -> dict[str, Any]:
    """What `train` would take: parameters, memory and time, and where the run would go.

    Args:
        images: the data, where it is loaded already; else it is if it is on this machine.

    Raises:
        InputError: it would be refused.
    """
    from diffprob.cli.training import checked, planned
    from diffprob.config.recipe import check_trainable
    from diffprob.tasks.cost import estimate_cost
    from diffprob.training.batches import check_shares

    check_trainable(recipe)
    images = _data_there(recipe) if images is None else images
    recipe = recipe if images is None else checked(recipe, images, out)
    settings = recipe.training
    check_shares(settings, processes)
    about = {
        "recipe": recipe.name,
        "data": _data_state(recipe, images),
        "network": repr(recipe.network),
        "begins with": repr(getattr(recipe, "start", None) or "random weights").strip("'"),
        "run": planned(recipe, out),
    }
    costs = estimate_cost(recipe, device, processes).to_json()
    return {"dry_run": True, "about": about, "steps": settings.steps, "batch": settings.batch, **costs}


def _data_there(recipe: "Kind") -> "Images | None":
    """The data, or None where it is not on this machine; nothing is downloaded for it.

    Raises:
        InputError: it is there, and cannot be used.
    """
    from diffprob.data.nested import innermost
    from diffprob.data.sources import HuggingFace

    kinds: set[type] = set()
    innermost(recipe.data, lambda each: kinds.add(type(each)) or each)
    try:
        return None if HuggingFace in kinds else recipe.data.load()
    except Missing:
        return None


def _data_state(recipe: "Kind", images: "Images | None") -> str:
    from diffprob.data.places import paths

    if images is not None:
        return f"{recipe.data!r}, {len(images):,} images"
    return f"{recipe.data!r}" + (" (not there: training needs it)" if paths(recipe.data) != {None} else "")


def _advice(result: dict[str, Any]) -> str:
    """What would help where memory is short: parts of a batch save activations, and nothing else."""
    total, there = result["memory_bytes_total"], result["device_memory_bytes"]
    if not there or total <= there:
        return ""
    more = f"more than the {bytes_text(there)} there are"
    activations, images = result["memory_bytes"].get("activations", 0), result["images_per_network_call"]
    if total - activations > there:
        return f"; weights and optimiser alone are {more}: only a smaller network helps"
    if images > 1 and total - activations + activations / images <= there:
        return f"; {more}: raise training.accumulate"
    return f"; {more} for one image: only a smaller network or image helps"


def cost_rows(result: dict[str, Any], steps: int, batch: int) -> list[tuple[str, str]]:
    """What `diffprob.tasks.cost.TrainingCost.to_json` says, as rows for a table."""
    whole = bytes_text(result["memory_bytes_total"])
    parts = ", ".join(f"{name} {bytes_text(count)}" for name, count in result["memory_bytes"].items())
    operations = []
    if "flop_per_image_forward" in result:
        forward, training = (result[f"flop_per_image_{name}"] / 1e9 for name in ("forward", "training"))
        operations = [("for each image", f"{forward:.3g} GFLOP forward, {training:.3g} in training")]
    return [
        ("parameters", f"{result['parameters']:,}"),
        (
            "memory",
            f"about {whole} and what PyTorch itself takes ({parts}){_advice(result)}",
        ),
        *operations,
        (
            "device",
            f"{result['device']} in {result['precision']}, {result['images_per_network_call']} images per network call",
        ),
        ("a step", f"{result['seconds_per_step']:.3g} s for {batch} images ({result['time_is']})"),
        ("in all", f"about {duration(result['seconds'])} for {steps:,} steps"),
    ]
