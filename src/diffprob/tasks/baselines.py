"""Densities of images without a diffusion model, to compare with: a flow (Glow), or an energy."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from diffprob.base.checks import one_of, whole
from diffprob.base.errors import InputError
from diffprob.base.levels import MOST_BANDS, check_levels
from diffprob.recipes import densities
from diffprob.space.pixels import Pixels
from diffprob.storage.files import expanded
from diffprob.tasks.own_recipe import data_name, folder_name, opened
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.tasks.training import set_fields
from diffprob.tasks.training_plan import PreparedTraining, TrainResult
from diffprob.tasks.training_run import Halt, never, run_training

BASELINES = {"glow": densities.glow, "ebm": densities.ebm}


@dataclass(frozen=True, kw_only=True)
class BaselineRequest:
    """What is to be trained; the same request again resumes.

    Args:
        kind: "glow" or "ebm".
        data: the images: a folder, a file, "digits" or "hf:NAME".
        size: scale and crop pictures to size x size.
        channels: read pictures as grey (1) or in colour (3), or say which axis of an array has the channels; None: as
            they are.
        levels: K, where fewer grey levels occur than the type of an array or picture holds; None: as many as that.
        out: the run's folder; None: ``runs/NAME-KIND``.
        overrides, steps, device: as in a `diffprob.tasks.training.TrainRequest`.
        seed: decides weights at the start, order and noise.

    Raises:
        ValueError: another kind, or a number outside its domain.
    """

    kind: str
    data: str
    size: int | None = None
    channels: int | None = None
    levels: int | None = None
    out: str | Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        one_of("kind", self.kind, tuple(BASELINES))
        whole("size", self.size, 2, none=True)
        whole("channels", self.channels, 1, MOST_BANDS, none=True)
        check_levels(self.levels)
        whole("steps", self.steps, 1, none=True)
        whole("seed", self.seed, 0, 2**62)


def train_baseline(request: BaselineRequest, reporter: Reporter = SILENT, halt: Halt = never) -> TrainResult | None:
    """Train, or go on; None in all processes but the first.

    Raises:
        Halted, InputError, NumericalError: as `diffprob.tasks.training.train`.
    """
    return run_training(prepare_baseline(request, reporter), reporter, halt)


def prepare_baseline(request: BaselineRequest, reporter: Reporter = SILENT) -> PreparedTraining:
    """Read the images and make the recipe, without training.

    Raises:
        InputError: the data or a field cannot be used.
    """
    name = data_name(request.data)
    folder = expanded(request.out or f"runs/{name}-{request.kind}")
    source, images, chosen = opened(request.data, request.size, request.channels, request.levels, folder)
    if images.levels is None:
        raise InputError(f"{request.data}: real numbers; a baseline takes images in grey levels")
    recipe = BASELINES[request.kind](name, source, Pixels(images.event_shape, images.levels))
    if request.out:
        recipe = replace(recipe, name=folder_name(expanded(request.out)))
    steps = {} if request.steps is None else {"steps": request.steps}
    recipe = replace(recipe, training=replace(recipe.training, seed=request.seed, **steps))
    recipe = set_fields(recipe, request.overrides, reporter)
    out = expanded(request.out or f"runs/{recipe.name}")
    notes = (*images.notes, *chosen)
    return PreparedTraining(recipe=recipe, out=out, images=images, device=request.device, notes=notes)
