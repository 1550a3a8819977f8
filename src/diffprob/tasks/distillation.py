"""Make a potential of a trained run: a network whose gradient is the noise, so that its value is -log p up to scale."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from diffprob.base.checks import whole
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.data.images import Images
from diffprob.recipes.distilled import STEPS, distilled
from diffprob.reporting.fields import fields_figure
from diffprob.runs.folder import Run
from diffprob.runs.images import OwnImages
from diffprob.storage.files import expanded
from diffprob.tasks.options import option
from diffprob.tasks.recording import recorded
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.training import set_fields
from diffprob.tasks.training_plan import PreparedTraining, TrainResult
from diffprob.tasks.training_run import Halt, never, run_training

FIELDS, COMPARED = "fields.png", 16  # images over which the difference is averaged


@dataclass(frozen=True, kw_only=True)
class DistillRequest:
    """What is to be made of a run; the same request again resumes.

    Args:
        method: "gradient", "scalar" or "full" (`diffprob.recipes.distilled.METHODS`).
        frozen: scalar: the body never learns.
        data: where the run's images lie, if not where its recipe says.
        out: the new run's folder; None: ``runs/NAME-METHOD``.
        steps: train until this step; None: 2,000.
        overrides, device: as in a `diffprob.tasks.training.TrainRequest`.
        seed: decides weights at the start, order and noise; None: the run's.

    Raises:
        ValueError: a number outside its domain.
    """

    method: str
    frozen: bool = False
    data: str | None = None
    out: str | Path | None = None
    steps: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, none=True)
        whole("seed", self.seed, 0, 2**62, none=True)


@dataclass(frozen=True)
class PreparedDistillation:
    """A distillation that is about to begin.

    Args:
        training: its training, whose images are still to be read.
        teacher: the run.
        own: the teacher's images; None: the recipe names others.
    """

    training: PreparedTraining
    teacher: Run
    own: OwnImages | None


@dataclass(frozen=True)
class DistillResult:
    """A potential that was made.

    Args:
        training: of the new run.
        fields: a picture of both noise predictions, in the new run; None: none was drawn.
    """

    training: TrainResult
    fields: str | None

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return {**self.training.to_json(), "fields": self.fields}

    def __repr__(self) -> str:
        return repr(self.training)


def distill(run: Run, request: DistillRequest, reporter: Reporter = SILENT, halt: Halt = never) -> DistillResult | None:
    """Train, or go on, and draw what was learned beside the teacher's; None in all processes but the first.

    Raises:
        Halted, InputError, NumericalError: as `diffprob.tasks.training.train`.
    """
    return run_distillation(prepare_distillation(run, request, reporter), reporter, halt)


def prepare_distillation(run: Run, request: DistillRequest, reporter: Reporter = SILENT) -> PreparedDistillation:
    """Make the recipe, without training.

    Raises:
        InputError: a run that cannot be distilled in this way, or other images than its own.
    """
    if request.frozen and request.method != "scalar":
        required, argument = option("method", "scalar"), option("method", request.method)
        raise InputError(f"{option('frozen')} belongs to {required}, not to {argument}")
    recipe = distilled(run, request.method, request.steps or STEPS, not request.frozen)
    own = OwnImages(run, request.data)
    if request.data is not None:
        recipe = replace(recipe, data=own.source)
        _ = own.train  # refuses other images than the teacher's, in a dry run too
    place = recipe.data
    recipe = set_fields(recipe, request.overrides, reporter)
    if request.seed is not None:
        recipe = replace(recipe, training=replace(recipe.training, seed=request.seed))
    out = expanded(request.out or f"runs/{run.path.resolve().name}-{request.method}")
    training = PreparedTraining(recipe=recipe, out=out, device=request.device)
    return PreparedDistillation(training, run, own if recipe.data == place else None)


def run_distillation(
    prepared: PreparedDistillation, reporter: Reporter = SILENT, halt: Halt = never
) -> DistillResult | None:
    """Train, or go on, and draw.

    Raises:
        Halted, InputError, NumericalError: as `diffprob.tasks.training.train`.
    """
    own, recipe = prepared.own, prepared.training.recipe
    images = recipe.data.load() if own is None else own.train.images
    training = run_training(replace(prepared.training, images=images, notes=images.notes), reporter, halt)
    if training is None:
        return None
    if own is not None and not own.may_be_shown:
        place, data = prepared.teacher.place, option("data")
        why = f"{place} does not say which it was trained on; {data} does"
        reporter.note(f"no {FIELDS}, which shows an image: {why}")
        return DistillResult(training, None)
    return DistillResult(training, _fields(prepared.teacher, prepared.training.out, images, reporter))


def _fields(teacher: Run, out: Path, images: Images, reporter: Reporter) -> str | None:
    """Draw both fields into the new run; None where matplotlib is missing, or the run cannot be written to."""
    if find_spec("matplotlib") is None:
        return None
    run, n = Run.open(out), COMPARED
    x0 = run.space.to_model(torch.from_numpy(images.take(range(min(n, len(images))))))
    picture = fields_figure(teacher.load(chunk=None), run.load(chunk=None), x0, Rng.of(0, len(x0)))
    kept = recorded(run, lambda: run.add(FIELDS, picture), reporter)
    return str(out / FIELDS) if kept["recorded"] else None
