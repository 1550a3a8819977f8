"""Variances that a network was trained to predict for its own steps: a range, or the whole diagonal."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.shapes import per_sample
from diffprob.process.calculus import increments
from diffprob.process.linear import LinearProcess, Stepwise


def native_step(process: LinearProcess, t: Tensor) -> tuple[Tensor, Tensor]:
    """(s, t) of the step of 1/T that ends at t in training, T = 1000 on a continuous schedule; the second one at the
    first time, whose own step has the variance 0 (Nichol & Dhariwal 2021, released code)."""
    steps = process.schedule.steps or 1000
    t = torch.as_tensor(t, dtype=torch.float64)
    t = torch.where(t * steps < 2 - 1e-9, torch.full_like(t, 2 / steps), t)
    return t - 1 / steps, t


def between_bounds(process: LinearProcess, s: Tensor, t: Tensor, fraction: Tensor) -> Tensor:
    """exp(fraction log beta_(t|s) + (1 - fraction) log btil(s, t)), shaped like ``fraction`` (B, *event)."""
    small = process.bridge_coefficients(s, t).ell ** 2
    _, large = increments(process, s, t)
    return per_sample(small, fraction) * torch.exp(fraction * per_sample((large / small).log(), fraction))


def posterior_of_step(process: LinearProcess, t: Tensor, mean: Tensor, variance: Tensor) -> Stepwise:
    """The posterior whose step of 1/T has this variance: Var[x_0|x_t] = (variance - ell^2)/c0^2, at least 0."""
    bridge = process.bridge_coefficients(*native_step(process, t))
    implied = (variance - per_sample(bridge.ell**2, mean)) / per_sample(bridge.c0**2, mean)
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
        """Between btil and beta of the step from t to s; ``default`` for eta other than 1."""
        return between_bounds(process, s, t, self.fraction) if eta == 1 else default


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
        found = posterior_of_step(process, t, mean, between_bounds(process, *native_step(process, t), fraction))
        return Stepwise(found.mean, found.std, rule=RangeRule(fraction))


@dataclass(frozen=True)
class LearnedDiagonal:
    """The second half of the outputs is the log variance of the step of 1/T; other steps follow from what it says about
    x_0.

    Ho et al. found it unstable to train with predicted noise.

    Reference: Ho et al., "Denoising diffusion probabilistic models" (2020), sec. 3.2 and table 2.
    """

    def posterior(self, process: LinearProcess, t: Tensor, mean: Tensor, extra: Tensor | None) -> Stepwise:
        """p(x_0 | x_t) with Var = (exp(output) - btil)/c0^2, at least 0.

        Raises:
            ValueError: the network has no second half of outputs.
        """
        return posterior_of_step(process, t, mean, _expect(extra, mean, repr(self)).exp())
