"""Grey levels as points of a continuous density: noise that fills their bins, and the bound that comes of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.rng import Rng, one_for_each
from diffprob.space.space import Space


def dequantised(space: Space, levels: Tensor, rng: Rng) -> Tensor:
    """x + u, u uniform on a bin, centred: levels (B, C, H, W) to float64 points of the K bins, in model space.

    Raises:
        ValueError: what `Pixels.to_model` refuses, or another number of streams than of images.
    """
    one_for_each(rng, levels)
    x = space.to_model(levels, torch.float64)
    u = rng.fold("dequantise").uniform(x.shape[1:], torch.float64) - 0.5
    return x + u.to(x.device) * space.bin_width


@dataclass(frozen=True)
class Dequantisation:
    """A bound on log P(levels) by a density p in model space, P(k) = integral of p over the bins of k.

    The mean over ``repeats`` of log mean_k p(x + u_k), k = 1..``importance``, per unit of volume: with
    `Pixels.bits_per_dim` it is a code length. More repeats make it less noisy, more importance samples tighter.

    With a noisy log p, one repeat without importance samples stays a bound on average; importance samples need the
    density itself.

    Args:
        repeats, importance: independent bounds, and points in each of them.

    Exact when: p is constant on bins, or ``importance`` large: a uniform density on the K bins costs log2 K bits/dim.

    Reference: Theis, van den Oord & Bethge, "A note on the evaluation of generative models" (2016), eq. 12; Burda,
    Grosse & Salakhutdinov, "Importance weighted autoencoders" (2016), eq. 8, for importance samples.
    """

    repeats: int = 1
    importance: int = 1

    def __post_init__(self) -> None:
        whole("repeats", self.repeats, 1, 10**6)
        whole("importance", self.importance, 1, 10**6)

    def log_prob(self, density: Callable[[Tensor, Rng], Tensor], space: Space, levels: Tensor, rng: Rng) -> Tensor:
        """The bound for levels (B, C, H, W), nats of a density in model space, float64 (B,).

        Args:
            density: log p of points (B, C, H, W), with the streams for numbers it needs itself, (B,).

        Raises:
            ValueError: what `dequantised` refuses, or another shape of log p.
        """
        total = torch.zeros(len(levels), dtype=torch.float64, device=levels.device)
        for repeat in range(self.repeats):
            streams = [rng.at(repeat * self.importance + k) for k in range(self.importance)]
            logs = [density(dequantised(space, levels, one), one.fold("density")).double() for one in streams]
            if any(log.shape != total.shape for log in logs):
                raise ValueError(f"a density must be {tuple(total.shape)}, got {tuple(logs[0].shape)}")
            total += torch.logsumexp(torch.stack(logs), 0) - math.log(self.importance)
        return total / self.repeats
