"""Models to and from diffusers' folders; diffusers itself is not needed."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffprob.base.checks import flag, text, whole
from diffprob.base.errors import InputError
from diffprob.base.levels import MOST_BANDS, check_levels
from diffprob.conditions.condition import Labels
from diffprob.config.recipe import AutoencoderRecipe, Recipe, parameter_count
from diffprob.data import Folder, HuggingFace
from diffprob.data.images import Source
from diffprob.data.places import absolute
from diffprob.interop.autoencoders import (
    LoadedAutoencoder,
    autoencoder_of,
    is_autoencoder,
    load_autoencoder,
    weights_of,
)
from diffprob.interop.configs import Scheduling, scheduler_config, scheduling
from diffprob.interop.diffusers import Pipeline, export_pipeline, load_pipeline
from diffprob.runs.bundled import BUNDLED, bundle
from diffprob.runs.folder import Run, open_run
from diffprob.runs.publish import write_run
from diffprob.space.latents import Latents
from diffprob.space.pixels import Pixels
from diffprob.space.space import Space
from diffprob.storage.files import expanded
from diffprob.tasks.options import option
from diffprob.tasks.reporter import SILENT, Reporter
from diffprob.training.settings import Training


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """A folder for diffusers' DDPMPipeline.

    Args:
        out: the new folder.
        clip: whether its sampler clips to [-1, 1].
        dry_run: whether to write nothing.

    Raises:
        ValueError: a field of another type.
    """

    out: str
    clip: bool = True
    dry_run: bool = False

    def __post_init__(self) -> None:
        text("out", self.out)
        flag("clip", self.clip)
        flag("dry_run", self.dry_run)


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Args:
        request: what was asked for.
        run: that was written, by its place.
        step: of its weights.
        scheduler: diffusers' settings for the process.
    """

    request: ExportRequest
    run: str
    step: int
    scheduler: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        out = str(expanded(self.request.out))
        return {
            "dry_run": self.request.dry_run,
            "run": self.run,
            "step": self.step,
            "out": out,
            "scheduler": self.scheduler,
        }


def export_run(run: Run, request: ExportRequest) -> ExportResult:
    """Write a run as a folder that diffusers opens.

    Raises:
        InputError: the folder is there and not empty, a run without a model, or a part that diffusers does not have.
    """
    out = new_folder(request.out)
    run.space.require_pixels("diffusers' DDPMPipeline")
    run.recipe.process.require_linear("diffusers' DDPMPipeline")
    model: Any = run.load()
    clip = 1.0 if request.clip else None
    scheduler = scheduler_config(Scheduling(model.process, model.prediction, model.variance, clip))
    if not request.dry_run:
        _, height, width = run.space.shape
        export_pipeline(out, model, (height, width), clip, run.space.levels)
    return ExportResult(request, run.place, run.meta["step"], scheduler)


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """A run to be made of a diffusers folder.

    Args:
        folder: what diffusers' save_pretrained wrote.
        out: the new run's folder.
        size: of the images, where the folder does not say.
        levels: grey levels; None: what the folder says, else 256.
        null_label: whether the network's last class stands for no label.
        data: what it was trained on, for the recipe; None: not known.
        step: training steps behind the weights.
        dry_run: whether to write nothing.

    Raises:
        ValueError: a number outside its domain.
    """

    folder: str
    out: str
    size: int | None = None
    levels: int | None = None
    null_label: bool = False
    data: Source | None = None
    step: int = 0
    dry_run: bool = False

    def __post_init__(self) -> None:
        text("folder", self.folder)
        text("out", self.out)
        whole("size", self.size, 1, none=True)
        check_levels(self.levels)
        flag("null_label", self.null_label)
        whole("step", self.step)
        flag("dry_run", self.dry_run)


@dataclass(frozen=True)
class ImportResult:
    """What was read, and the recipe that says it.

    Args:
        request: what was asked for.
        recipe: of the new run.
        weights: how the folder keeps them, such as "float32" or "fp16".
        clip: to which its sampler clips; None: it does not.
    """

    request: ImportRequest
    recipe: Recipe | AutoencoderRecipe
    weights: str
    clip: float | None

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        recipe, names = self.recipe, ("network", "process", "prediction", "variance")
        return {
            "dry_run": self.request.dry_run,
            "run": str(expanded(self.request.out)),
            "parameters": parameter_count(recipe),
            "shape": list(recipe.space.shape),
            **{name: repr(getattr(recipe, name)) for name in names if hasattr(recipe, name)},
            **({"latent": list(latent)} if (latent := _latent(recipe)) else {}),
            "weights": self.weights,
            "clip": self.clip,
            "use": self.use,
        }

    @property
    def use(self) -> str:
        """What the run is for, in a line."""
        run, sample = expanded(self.request.out), f"diffprob sample {expanded(self.request.out)}"
        if isinstance(self.recipe, AutoencoderRecipe):
            return f"to train in its latents: diffprob train digits_latent --set space.autoencoder.run={run} ..."
        if _latent(self.recipe):
            return f"to draw from it: {sample}; its autoencoder, a run too, is {run / BUNDLED}"
        if self.clip is None:
            return f"its sampler does not clip: {sample} --no-clip"
        if self.clip != 1:
            return f"its sampler clips to {self.clip:g}; diffprob sample clips to 1, or with --no-clip not at all"
        return f"to draw from it: {sample}"


def import_run(request: ImportRequest, reporter: Reporter = SILENT) -> ImportResult:
    """Make a run of a diffusers folder, and open it: of a U-Net, of one with an autoencoder, or of an autoencoder.

    Raises:
        InputError: the new folder is there and not empty; a file is missing, damaged or pickled; a setting that has no
            counterpart here, or does not go with what was asked for.
    """
    out = new_folder(request.out)
    if is_autoencoder(request.folder):
        return _import_autoencoder(out, request)
    pipeline, place = load_pipeline(request.folder), autoencoder_of(request.folder)
    settings = scheduling(pipeline.scheduler or {}, f"scheduler_config.json of {request.folder}")
    extra: dict[str, bytes] = {}
    if place is None:
        size = _size(request, pipeline.size)
        space: Any = Pixels((pipeline.spec.in_channels, *size), _levels(request, pipeline.levels))
    else:
        space, extra = _latents(out, request, pipeline, load_autoencoder(place))
        if settings.clip is not None:
            reporter.note(f"the sampler of {request.folder} clips latents to {settings.clip:g}; here they are never")
    recipe = _recipe(request, pipeline, settings, space, reporter)
    if not request.dry_run:
        weights = {f"net.{name}": tensor for name, tensor in pipeline.state.items()}
        write_run(out, recipe, weights, step=request.step, extra=extra)
        Run.open(out)
    return ImportResult(request, recipe, pipeline.variant or "float32", settings.clip)


def _import_autoencoder(out: Path, request: ImportRequest) -> ImportResult:
    if request.null_label:
        raise InputError(f"{option('null_label')}: the network of {request.folder} is told no labels")
    loaded = load_autoencoder(request.folder)
    shape = loaded.spec.in_channels, *_size(request, None if loaded.size is None else (loaded.size, loaded.size))
    recipe = _autoencoder_recipe(request, loaded, Pixels(shape, _levels(request, None)))
    if not request.dry_run:
        write_run(out, recipe, weights_of(loaded), step=request.step)
        open_run(out)
    return ImportResult(request, recipe, loaded.variant or "float32", None)


def _latents(
    out: Path, request: ImportRequest, pipeline: Pipeline, loaded: LoadedAutoencoder
) -> tuple[Latents, dict[str, bytes]]:
    """The latents of a pipeline's autoencoder, and the files of that in the run."""
    factor, size = loaded.spec.divisor, pipeline.size
    height, width = _size(request, None if size is None else (size[0] * factor, size[1] * factor))
    space = Pixels((loaded.spec.in_channels, height, width), _levels(request, pipeline.levels))
    recipe = _autoencoder_recipe(request, loaded, space)
    source, files = bundle(recipe, weights_of(loaded), None, request.step, out)
    latent = loaded.spec.latent_shape(space.shape)
    return Latents(space.shape, space.levels, autoencoder=source, latent=latent), files


def _autoencoder_recipe(request: ImportRequest, loaded: LoadedAutoencoder, space: Pixels) -> AutoencoderRecipe:
    try:
        return AutoencoderRecipe(
            name=_name(request),
            data=_data(request, space.shape),
            space=space,
            network=loaded.spec,
            training=Training(steps=max(1, request.step)),
        )
    except ValueError as error:
        raise InputError(f"{request.folder}: {error}") from error


def _latent(recipe: Recipe | AutoencoderRecipe) -> tuple[int, ...] | None:
    """Of the model's points, where these are not the images."""
    if isinstance(recipe, AutoencoderRecipe):
        return recipe.network.latent_shape(recipe.space.shape)
    return None if recipe.space.model_shape == recipe.space.shape else recipe.space.model_shape


def new_folder(out: str) -> Path:
    """A folder that is not there yet, or empty.

    Raises:
        InputError: something is there.
    """
    path = expanded(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists already and is not an empty folder: choose another {option('out')}")
    return path


def _name(request: ImportRequest) -> str:
    return re.sub(r"[^\w.-]+", "-", expanded(request.out).resolve().name)


def _data(request: ImportRequest, shape: tuple[int, int, int]) -> Source:
    """The data that the folder's model was trained on, as far as it is known."""
    channels, height, width = shape
    if channels > MOST_BANDS:
        right = f"1 to {MOST_BANDS} can be a run"
        raise InputError(f"{request.folder}: a network of images with {channels} channels; {right}")
    square = height if height == width else None
    data: Any = absolute(request.data) if request.data else Folder("not-known", square, channels)
    return replace(data, channels=channels) if isinstance(data, Folder | HuggingFace) else data


def _recipe(
    request: ImportRequest, pipeline: Pipeline, settings: Scheduling, space: Space, reporter: Reporter
) -> Recipe:
    try:
        return Recipe(
            name=_name(request),
            data=_data(request, space.shape),
            space=space,
            network=pipeline.spec,
            process=settings.process,
            prediction=settings.prediction,
            clock=settings.clock,
            variance=settings.variance,
            condition=_condition(request, pipeline, reporter),
            training=Training(steps=max(1, request.step)),
        )
    except ValueError as error:
        raise InputError(f"{request.folder}: {error}") from error


def _size(request: ImportRequest, size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the images; ``size`` as the folder has them."""
    side = request.size
    if side is not None:
        if size is not None and size != (side, side):
            message = f"{request.folder} says that its images are {size[0]}x{size[1]}"
            raise InputError(f"{option('size', side)}: {message}")
        size = (side, side)
    if size is None:
        raise InputError(f"{request.folder} does not say the size of its images; give {option('size', 'N')}")
    return size


def _levels(request: ImportRequest, levels: int | None) -> int:
    """Grey levels of the images; ``levels`` as the folder has them."""
    if request.levels is not None and levels not in (None, request.levels):
        message = f"{request.folder} says that its images have {levels}"
        raise InputError(f"{option('levels', request.levels)}: {message}")
    return request.levels or levels or 256


def _condition(request: ImportRequest, pipeline: Pipeline, reporter: Reporter) -> Labels | None:
    """The labels that condition the network."""
    classes, argument = pipeline.spec.classes, option("null_label")
    if pipeline.condition is not None:
        if request.null_label and not pipeline.condition.drop:
            raise InputError(f"{argument}: {request.folder} says that each of its {classes} labels is a class")
        return pipeline.condition
    if not classes:
        if request.null_label:
            raise InputError(f"{argument}: the network of {request.folder} is told no labels")
        return None
    if not request.null_label:
        which = f"{request.folder} names none of its {classes} classes"
        reporter.note(f"{which}; if the last stands for no label: {argument}")
    # How often training dropped the label is not known; that it did is all that counts afterwards.
    return Labels(classes - 1) if request.null_label else Labels(classes, drop=0.0)
