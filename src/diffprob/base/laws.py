"""Noise laws: elementwise distributions with mean 0 and variance 1."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffprob.base.rng import Rng


class Law(Protocol):
    """An elementwise distribution of mean 0 and variance 1 (frozen dataclass: its repr is its configuration)."""

    def sample(self, rng: Rng, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draw (B, *shape), one stream per sample."""
        ...

    def log_density(self, z: Tensor) -> Tensor:
        """Elementwise log density in nats."""
        ...

    def log_cdf(self, z: Tensor) -> Tensor:
        """Elementwise log P(Z <= z) in nats; log P(Z > z) is ``log_cdf(-z)`` for a symmetric law."""
        ...


@dataclass(frozen=True)
class Normal:
    """The standard normal law, log density -z^2/2 - log(2 pi)/2.

    Exact when: always; checked against scipy's normal distribution.
    """

    def sample(self, rng: Rng, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draw (B, *shape) from the streams of ``rng``."""
        return rng.normal(shape, dtype)

    def log_density(self, z: Tensor) -> Tensor:
        """Elementwise -z^2/2 - log(2 pi)/2."""
        return -0.5 * z * z - 0.5 * math.log(2 * math.pi)

    def log_cdf(self, z: Tensor) -> Tensor:
        """Elementwise log Phi(z), accurate in the far tail."""
        return torch.special.log_ndtr(z)
