"""A recipe for data that has none."""

import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from diffprob.base.errors import InputError, Missing
from diffprob.base.levels import kind_text
from diffprob.base.text import printable
from diffprob.config.recipe import Recipe, parameter_count
from diffprob.data import Folder, HuggingFace, Pages, open_data
from diffprob.data.combined import held_out_source
from diffprob.data.fields import Fields, Numbers, fields_text
from diffprob.data.for_run import uncoloured
from diffprob.data.formats.files import opened as opened_file
from diffprob.data.formats.pictures import MixedSizes
from diffprob.data.images import Images, Source
from diffprob.data.text import Text
from diffprob.data.train_test_split import SeparateTestSet, TrainTestSplit, split_of
from diffprob.denoise.prediction import V
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine
from diffprob.recipes.text import own_text
from diffprob.runs.files import read_recipe
from diffprob.space.pixels import Pixels
from diffprob.space.real_numbers import Reals
from diffprob.storage.files import kind_of
from diffprob.storage.folders import is_run
from diffprob.tasks.compute import choose_device
from diffprob.tasks.cost import PATIENCE, measure_cost, measured_seconds
from diffprob.tasks.options import option
from diffprob.tasks.own_network import Candidate, candidates, choose, spec_of
from diffprob.tasks.progress import duration
from diffprob.training.optimise import choose_precision
from diffprob.training.pace import with_steps
from diffprob.training.settings import Training

HeldOut = float | str | Source | None
EMA = 0.9999  # of short trainings an average of the last tenth: see `Training.ema`
WARMUP = 50
STEPS = 8000  # without a time or a number of steps
# Steps below which it is said that the time is too short. After 20 steps samples are still 0.6 (Fashion-MNIST) and 0.66
# (slides) times as far from held-out images as their mean is (benchmarks/few_steps.py).
# After some 200 garments could be told apart (docs/results/own-pictures.md); the bound lies between, and is a choice.
LEAST_STEPS = 100
MEASURING = 0.02  # share of the time after which the speed of a network is not measured again
SMALLER = (64, 48, 32, 16)  # sizes that are proposed


def opened(
    data: str | Source,
    size: int | None = None,
    channels: int | None = None,
    levels: int | None = None,
    out: Path | None = None,
    dims: int | None = None,
) -> tuple[Any, Images, list[str]]:
    """The source that ``data`` means, or is, its images, and what was chosen, one sentence each.

    Pictures whose three channels are equal everywhere have one, unless ``channels`` says how many, or a run that was
    begun in ``out`` has them as they are.

    Raises:
        InputError: the data cannot be used.
    """
    keywords: dict[str, Any] = {"size": size, "channels": channels, "levels": levels, "dims": dims}
    source: Any = open_data(data, **keywords, real=None) if isinstance(data, str) else data
    if source is data:
        _check_own(source, keywords)
    try:
        images = source.load()
    except MixedSizes as error:
        raise InputError(f"{error}: {option('size', 64)}, for instance") from error
    if not isinstance(source, Folder | Pages | HuggingFace) or channels is not None:
        return source, images, []
    grey = uncoloured(images)
    if grey is None:
        return source, images, []
    if out is not None and is_run(out) and getattr(read_recipe(out).data, "channels", 1) == 3:
        return source, images, []
    return replace(source, channels=1), grey, ["all three channels are equal: one is used"]


def _check_own(source: Source, options: Mapping[str, Any]) -> None:
    """Refuse a size, channels or levels for a source that was made with its own."""
    if given := [option(name, value) for name, value in options.items() if value is not None]:
        raise InputError(f"{' and '.join(given)}: {type(source).__name__} says that itself; a path has them")


def automatic(
    data: str | Source,
    size: int | None = None,
    channels: int | None = None,
    levels: int | None = None,
    out: Path | None = None,
    held_out: HeldOut = None,
    seconds: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    dims: int | None = None,
) -> tuple[Recipe, Images, list[str]]:
    """(recipe, its training images, what was chosen, one sentence each) for the data that a text names; see `opened`.

    Args:
        data, size, channels, levels: as for `opened`.
        out: where the run will be; one that was begun there keeps its recipe and its held-out images.
        held_out: see `with_held_out`.
        seconds: for training; None: a number of steps.
        steps: of the training, if they are known.
        device: where it will be.
        dims: spatial dimensions of real numbers, where the shape of the array does not say them.

    Raises:
        InputError: the data cannot be used.
    """
    source, images, notes = opened(data, size, channels, levels, out, dims)
    notes.append(f"{printable(data if isinstance(data, str) else images.name)}: {images_text(images, source)}")
    source, images, more = with_held_out(source, images, held_out, out)
    begun = read_recipe(out) if out is not None and is_run(out) else None
    if isinstance(source, Text):
        recipe = own_text(data_name(data), source, images, steps or STEPS // 2)
        begun = begun if isinstance(begun, Recipe) and begun.space == recipe.space else None
        return (recipe if begun is None else replace(begun, data=recipe.data)), images, notes + more
    if isinstance(begun, Recipe) and _same_space(begun.space, images):
        return replace(begun, data=source, condition=None, network=told_classes(begun.network, 0)), images, notes + more
    candidate, speed = _chosen(source, images, seconds, steps, device)
    recipe = recipe_for(data_name(data), source, images, candidate, steps or STEPS)
    if seconds is not None and candidate == candidates(images.event_shape)[0]:
        more += too_few(recipe, seconds, speed, choose_device(device))
    return recipe, images, notes + more


def _same_space(space: Any, images: Images) -> bool:
    """Whether a run that was begun is of data of this shape; one of real numbers keeps its mean and scale."""
    same = tuple(space.shape) == images.event_shape and space.levels == images.levels
    return same and isinstance(space, Pixels if images.levels is not None else Reals)


def space_of(images: Images) -> Pixels | Reals:
    """Levels for whole numbers, and real numbers for floats, standardised by the mean and scale of these.

    Raises:
        InputError: a channel without variation.
    """
    if isinstance(images, Fields):
        return Reals(images.event_shape, *images.moments())
    return Pixels(images.event_shape, images.levels)


def told_classes(network: Any, classes: int) -> Any:
    """The settings of a network, or of what it wraps, that takes so many classes; as they are where it takes none."""
    own = {field.name for field in fields(network)}
    if "classes" in own:
        return replace(network, classes=classes)
    return replace(network, body=told_classes(network.body, classes)) if "body" in own else network


def with_held_out(
    source: Any, images: Images, held_out: HeldOut, out: Path | None = None
) -> tuple[Any, Images, list[str]]:
    """The source with images held out, those of its images that are left to train on, and what is to be said of it.

    Args:
        source: of the data.
        images: what it loads.
        held_out: a share of the images, "none", or other images, their place or source; None: the data's own test
            part, or where it has none a tenth of the images (`split_of`).
        out: where the run will be; one that was begun there keeps its held-out images.

    Raises:
        InputError: no image can be held out, or the other place cannot be read.
    """
    begun = read_recipe(out).data if out is not None and is_run(out) else None
    if held_out is None and begun is not None:
        if isinstance(begun, TrainTestSplit):
            split = replace(begun, source=source)
            return split, split.part(images), []
        return (replace(begun, source=source) if isinstance(begun, SeparateTestSet) else source), images, []
    if held_out == "none":
        return source, images, ["no image is held out: numbers will be those of images the model has seen"]
    if not isinstance(held_out, float | int | None):
        test, others = _others(source, held_out)
        named = held_out if isinstance(held_out, str) else others.name
        if others.digest() == images.digest():
            raise InputError(f"{option('held_out', named)}: the images that are trained on; others would be right")
        return SeparateTestSet(source, test), images, [f"held out: {len(others):,} images of {named}"]
    if held_out is None and _has_test_part(source):
        return source, images, []
    try:
        # of real numbers equal ones alone are near, and these go together in any case
        split = split_of(source, images, held_out, apart=not isinstance(images, Fields))
    except InputError as error:
        if held_out is not None:
            raise
        return source, images, [f"{error}; numbers will be those of images the model has seen"]
    train = split.part(images)
    what = ("images", "pixels") if not isinstance(images, Fields) else (images.kind, "numbers")
    text = f"held out: {len(images) - len(train):,} {what[0]}, chosen by their {what[1]}, never trained on"
    return split, train, [f"{text} ({option('held_out', 'none')} holds out none)"]


def _others(source: Any, held_out: str | Source) -> tuple[Any, Images]:
    """The place of held-out images, as a source beside ``source``, and its images.

    Raises:
        InputError: nothing there, or it cannot be read; the option is named.
    """
    if not isinstance(held_out, str):
        return held_out, held_out.load()
    try:
        own: dict[str, Any] = {name: getattr(source, name, None) for name in ("size", "channels", "levels", "dims")}
        test: Any = open_data(held_out, **own, real=isinstance(source, Numbers))
        return test, test.load()
    except InputError as error:
        named = option("held_out", held_out)
        raise InputError(f"{named}: {error}; a share such as 0.1, none, or a place of images would be right") from error


def _has_test_part(source: Any) -> bool:
    """Whether the data has held-out images of its own."""
    try:
        return len(held_out_source(source).load()) > 0
    except Missing:
        return False


def images_text(images: Images, source: Any = None) -> str:
    """What images are, in words: "600 colour images of 32x32 in 3 classes"."""
    if isinstance(images, Fields):
        return fields_text(images)
    channels, height, width = images.event_shape
    if isinstance(source, Text):
        return f"{len(images):,} windows of {width} characters, {images.levels} different ones"
    kind = kind_text(channels)
    levels = "" if images.levels == 256 else f", {images.levels:,} grey levels"
    classes = f" in {len(images.occurring)} classes" if len(images.occurring) > 1 else ""
    many = f"{len(images):,} {kind} image{'' if len(images) == 1 else 's'}"
    return f"{many} of {width}x{height}{levels}{classes}"


def training_text(recipe: Recipe, seconds: float | None) -> str:
    """What is going to be trained, after all changes, and how to say otherwise."""
    training = recipe.training
    until = f"{training.steps:,} steps" if seconds is None else duration(seconds)
    if seconds is None and training.cooldown:
        until += f", over the last {training.cooldown:,} of which the learning rate falls"
    other = option("duration", "20m") if seconds is not None else option("steps", "N")
    parameters, example = parameter_count(recipe), option("overrides", {"training.lr": "1e-4"})
    return (
        f"a network of {parameters:,} parameters is trained for {until} ({other} says otherwise), "
        f"{training.batch} images a step; anything can be changed, as by {example}"
    )


def recipe_for(name: str, source: Any, images: Images, chosen: Candidate | None = None, steps: int = STEPS) -> Recipe:
    """The recipe for ``images``, of their size and channels.

    Args:
        name: of the recipe.
        source: of the data.
        images: what it loads.
        chosen: the network; None: the smallest.
        steps: of the training.
    """
    candidate = candidates(images.event_shape)[0] if chosen is None else chosen
    every = min(1000, STEPS // 8)
    training = Training(
        steps=STEPS,
        batch=candidate.batch,
        lr=candidate.lr,
        warmup=WARMUP,
        ema=EMA,
        sample_every=every,
        precision="auto" if images.levels is not None else "fp32",  # real numbers keep their digits
        checkpoint_every=every,
    )
    return Recipe(
        name=name,
        data=source,
        space=space_of(images),
        network=spec_of(candidate, images.event_shape),
        process=LinearProcess(Cosine(1000)),
        prediction=V(),
        training=with_steps(training, steps),
    )


def chosen_for(source: Any, images: Images, seconds: float | None, steps: int | None, device: str) -> Candidate:
    """The network that so many seconds on this machine, or so many steps, can teach.

    The speed of the smallest is measured; a larger one is slower by its operations, at the least.
    """
    return _chosen(source, images, seconds, steps, device)[0]


def _chosen(
    source: Any, images: Images, seconds: float | None, steps: int | None, device: str
) -> tuple[Candidate, float]:
    """The network, and seconds for each image in training of the smallest; 0 where none was measured."""
    several = candidates(images.event_shape)
    if seconds is None:
        return choose(several, lambda candidate: (steps or STEPS) * candidate.batch), 0.0
    chosen = choose_device(device)
    recipes = {candidate: recipe_for("own", source, images, candidate) for candidate in several}
    smallest, precision = recipes[several[0]], choose_precision("auto", chosen)
    speed = measured_seconds(smallest, chosen, precision, several[0].batch, _patience(seconds))
    most = seconds / speed
    if most < several[1].images:
        return several[0], speed
    operations = measure_cost(smallest, chosen, precision).flop

    def seen(candidate: Candidate) -> float:
        return most * operations / measure_cost(recipes[candidate], chosen, precision).flop

    return choose(several, seen), speed


def _patience(seconds: float) -> float:
    """Seconds for measuring how fast a network is here, before a training for so many."""
    return min(PATIENCE, MEASURING * seconds)


def too_few(recipe: Recipe, seconds: float, speed: float, device: torch.device) -> list[str]:
    """That the time is too short for images of this size, if it is, in a sentence: fewer than `LEAST_STEPS` steps fit.

    With a size, of pictures, for which it is long enough, and the time that this size takes.

    Args:
        recipe: with the smallest network.
        seconds: for training.
        speed: seconds for each image in training, measured.
        device: where.
    """
    needed, sides = LEAST_STEPS * recipe.training.batch, recipe.space.shape[1:]
    if seconds >= needed * speed:
        return []
    longer = option("duration", f"{math.ceil(needed * speed / 60)}m")
    size = f" of {'x'.join(map(str, reversed(sides)))}" if sides else ""
    text = f"in {duration(seconds)} a network sees about {_rounded(seconds / speed)} images{size}"
    is_pictures = isinstance(getattr(recipe.data, "source", recipe.data), Folder | Pages | HuggingFace)
    for side in SMALLER if is_pictures else ():
        if side < min(sides):
            shape = (recipe.space.shape[0], side, side)
            network, space = spec_of(candidates(shape)[0], shape), Pixels(shape, recipe.space.levels)
            smaller, precision = replace(recipe, space=space, network=network), choose_precision("auto", device)
            batch, patience = recipe.training.batch, _patience(seconds)
            seen = seconds / measured_seconds(smaller, device, precision, batch, patience)
            if seen >= needed:
                would = f"{option('size', side)} would see about {_rounded(seen)}, and this size takes {longer}"
                return [f"{text}, too few to learn from: {would}"]
    return [f"{text}, too few to learn from: {longer} would be right"]


def _rounded(count: float) -> str:
    return f"{float(f'{count:.2g}'):,.0f}"


def folder_name(out: Path) -> str:
    """A name for the run in a folder: that of the folder."""
    return re.sub(r"[^\w.-]+", "-", out.expanduser().resolve().name).strip("-.") or "run"


def data_name(data: str | Source) -> str:
    """A short name for the data that an option names, or a source is of, fit for a folder."""
    if not isinstance(data, str):
        data = str(getattr(data, "path", "") or getattr(data, "name", "") or type(data).__name__)
    text = data.partition(":")[2] if data.startswith("hf:") else Path(data).resolve().stem
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "images"


def is_prose(path: Path) -> bool:
    """Whether a file of text that is there names no recipe where one begins: then it is data."""
    if kind_of(path) != "file":
        return False
    with opened_file(path) as file:
        start = file.read(4096)
    return not any(kind in start for kind in (b"Recipe(", b"Baseline(", b"# diffprob"))
