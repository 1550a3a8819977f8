"""Objectives of discrete data: the cross-entropy of masked elements, weighted so that it is a bound on -log p."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum
from diffprob.denoise.categorical import CategoricalDenoiser
from diffprob.process.absorbing import random_order
from diffprob.process.survival import Staircase

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # (sqrt(5) - 1)/2 of 2^64, odd: multiples of it fill a circle evenly


def spread_uniform(rng: Rng) -> Tensor:
    """A number in (0, 1) for each stream, float64 (B,), spread evenly over neighbouring seeds.

    (u + phi seed) mod 1 with the golden ratio phi and one u for all streams of a step: each is uniform, n neighbours
    leave no gap above 2.3/n, and none depends on which others are there.

    Reference: Kingma et al., "Variational diffusion models" (2021), app. I.1, for the low-discrepancy times.
    """
    one = Rng(torch.zeros_like(rng.seeds[:1]), rng.stream, rng.step)
    place = (rng.seeds * _GOLDEN >> 11) & (2**53 - 1)
    return ((place.double() + 0.5) * 2.0**-53 + one.uniform((), torch.float64).to(place.device)) % 1.0


def open_nats(model: CategoricalDenoiser, x0: Tensor, xt: Tensor, open_: Tensor, t: Tensor) -> Tensor:
    """sum over open elements of -log p of what a step draws of them, nats, (B,): of a mask the level of x_0.

    Args:
        model: whose network is called.
        x0, xt: levels and state (B, *event).
        open_: which elements, bool (B, *event).
        t: (B,).
    """
    logs = model.process.log_next(model.prediction, model.raw(xt, t).main, x0, xt)
    return -flat_sum(torch.where(open_, logs, 0.0))


def check_discrete(objective: Any, process: Any) -> None:
    """Refuse a process without masks.

    Raises:
        InputError: it has none.
    """
    if not hasattr(process, "mask"):
        raise InputError(
            f"{objective!r} trains discrete data: it needs process=AbsorbingProcess(levels), not a "
            f"{type(process).__name__}"
        )


@dataclass(frozen=True)
class OrderAgnostic:
    """E 1/(d - k) sum over the d - k elements that are not drawn of -log p, nats per element.

    k is uniform on 0..d-1, spread evenly over the batch, and what is drawn is a random set of k elements. d times it
    is, in expectation, the average over all orders of -log p by the chain rule. The network is called at the time whose
    masked share is 1 - k/d. Of S stages (`diffprob.process.upscale`) one is drawn as well, S times its term is taken,
    and -log p is that of the next digit.

    Exact when: the expectation is the entropy for the true conditionals.

    Reference: Hoogeboom et al., "Autoregressive diffusion models" (2022), eq. 7 and algorithm 2.
    """

    def check(self, process: Any, variance: Any = None) -> None:
        """Refuse what this loss cannot train.

        Raises:
            InputError: a process without masks.
        """
        check_discrete(self, process)

    def __call__(self, model: CategoricalDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, (B,): a function of the sample, its seed and the step."""
        self.check(model.process)
        process: Any = model.process
        steps = process.stages * x0[0].numel()
        drawn = (spread_uniform(rng.fold("time")) * steps).floor().clamp_max(steps - 1).to(x0.device)
        t = process.schedule.time(torch.log(drawn / (steps - drawn)))
        xt, open_, left = process.drawn_state(x0, drawn, random_order(rng, x0))
        return process.stages * open_nats(model, x0, xt, open_, t) / left.to(x0.dtype)


@dataclass(frozen=True)
class MaskedCrossEntropy:
    """E -alpha'(t)/(1 - alpha(t)) sum over masked elements of -log p / d, nats per element.

    t is uniform, spread evenly over the batch; elements are masked independently with probability 1 - alpha(t). d times
    it is, in expectation, the bound of infinitely many steps, and that of `OrderAgnostic` whatever alpha.

    Exact when: the expectation is the entropy for the true conditionals.

    Reference: Sahoo et al., "Simple and effective masked diffusion language models" (2024), eq. 10; Shi et al.,
    "Simplified and generalized masked diffusion for discrete data" (2024), eq. 4.
    """

    def check(self, process: Any, variance: Any = None) -> None:
        """Refuse what this loss cannot train.

        Raises:
            InputError: a process without masks, or whose survival has no derivative.
        """
        check_discrete(self, process)
        if isinstance(process.survival, Staircase):
            raise InputError(f"{self!r} needs a smooth survival, got {process.survival!r}: take OrderAgnostic()")
        if process.stages > 1:
            raise InputError(
                f"{self!r} trains masks of whole levels, not {process.stages} stages: take OrderAgnostic()"
            )

    def __call__(self, model: CategoricalDenoiser, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each sample, (B,): a function of the sample, its seed and the step."""
        self.check(model.process)
        survival = model.process.survival
        t = spread_uniform(rng.fold("time")).to(x0.device)
        uniform = rng.fold("mask").uniform(x0.shape[1:], torch.float64).to(x0.device)
        masked = uniform < survival.masked_elements(t, None, x0)
        xt = torch.where(masked, float(model.process.mask), x0)
        return survival.rate(t).to(x0.dtype) * open_nats(model, x0, xt, masked, t) / x0[0].numel()
