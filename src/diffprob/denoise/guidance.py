"""Guidance: denoisers made from two, one of which knows more than the other."""

from dataclasses import replace

import torch
from torch import Tensor

from diffprob.base.distributions import Distribution, Gaussian, LocationScale
from diffprob.base.errors import InputError
from diffprob.base.shapes import per_sample
from diffprob.denoise.condition import Condition
from diffprob.denoise.denoiser import Denoiser, NetDenoiser
from diffprob.process.linear import LinearProcess


class Extrapolated:
    """(1 + w) E[x_0|x_t] - w E'[x_0|x_t]: away from a weaker model, with the spread of the stronger one.

    The noise predictions and scores combine alike, (1 + w) eps - w eps', so on Gaussians the guided score is linear
    with precision (1 + w)/v - w/v'. It is not the score of any noised data: the chain is steered, and its bound is the
    bound of the steered chain. w = 0 is the stronger model to the bit, w = -1 the weaker one.

    Args:
        model: the stronger denoiser: told more, or trained better (autoguidance).
        weak: the weaker one, of the same process.
        weight: w.
        low, high: guided where low <= t <= high only; elsewhere the weaker model is not asked.
        rescale: share in [0, 1] by which the guided mean takes the standard deviation of the unguided one, image by
            image, against burnt contrasts.

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
        if not 0 <= low <= high <= 1:
            raise ValueError(f"expected 0 <= low <= high <= 1, got {low} and {high}")
        if not 0 <= rescale <= 1:
            raise ValueError(f"rescale must lie in [0, 1], got {rescale}")
        self.model, self.weak, self.weight = model, weak, weight
        self.low, self.high, self.rescale = low, high, rescale

    @property
    def process(self) -> LinearProcess:
        """The process of both."""
        return self.model.process

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale | Gaussian:
        """p(x_0 | x_t) around the guided mean.

        Raises:
            ValueError: the posterior cannot be moved: it is no `LocationScale` and no `Gaussian`.
        """
        t = torch.as_tensor(t, dtype=torch.float64)
        inside = (t >= self.low) & (t <= self.high)
        if self.weight == 0 or not bool(inside.any()):
            return movable(self.model(xt, t))
        if self.weight == -1 and not self.rescale and bool(inside.all()):
            return movable(self.weak(xt, t))
        strong, weak = self.both(xt, t)
        mean = (1 + self.weight) * strong.mean - self.weight * weak
        if self.rescale:
            mean = mean * per_sample(self._factor(strong.mean, mean), mean)
        if not bool(inside.all()):
            mean = torch.where(per_sample(inside.to(xt), xt) > 0, mean, strong.mean)
        return replace(strong, mean=mean)

    def both(self, xt: Tensor, t: Tensor) -> tuple[LocationScale | Gaussian, Tensor]:
        """The stronger model's posterior, and the weaker one's mean."""
        return movable(self.model(xt, t)), self.weak(xt, t).mean

    def _factor(self, plain: Tensor, guided: Tensor) -> Tensor:
        ratio = plain.flatten(1).std(1) / guided.flatten(1).std(1).clamp_min(torch.finfo(guided.dtype).tiny)
        return 1 + self.rescale * (ratio - 1)


def movable(posterior: Distribution) -> LocationScale | Gaussian:
    """The posterior, if its mean can be replaced.

    Raises:
        ValueError: it is a mixture, say.
    """
    if not isinstance(posterior, LocationScale | Gaussian):
        raise ValueError(f"only a LocationScale or Gaussian posterior can be guided, got {type(posterior).__name__}")
    return posterior


class ClassifierFree(Extrapolated):
    """A network told a condition, away from the same network told none: `Extrapolated` in one batched evaluation.

    The conventions are those of the paper: w = 0 is conditional without guidance, w = -1 unconditional. Elsewhere a
    scale 1 + w is common.

    Args:
        model: the network; `NetDenoiser.given` decides which rows.
        rows: the condition of each sample, or one for all.
        weight, low, high, rescale: as for `Extrapolated`.

    Raises:
        InputError: a network that takes no such condition, or, unless w = 0, one that was never told the null.

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
        told = model.given(rows)
        null = rows[:1] if weight == 0 or model.condition is None else _null(model.condition)
        super().__init__(told, model.given(null), weight, low, high, rescale)
        self.net, self.rows, self.null = model, rows, null

    def both(self, xt: Tensor, t: Tensor) -> tuple[LocationScale | Gaussian, Tensor]:
        """Both answers from one batch of twice the size."""
        told, none = self.net.branches(xt, t, self.rows, self.null)
        return told, none.mean


def _null(condition: Condition) -> Tensor:
    try:
        return condition.null()
    except InputError as error:
        raise InputError(f"guidance needs a null condition: {error}") from error
