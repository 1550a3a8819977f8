"""Guidance: denoisers made from two, one of which knows more than the other."""

from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.distributions import Distribution, Gaussian, LocationScale
from diffprob.base.errors import InputError
from diffprob.base.shapes import per_sample
from diffprob.conditions.condition import Condition
from diffprob.denoise.denoiser import Denoiser, NetDenoiser
from diffprob.denoise.subset import for_samples, with_parts
from diffprob.process.linear import LinearProcess


class Guided:
    """A denoiser whose mean is another where low <= t <= high, and is the model's own elsewhere.

    Args:
        model: the denoiser that is steered.
        low, high: the interval.

    Raises:
        ValueError: no interval within [0, 1].
    """

    def __init__(self, model: Denoiser, low: float, high: float) -> None:
        if not 0 <= low <= high <= 1:
            raise ValueError(f"expected 0 <= low <= high <= 1, got {low} and {high}")
        self.model, self.low, self.high = model, low, high

    def for_samples(self, index: Tensor) -> Self:
        """The same for some of the samples, see `diffprob.denoise.subset.for_samples`."""
        return with_parts(self, **{name: for_samples(part, index) for name, part in self.conditioned_parts.items()})

    @property
    def conditioned_parts(self) -> dict[str, Any]:
        """What may have been told something about each sample, by the names of its attributes."""
        return {"model": self.model}

    @property
    def process(self) -> LinearProcess:
        """The process of the model."""
        return self.model.process

    def in_interval(self, t: Tensor) -> Tensor:
        """Whether t lies in the interval, bool, shaped like t."""
        return (t >= self.low) & (t <= self.high)

    def replace_mean(
        self, posterior: LocationScale | Gaussian, mean: Tensor, in_interval: Tensor
    ) -> LocationScale | Gaussian:
        """The posterior with another mean where ``in_interval``, () or (B,), is true."""
        if not bool(in_interval.all()):
            mean = torch.where(per_sample(in_interval.to(mean), mean) > 0, mean, posterior.mean)
        return replace(posterior, mean=mean)


class AutoGuidance(Guided):
    """(1 + w) E[x_0|x_t] - w E'[x_0|x_t]: away from a weaker model, with the spread of the stronger one.

    The noise predictions and scores combine alike, (1 + w) eps - w eps', so on Gaussians the guided score is linear
    with precision (1 + w)/v - w/v'. It is not the score of any noised data: the chain is steered, and its bound is the
    bound of the steered chain. w = 0 is the stronger model to the bit, w = -1 the weaker one.

    Args:
        model: the stronger denoiser: with a condition, or trained better (autoguidance).
        weak: the weaker one, of the same process.
        weight: w.
        low, high: guided where low <= t <= high only; elsewhere the weaker model is not asked.
        rescale: share in [0, 1] by which the guided mean takes the standard deviation of the unguided one, image by
            image, against burnt contrasts.

    Raises:
        ValueError: models of different processes, or a number out of its range.

    Exact when: always.

    Reference: Ho & Salimans, "Classifier-free diffusion guidance" (2022), eq. 6; Karras et al., "Guiding a diffusion
    model with a bad version of itself" (2024), eq. 3; Kynkaanniemi et al., "Applying guidance in a limited interval"
    (2024), eq. 5; Lin et al., "Common diffusion noise schedules and sample steps are flawed" (2024), eqs. 15-16.
    """

    def __init__(
        self,
        model: Denoiser,
        weak: Denoiser,
        weight: float,
        low: float = 0.0,
        high: float = 1.0,
        rescale: float = 0.0,
    ) -> None:
        if not abs(weight) < float("inf"):
            raise ValueError(f"weight must be finite, got {weight}")
        if not 0 <= rescale <= 1:
            raise ValueError(f"rescale must lie in [0, 1], got {rescale}")
        if weak.process != model.process:
            raise ValueError(f"two models must have one process, got {shown(model.process)}, {shown(weak.process)}")
        super().__init__(model, low, high)
        self.weak, self.weight, self.rescale = weak, weight, rescale

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale | Gaussian:
        """p(x_0 | x_t) around the guided mean.

        Raises:
            ValueError: the posterior cannot get another mean: it is no `LocationScale` and no `Gaussian`.
        """
        t = torch.as_tensor(t, dtype=torch.float64)
        in_interval = self.in_interval(t)
        if self.weight == 0 or not bool(in_interval.any()):
            return with_mean(self.model(xt, t))
        if self.weight == -1 and not self.rescale and bool(in_interval.all()):
            return with_mean(self.weak(xt, t))
        strong, weak = self.both(xt, t)
        mean = (1 + self.weight) * strong.mean - self.weight * weak
        if self.rescale:
            mean = mean * per_sample(self._factor(strong.mean, mean), mean)
        return self.replace_mean(strong, mean, in_interval)

    @property
    def conditioned_parts(self) -> dict[str, Any]:
        """Both models."""
        return {"model": self.model, "weak": self.weak}

    def both(self, xt: Tensor, t: Tensor) -> tuple[LocationScale | Gaussian, Tensor]:
        """The stronger model's posterior, and the weaker one's mean."""
        return with_mean(self.model(xt, t)), self.weak(xt, t).mean

    def _factor(self, plain: Tensor, guided: Tensor) -> Tensor:
        ratio = plain.flatten(1).std(1) / guided.flatten(1).std(1).clamp_min(torch.finfo(guided.dtype).tiny)
        return 1 + self.rescale * (ratio - 1)


def with_mean(posterior: Distribution) -> LocationScale | Gaussian:
    """The posterior, if its mean can be replaced.

    Raises:
        ValueError: it is a mixture, say.
    """
    if not isinstance(posterior, LocationScale | Gaussian):
        raise ValueError(f"only a LocationScale or Gaussian posterior can be guided, got {type(posterior).__name__}")
    return posterior


class ClassifierFree(AutoGuidance):
    """A network with a condition, away from the same network without: `AutoGuidance` in one batched evaluation.

    The conventions are those of the paper: w = 0 is conditional without guidance, w = -1 unconditional. Elsewhere a
    scale 1 + w is common.

    Args:
        model: the network; `NetDenoiser.condition_on` decides which rows.
        rows: the condition of each sample, or one for all.
        weight, low, high, rescale: as for `AutoGuidance`.

    Raises:
        InputError: a network that takes no such condition, or, unless w = 0, one that was never trained with the null.

    Reference: Ho & Salimans (2022), algorithm 2.
    """

    def __init__(
        self,
        model: NetDenoiser,
        rows: Tensor,
        weight: float,
        low: float = 0.0,
        high: float = 1.0,
        rescale: float = 0.0,
    ) -> None:
        conditional = model.condition_on(rows)
        # At w = 0 no evaluation is without the condition, and no null is needed.
        unconditional = conditional if weight == 0 else model.condition_on(_null(conditional.condition))
        super().__init__(conditional, unconditional, weight, low, high, rescale)

    def both(self, xt: Tensor, t: Tensor) -> tuple[LocationScale | Gaussian, Tensor]:
        """Both answers from one batch of twice the size."""
        network: Any = self.model
        strong, weak = network.branches(xt, t, self.weak)
        return strong, weak.mean


def _null(condition: Condition | None) -> Tensor:
    assert condition is not None  # or the network could not have been conditioned
    try:
        return condition.null()
    except InputError as error:
        raise InputError(f"guidance needs a null condition: {error}") from error
