"""The toys of the first diffusion model, made by formula: points of a swiss roll, and bits with a beat.

Reference: Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium thermodynamics" (2015), sec. 3.1.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from diffprob.base.checks import one_of, real, whole
from diffprob.base.rng import Rng
from diffprob.data.images import Images

_SPLITS = ("train", "test")
_MOST = 10**7


@dataclass(frozen=True)
class SwissRoll:
    """Points of a noisy spiral in the plane, each an image of 1x2 pixels in 256 grey levels.

    (r cos a, r sin a) with a = 3 pi (1 + 2 u)/2, u uniform on [0, 1], r = 0.065 a, so that the last turn has a radius
    of 0.92 in [-1, 1], and normal noise added to both numbers; then each is moved to the nearest level.

    Args:
        split: "train" and "test" are other draws.
        n: how many points.
        noise: standard deviation of the noise, in [-1, 1].
    """

    split: str = "train"
    n: int = 8000
    noise: float = 0.03

    def __post_init__(self) -> None:
        one_of("split", self.split, _SPLITS)
        whole("n", self.n, 1, _MOST)
        real("noise", self.noise, "[0, 1]")

    def load(self) -> Images:
        """The points, uint8 (n, 1, 1, 2); the same for the same fields."""
        rng = Rng.of(0, self.n).fold(f"swiss roll {self.split}")
        angle = 1.5 * math.pi * (1 + 2 * rng.fold("angle").uniform((), torch.float64))
        line = 0.065 * angle[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
        x = line + self.noise * rng.fold("noise").normal((2,), torch.float64)
        levels = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return Images(levels.reshape(-1, 1, 1, 2).numpy(), None, 256, f"swiss roll/{self.split}")


@dataclass(frozen=True)
class Heartbeat:
    """Rows of bits with a 1 in every fifth place and 0 elsewhere, each an image of 1 pixel's height in two levels.

    There are ``period`` of them, one for each place of the first 1, and all are alike: log2(5) = 2.32 bits a row.

    Args:
        split: "train" and "test" are the same rows.
        n: how many rows; those that there are follow each other.
        length: bits of a row.
        period: from one 1 to the next.
    """

    split: str = "train"
    n: int = 1000
    length: int = 20
    period: int = 5

    def __post_init__(self) -> None:
        one_of("split", self.split, _SPLITS)
        whole("n", self.n, 1, _MOST)
        whole("length", self.length, 1, 8192)
        whole("period", self.period, 1, self.length)

    def load(self) -> Images:
        """The rows, uint8 (n, 1, 1, length)."""
        first = np.arange(self.n) % self.period
        ones = np.arange(self.length) % self.period == first[:, None]
        return Images(ones.astype(np.uint8)[:, None, None], None, 2, f"heartbeat/{self.split}")
