"""Denoisers made from denoisers: the predicted image kept in the range of the data."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from diffprob.base.distributions import LocationScale
from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.denoise.subset import for_samples, with_parts
from diffprob.process.linear import LinearProcess


class ClippedMean(ABC):
    """A denoiser whose posterior keeps its type and spread around a mean that is kept in range.

    Args:
        model: the denoiser.
    """

    def __init__(self, model: Denoiser) -> None:
        self.model = model

    @property
    def process(self) -> LinearProcess:
        """The process of the wrapped denoiser."""
        return self.model.process

    def for_samples(self, index: Tensor) -> Self:
        """The same for some of the samples, see `diffprob.denoise.subset.for_samples`."""
        return with_parts(self, model=for_samples(self.model, index))

    @abstractmethod
    def clip_mean(self, mean: Tensor) -> Tensor:
        """What becomes of the mean (B, *event)."""

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
        """p(x_0 | x_t) around the clipped mean.

        Raises:
            ValueError: the posterior is not a `LocationScale`.
        """
        posterior = self.model(xt, t)
        if not isinstance(posterior, LocationScale):
            raise ValueError(f"only a LocationScale posterior can be clipped, got {type(posterior).__name__}")
        return replace(posterior, mean=self.clip_mean(posterior.mean))


class Clip(ClippedMean):
    """Clamp the mean of p(x_0 | x_t) to the range of the data (Ho et al. 2020, released code).

    The step's mean is then computed from the clamped x_0, also in DDIM. Clipping changes the model: never clip in a
    convergence or likelihood test without saying so.
    """

    def __init__(self, model: Denoiser, low: float = -1.0, high: float = 1.0) -> None:
        if not low < high:
            raise ValueError(f"expected low < high, got {low} and {high}")
        super().__init__(model)
        self.low = low
        self.high = high

    def clip_mean(self, mean: Tensor) -> Tensor:
        """The mean in [low, high]."""
        return mean.clamp(self.low, self.high)


class DynamicClip(ClippedMean):
    """Dynamic thresholding: clamp the mean of p(x_0 | x_t) to [-q, q] and scale it by bound/q, each sample by its own
    q = max(bound, the quantile of |mean| over its elements).

    Where few elements leave the range it is `Clip`; where many do, the image keeps its contrasts instead of saturating.
    It is meant for pixels. Like `Clip` it changes the model.

    Args:
        model: the denoiser.
        quantile: of the absolute values, in (0, 1]; Imagen has 0.995.
        bound: of the data, which lies in [-bound, bound].

    Reference: Saharia et al., "Photorealistic text-to-image diffusion models with deep language understanding" (2022),
    section 2.3.
    """

    def __init__(self, model: Denoiser, quantile: float = 0.995, bound: float = 1.0) -> None:
        if not 0 < quantile <= 1:
            raise ValueError(f"quantile must lie in (0, 1], got {quantile}")
        if not 0 < bound < float("inf"):
            raise ValueError(f"bound must be positive, got {bound}")
        super().__init__(model)
        self.quantile = quantile
        self.bound = bound

    def clip_mean(self, mean: Tensor) -> Tensor:
        """The mean in [-bound, bound]."""
        sizes, _ = mean.abs().flatten(1).sort(1)
        # As numpy's and torch's quantile, which refuses rows of more than 2^24 elements.
        position = self.quantile * (sizes.shape[1] - 1)
        low = int(position)
        high = min(low + 1, sizes.shape[1] - 1)
        q = per_sample(torch.lerp(sizes[:, low], sizes[:, high], position - low).clamp_min(self.bound), mean)
        return mean.clamp(-q, q) * (self.bound / q)
