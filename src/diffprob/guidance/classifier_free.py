"""Guidance: denoisers made from two, one of which knows more than the other."""

from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.distributions import Categorical, Distribution, Gaussian, LocationScale
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.conditions.condition import Condition
from diffprob.denoise.denoiser import Denoiser, NetworkModel
from diffprob.denoise.subset import for_samples, with_parts

_CERTAIN = -1e9  # log p of a level that the weaker model excludes: less than any other, and finite in every sum

Guidable = LocationScale | Gaussian | Categorical


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
    def process(self) -> Any:
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
        InputError: ``rescale`` of levels, whose contrast says nothing.

    Exact when: always.

    Reference: Ho & Salimans, "Classifier-free diffusion guidance" (2022), eq. 6; Karras et al., "Guiding a diffusion
    model with a bad version of itself" (2024), eq. 3; Schiff et al., "Simple guidance mechanisms for discrete diffusion
    models" (2025), sec. 3.1; Kynkaanniemi et al., "Applying guidance in a limited interval" (2024), eq. 5; Lin et al.,
    "Common diffusion noise schedules and sample steps are flawed" (2024), eqs. 15-16.
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
        if rescale:
            self.process.require_linear("rescale")

    def begin(self, rng: Rng, x: Tensor) -> Self:
        """The same for chains that begin in the states x (B, *event), in which both models have one order."""
        return with_parts(self, model=_begun(self.model, rng, x), weak=_begun(self.weak, rng, x))

    def __call__(self, xt: Tensor, t: Tensor) -> Guidable:
        """p(x_0 | x_t) around the guided mean; of levels, with the guided law of each.

        Raises:
            ValueError: the posterior can be given neither: it is no `LocationScale`, `Gaussian` or `Categorical`.
        """
        t = torch.as_tensor(t, dtype=torch.float64)
        in_interval = self.in_interval(t)
        if self.weight == 0 or not bool(in_interval.any()):
            return _guidable(self.model(xt, t))
        if self.weight == -1 and not self.rescale and bool(in_interval.all()):
            return _guidable(self.weak(xt, t))
        strong, weak = self.both(xt, t)
        strong = _guidable(strong)
        if isinstance(strong, Categorical):
            return self._levels(strong, weak, in_interval)
        mean = (1 + self.weight) * strong.mean - self.weight * weak.mean
        if self.rescale:
            mean = mean * per_sample(self._factor(strong.mean, mean), mean)
        return self.replace_mean(strong, mean, in_interval)

    @property
    def conditioned_parts(self) -> dict[str, Any]:
        """Both models."""
        return {"model": self.model, "weak": self.weak}

    def both(self, xt: Tensor, t: Tensor) -> tuple[Distribution, Distribution]:
        """The posteriors of the stronger model and of the weaker one."""
        return self.model(xt, t), self.weak(xt, t)

    def _levels(self, strong: Categorical, weak: Any, in_interval: Tensor) -> Categorical:
        """The guided law of every element: excluded levels stay so, and an element that is certain."""
        own, other = strong.log_probabilities, weak.log_probabilities.clamp_min(_CERTAIN)
        logits = torch.where(own == -torch.inf, own, (1 + self.weight) * own - self.weight * other)
        guided = per_sample(in_interval.expand(len(own)).to(own), own) > 0
        return replace(strong, logits=torch.where(guided, logits.log_softmax(-1), strong.logits))

    def _factor(self, plain: Tensor, guided: Tensor) -> Tensor:
        ratio = plain.flatten(1).std(1) / guided.flatten(1).std(1).clamp_min(torch.finfo(guided.dtype).tiny)
        return 1 + self.rescale * (ratio - 1)


def _begun(model: Any, rng: Rng, x: Tensor) -> Any:
    """The model for chains that begin in x, where that makes a difference to it."""
    own = getattr(model, "begin", None)
    return model if own is None else own(rng, x)


def _guidable(posterior: Distribution) -> Guidable:
    """The posterior, if it can be guided."""
    return posterior if isinstance(posterior, Categorical) else with_mean(posterior)


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
        model: the network, a `NetDenoiser` or one of levels; its ``condition_on`` decides which rows.
        rows: the condition of each sample, or one for all.
        weight, low, high, rescale: as for `AutoGuidance`.

    Raises:
        InputError: a network that takes no such condition, or, unless w = 0, one that was never trained with the null.

    Reference: Ho & Salimans (2022), algorithm 2.
    """

    def __init__(
        self,
        model: NetworkModel,
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

    def both(self, xt: Tensor, t: Tensor) -> tuple[Distribution, Distribution]:
        """Both answers from one batch of twice the size."""
        network: Any = self.model
        strong, weak = network.branches(xt, t, self.weak)
        return strong, weak


def _null(condition: Condition | None) -> Tensor:
    assert condition is not None  # or the network could not have been conditioned
    try:
        return condition.null()
    except InputError as error:
        raise InputError(f"guidance needs a null condition: {error}") from error
