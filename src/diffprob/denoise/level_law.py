"""What a network of discrete data says of an element: K weights, or a few logistic laws of a grey level."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.errors import InputError

MOST_COMPONENTS = 100
CACHED = 2**18  # numbers between outputs and laws at a time
LEAST_LOG_SCALE = -7.0  # of a logistic law on [-1, 1]: a thousandth of the interval


class LevelLaw(Protocol):
    """From what a network says of an element to a law of its K levels (frozen dataclass).

    It stands where a `Prediction` does for images of real numbers: it says what the network's output means.
    """

    def outputs(self, levels: int) -> int:
        """How many numbers of the network an element has."""
        ...

    def logits(self, outputs: Tensor, levels: int) -> Tensor:
        """Unnormalised log probabilities (B, *event, levels), from (B, *event, n)."""
        ...

    def log_prob(self, outputs: Tensor, x: Tensor, levels: int) -> Tensor:
        """log p of the level x of every element, (B, *event), from (B, *event, n) and (B, *event)."""
        ...

    def log_mass(self, outputs: Tensor, low: Tensor, high: Tensor, levels: int) -> Tensor:
        """log of the probability of the levels from ``low`` to ``high`` of every element, (B, *event) each."""
        ...

    def check(self, process: Any) -> None:
        """Refuse a process without levels.

        Raises:
            ValueError: it has none.
        """
        ...


class _OfLevels:
    """What all such laws share."""

    def check(self, process: Any) -> None:
        """Refuse a process without levels.

        Raises:
            ValueError: it has none.
        """
        if not hasattr(process, "levels"):
            raise ValueError(f"prediction {self!r} is a law of levels: AbsorbingProcess(levels) would be right")

    def require_linear(self, what: str) -> None:
        """Refuse what works on the mean of a law of real numbers.

        Raises:
            InputError: always.
        """
        raise InputError(f"{what} needs a prediction of real numbers, and this model gives a law of levels")


@dataclass(frozen=True)
class Softmax(_OfLevels):
    """K numbers for each element, the logits of its levels: any law of them.

    Exact when: always.

    Reference: Hoogeboom et al., "Autoregressive diffusion models" (2022), sec. 3.
    """

    def outputs(self, levels: int) -> int:
        """K."""
        return levels

    def logits(self, outputs: Tensor, levels: int) -> Tensor:
        """They are what the network says."""
        return outputs

    def log_prob(self, outputs: Tensor, x: Tensor, levels: int) -> Tensor:
        """log softmax at x."""
        return outputs.log_softmax(-1).gather(-1, x.long()[..., None])[..., 0]

    def log_mass(self, outputs: Tensor, low: Tensor, high: Tensor, levels: int) -> Tensor:
        """log of the sum of softmax between low and high."""
        x = torch.arange(levels, device=outputs.device, dtype=low.dtype)
        inside = (x >= low[..., None]) & (x <= high[..., None])
        return torch.where(inside, outputs.log_softmax(-1), -torch.inf).logsumexp(-1)


@dataclass(frozen=True)
class LogisticMixture(_OfLevels):
    """A mixture of logistic laws on [-1, 1], summed over the bins of K grey levels: 3 numbers for each component.

    sum_j w_j (F((x + h - m_j)/s_j) - F((x - h - m_j)/s_j)), h = 1/(K - 1), the outer bins open to infinity. Levels that
    are neighbours are alike from the beginning, and a level costs 3 M numbers in the place of K. With outputs of 0 the
    means are spread evenly over the interval.

    Args:
        components: M.

    Exact when: the probabilities of the levels sum to one, always.

    Reference: Salimans et al., "PixelCNN++" (2017), sec. 2.1.
    """

    components: int = 10

    def __post_init__(self) -> None:
        whole("components", self.components, 1, MOST_COMPONENTS)

    def outputs(self, levels: int) -> int:
        """3 M: log weights, means and log scales."""
        return 3 * self.components

    def logits(self, outputs: Tensor, levels: int) -> Tensor:
        """log p of every level, normalised.

        A few elements at a time: what is between has ``components`` numbers a level, and of all elements at once would
        not fit into a cache.
        """
        x = torch.arange(levels, device=outputs.device, dtype=outputs.dtype)
        rows = outputs.flatten(0, -2)[:, None].split(max(1, CACHED // (levels * self.components)))
        return torch.cat([self.log_mass(part, x, x, levels) for part in rows]).reshape(*outputs.shape[:-1], levels)

    def log_prob(self, outputs: Tensor, x: Tensor, levels: int) -> Tensor:
        """log p of the bins of the levels x alone."""
        x = x.to(outputs.dtype)
        return self.log_mass(outputs, x, x, levels)

    def log_mass(self, outputs: Tensor, low: Tensor, high: Tensor, levels: int) -> Tensor:
        """log p of all bins from low to high, which are those of one broader bin."""
        weights, shift, scale = outputs.unflatten(-1, (3, self.components)).unbind(-2)
        m = self.components
        centres = (torch.arange(m, device=outputs.device, dtype=outputs.dtype) + 0.5) * (2 / m) - 1
        log_scale = (scale - math.log(m)).clamp_min(LEAST_LOG_SCALE)
        width, inverse = 2 / (levels - 1), torch.exp(-log_scale)
        above, below = (
            ((x * width - 1)[..., None] - (centres + shift) + half) * inverse
            for x, half in ((high, width / 2), (low, -width / 2))
        )
        # F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)); of an outer bin one of the factors alone.
        first, last = (low == 0)[..., None], (high == levels - 1)[..., None]
        left = torch.where(last, 0.0, F.logsigmoid(above))
        right = torch.where(first, 0.0, F.logsigmoid(-below))
        extent = ((high - low + 1) * -width)[..., None]
        inner = torch.where(first | last, 0.0, torch.log(-torch.expm1(extent * inverse)))
        return torch.logsumexp(weights.log_softmax(-1) + left + right + inner, -1)
