"""A model that no folder holds, as tasks see a run: an exact denoiser, or any network with a noise process."""

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from diffprob.base.checks import able, instance, shown, whole
from diffprob.base.distributions import Distribution
from diffprob.base.errors import FieldError, InputError
from diffprob.base.single import single
from diffprob.conditions.condition import Labels
from diffprob.denoise.denoiser import Clock, Denoiser, Evaluation, Index, NetDenoiser, NetworkModel
from diffprob.denoise.prediction import Epsilon, Prediction
from diffprob.denoise.variance import Variance, Zero
from diffprob.interop.configs import scheduling
from diffprob.interop.diffusers import load_pipeline
from diffprob.net.from_module import Foreign
from diffprob.process.linear import LinearProcess
from diffprob.process.times import native_steps
from diffprob.runs.folder import Run, RunFolder, auto_chunk
from diffprob.space.pixels import Pixels
from diffprob.storage.files import expanded, kind_of
from diffprob.storage.manifest import NAME as NAME_OF_MANIFEST

NAME = "the given model"


@dataclass(frozen=True)
class Points:
    """The space of points (B, *shape) that are no images: nothing is rounded and nothing clamped."""

    shape: tuple[int, ...]

    levels = None
    bounded = False
    is_discrete = False
    bin_width = 1.0
    bins = None

    @property
    def model_shape(self) -> tuple[int, ...]:
        """Of a point."""
        return self.shape

    def log_det(self) -> float:
        """log |det| of the identity."""
        return 0.0

    def require_pixels(self, what: str) -> None:
        """Nothing: a restoration works on points as they are."""

    def require_images(self, what: str) -> None:
        """Nothing: points are looked at as they are."""

    @property
    def dimensions(self) -> int:
        """Of a point."""
        return int(torch.Size(self.shape).numel())

    def to_model(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The same points."""
        return x.to(dtype)

    def to_data(self, x: Tensor) -> Tensor:
        """The same points."""
        return x

    def of_pixels(self, x: Tensor) -> Tensor:
        """The same points."""
        return x

    def pixels_of(self, x: Tensor) -> Tensor:
        """The same points."""
        return x

    def nearest(self, x: Tensor) -> Tensor:
        """The same points."""
        return x


@dataclass(frozen=True)
class OwnVariance:
    """That of a denoiser that comes with its own."""


class _Calls(nn.Module):
    """The denoiser as a module, so that its calls can be counted."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, xt: Tensor, t: Tensor) -> Distribution:
        return self.denoiser(xt, t)


class Adapted(nn.Module):
    """A denoiser that is no `NetDenoiser`, with the attributes by which tasks say what they used.

    Args:
        denoiser: (x_t, t) -> p(x_0 | x_t), with its ``process``.
    """

    condition = None
    condition_rows = None

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.net, self.evaluation, self.variance = _Calls(denoiser), Evaluation(), OwnVariance()

    @property
    def process(self) -> LinearProcess:
        """Whose noise it removes."""
        return self.net.denoiser.process

    def forward(self, xt: Tensor, t: Tensor) -> Distribution:
        """p(x_0 | x_t)."""
        return self.net(xt, t)


@dataclass(frozen=True)
class _Parts:
    """What tasks ask of a recipe."""

    process: LinearProcess
    variance: Any
    name: str = NAME
    condition: Any = None
    data: Any = None


@dataclass(frozen=True, eq=False)
class InMemoryRun:
    """What tasks ask of a `Run`, for a model without a folder: nothing is fitted to it, and nothing is recorded.

    Args:
        build: the denoiser, for an `Evaluation` and a variance (None: its own).
        recipe: its process and variance.
        space: of its points.
        chunks: whether its network is evaluated in chunks of a fixed size.
        exact: whether it is no network: its means need no clipping, and mixtures cannot be clipped.
    """

    build: Callable[[Evaluation, Variance | None], NetworkModel]
    recipe: _Parts
    space: Any
    chunks: bool
    exact: bool = False
    meta: dict[str, Any] = field(default_factory=dict)

    path = Path(os.devnull)  # below which nothing can lie
    name = place = NAME
    is_packaged = True  # nothing is recorded unless asked for
    measurements = ()

    @property
    def process(self) -> LinearProcess:
        """Whose noise the model removes."""
        return self.recipe.process

    def sha256(self, best: bool = False) -> str:
        """Of no file."""
        return ""

    def weights_provenance(self, best: bool = False) -> dict[str, Any]:
        """Of no file.

        Raises:
            InputError: the best weights of a training.
        """
        if best:
            raise InputError(f"{NAME} has one set of weights, and no best ones")
        return {"step": None, "model_sha256": None}

    def load(
        self,
        device: str | torch.device = "cpu",
        chunk: int | Literal["auto"] | None = "auto",
        precision: str = "fp32",
        best: bool = False,
        variance: Variance | None = None,
    ) -> NetworkModel:
        """The denoiser; as `Run.load`."""
        device = torch.device(device)
        size = (auto_chunk(device, self.space) if self.chunks else None) if chunk == "auto" else chunk
        return self.build(Evaluation(size, precision), variance).to(device).eval().requires_grad_(False)


def in_memory(
    model: Any,
    shape: Any,
    levels: int | None = None,
    process: LinearProcess | None = None,
    prediction: Prediction | None = None,
    clock: Clock | None = None,
    scheduler: Any = None,
) -> Run:
    """Something that removes noise, as a run; see `diffprob.tasks.model.Model` for the arguments.

    Raises:
        InputError: parts that do not go together.
        FieldError: a part of the wrong kind.
    """
    _check_model(model)
    event = _event(shape)
    space = Points(event) if levels is None else Pixels(event, _whole_of(levels))  # pyright: ignore[reportArgumentType]
    instance("process", process, LinearProcess, "a LinearProcess(...) such as LinearProcess(Cosine())", none=True)
    if prediction is not None:
        able("prediction", prediction, "to_x0", "dp.predictions.V()")
    if clock is not None:
        able("clock", clock, "label", "dp.clocks.Index(1000)")
    if scheduler is not None:
        if process is not None or prediction is not None or clock is not None:
            raise InputError("a scheduler says process, prediction and clock: give it, or these")
        if isinstance(scheduler, type) or not isinstance(getattr(scheduler, "config", None), Mapping):
            raise FieldError("scheduler", f"cannot be {shown(scheduler)}: one of diffusers' would be right, an object")
        settings = scheduling(dict(scheduler.config), "the scheduler's configuration")
        process, prediction, clock = settings.process, settings.prediction, settings.clock
    if hasattr(model, "process"):
        if process is not None or prediction is not None or clock is not None:
            raise InputError(f"{type(model).__name__} has its own process, prediction and clock; leave them out")
        return cast(
            Run, InMemoryRun(_exact(model), _Parts(model.process, OwnVariance()), space, chunks=False, exact=True)
        )
    if not isinstance(model, nn.Module):
        raise InputError(f"{type(model).__name__} is no model: a denoiser with a process, or a torch module")
    if process is None:
        raise InputError("a network alone does not say which noise it removes: give process= (or scheduler=)")
    parts = (process, prediction or Epsilon(), clock or Index(native_steps(process.schedule.steps)))

    def build(evaluation: Evaluation, variance: Variance | None) -> NetworkModel:
        own = copy.deepcopy(model)  # which is frozen and put on a device, while the user's may go on training
        if any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in own.parameters()):
            own = own.float()  # states are float32; `Compute.precision` is what computes in 16 bits
        return NetDenoiser(Foreign(own), *parts, variance or Zero(), evaluation)

    return cast(Run, InMemoryRun(build, _Parts(process, Zero()), space, chunks=levels is not None))


def _check_model(model: Any) -> None:
    """Refuse what is opened rather than wrapped, and what would only be built into a model."""
    if isinstance(model, RunFolder):
        raise InputError("a run is opened rather than wrapped: dp.load(run) would be right")
    if isinstance(model, InMemoryRun):
        raise InputError("this is the run of a Model already: that Model would be right")
    if isinstance(model, str | Path):
        raise InputError(f"a model is opened by its name or folder with dp.load({shown(str(model))})")
    if isinstance(model, type):
        raise InputError(f"{model.__name__} is a class: an object of it would be right, {model.__name__}(...)")


def _event(shape: Any) -> tuple[int, ...]:
    """The shape of one image or point: whole numbers of Python's own, numpy's too."""
    try:
        sizes = () if isinstance(shape, str | bytes) else tuple(_whole_of(size) for size in shape)
    except TypeError:  # one number, say
        sizes = ()
    if not sizes:
        what = "the shape of an image (channels, height, width) or a point, such as (1, 28, 28) or (2,)"
        raise FieldError("shape", f"must be {what}, got {shown(shape)}")
    for index, size in enumerate(sizes):
        whole(f"shape[{index}]", size, 1)
    return sizes


def _whole_of(number: Any) -> Any:
    """A whole number of numpy as Python's own; anything else as it is."""
    return int(number) if isinstance(number, np.integer) else number


def _exact(model: Any) -> Callable[[Evaluation, Variance | None], NetworkModel]:
    def build(_evaluation: Evaluation, variance: Variance | None) -> NetworkModel:
        if variance is not None and not isinstance(variance, OwnVariance):
            raise InputError(f"{type(model).__name__} has a variance of its own; {variance!r} is not taken")
        own: Any = copy.deepcopy(model) if isinstance(model, nn.Module) else model
        return own if isinstance(own, NetworkModel) else cast(NetworkModel, Adapted(own))

    return build


def is_pipeline(folder: str | Path) -> bool:
    """Whether a folder is one that diffusers' ``save_pretrained`` wrote, and no run."""
    if folder == "":  # not the working directory
        return False
    place = expanded(folder)
    candidates = (place / name for name in ("model_index.json", "unet/config.json", "config.json"))
    return kind_of(place / NAME_OF_MANIFEST) is None and any(kind_of(path) is not None for path in candidates)


def pipeline_in_memory(folder: str | Path) -> Run:
    """The network of a diffusers folder, as a run; images of 256 grey levels unless the folder says otherwise.

    Raises:
        InputError: a file is missing, damaged or pickled, a setting has no counterpart here, or it says no size.
    """
    pipeline = load_pipeline(folder)
    if pipeline.size is None:
        raise InputError(
            f"{folder} says no size of images: `diffprob import {folder} --size N --out RUN` would be right"
        )
    settings = scheduling(pipeline.scheduler or {}, f"scheduler_config.json of {folder}")
    condition = pipeline.condition or (Labels(pipeline.spec.classes, drop=0.0) if pipeline.spec.classes else None)
    space = Pixels((pipeline.spec.in_channels, *pipeline.size), pipeline.levels or 256)

    def build(evaluation: Evaluation, variance: Variance | None) -> NetworkModel:
        with single():
            net = pipeline.spec.build()
        net.load_state_dict(pipeline.state)
        own = (settings.process, settings.prediction, settings.clock, variance or settings.variance)
        return NetDenoiser(net, *own, evaluation, condition)

    return cast(Run, InMemoryRun(build, _Parts(settings.process, settings.variance, condition=condition), space, True))
