"""The variance of x_0 given x_t that a network which only predicts a mean is taken to have.

The variance of a reverse step follows from it: ell^2 + c0^2 Var[x_0|x_t] (`LinearProcess.reverse`).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffprob.process.linear import LinearProcess


class Variance(Protocol):
    """A choice of Var[x_0 | x_t] (frozen dataclass: its repr is its configuration)."""

    def __call__(self, process: LinearProcess, t: Tensor) -> Tensor:
        """Var[x_0 | x_t], float64, shaped like t."""
        ...


@dataclass(frozen=True)
class Zero:
    """Var[x_0|x_t] = 0: steps get the posterior variance beta-tilde, "fixed small" (Ho et al. 2020, sec. 3.2).

    Exact when: the data is a single point.
    """

    def __call__(self, process: LinearProcess, t: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(torch.as_tensor(t, dtype=torch.float64))


@dataclass(frozen=True)
class UnitData:
    """Var[x_0|x_t] = sigma^2/(alpha^2 + sigma^2): steps get the forward variance beta, "fixed large" (Ho et al. 2020,
    sec. 3.2).

    Exact when: the data is N(0, I).
    """

    def __call__(self, process: LinearProcess, t: Tensor) -> Tensor:
        """sigma^2/(alpha^2 + sigma^2)."""
        alpha, sigma = process.coefficients(t)
        return sigma * sigma / (alpha * alpha + sigma * sigma)
