"""Noise laws: elementwise distributions with mean 0 and variance 1."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from diffprob.base.rng import Rng


class Levels(Protocol):
    """What a law that changes with the time asks of a noise schedule."""

    @property
    def steps(self) -> int | None:
        """T of a discrete schedule, None for a continuous one."""
        ...

    def logsnr(self, t: Tensor) -> Tensor:
        """log(alpha^2/sigma^2) at t, float64, same shape as t."""
        ...


class Law(Protocol):
    """An elementwise distribution of mean 0 and variance 1."""

    @property
    def stable(self) -> bool:
        """Whether sums of its draws have it too, as of normal ones: else a bound or a score says nothing."""
        ...

    @property
    def symmetric(self) -> bool:
        """Whether -Z has it too."""
        ...

    def sample(self, rng: Rng, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draw (B, *shape), one stream per sample."""
        ...

    def log_density(self, z: Tensor) -> Tensor:
        """Elementwise log density in nats."""
        ...

    def log_cdf(self, z: Tensor) -> Tensor:
        """Elementwise log P(Z <= z) in nats; log P(Z > z) is ``log_cdf(-z)`` for a symmetric law."""
        ...

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Elementwise log P(lower < Z < upper) in nats, value and derivatives accurate where lower <= -upper or one of
        them is infinite; of other intervals a symmetric law has the mirror image, (-upper, -lower)."""
        ...


class NoiseLaw(Law, Protocol):
    """The noise of a process: a law at every time (frozen dataclass: its repr is its configuration).

    Its own methods are those of the law without a time.
    """

    def at(self, levels: Levels, t: Tensor | float) -> Law:
        """The law of N_t in x_t = alpha x_0 + sigma N_t, at t, () or (B,)."""
        ...

    def between(self, levels: Levels, s: Tensor | float, t: Tensor | float) -> Law:
        """The law of the noise that a step from t down to s draws."""
        ...


class Unstable:
    """What most laws say: of a sum of their draws only mean and variance are known, and -Z is another law's."""

    stable = symmetric = False


@dataclass(frozen=True)
class Normal:
    """The standard normal law, log density -z^2/2 - log(2 pi)/2.

    Exact when: always; checked against scipy's normal distribution.
    """

    stable = symmetric = True

    def at(self, levels: Levels, t: Tensor | float) -> "Normal":
        """Itself at all times."""
        return self

    def between(self, levels: Levels, s: Tensor | float, t: Tensor | float) -> "Normal":
        """Itself in every step."""
        return self

    def sample(self, rng: Rng, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draw (B, *shape) from the streams of ``rng``."""
        return rng.normal(shape, dtype)

    def log_density(self, z: Tensor) -> Tensor:
        """Elementwise -z^2/2 - log(2 pi)/2."""
        return -0.5 * z * z - 0.5 * math.log(2 * math.pi)

    def log_cdf(self, z: Tensor) -> Tensor:
        """Elementwise log Phi(z), accurate in the far tail; its derivative too."""
        return self.log_mass(torch.full_like(z, -math.inf), z)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Elementwise log(Phi(upper) - Phi(lower)) in the log domain, with derivatives by scaled functions."""
        return cast(Tensor, _LogMass.apply(lower, upper))


def _hazard(z: Tensor) -> Tensor:
    """phi(z)/Phi(z) = sqrt(2/pi)/erfcx(-z/sqrt 2): no difference of large numbers, unlike exp(log phi - log Phi)."""
    return math.sqrt(2 / math.pi) / torch.special.erfcx(z * -math.sqrt(0.5))


class _LogMass(torch.autograd.Function):
    """log(Phi(b) - Phi(a)), whose derivatives are phi(b)/P and -phi(a)/P.

    With r = phi/Phi and e^-gap = Phi(a)/Phi(b) these are r(b)/(1 - e^-gap) and -r(a) e^-gap/(1 - e^-gap). Autograd
    takes exp(-log Phi(z) - z^2/2) for r, in which float32 loses everything from 1,000 standard deviations on.
    """

    @staticmethod
    def forward(ctx: Any, lower: Tensor, upper: Tensor) -> Tensor:
        log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
        ctx.save_for_backward(lower, upper)
        whole = log_upper + torch.log(-torch.expm1(log_lower - log_upper))
        return torch.where(log_upper == -math.inf, log_upper, whole)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor, Tensor]:
        (grad,), (lower, upper) = outputs, ctx.saved_tensors
        # log Phi(b) - log Phi(a): far out from the exponents' difference, whose terms would cancel.
        far = (upper < -_FAR) & torch.isfinite(lower)
        a, b = lower.where(far, -_FAR), upper.where(far, -_FAR)
        root = -math.sqrt(0.5)
        scaled = torch.log(torch.special.erfcx(b * root) / torch.special.erfcx(a * root))
        near = torch.special.log_ndtr(upper) - torch.special.log_ndtr(lower)
        gap = torch.where(far, 0.5 * (a - b) * (a + b) + scaled, near)
        whole = -torch.expm1(-gap)
        below = torch.where(torch.isfinite(lower), _hazard(lower) * torch.exp(-gap), 0)
        return -grad * below / whole, grad * _hazard(upper) / whole


_FAR = 30.0  # standard deviations from which on differences of logarithms lose digits that matter
