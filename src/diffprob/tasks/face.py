"""What every method of the face stands on: the run that is asked, where it is computed, and who hears about it."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.finite import check_tensors
from diffprob.config.registry import is_source
from diffprob.data.images import Images, Source
from diffprob.denoise.denoiser import NetworkModel
from diffprob.denoise.variance import Variance
from diffprob.process.linear import LinearProcess
from diffprob.runs.folder import Run
from diffprob.space.space import Space
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.images import ImageBatch, ImageSelection, ImageSource
from diffprob.tasks.in_memory import InMemoryRun, Points
from diffprob.tasks.plan import Sampling
from diffprob.tasks.reporter import Reporter

Labels = str | int | Sequence[str | int] | None
Method = TypeVar("Method", bound=Callable[..., Any])
Pictures = str | Path | np.ndarray | Tensor | Images | ImageBatch | Source | None


class Drawing(TypedDict, total=False):
    """The keywords that say how images are drawn, of every method that draws; `Model.sample` says what they mean."""

    seed: int
    labels: Labels
    guidance: float
    steps: int | None
    sampler: Any
    grid: Any
    variance: Variance | None
    clip: bool | float | None
    conditioning: Conditioning | None


_OWN = {"labels": None, "guidance": Conditioning.guidance, "conditioning": None}
DEFAULTS: dict[str, Any] = {
    name: _OWN[name] if name in _OWN else getattr(Sampling, name) for name in Drawing.__annotations__
}


def draws(method: Method) -> Method:
    """Show the keywords of `Drawing` one by one in the signature of a method that takes them as ``**drawing``."""
    signature, hints = inspect.signature(method), Drawing.__annotations__
    parameters = [entry for entry in signature.parameters.values() if entry.kind is not entry.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        for name, default in DEFAULTS.items()
    ]
    method.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return method


class Face:
    """A run, as it is asked from Python; see `diffprob.tasks.model.Model`."""

    run: Run
    compute: Compute
    reporter: Reporter

    @property
    def space(self) -> Space:
        """Of its images or points."""
        return self.run.space

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image (C, H, W) or point."""
        return tuple(self.run.space.shape)

    @property
    def model_shape(self) -> tuple[int, ...]:
        """Of one point of model space: of an image, or of its latents."""
        return tuple(self.run.space.model_shape)

    @property
    def process(self) -> LinearProcess:
        """Whose noise it removes."""
        return self.run.process

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that it can draw; empty where it has none, or they have no names."""
        return tuple(getattr(self.run.recipe.condition, "names", ()))

    def denoiser(self, **options: Any) -> NetworkModel:
        """The denoiser: ``denoiser()(xt, t)`` is p(x_0 | x_t); ``options`` are those of `Compute.load`."""
        return self.compute.load(self.run, **options)

    def _sampling(self, n: int, drawing: Drawing) -> Sampling:
        """The request of n images with these keywords.

        Raises:
            InputError: labels or guidance that are given twice.
            TypeError: another keyword.
        """
        options: dict[str, Any] = {**DEFAULTS, **drawing}
        for name in options.keys() - DEFAULTS.keys():
            raise TypeError(f"unexpected keyword argument {name!r}{did_you_mean(name, DEFAULTS)}")
        labels, guidance, conditioning = (options.pop(name) for name in ("labels", "guidance", "conditioning"))
        if conditioning is not None and (labels is not None or guidance):
            raise InputError("conditioning= says labels and guidance too: give one or the other")
        if conditioning is None:
            conditioning = Conditioning(label=_names(labels), guidance=guidance)
        return Sampling(n=n, conditioning=conditioning, compute=self.compute, **options)

    def _chosen(self, images: Pictures, *, place: str | Path | None, **options: Any) -> ImageSelection:
        if isinstance(self.run, InMemoryRun) and images is None:
            raise InputError("a model in memory has no images of its own: give some")
        return ImageSelection(images=self._source(images), place=None if place is None else str(place), **options)

    def _only_images(self, what: str) -> None:
        if isinstance(self.space, Points):
            raise InputError(f"{what} is for images of grey levels: dp.Model(..., shape=(C, H, W), levels=256)")

    def _points(self, points: Any) -> Tensor:
        """Points of model space on the device, (n, *shape) of a floating type.

        Raises:
            InputError: another shape, or grey levels.
            NumericalError: a value that is not finite.
        """
        right = f"points (n, {', '.join(map(str, self.model_shape))}) would be right, got"
        try:
            x = torch.as_tensor(points).to(self.compute.on())
        except (TypeError, ValueError, RuntimeError) as error:  # what torch raises of text, None or ragged lists
            raise InputError(f"{right} {shown(points)}") from error
        if tuple(x.shape[1:]) != self.model_shape or not x.numel():
            raise InputError(f"{right} {tuple(x.shape)}")
        if not x.is_floating_point():
            raise InputError(f"points of model space are floating, got {x.dtype}: model.space.to_model(...) makes them")
        check_tensors({"x": x}, "the points are")
        return x

    def _time(self, t: Any, count: int) -> Tensor:
        """t () or (count,).

        Raises:
            InputError: anything else.
        """
        try:
            time = t if isinstance(t, Tensor) else torch.as_tensor(t, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"t is a number in (0, 1], or {count:,} of them, got {shown(t)}") from error
        if tuple(time.shape) not in ((), (count,)):
            raise InputError(f"t is a number in (0, 1], or {count:,} of them, got shape {tuple(time.shape)}")
        return time

    def _source(self, images: Pictures) -> ImageSource | None:
        if isinstance(images, Tensor):
            return images.detach().cpu().numpy()
        if is_source(images):
            source: Any = images
            return source.load()
        if not isinstance(images, str | Path | np.ndarray | Images | ImageBatch | None):
            raise InputError(
                f"images cannot be of type {type(images).__name__}: a place, uint8 (N, C, H, W) as an array or tensor, "
                "dp.Images(...), dp.FromDataset(...) or model.data(...) would be right"
            )
        return str(images) if isinstance(images, Path) else images


def _names(labels: Any) -> tuple[str, ...] | None:
    """Classes by name or number, as text."""
    if isinstance(labels, np.ndarray | np.generic | Tensor):
        labels = labels.tolist()
    several = [labels] if isinstance(labels, str | Integral) else labels
    if several is None:
        return None
    if not isinstance(several, Iterable) or not (names := list(several)) or not all(map(_is_label, names)):
        raise InputError(f'labels: 7, "cat" or several of them, such as (7, 3), would be right, got {shown(labels)}')
    return tuple(map(str, names))


def _is_label(label: Any) -> bool:
    return isinstance(label, str | Integral) and not isinstance(label, bool)
