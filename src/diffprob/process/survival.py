"""Survival of absorbing processes: with which probability an element is still itself at a time, or masked.

Each is a schedule as well (`diffprob.process.schedule.Schedule`), so that grids and laws of times serve: its log-SNR is
log(alpha/(1 - alpha)), the log odds of survival, as alpha^2/(1 - alpha^2) are those of a variance-preserving process.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from diffprob.base.checks import MOST_STEPS, whole
from diffprob.base.shapes import sigmoid
from diffprob.process.schedule import Continuous, Discrete, Schedule
from diffprob.process.times import as_time


class Survival(Schedule, Protocol):
    """How the share of masked elements grows from 0 at t = 0 to 1 at t = 1 (frozen dataclass)."""

    @property
    def alone(self) -> "Survival":
        """The survival of each element by itself, of the same masked share: itself unless elements go by an order."""
        ...

    def masked(self, t: Tensor) -> Tensor:
        """1 - alpha(t): the share that is masked at t, float64 of the shape of t, without cancellation at both ends."""
        ...

    def masked_elements(self, t: Tensor, order: Tensor | None, like: Tensor) -> Tensor:
        """The probability of each element to be masked, float64, broadcastable to ``like`` (B, *event).

        Args:
            t: () or (B,).
            order: the rank of each element in the order of drawing, int64 (B or 1, *event), where one is bound.
            like: states.

        Raises:
            ValueError: an order is needed and there is none, or it has another shape.
        """
        ...

    def rate(self, t: Tensor) -> Tensor:
        """-alpha'(t)/(1 - alpha(t)): the weight of the cross-entropy at t, float64 of the shape of t.

        Raises:
            ValueError: alpha has no derivative.
        """
        ...


def times_like(t: Tensor, like: Tensor) -> Tensor:
    """Times () or (B,) in float64 so that they multiply ``like`` (B, *event)."""
    t = t.to(like.device)
    if t.ndim > 1 or (t.ndim == 1 and len(t) not in (1, len(like))):
        raise ValueError(f"expected times () or ({len(like)},), got {tuple(t.shape)}")
    return t.reshape(t.shape + (1,) * (like.ndim - 1)) if t.ndim else t


class _Independent(Continuous, ABC):
    """Every element is masked by itself, at a time with the distribution function ``masked``."""

    @property
    def alone(self) -> Self:
        """Itself."""
        return self

    @abstractmethod
    def masked(self, t: Tensor) -> Tensor:
        """1 - alpha(t)."""

    def masked_elements(self, t: Tensor, order: Tensor | None, like: Tensor) -> Tensor:
        """The same for all elements; an order says nothing here."""
        return times_like(self.masked(as_time(t, None) if t.is_cpu else t), like)


@dataclass(frozen=True)
class LinearSurvival(_Independent):
    """alpha(t) = 1 - t: elements are masked at uniform times (Austin et al. 2021, sec. 3.1; Sahoo et al. 2024)."""

    def masked(self, t: Tensor) -> Tensor:
        """t."""
        return torch.as_tensor(t, dtype=torch.float64)

    def rate(self, t: Tensor) -> Tensor:
        """1/t."""
        return 1 / torch.as_tensor(t, dtype=torch.float64)

    def logsnr(self, t: Tensor) -> Tensor:
        """log((1 - t)/t)."""
        t = torch.as_tensor(t, dtype=torch.float64)
        return torch.log1p(-t) - torch.log(t)

    def time(self, logsnr: Tensor) -> Tensor:
        """1/(1 + exp(logsnr))."""
        return sigmoid(-torch.as_tensor(logsnr, dtype=torch.float64))


@dataclass(frozen=True)
class CosineSurvival(_Independent):
    """alpha(t) = 1 - sin(pi t/2): few elements are masked late, few drawn at first (Chang et al. 2022, sec. 3.2; Shi et
    al. 2024, table 4)."""

    def masked(self, t: Tensor) -> Tensor:
        """sin(pi t/2)."""
        return torch.sin(0.5 * math.pi * torch.as_tensor(t, dtype=torch.float64))

    def rate(self, t: Tensor) -> Tensor:
        """(pi/2) cot(pi t/2)."""
        return 0.5 * math.pi / torch.tan(0.5 * math.pi * torch.as_tensor(t, dtype=torch.float64))

    def logsnr(self, t: Tensor) -> Tensor:
        """log(2 sin^2(pi (1 - t)/4)/sin(pi t/2))."""
        t = torch.as_tensor(t, dtype=torch.float64)
        return math.log(2) + 2 * torch.log(torch.sin(0.25 * math.pi * (1 - t))) - torch.log(self.masked(t))

    def time(self, logsnr: Tensor) -> Tensor:
        """(2/pi) asin(1 - alpha), and 1 - (4/pi) asin(sqrt(alpha/2)) where that is more precise."""
        logsnr = torch.as_tensor(logsnr, dtype=torch.float64)
        alpha, masked = sigmoid(logsnr), sigmoid(-logsnr)
        late = 1 - 4 / math.pi * torch.asin((0.5 * alpha).sqrt())
        return torch.where(alpha < 0.5, late, 2 / math.pi * torch.asin(masked))


@dataclass(frozen=True)
class Staircase(Discrete):
    """One element a step: at t = k/d the last k of d elements of an order are masked, alpha = 1 - k/d.

    This is order-agnostic autoregression as an absorbing process: x_(1/d) lacks one element, x_1 all. Given the order,
    marginals and bridges are certain; an order is bound by `diffprob.process.absorbing.AbsorbingProcess.bind`. A grid
    of fewer times draws several elements in one step, independently of each other.

    Args:
        steps: d, as many as an event has elements.

    Exact when: t is a multiple of 1/d; a time between two is taken for the later one.

    Reference: Hoogeboom et al., "Autoregressive diffusion models" (2022), sec. 3.
    """

    steps: int

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, MOST_STEPS)

    @property
    def alone(self) -> LinearSurvival:
        """At a multiple of 1/d an element of a random order is masked with probability t."""
        return LinearSurvival()

    def count(self, t: Tensor) -> Tensor:
        """How many elements are masked at t, float64 of the shape of t; within 1e-9 of a whole number that is meant."""
        return (torch.as_tensor(t, dtype=torch.float64) * self.steps - 1e-9).ceil().clamp_min(0) + 0.0  # never -0

    def masked(self, t: Tensor) -> Tensor:
        """The share, count/d."""
        return self.count(t) / self.steps

    def masked_elements(self, t: Tensor, order: Tensor | None, like: Tensor) -> Tensor:
        """1 for the last ones of the order, 0 for the others."""
        count = times_like(self.count(as_time(t, self.steps) if t.is_cpu else t), like)
        if order is None and bool(((count == 0) | (count == self.steps)).all()):  # the ends of every order
            return count / self.steps
        if order is None:
            raise ValueError(
                f"{self!r} masks one element after the other, and no order is bound: model.bind(rng, x) draws one for "
                "each sample"
            )
        event = tuple(like.shape[1:])
        if tuple(order.shape[1:]) != event or len(order) not in (1, len(like)):
            raise ValueError(f"an order (1 or {len(like)}, *{event}) would be right, got {tuple(order.shape)}")
        return (order.to(like.device) >= self.steps - count).double()

    def rate(self, t: Tensor) -> Tensor:
        """A staircase has no derivative.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self!r} has no rate: LinearSurvival() has one, and OrderAgnostic() trains a staircase")

    def logsnr(self, t: Tensor) -> Tensor:
        """log((d - k)/k)."""
        count = self.count(t)
        return torch.log((self.steps - count) / count)

    def time(self, logsnr: Tensor) -> Tensor:
        """k/d for the share 1 - alpha, which may lie between two steps."""
        return sigmoid(-torch.as_tensor(logsnr, dtype=torch.float64))
