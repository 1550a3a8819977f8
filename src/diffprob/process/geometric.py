"""The noise levels of score networks: sigma_1 < ... < sigma_T in geometric progression, chosen from the data."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from diffprob.base.checks import MOST_STEPS, real, whole
from diffprob.base.shapes import check_points
from diffprob.process.schedule import Discrete

OVERLAP = 0.5  # of neighbouring levels, in NCSNv2's technique 2
_BLOCK = 1024  # images whose distances to as many others are in memory together


@dataclass(frozen=True)
class Geometric(Discrete):
    """sigma_i = sigma_min (sigma_max/sigma_min)^((i-1)/(T-1)) at t = i/T; use with `VarianceExploding`.

    The levels of NCSN and NCSNv2, counted from the data on. In between ln sigma is linear in t, below 1/T sigma^2 is,
    so that there is no noise at t = 0. The defaults are NCSNv2's for CIFAR-10 in [0, 1].

    Args:
        steps: T, the number of levels: 10 in NCSN.
        sigma_min: the least noise.
        sigma_max: the most, as large as the largest distance between two images (NCSNv2's technique 1; `for_data`).

    Exact when: t is a multiple of 1/T.

    Reference: Song & Ermon, "Generative modeling by estimating gradients of the data distribution" (2019), section 4.2;
    "Improved techniques for training score-based generative models" (2020), techniques 1 and 2.
    """

    steps: int = 232
    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 2, MOST_STEPS)
        real("sigma_min", self.sigma_min, "[1e-9, 1e9]")
        real("sigma_max", self.sigma_max, "[1e-9, 1e9]")
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"expected 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")

    @property
    def ratio(self) -> float:
        """sigma_(i+1)/sigma_i."""
        return (self.sigma_max / self.sigma_min) ** (1 / (self.steps - 1))

    @classmethod
    def for_data(cls, x: Tensor, sigma_min: float = 0.01) -> Self:
        """The levels for images: from their largest distance down to ``sigma_min``, so close that neighbours overlap.

        Args:
            x: images in model space, (n, *event), n at least 2; the time grows like n^2.
            sigma_min: the least noise, which should not be seen in an image.

        Raises:
            ValueError: fewer than two images, or none that differ by more than ``sigma_min``.
        """
        largest = largest_distance(x)
        if largest <= sigma_min:
            raise ValueError(f"the images differ by {largest:.3g} at most, expected more than sigma_min = {sigma_min}")
        widest = widest_ratio(math.prod(x.shape[1:]))
        steps = 1 + math.ceil(math.log(largest / sigma_min) / math.log(widest))
        return cls(max(2, steps), sigma_min, largest)

    def logsnr(self, t: Tensor) -> Tensor:
        """-2 log sigma, inf at t = 0."""
        position = torch.as_tensor(t, dtype=torch.float64) * self.steps
        below = -2 * math.log(self.sigma_min) - torch.log(position.clamp_max(1))
        above = -2 * (math.log(self.sigma_min) + (position.clamp_min(1) - 1) * math.log(self.ratio))
        return torch.where(position < 1, below, above)

    def time(self, logsnr: Tensor) -> Tensor:
        """1/T + log(sigma/sigma_min)/(T log ratio) from the first level on, (sigma/sigma_min)^2/T below."""
        log_sigma = -0.5 * torch.as_tensor(logsnr, dtype=torch.float64) - math.log(self.sigma_min)
        above = 1 + log_sigma.clamp_min(0) / math.log(self.ratio)
        return torch.where(log_sigma < 0, torch.exp(2 * log_sigma), above) / self.steps


def largest_distance(x: Tensor) -> float:
    """The largest Euclidean distance between two of the images x (n, *event), computed in float64 by blocks.

    Raises:
        ValueError: fewer than two images.
    """
    check_points(x)
    if len(x) < 2:
        raise ValueError(f"a distance needs two images, got {len(x)}")
    blocks = x.flatten(1).split(_BLOCK)
    pairs = ((a, b) for k, a in enumerate(blocks) for b in blocks[: k + 1])
    # From inner products a small difference of large numbers would come out of rounding; far apart it is no concern.
    return max(float(torch.cdist(a.double(), b.double()).max()) for a, b in pairs)


def overlap(ratio: float, dimensions: int) -> float:
    """How much of a level's mass lies where the next one's is: Phi(c + 3 ratio) - Phi(c - 3 ratio), c = (2d)^(1/2)
    (ratio - 1), for levels whose radii are normal with the standard deviation sigma/2^(1/2) (NCSNv2, eq. 4)."""
    centre = math.sqrt(2 * dimensions) * (ratio - 1)
    return (math.erf((centre + 3 * ratio) / math.sqrt(2)) - math.erf((centre - 3 * ratio) / math.sqrt(2))) / 2


def widest_ratio(dimensions: int, share: float = OVERLAP) -> float:
    """The ratio of neighbouring levels at which they overlap by ``share``, in so many dimensions (technique 2)."""
    low, high = 1.0, 1e6
    for _ in range(200):  # the overlap falls from 0.997 at 1 to 0; it is halved until nothing is left to halve
        middle = (low + high) / 2
        low, high = (middle, high) if overlap(middle, dimensions) > share else (low, middle)
    return low
