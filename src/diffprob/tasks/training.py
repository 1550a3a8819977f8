"""Train a recipe, a model of one's own images, or go on with a run."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from diffprob.base.checks import able, flag, instance, real, shown, text, whole
from diffprob.base.errors import InputError
from diffprob.base.levels import MOST_BANDS, check_levels
from diffprob.base.text import one_line
from diffprob.config.classes import labels_of, nameless
from diffprob.config.overrides import assign_all
from diffprob.config.recipe import AnyRecipe, Recipe
from diffprob.config.registry import is_source
from diffprob.data.images import Images, Source
from diffprob.data.places import at_place
from diffprob.recipes import is_named, named
from diffprob.runs.files import model_meta
from diffprob.runs.files import read_recipe as recipe_of
from diffprob.runs.folder import Run, open_run
from diffprob.storage.files import expanded, followed, kind_of
from diffprob.storage.folders import is_run
from diffprob.tasks.callback import Callback
from diffprob.tasks.first_state import is_pending
from diffprob.tasks.given_network import check_network, network_of
from diffprob.tasks.given_recipe import anew_text, from_the_weights, recipe_from_file
from diffprob.tasks.going_on import say_the_fall, with_its_fall
from diffprob.tasks.options import option
from diffprob.tasks.own_recipe import automatic, data_name, folder_name, is_prose, told_classes, training_text
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.training_plan import PreparedTraining, TrainResult
from diffprob.tasks.training_run import Halt, never, run_training
from diffprob.training.pace import PLANNED, seconds_of

A_PLACE = "images in a folder or a file (np.save writes x.npy)"
DEFAULT_DURATION = 3600.0  # seconds, for images without a recipe
R = TypeVar("R", bound=AnyRecipe)


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What is to be trained; the same request again resumes, one with more steps goes on.

    Args:
        recipe: the name of a recipe, a file ``recipe.txt``, a run to go on with, or the recipe itself; None: one is
            made for ``data``.
        data: a folder or a file of images, "digits" or "hf:NAME", or a source, such as `FromDataset(dataset)`; None:
            what the recipe says.
        size, channels, levels: without a recipe: how images are read (`data.kinds.open_data`); None: as they are.
        dims: without a recipe: spatial dimensions of real numbers (`data.fields.Numbers`); None: as their shape says.
        held_out: without a recipe: the share of the images that is never trained on, "none", or others, their place or
            source; None: the data's own test part, or where it has none a tenth of the images, chosen by their pixels.
        labels: tell the network the label of each image.
        out: the run's folder; None: ``runs/NAME``, or the run that is gone on with.
        network: settings of a network, or a module ``net(x, t)``, in the place of the recipe's (`given_network`).
        overrides: values of fields of the recipe by their path, ``{"training.lr": 1e-4}``: as text or as values.
        steps: train until this step; None: the recipe's. Where a run's own recipe goes on up to another step, the fall
            of its learning rate keeps its share of the steps.
        duration: train for so long, in the place of so many steps: seconds, or "20m", "2h", "1h30m". The number of
            steps and the fall of the learning rate fit the time (`training.pace.Pace`); the same again after the end is
            as much time once more. None: the steps count; of images without a recipe, and without steps, an hour does.
        seed: decides weights at the start, order and noise; None: the recipe's.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda" or "cuda:1".
        processes: fail unless torchrun started this many; None: as many as there are.
        seconds: stop, with a checkpoint, when this much time has passed.
        tensorboard: also write the log for TensorBoard, into the run's folder ``tensorboard``.
        report: after the last step also fit variance and steps, measure, and write the page, within ``duration``
            (`diffprob.tasks.first_report`). None: of images without a recipe and without a number of steps. The same
            request again makes what an interruption left out, without training.

    Raises:
        ValueError: a number outside its domain.
    """

    recipe: str | Path | AnyRecipe | None = None
    data: str | Path | Source | None = None
    size: int | None = None
    channels: int | None = None
    levels: int | None = None
    dims: int | None = None
    held_out: float | str | Source | None = None
    labels: bool = False
    out: str | Path | None = None
    network: Any = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    duration: float | str | None = None
    seed: int | None = None
    device: str = "auto"
    processes: int | None = None
    seconds: float | None = None
    tensorboard: bool = False
    report: bool | None = None

    def __post_init__(self) -> None:
        whole("size", self.size, 2, none=True)
        whole("channels", self.channels, 1, MOST_BANDS, none=True)
        check_levels(self.levels)
        whole("dims", self.dims, 0, 3, none=True)
        share = _share_or_place(self.held_out)
        is_share = isinstance(share, int | float) and 0 < share < 1
        if not (isinstance(share, str | None) or is_source(share) or is_share):
            right = "a share above 0 and below 1, none, or a place of images would be right"
            raise ValueError(f"{option('held_out', one_line(self.held_out, 60))}: {right}")
        whole("steps", self.steps, 1, none=True)
        if self.duration is not None:
            seconds_of(self.duration)
            if self.steps is not None:
                raise ValueError(f"{option('duration')} and {option('steps')} both say when to end: one would be right")
        whole("seed", self.seed, 0, 2**62, none=True)
        whole("processes", self.processes, 1, none=True)
        real("seconds", self.seconds, "[0, inf)", none=True)
        flag("labels", self.labels)
        flag("tensorboard", self.tensorboard)
        if self.report is not None:
            flag("report", self.report)
        if not is_source(self.data):
            instance("data", self.data, (str, Path), A_PLACE, none=True)
        if self.network is not None:
            check_network(self.network)
        instance("out", self.out, (str, Path), "a folder as text or Path", none=True)
        instance("overrides", self.overrides, Mapping, '{"training.lr": 1e-4}')
        for path in self.overrides:
            text("overrides", path)

    @classmethod
    def of(cls, what: "str | Path | AnyRecipe | Source", **fields: Any) -> "TrainRequest":
        """A request about one thing: a recipe, by name, as a file, of a run or itself, or else images, or their source.

        Raises:
            ValueError: as the class.
        """
        if is_source(what) and "data" not in fields:
            return cls(data=what, **fields)  # pyright: ignore[reportArgumentType]
        if not isinstance(what, str | Path | AnyRecipe):
            raise ValueError(
                f"{type(what).__name__} cannot be trained: a recipe, a run's folder or {A_PLACE} would be right"
            )
        if isinstance(what, AnyRecipe) or is_named(str(what)):
            return cls(recipe=what, **fields)
        place = followed(Path(what))
        is_recipe = kind_of(place / "recipe.txt") is not None or (place.suffix == ".txt" and not is_prose(place))
        if not is_recipe and "data" in fields:
            raise ValueError(f"images are given twice, {what} and data={shown(fields['data'])}: one would be right")
        return cls(**{"recipe" if is_recipe else "data": what}, **fields)


def train(
    request: TrainRequest, reporter: Reporter = SILENT, halt: Halt = never, callback: Callback | None = None
) -> TrainResult | None:
    """Train, or go on; None in all processes but the first. What a callback raises comes out after a checkpoint.

    Raises:
        Halted: ``halt`` asked to stop; all that was done is kept.
        InputError: it cannot be trained.
        NumericalError: it diverged; with everything that was saved before intact.
    """
    if callback is not None:
        able("callback", callback, "__call__", "print")
    return run_training(prepare_training(request, reporter), reporter, halt, callback)


def prepare_training(
    request: TrainRequest, reporter: Reporter = SILENT, began: float | None = None
) -> PreparedTraining:
    """Find the recipe and the place, without training.

    Args:
        request: what is to be trained.
        reporter: who hears notes.
        began: when it was asked for, by `time.monotonic`; None: now.

    Raises:
        InputError: no such recipe, data or field of a recipe.
    """
    began = time.monotonic() if began is None else began
    recipe, images = _recipe(request, reporter)
    requested = request.recipe
    going_on = isinstance(requested, str | Path) and not is_named(str(requested)) and is_run(Path(requested))
    begins_with_labels = going_on and request.labels and getattr(recipe, "condition", None) is None

    def place() -> Path:
        beside = f"{str(requested).rstrip('/')}-labels" if begins_with_labels else str(requested)
        return expanded(request.out or (beside if going_on else f"runs/{recipe.name}"))

    if request.labels:
        recipe, images = labelled(recipe, images, place())
        if begins_with_labels:
            recipe = from_the_weights(recipe, str(requested), place(), reporter)
    data, recipe = recipe.data, set_fields(recipe, _changes(request, recipe), reporter)
    images, out = (images if recipe.data == data else None), place()
    report = _reports(request)
    pending = report and _is_pending(out)
    duration = None if pending else _duration(request, out)
    if pending and request.duration is not None:
        reporter.note(f"{out}: its report is made first, without training; the same again trains on")
    if requested is None and isinstance(recipe, Recipe) and not is_run(out):
        reporter.note(training_text(recipe, duration))
    if is_run(out):
        before, settings = recipe_of(out).training, recipe.training
        if duration is not None or pending:  # what a plan by the clock has changed meanwhile
            settings = replace(settings, **{name: getattr(before, name) for name in PLANNED})
        elif (requested is None or going_on) and "training.cooldown" not in request.overrides:
            settings = with_its_fall(settings, before)
        recipe = replace(recipe, training=settings)
        say_the_fall(settings, before, out, reporter)
    if requested is None and request.out:
        recipe = replace(recipe, name=folder_name(out))
    if going_on and not is_run(out) and getattr(recipe, "start", None) is None:
        reporter.note(anew_text(str(requested), out))
    return PreparedTraining(
        recipe=recipe,
        out=out,
        images=images,
        device=request.device,
        processes=request.processes,
        duration=duration,
        began=began,
        seconds=request.seconds,
        tensorboard=request.tensorboard,
        report=report,
    )


def _changes(request: TrainRequest, recipe: AnyRecipe) -> dict[str, Any]:
    """Fields that are set by hand."""
    numbers = {"training.steps": request.steps, "training.seed": request.seed}
    network = {} if request.network is None else network_of(request.network, recipe)
    return {**network, **request.overrides, **{path: number for path, number in numbers.items() if number is not None}}


def _reports(request: TrainRequest) -> bool:
    """Whether the trained run gets its first report, where nobody says: who trains images for a time has not said how
    many steps are right, and has time for it; a recipe and a number of steps say all that there is to do."""
    if request.report is not None:
        return request.report
    return request.recipe is None and request.steps is None and "training.steps" not in request.overrides


def _is_pending(out: Path) -> bool:
    """Whether the report of a finished training was interrupted."""
    run = open_run(out) if is_run(out) else None
    return isinstance(run, Run) and run.meta["step"] >= run.recipe.training.steps and is_pending(run)


def _steps(request: TrainRequest) -> int | None:
    """Until which step; None: that is not said, or not by a number, which is refused where the field is set."""
    steps = request.overrides.get("training.steps") if request.steps is None else request.steps
    try:
        return max(1, int(steps)) if steps is not None else None
    except (TypeError, ValueError):
        return None


def _share_or_place(held_out: float | str | Source | None) -> float | str | Source | None:
    """What is held out: text that is a number is a share."""
    try:
        return float(held_out) if isinstance(held_out, str) else held_out
    except ValueError:
        return held_out


def _duration(request: TrainRequest, out: Path) -> float | None:
    """Seconds that the training is planned for; None: until a step.

    Images without a recipe, a time or a number of steps have an hour; once that has passed there is nothing more to do.

    Raises:
        InputError: a field is set by hand that is planned by the clock.
    """
    counted = request.recipe is not None or request.steps is not None or "training.steps" in request.overrides
    if request.duration is None and counted:
        return None
    by_clock = sorted({"training.steps", "training.cooldown"} & set(request.overrides))
    if by_clock:
        given = option("overrides", {by_clock[0]: request.overrides[by_clock[0]]})
        steps = option("steps", "N")
        raise InputError(f"{given}: a training for a time plans that by the clock; {steps} would be right")
    if request.duration is not None:
        return seconds_of(request.duration)
    finished = is_run(out) and model_meta(out, {})["step"] >= recipe_of(out).training.steps
    return None if finished else DEFAULT_DURATION


def set_fields(recipe: R, overrides: Mapping[str, Any], reporter: Reporter = SILENT) -> R:
    """The recipe with the fields at these paths replaced together, and what has to agree with them, which is said.

    Raises:
        InputError: no such field, or a value that it does not take.
    """
    plain = {path: value.item() if isinstance(value, np.generic) else value for path, value in overrides.items()}
    texts = [(path, value if isinstance(value, str) else repr(value)) for path, value in plain.items()]
    notes: list[str] = []
    recipe = assign_all(recipe, texts, notes=notes) if texts else recipe
    for note in notes:
        reporter.note(note)
    return recipe


def labelled(recipe: AnyRecipe, images: Images | None, out: Path) -> tuple[Recipe, Images]:
    """The recipe for a network that is told the classes that occur in the images, and these.

    Args:
        recipe: of a network without a condition.
        images: of the recipe, where they are loaded already.
        out: where the run will be; one that was begun without names of the classes goes on with its numbers.

    Raises:
        InputError: images without labels, or a network that takes none.
    """
    images = recipe.data.load() if images is None else images
    try:
        condition = labels_of(images)
    except InputError as error:
        raise InputError(f"{option('labels')}: {error}") from error
    condition = (nameless(recipe_of(out)) if is_run(out) else None) or condition
    if not isinstance(recipe, Recipe) or not hasattr(recipe.network, "classes"):
        kind = type(recipe.network).__name__
        raise InputError(f"{option('labels')}: {kind} takes no labels; UNetSpec(...) would be right")
    return replace(recipe, condition=condition, network=told_classes(recipe.network, condition.rows)), images


def _recipe(request: TrainRequest, reporter: Reporter) -> tuple[AnyRecipe, Images | None]:
    """The recipe that is asked for, and the data where it had to be looked at."""
    requested, data = request.recipe, str(request.data) if isinstance(request.data, Path) else request.data
    if requested is None:
        if data is None:
            raise InputError(f"train needs a recipe (diffprob show recipes) or {option('data', 'PATH')}")
        out = expanded(request.out or f"runs/{data_name(data)}")
        counted = request.steps is not None or "training.steps" in request.overrides
        seconds = None if counted else seconds_of(request.duration or DEFAULT_DURATION)
        held_out, steps = _share_or_place(request.held_out), _steps(request)
        recipe, images, chosen = automatic(
            data,
            request.size,
            request.channels,
            request.levels,
            out,
            held_out,
            seconds,
            steps,
            request.device,
            request.dims,
        )
        for text in (*images.notes, *chosen):
            reporter.note(text)
        return recipe, images
    reading = (request.size, request.channels, request.levels, request.dims)
    if any(value is not None for value in reading) or request.held_out is not None:
        own = ", ".join(option(name) for name in ("size", "channels", "levels", "dims", "held_out"))
        right = f"with one use {option('overrides')}, for instance data.size=64"
        raise InputError(f"{own} are for {option('data')} without a recipe; {right}")
    place = data if isinstance(data, str) else None
    if isinstance(requested, str) and (is_named(requested) or not ("/" in requested or Path(requested).exists())):
        recipe: AnyRecipe = named(requested, place)
    else:
        recipe = requested if isinstance(requested, AnyRecipe) else recipe_from_file(Path(requested))
        recipe = recipe if place is None else replace(recipe, data=at_place(recipe.data, place))
    return (recipe if place == data else replace(recipe, data=data)), None
