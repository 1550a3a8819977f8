"""Noise that is a mixture of normals, of mean 0 and variance 1 at every time.

A chain x_t = a x_(t-1) + b X_t adds up to x_t = alpha x_0 + sigma N_t with N_t = sum_i w_i X_i, w_i^2 = (r_i^2 -
r_(i-1)^2)/r_t^2 and r = sigma/alpha, whatever the scaling. Normal noise is the only one for which N_t has the law of
X_t, so with any other a process knows the mean and the variance of x_t, and its law only where this module says so.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from diffprob.base.checks import one_of, real, several
from diffprob.base.errors import FieldError, InputError, NoClosedForm
from diffprob.base.laws import Law, Levels, Normal, Unstable
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample

READINGS = ("closed form", "markov")
_CHUNK = 16  # steps of a chain whose choices are drawn together


@dataclass(frozen=True, eq=False)
class Components(Unstable):
    """sum_k w_k N(m_k, std^2), elementwise.

    Args:
        weights, means: float64 (C,), or (B, C) with a law for each sample.
        std: float64 () or (B,), of every component.
    """

    weights: Tensor
    means: Tensor
    std: Tensor

    def sample(self, rng: Rng, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A component's mean and its normal noise, (B, *shape)."""
        return _spread(self.std, rng.normal(shape, dtype)) + self.offset(rng.fold("component"), shape, dtype)

    def offset(self, rng: Rng, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The mean of a component that is chosen for every element, (B, *shape)."""
        return chosen(rng.uniform(shape), self.weights, self.means, dtype)

    def log_density(self, z: Tensor) -> Tensor:
        """log sum_k w_k N(z; m_k, std^2), elementwise.

        Raises:
            NoClosedForm: the components are points.
        """
        return self._mixed(lambda centred, std: Normal().log_density(centred[0]) - torch.log(std), z)

    def log_cdf(self, z: Tensor) -> Tensor:
        """Elementwise log P(Z <= z)."""
        return self.log_mass(torch.full_like(z, -math.inf), z)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Elementwise log P(lower < Z < upper), of any interval: every component looks from its own accurate side."""

        def mass(ends: list[Tensor], _: Tensor) -> Tensor:
            low, high = ends
            right = low + high > 0
            return Normal().log_mass(torch.where(right, -high, low), torch.where(right, -low, high))

        return self._mixed(mass, lower, upper)

    def _mixed(self, value: Callable[[list[Tensor], Tensor], Tensor], *points: Tensor) -> Tensor:
        """log sum_k w_k exp(value of component k at the points (z - m_k)/std)."""
        if not bool((self.std > 0).all()):
            raise NoClosedForm("a mixture of points has no density: phi above 0 would be right")
        like, std = points[0], per_sample(self.std, points[0])
        parts = []
        for weight, mean in zip(self.weights.unbind(-1), self.means.unbind(-1), strict=True):
            centred = [(z - per_sample(mean, like)) / std for z in points]
            parts.append(per_sample(weight.log(), like) + value(centred, std))
        return torch.logsumexp(torch.stack(parts), 0)


@dataclass(frozen=True, eq=False)
class ChainOfComponents(Unstable):
    """N = sum_i w_i X_i over the steps i = first + 1 .. last of a chain, with X_i from `Components`.

    The normal parts are one draw of the variance 1 - sum w_i^2 (1 - phi_i^2), the means are drawn step by step.

    Args:
        squares: w_i^2 for i = 1..T, float64 (T,) or (B, T), 0 for steps that are no part of it; their sum is 1.
        weights, means: of the components of every step, float64 (T, C).
        stds: of the components of every step, float64 (T,).
    """

    squares: Tensor
    weights: Tensor
    means: Tensor
    stds: Tensor

    def sample(self, rng: Rng, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """One normal draw and a component's mean for every step, (B, *shape)."""
        variance = 1 - (self.squares * (1 - self.stds**2)).sum(-1)
        total, choices = _spread(variance.clamp_min(0).sqrt(), rng.normal(shape, dtype)), rng.fold("component")
        if not bool(self.means.any()):
            return total
        part = self.squares.reshape(-1, self.squares.shape[-1])
        steps = part.sum(0).nonzero()[:, 0]
        for chunk in sorted({int(step) // _CHUNK for step in steps}):
            u = choices.fold(f"steps {chunk}").uniform((_CHUNK, *shape))
            for k in range(_CHUNK):
                i = chunk * _CHUNK + k
                if i < part.shape[1] and bool(part[:, i].any()):
                    offset = chosen(u[:, k], self.weights[i], self.means[i], dtype)
                    total = total + _spread(self.squares[..., i].sqrt(), offset)
        return total

    def log_density(self, z: Tensor) -> Tensor:
        """Not in closed form.

        Raises:
            NoClosedForm: always.
        """
        _no_form()

    def log_cdf(self, z: Tensor) -> Tensor:
        """Not in closed form.

        Raises:
            NoClosedForm: always.
        """
        _no_form()

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Not in closed form.

        Raises:
            NoClosedForm: always.
        """
        _no_form()


def _no_form() -> NoReturn:
    raise NoClosedForm("a sum of mixtures over the steps of a chain has a component for every way through it")


def _spread(std: Tensor, z: Tensor) -> Tensor:
    return per_sample(std, z) * z


def chosen(u: Tensor, weights: Tensor, values: Tensor, dtype: torch.dtype) -> Tensor:
    """The value whose share of [0, 1) holds u, (B, *shape); weights and values (C,) or (B, C)."""
    below = weights.cumsum(-1)
    value = per_sample(values[..., 0], u.to(dtype)).expand(u.shape)
    for k in range(1, values.shape[-1]):
        value = torch.where(u >= per_sample(below[..., k - 1], u), per_sample(values[..., k], value), value)
    return value


@dataclass(frozen=True)
class MixtureOfGaussians(Unstable):
    """sum_k w_k N(m_k, phi^2), elementwise, with means that make its mean 0 and its variance 1 (MG-DDM).

    The means are places o_k, moved and scaled: m_k = (1 - phi^2)^(1/2) (o_k - E o)/std(o). Two of them with the weights
    p and 1 - p are m_1 = ((1 - phi^2)(1 - p)/p)^(1/2) and m_2 = -p/(1 - p) m_1. phi and the weights may change linearly
    with t, to ``last_phi`` and ``last_weights`` at t = 1.

    Two readings of x_t = alpha x_0 + sigma N_t are published in one breath; they agree in mean and variance alone.
    "closed form": N_t is one draw of the mixture at t, as the paper trains. "markov": x_t is what the chain of a
    discrete schedule arrives at, whose every step adds a draw of the mixture: N_t = sum_i w_i X_i, of excess kurtosis
    k_4 sum w_i^4, nearly normal after ten steps. A step down draws one mixture at t in "closed form", in "markov" what
    the chain adds on the way.

    Args:
        phi: standard deviation of the components, in [0, 1] of the whole; 1 is the normal law, to the bit.
        weights: of the components, above 0, of sum 1.
        places: of the components, relative to each other; None: evenly spaced, from above to below.
        last_phi, last_weights: what these are at t = 1; None: as at t = 0.
        reading: "closed form" or "markov".

    Exact when: in mean and variance, always; a point as data gives x_t the very law of the reading.

    Reference: Nachmani, San Roman & Wolf, "Non Gaussian denoising diffusion models" (2021), section 3.2.
    """

    phi: float = 0.5
    weights: tuple[float, ...] = (0.5, 0.5)
    places: tuple[float, ...] | None = None
    last_phi: float | None = None
    last_weights: tuple[float, ...] | None = None
    reading: str = "closed form"

    def __post_init__(self) -> None:
        real("phi", self.phi, "[0, 1]")
        real("last_phi", self.last_phi, "[0, 1]", none=True)
        one_of("reading", self.reading, READINGS)
        given = {"weights": self.weights} | ({} if self.last_weights is None else {"last_weights": self.last_weights})
        for name, value in given.items():
            several(name, value, lambda name, one: real(name, one, "(0, 1)"), 2, 1000, "(0.5, 0.5)")
            if abs(sum(value) - 1) > 1e-6:
                raise FieldError(name, f"must add up to 1, got {sum(value):g}")
            if len(value) != len(self.weights):
                raise FieldError(name, f"must be {len(self.weights)} numbers as weights, got {len(value)}")
        if self.places is not None:
            several("places", self.places, lambda name, one: real(name, one, "[-1e6, 1e6]"), 2, 1000, "(1.0, -1.0)")
            if len(self.places) != len(self.weights) or len(set(self.places)) < 2:
                raise FieldError("places", f"must be {len(self.weights)} numbers, not all equal")

    @property
    def stable(self) -> bool:
        """Whether it is the normal law at all times."""
        return self.phi == 1 and self.last_phi in (None, 1)

    def at(self, levels: Levels, t: Tensor | float) -> Law:
        """The law of N_t, in the reading that was chosen.

        Raises:
            InputError: "markov" with a continuous schedule, which has no steps.
        """
        if self.stable:
            return Normal()
        return self._components(t) if self.reading == READINGS[0] else self._chain(levels, 0.0, t)

    def between(self, levels: Levels, s: Tensor | float, t: Tensor | float) -> Law:
        """The law of the noise that a step from t down to s draws.

        Raises:
            InputError: "markov" with a continuous schedule.
        """
        if self.stable:
            return Normal()
        return self._components(t) if self.reading == READINGS[0] else self._chain(levels, s, t)

    def sample(self, rng: Rng, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A draw of the mixture at t = 0, (B, *shape)."""
        return self._components(0.0).sample(rng, shape, dtype)

    def log_density(self, z: Tensor) -> Tensor:
        """Elementwise log density of the mixture at t = 0, nats."""
        return self._components(0.0).log_density(z)

    def log_cdf(self, z: Tensor) -> Tensor:
        """Elementwise log P(Z <= z) at t = 0."""
        return self._components(0.0).log_cdf(z)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Elementwise log P(lower < Z < upper) at t = 0, of any interval."""
        return self._components(0.0).log_mass(lower, upper)

    def _components(self, t: Tensor | float) -> Components:
        """The mixture at t, () or (B,)."""
        t = torch.as_tensor(t, dtype=torch.float64)
        phi = self.phi + ((self.phi if self.last_phi is None else self.last_phi) - self.phi) * t
        first = torch.tensor(self.weights, dtype=torch.float64, device=t.device)
        last = first if self.last_weights is None else torch.tensor(self.last_weights).to(first)
        weights = first + (last - first) * t[..., None]
        weights = weights / weights.sum(-1, keepdim=True)
        count = len(self.weights)
        even = torch.linspace(1, -1, count, dtype=torch.float64, device=t.device)
        places = even if self.places is None else torch.tensor(self.places).to(first)
        centred = places - (weights * places).sum(-1, keepdim=True)
        scale = ((1 - phi**2) / (weights * centred**2).sum(-1)).sqrt()
        return Components(weights, scale[..., None] * centred, phi)

    def _chain(self, levels: Levels, s: Tensor | float, t: Tensor | float) -> ChainOfComponents:
        """The sum over the steps between s and t, which are moved to the schedule's own times."""
        steps = levels.steps
        if steps is None:
            raise InputError(f"{levels!r} has no steps whose noise could be added: take reading='closed form'")
        times = torch.arange(steps + 1, dtype=torch.float64) / steps
        log_r = -0.5 * levels.logsnr(times)
        knots = torch.arange(1, steps + 1)
        low, high = ((torch.as_tensor(time, dtype=torch.float64).cpu() * steps).round().long() for time in (s, t))
        high = high.clamp_min(1)
        low = torch.minimum(low, high - 1)
        end = log_r[high][..., None]
        own = torch.exp(2 * (log_r[1:] - end)) - torch.exp(2 * (log_r[:-1] - end))
        inside = (knots > low[..., None]) & (knots <= high[..., None])
        squares = torch.where(inside, own, 0.0)
        parts = self._components(times[1:])
        return ChainOfComponents(squares / squares.sum(-1, keepdim=True), parts.weights, parts.means, parts.std)
