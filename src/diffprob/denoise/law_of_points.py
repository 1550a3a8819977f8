"""Data of levels that is N points with given probabilities: what the exact denoisers of all processes share."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffprob.base.distributions import Categorical
from diffprob.base.shapes import tensor_of
from diffprob.process.of_levels import point_logits


@dataclass(frozen=True, eq=False)
class LawOfPoints:
    """x_0 is one of N points with given probabilities.

    Args:
        points: (N, *event), whole numbers 0..K-1, each point once: a tensor, array or lists.
        weights: (N,), at least 0 and not all 0; normalised here.
        process: with K levels.

    Raises:
        ValueError: other weights, or points that are no levels.
    """

    points: Tensor
    weights: Tensor
    process: Any

    def __post_init__(self) -> None:
        for name in ("points", "weights"):
            object.__setattr__(self, name, tensor_of(name, getattr(self, name)).double())
        if not self.points.ndim or self.weights.shape != self.points.shape[:1]:
            raise ValueError(f"expected one weight for each point, got {tuple(self.weights.shape)}")
        if not bool((self.weights >= 0).all() and 0 < self.weights.sum() < torch.inf):
            raise ValueError("weights must be at least 0, finite and not all 0")
        point_logits(self.points, self.process.levels)

    @property
    def log_weights(self) -> Tensor:
        """log of the normalised weights, float64 (N,)."""
        return (self.weights / self.weights.sum()).log()

    def check_states(self, xt: Tensor) -> None:
        """Refuse states of other data.

        Raises:
            ValueError: events of another shape.
        """
        if xt.shape[1:] != self.points.shape[1:]:
            raise ValueError(f"the data has events {tuple(self.points.shape[1:])}, got states {tuple(xt.shape)}")

    def elements(self, logs: Tensor, xt: Tensor) -> Categorical:
        """The law of every element of x_0, for log weights of the points given x_t, (B, N), not normalised.

        Raises:
            ValueError: a state that no point leads to.
        """
        if bool((logs.amax(1) == -torch.inf).any()):
            raise ValueError("a state agrees with no point of the data")
        levels = point_logits(self.points.to(xt.device), self.process.levels).exp()
        logits = torch.einsum("bn,n...->b...", logs.softmax(1), levels).log()
        return Categorical(logits.to(xt.dtype), xt.dtype)
