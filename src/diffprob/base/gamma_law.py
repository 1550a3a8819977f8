"""Gamma noise, whose sums along a chain are gamma noise again."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.checks import real
from diffprob.base.laws import Levels, Unstable
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample

_MOST_SHAPE = 1e10  # its skewness is 2e-5 there, and rounding would be larger beyond
_TRIES = 100  # of Marsaglia and Tsang's method, one of which is refused less than once in twenty times


@dataclass(frozen=True)
class Gamma(Unstable):
    """(g - k)/k^(1/2) with g ~ Gamma(k), where k = (sigma/alpha)^2/theta^2 at a time: the noise of DDGM.

    Every step of the chain adds gamma noise of the scale alpha theta and the shape that gives it the step's variance.
    Gamma laws of one scale, and of no others, add up to a gamma law, and the chain keeps the scales equal: N_t is of
    this law in closed form and as a chain alike. It is skewed by 2/k^(1/2), so nearly normal where theta is small
    against sigma/alpha. By itself, without a time, it is the law where sigma = alpha. Above k = 1e10 it stays as it is.

    Args:
        theta: the scale, in units of alpha.

    Exact when: always for N_t; of x_s given x_t and x_0 only mean and variance are right.

    Reference: Nachmani, San Roman & Wolf, "Denoising diffusion gamma models" (2021), section 3.
    """

    theta: float = 0.001

    def __post_init__(self) -> None:
        real("theta", self.theta, "[1e-5, 10]")

    def at(self, levels: Levels, t: Tensor | float) -> "StandardGamma":
        """The law of N_t: k = (sigma/alpha)^2/theta^2."""
        return self._of(torch.exp(-_logsnr(levels, t)))

    def between(self, levels: Levels, s: Tensor | float, t: Tensor | float) -> "StandardGamma":
        """The law of what the chain adds between s and t: the difference of the two shapes."""
        earlier, later = _logsnr(levels, s), _logsnr(levels, t)
        return self._of(torch.exp(-later) * -torch.expm1(later - earlier))

    def sample(self, rng: Rng, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A draw where sigma = alpha, (B, *shape)."""
        return self._alone().sample(rng, shape, dtype)

    def log_density(self, z: Tensor) -> Tensor:
        """Elementwise log density where sigma = alpha, nats."""
        return self._alone().log_density(z)

    def log_cdf(self, z: Tensor) -> Tensor:
        """Elementwise log P(Z <= z) where sigma = alpha."""
        return self._alone().log_cdf(z)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Elementwise log P(lower < Z < upper) where sigma = alpha."""
        return self._alone().log_mass(lower, upper)

    def _alone(self) -> "StandardGamma":
        return self._of(torch.ones((), dtype=torch.float64))

    def _of(self, squared: Tensor) -> "StandardGamma":
        return StandardGamma((squared / self.theta**2).clamp(1e-6, _MOST_SHAPE))


def _logsnr(levels: Levels, t: Tensor | float) -> Tensor:
    return levels.logsnr(torch.as_tensor(t, dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class StandardGamma(Unstable):
    """(g - k)/k^(1/2) with g ~ Gamma(k), elementwise: mean 0, variance 1, skewness 2/k^(1/2).

    Args:
        shape: k, float64 () or (B,).
    """

    shape: Tensor

    def sample(self, rng: Rng, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """By Marsaglia & Tsang (2000), (B, *shape); every element takes its own first try that is not refused."""
        like = rng.normal(shape, torch.float64)
        k = per_sample(self.shape, like).expand(like.shape)
        small = k < 1
        d = torch.where(small, k + 1, k) - 1 / 3
        c = 1 / (9 * d).sqrt()
        made, waiting = torch.ones_like(like), torch.ones_like(like, dtype=torch.bool)
        for n in range(_TRIES):
            z = like if n == 0 else rng.fold(f"normal {n}").normal(shape, torch.float64)
            v = (1 + c * z) ** 3
            u = rng.fold(f"uniform {n}").uniform(shape, torch.float64)
            taken = (v > 0) & (u.log() < 0.5 * z * z + d * (1 - v + v.clamp_min(1e-300).log()))
            made = torch.where(waiting & taken, d * v, made)
            waiting = waiting & ~taken
            if not bool(waiting.any()):
                break
        below = rng.fold("power").uniform(shape, torch.float64) ** (1 / k) if bool(small.any()) else 1.0
        return ((torch.where(small, made * below, made) - k) / k.sqrt()).to(dtype)

    def log_density(self, z: Tensor) -> Tensor:
        """Elementwise (k - 1) log(1 + z/k^(1/2)) - k^(1/2) z and what makes it integrate to 1; -inf below -k^(1/2)."""
        k = per_sample(self.shape, z.double())
        share = z.double() / k.sqrt()
        value = (k - 1) * torch.log1p(share.clamp_min(-1)) - k * share
        # (k - 1/2) log k - k - log Gamma(k), by Stirling's series where the terms would cancel.
        series = -0.5 * math.log(2 * math.pi) - 1 / (12 * k) + 1 / (360 * k**3)
        direct = (k - 0.5) * k.log() - k - torch.lgamma(k)
        value = value + torch.where(k > 1e3, series, direct)
        return torch.where(share > -1, value, -math.inf).to(z.dtype)

    def log_cdf(self, z: Tensor) -> Tensor:
        """Elementwise log P(Z <= z)."""
        return torch.special.gammainc(*self._place(z)).log().to(z.dtype)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Elementwise log P(lower < Z < upper), of any interval: from the side on which less lies."""
        (k, low), (_, high) = self._place(lower), self._place(upper)
        left = torch.special.gammainc(k, high) - torch.special.gammainc(k, low)
        right = torch.special.gammaincc(k, low) - torch.special.gammaincc(k, high)
        return torch.where(low > k, right, left).log().to(lower.dtype)

    def _place(self, z: Tensor) -> tuple[Tensor, Tensor]:
        k = per_sample(self.shape, z.double()).expand(z.shape).contiguous()
        return k, (k + k.sqrt() * z.double()).clamp_min(0)
