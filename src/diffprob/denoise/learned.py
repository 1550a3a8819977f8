"""Variances that a network was trained to predict for its own steps: a range, or the whole diagonal."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.shapes import per_sample
from diffprob.process.calculus import increments
from diffprob.process.linear import LinearProcess, Stepwise
from diffprob.process.times import native_steps


def native_step(process: LinearProcess, t: Tensor) -> tuple[Tensor, Tensor]:
    """(s, t) of the step of 1/T that ends at t in training, T = 1000 on a continuous schedule; the second one at the
    first time, whose own step has the variance 0 (Nichol & Dhariwal 2021, released code)."""
    steps = native_steps(process.schedule.steps)
    t = torch.as_tensor(t, dtype=torch.float64)
    t = torch.where(t * steps < 2 - 1e-9, torch.full_like(t, 2 / steps), t)
    return t - 1 / steps, t


def between(small: Tensor, large: Tensor, fraction: Tensor) -> Tensor:
    """exp(fraction log large + (1 - fraction) log small), shaped like ``fraction`` (B, *event)."""
    return per_sample(small, fraction) * torch.exp(fraction * per_sample((large / small).log(), fraction))


def posterior_of_step(process: LinearProcess, t: Tensor, mean: Tensor, variance: Tensor) -> Stepwise:
    """The posterior whose step of 1/T has this variance: Var[x_0|x_t] = (variance - ell^2)/c0^2, at least 0; at the
    first time the step is the one to the data, and the variance that of x_0."""
    s, at = native_step(process, t)
    bridge, landed = process.bridge_coefficients(s, at), at > torch.as_tensor(t, dtype=torch.float64)
    ell = bridge.ell.masked_fill(landed, 0)
    c0 = bridge.c0.masked_fill(landed, 1)
    implied = (variance - per_sample(ell**2, mean)) / per_sample(c0**2, mean)
    return Stepwise(mean, implied.clamp_min(0).sqrt())


def _expect(extra: Tensor | None, mean: Tensor, what: str) -> Tensor:
    if extra is None or extra.shape != mean.shape:
        shapes = f"second half {None if extra is None else tuple(extra.shape)}, mean {tuple(mean.shape)}"
        raise ValueError(f"{what} needs a network with twice as many outputs as inputs: {shapes}")
    return extra


@dataclass(frozen=True, eq=False)
class RangeRule:
    """The variance of the step really taken, from the same fraction (steps of the Markov chain only)."""

    fraction: Tensor

    def __call__(self, process: LinearProcess, s: Tensor, t: Tensor, eta: float, default: Tensor) -> Tensor:
        """Between btil and beta of the step from t to s; ``default`` for eta other than 1 and for s without noise."""
        small = process.bridge_coefficients(s, t).ell ** 2
        inner = small > 0  # btil is 0 where the step leads to the data: there is no range, and x_0 has its own spread
        if eta != 1 or not bool(inner.any()):
            return default
        chosen = between(small.where(inner, 1), increments(process, s, t)[1], self.fraction)
        return chosen if bool(inner.all()) else torch.where(per_sample(inner, default) > 0, chosen, default)


@dataclass(frozen=True, eq=False)
class DiagonalRule:
    """The variance itself for the step of 1/T that it was trained for (of the Markov chain), also below btil."""

    variance: Tensor

    def __call__(self, process: LinearProcess, s: Tensor, t: Tensor, eta: float, default: Tensor) -> Tensor:
        """``variance`` where s = t - 1/T, else ``default``."""
        native = ((t - s) * native_steps(process.schedule.steps) - 1).abs() < 1e-6
        if eta != 1 or not bool(native.any()):
            return default
        if bool(native.all()):  # nothing may flow to ``default``, whose root has no slope at 0
            return self.variance
        return torch.where(per_sample(native, default) > 0, self.variance, default)


@dataclass(frozen=True)
class LearnedRange:
    """The second half v of the outputs chooses between btil and beta: log variance = f log beta + (1 - f) log btil with
    f = (v + 1)/2, not squashed.

    A longer step takes the bounds of its own. The optimum lies in this range when E|x_0|^2/d <= 1.

    Reference: Nichol & Dhariwal, "Improved denoising diffusion probabilistic models" (2021), eq. 15.
    """

    def posterior(self, process: LinearProcess, t: Tensor, mean: Tensor, extra: Tensor | None) -> Stepwise:
        """p(x_0 | x_t) that every step reads its variance from.

        Raises:
            ValueError: the network has no second half of outputs.
        """
        fraction = (_expect(extra, mean, repr(self)) + 1) / 2
        s, at = native_step(process, t)
        # At the first time the lower bound is that of the second step, the upper one its own, as published.
        below = (torch.as_tensor(t, dtype=torch.float64) - (at - s)).clamp_min(0)
        small, large = process.bridge_coefficients(s, at).ell ** 2, increments(process, below, t)[1]
        law = posterior_of_step(process, t, mean, between(small, large, fraction))
        return Stepwise(law.mean, law.std, rule=RangeRule(fraction))


@dataclass(frozen=True)
class LearnedDiagonal:
    """The second half of the outputs is the log variance of the step of 1/T, that to the data included; other steps
    follow from what it says about x_0.

    Ho et al. found it unstable to train with predicted noise.

    Reference: Ho et al., "Denoising diffusion probabilistic models" (2020), sec. 3.2 and table 2.
    """

    def posterior(self, process: LinearProcess, t: Tensor, mean: Tensor, extra: Tensor | None) -> Stepwise:
        """p(x_0 | x_t) with Var = (exp(output) - btil)/c0^2, at least 0; steps of 1/T have exp(output) itself.

        Raises:
            ValueError: the network has no second half of outputs.
        """
        variance = _expect(extra, mean, repr(self)).exp()
        law = posterior_of_step(process, t, mean, variance)
        return Stepwise(law.mean, law.std, rule=DiagonalRule(variance))
