"""A training that is about to begin: what it would take, and whether it can be."""

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError, Missing
from diffprob.base.text import one_line
from diffprob.config.classes import resolve_classes
from diffprob.config.overrides import assign_all
from diffprob.config.pretrained import pin
from diffprob.config.recipe import AnyRecipe, Recipe, check_trainable, resumable, space
from diffprob.data.combined import innermost
from diffprob.data.images import Images
from diffprob.data.places import paths
from diffprob.data.sources import HuggingFace
from diffprob.runs.abandoned import is_abandoned
from diffprob.runs.files import read_recipe
from diffprob.runs.folder import AnyRun, open_run
from diffprob.storage.folders import is_run
from diffprob.tasks.compute import choose_device
from diffprob.tasks.cost import TrainingCost, estimate_cost
from diffprob.tasks.first_report import FirstReport
from diffprob.tasks.options import option
from diffprob.tasks.reconstruction import ReconstructionResult
from diffprob.tasks.report_time import estimated
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.training.batches import check_shares


@dataclass(frozen=True, kw_only=True)
class PreparedTraining:
    """A training that is about to begin, or to go on.

    Args:
        recipe: all that decides the weights.
        out: the run's folder.
        images: the data, where it is loaded already.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda" or "cuda:1".
        processes: how many torchrun must have started; None: any number.
        duration: seconds that the training is planned for, in the place of the recipe's steps; None: its steps count.
        seconds: stop, with a checkpoint, when this much time has passed.
        tensorboard: also write the log for TensorBoard, into the run's folder ``tensorboard``.
        notes: what is to be said of ``images`` when it begins.
        began: when it was asked for, by `time.monotonic`; ``duration`` counts from then.
        report: whether the trained run gets its first report (`diffprob.tasks.first_report`), within ``duration``.
    """

    recipe: AnyRecipe
    out: Path
    images: Images | None = None
    device: str = "auto"
    processes: int | None = None
    duration: float | None = None
    seconds: float | None = None
    tensorboard: bool = False
    notes: tuple[str, ...] = ()
    began: float = field(default_factory=time.monotonic)
    report: bool = False


@dataclass(frozen=True)
class TrainingEstimate:
    """What a training would take, and where the run would go.

    Args:
        about: in words, by what it is about.
        steps: of the training.
        batch: images in each.
        cost: parameters, memory and time.
    """

    about: dict[str, str]
    steps: int
    batch: int
    cost: TrainingCost

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        own = {"dry_run": True, "about": self.about, "steps": self.steps, "batch": self.batch}
        return {**own, **self.cost.to_json()}


@dataclass(frozen=True)
class TrainResult:
    """A run that was trained, or was so before.

    Args:
        run: its folder.
        recipe: the recipe's name.
        denoises, recognises: whether it is a diffusion model, or a classifier of noised images.
        step: at which it stands, of ``steps``.
        steps: that were asked for.
        resumed_at: the step at which this training took up an earlier one; None: it began anew, or had nothing to do.
        finished_before: whether there was nothing to do.
        timed_out: whether it stopped because of ``seconds``.
        parameters: of the network.
        loss: the last mean of some steps; None: no step was logged.
        seconds_training: of all steps together, those of earlier trainings too.
        precision: of the network while training.
        device: where it computed.
        data_sha256: digest of the images.
        samples: a picture of samples, if there is one.
        loss_curve: a picture, if there is one.
        first_report: what was made and measured after the last step; None where nothing was.
        reconstruction: how near the images of an autoencoder come back; None where none was trained.
    """

    run: str
    recipe: str
    denoises: bool
    recognises: bool
    step: int
    steps: int
    resumed_at: int | None
    finished_before: bool
    timed_out: bool
    parameters: int
    loss: float | None
    seconds_training: float
    precision: str
    device: str
    data_sha256: str | None
    samples: str | None
    loss_curve: str | None
    first_report: FirstReport | None = None
    reconstruction: ReconstructionResult | None = None

    @property
    def folder(self) -> AnyRun:
        """The run, opened.

        Raises:
            InputError: it is not as it was written.
        """
        return open_run(self.run)

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        extra = ("first_report", "reconstruction")
        known = {name: value for name, value in asdict(self).items() if name not in extra}
        results = {name: value.to_json() for name in extra if (value := getattr(self, name)) is not None}
        return {**known, **results}

    def __repr__(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        return f"{self.run}: step {self.step:,} of {self.steps:,}{loss}"


def planned(recipe: AnyRecipe, out: Path) -> str:
    """What training into ``out`` would do.

    Raises:
        InputError: it would be refused.
    """
    if not is_run(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} exists and is not a run; nothing was changed: choose another {option('out')}")
        return f"{out} (new)"
    old = open_run(out)
    difference = resumable(old.recipe, recipe)
    if difference and is_abandoned(out):
        return f"{out} (new, in the place of a run that never came to a checkpoint)"
    if difference:
        path, theirs, ours = difference
        raise InputError(
            f"{out} is a run of another recipe: {path} is {theirs!r} there and {ours!r} here; "
            f"choose another {option('out')}"
        )
    step = old.meta["step"]
    if step >= recipe.training.steps:
        return f"{out} (finished: at step {step:,} of {recipe.training.steps:,})"
    return f"{out} (would resume at step {step:,})"


def estimate_training(prepared: PreparedTraining, reporter: Reporter = SILENT) -> TrainingEstimate:
    """What the training would take, without writing anything; its data is loaded if it is on this machine.

    Raises:
        InputError: it would be refused.
    """
    recipe, images = prepared.recipe, prepared.images
    device, processes = choose_device(prepared.device), prepared.processes or 1
    check_trainable(recipe)
    images = _data_there(recipe) if images is None else images
    recipe = recipe if images is None else checked(recipe, images, prepared.out, reporter)
    settings = recipe.training
    check_shares(settings, processes)
    about = {
        "recipe": recipe.name,
        "data": _data_state(recipe, images),
        "network": repr(recipe.network),
        "begins with": repr(getattr(recipe, "start", None) or "random weights").strip("'"),
        "run": planned(recipe, prepared.out),
    }
    cost, steps = estimate_cost(recipe, device, processes), settings.steps
    whole = cost.seconds if prepared.duration is None else prepared.duration
    last = 0.0
    if prepared.report and isinstance(recipe, Recipe):
        last, about["report"] = estimated(recipe.process, whole, cost.step / settings.batch, prepared.duration is None)
    if prepared.duration is not None:
        steps, cost = max(1, round((whole - last) / cost.step)), replace(cost, seconds=whole)
    return TrainingEstimate(about, steps, settings.batch, cost)


def checked(recipe: AnyRecipe, images: Images, out: Path, reporter: Reporter = SILENT) -> AnyRecipe:
    """The recipe with the classes of the run at ``out``, or of the images, after a look whether it can be trained.

    Raises:
        InputError: images of another kind or without what the network is to be told, or a recipe that can only be
            loaded.
    """
    try:
        space(recipe, images)
    except InputError as error:
        raise InputError(f"{error}{'' if is_run(out) else _fitting(recipe, images)}") from error
    check_trainable(recipe)
    old = read_recipe(out) if is_run(out) else None
    unresolved, recipe = recipe, resolve_classes(pin(recipe, old), images, old)
    names = [getattr(getattr(candidate, "condition", None), "names", ()) for candidate in (unresolved, recipe)]
    if gone := [name for name in names[0] if name and names[1] and name not in names[1]]:
        reporter.note(
            one_line(f"{images.name} has no images of the classes {', '.join(gone)}, which are not drawn then")
        )
    condition = getattr(recipe, "condition", None)
    if condition is not None:
        condition.from_dataset(images)
    return recipe


def _fitting(recipe: AnyRecipe, images: Images) -> str:
    """How the recipe would take images of another shape or number of grey levels, after a semicolon; or nothing."""
    wanted = {"space.shape": images.event_shape, "space.levels": images.levels}
    own = {"space.shape": recipe.space.shape, "space.levels": recipe.space.levels}
    settings = {path: repr(value) for path, value in wanted.items() if value != own[path]}
    try:
        assign_all(recipe, list(settings.items()))
    except InputError:  # no change of these fields would do
        return ""
    return f"; {option('overrides', settings)} would be right"


def _data_there(recipe: AnyRecipe) -> Images | None:
    """The data, or None where it is not on this machine; nothing is downloaded for it.

    Raises:
        InputError: it is there, and cannot be used.
    """
    kinds: set[type] = set()
    innermost(recipe.data, lambda source: kinds.add(type(source)) or source)
    try:
        return None if HuggingFace in kinds else recipe.data.load()
    except Missing:
        return None


def _data_state(recipe: AnyRecipe, images: Images | None) -> str:
    if images is not None:
        return f"{recipe.data!r}, {len(images):,} images"
    return f"{recipe.data!r}" + (" (not there: training needs it)" if paths(recipe.data) != {None} else "")
