"""What every method of the face stands on: the run that is asked, where it is computed, and who hears about it."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.data.images import Images
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.variance import Variance
from diffprob.process.linear import LinearProcess
from diffprob.runs.folder import Run
from diffprob.space.pixels import Pixels
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.images import ImageBatch, ImageSelection, ImageSource
from diffprob.tasks.in_memory import InMemoryRun, Points
from diffprob.tasks.plan import Sampling
from diffprob.tasks.reporter import Reporter, Silent

Labels = str | int | Sequence[str | int] | None
Pictures = str | Path | np.ndarray | Tensor | Images | ImageBatch | None


class Warnings(Silent):
    """The reporter of a Python session: no progress, and every note is a warning."""

    def note(self, text: str) -> None:
        """Warn."""
        warnings.warn(text, stacklevel=4)


class Face:
    """A run, as it is asked from Python; see `diffprob.tasks.model.Model`."""

    run: Run
    compute: Compute
    reporter: Reporter

    @property
    def space(self) -> Pixels | Points:
        """Of its images or points."""
        return self.run.space

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image (C, H, W) or point."""
        return tuple(self.run.space.shape)

    @property
    def process(self) -> LinearProcess:
        """Whose noise it removes."""
        return self.run.process

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that it can draw; empty where it has none, or they have no names."""
        return tuple(getattr(self.run.recipe.condition, "names", ()))

    def denoiser(self, **options: Any) -> NetDenoiser:
        """The denoiser: ``denoiser()(xt, t)`` is p(x_0 | x_t); ``options`` are those of `Compute.load`."""
        return self.compute.load(self.run, **options)

    def _sampling(
        self,
        n: int = 64,
        seed: int = 0,
        labels: Labels = None,
        guidance: float = 0.0,
        steps: int | None = None,
        sampler: Any = None,
        grid: Any = None,
        variance: Variance | None = None,
        clip: bool | float | None = None,
        conditioning: Conditioning | None = None,
    ) -> Sampling:
        if conditioning is not None and (labels is not None or guidance):
            raise InputError("conditioning= says labels and guidance too: give one or the other")
        if conditioning is None:
            several = [labels] if isinstance(labels, str | int) else labels
            names = None if several is None else tuple(map(str, several))
            conditioning = Conditioning(label=names, guidance=guidance)
        clip = self._clips if clip is None else clip
        return Sampling(
            n=n,
            seed=seed,
            sampler=sampler,
            steps=steps,
            grid=grid,
            variance=variance,
            clip=clip,
            conditioning=conditioning,
            compute=self.compute,
        )

    @property
    def _clips(self) -> bool:
        """Whether predicted images are clamped unless said: points have no interval, and exact means need none."""
        return isinstance(self.space, Pixels) and not (isinstance(self.run, InMemoryRun) and self.run.exact)

    def _chosen(self, images: Pictures, *, place: str | Path | None, **options: Any) -> ImageSelection:
        if isinstance(self.run, InMemoryRun) and images is None:
            raise InputError("a model in memory has no images of its own: give some")
        return ImageSelection(images=self._source(images), place=None if place is None else str(place), **options)

    def _only_images(self, what: str) -> None:
        if not isinstance(self.space, Pixels):
            raise InputError(f"{what} is for images of grey levels: dp.Model(..., shape=(C, H, W), levels=256)")

    def _points(self, points: Any) -> Tensor:
        x = torch.as_tensor(points, dtype=torch.float32).to(self.compute.on())
        if tuple(x.shape[1:]) != self.shape or not len(x):
            raise InputError(f"points (n, {', '.join(map(str, self.shape))}) would be right, got {tuple(x.shape)}")
        return x

    def _source(self, images: Pictures) -> ImageSource | None:
        if isinstance(images, Tensor):
            return images.detach().cpu().numpy()
        return str(images) if isinstance(images, Path) else images
