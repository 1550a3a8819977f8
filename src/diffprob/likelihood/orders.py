"""Likelihoods of autoregressive diffusion: exact for an order, and what each element costs by how many are drawn."""

from typing import Any, cast

import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.process.absorbing import random_order


def order_log_prob(model: Any, x0: Tensor, order: Tensor, times: Tensor | None = None) -> Tensor:
    """log p(x_0) of the chain that draws elements in a given order, nats, (B,), by d evaluations of the model.

    log p(x) = sum_k log p(x_(o(k)) | x_(o(<k))); with fewer times several elements are drawn at once, each by its own
    law, and the chain is another model. The average over random orders is the bound of order-agnostic models (Hoogeboom
    et al. 2022, eq. 6); of one at random it is an unbiased draw of it.

    Args:
        model: a denoiser of discrete data with ``with_process`` and a `Staircase` of d steps, in any number of stages.
        x0: levels, (B, *event); float64 keeps the sum to rounding.
        order: ranks, int64 (1, *event), or (B, *event) for B a multiple of 16 (`diffprob.likelihood.bound.LANES`).
        times: of the chain, such as those of `diffprob.process.parallel.parallel_grid`; None: one element a step.

    Exact when: always; the probabilities of all x_0 sum to one for every order and all times.

    Raises:
        ValueError: no order of an event, or times that are no chain.
    """
    steps = model.process.schedule.steps
    chain = torch.arange(steps, 0, -1, dtype=torch.float64) / steps if times is None else times
    ordered = model.with_process(model.process.with_order(order))
    streams = Rng(torch.zeros(len(x0), dtype=torch.int64, device=x0.device))  # nothing is random, given the order
    return -variational_bound(ordered, x0, chain, streams, Decoder(None)).total


@torch.no_grad()
def element_nats(model: Any, x0: Tensor, rng: Rng, repeats: int = 1) -> Tensor:
    """l_k: what an element costs on average where k of d are drawn, nats, float64 (d,), k = 0..d - 1.

    The mean over samples, orders and the d - k elements that are masked; its sum is the bound over orders, and
    `parallel_grid` chooses the steps by it. Measure it on data of the training.

    Args:
        model: a denoiser of discrete data.
        x0: levels, (B, *event).
        rng: one stream per sample.
        repeats: orders for each sample.

    Reference: Hoogeboom et al., "Autoregressive diffusion models" (2022), sec. 3.1.
    """
    whole("repeats", repeats, 1)
    process, d = model.process, x0[0].numel()
    if process.stages > 1:
        raise InputError(f"{process!r} draws in stages, and what an element costs is measured of one: sample without")
    total = torch.zeros(d, dtype=torch.float64)
    for repeat in range(repeats):
        ranks = random_order(rng.at(repeat), x0)
        for k in range(d):
            masked = ranks >= k
            t = process.survival.time(torch.log(torch.tensor(k / (d - k), dtype=torch.float64)))
            posterior = model(torch.where(masked, float(process.mask), x0), t)
            logs = posterior.log_probabilities.gather(-1, x0.long()[..., None])[..., 0]
            nats = -flat_sum(torch.where(masked, logs, 0.0)) / (d - k)
            total[k] += float(cast(Tensor, nats.double().mean()))
    return total / repeats
