"""Read-outs that depend on time by bumps: coefficients of a state that are mixed by functions of the time alone."""

from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import MOST_STEPS, whole
from diffprob.base.limits import MOST_WIDTH
from diffprob.net.layers import Output


def bumps(t: Tensor, count: int, steps: int) -> Tensor:
    """g_j(t) = exp(-(t - tau_j)^2/(2 w^2)) / sum_k exp(-(t - tau_k)^2/(2 w^2)), (B, count), in the dtype of t.

    The centres tau_j lie evenly from 0 to steps - 1, and w is the distance of two. They add up to 1 at every t; beyond
    the ends the last one takes over. One bump is 1 at all times.

    Args:
        t: labels of the clock, (B,): 0..steps - 1 for ``Index(steps)``.
        count: how many.
        steps: labels that they are spread over.

    Reference: Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium thermodynamics" (2015), app.
    D.2.1.
    """
    if count == 1:
        return torch.ones_like(t)[:, None]
    width = (steps - 1) / (count - 1)
    centres = torch.arange(count, dtype=t.dtype, device=t.device)
    return torch.softmax(-0.5 * (t[:, None] / width - centres) ** 2, dim=1)


def check_bumps(spec: Any) -> None:
    """Refuse numbers of bumps and of labels in the fields ``bumps`` and ``steps``.

    Raises:
        ValueError: the field and its value.
    """
    whole("bumps", spec.bumps, 1, MOST_WIDTH)
    whole("steps", spec.steps, 2, MOST_STEPS)


def read_out(coefficients: Tensor, t: Tensor, count: int, steps: int) -> Tensor:
    """sum_j y_j g_j(t) for coefficients (B, channels count, *event) -> (B, channels, *event).

    Args:
        coefficients: those of one channel lie together.
        t: labels, () or (B,); bumps are float32 at least.
        count, steps: of `bumps`.

    Raises:
        ValueError: another number of times than of states.
    """
    if t.ndim > 1 or (t.ndim and len(t) not in (1, len(coefficients))):
        raise ValueError(f"expected t of shape () or ({len(coefficients)},), got {tuple(t.shape)}")
    precise = torch.float64 if coefficients.dtype == torch.float64 else torch.float32
    weights = bumps(t.to(precise).expand(len(coefficients)), count, steps).to(coefficients.dtype)
    parts = coefficients.unflatten(1, (-1, count))
    return torch.einsum("bcj...,bj->bc...", parts, weights)


def output_of(answer: Tensor, channels: int) -> Output:
    """The answer (B, C, *event); with twice as many channels as the data the second half is ``extra``."""
    return Output(*answer.chunk(2, dim=1)) if answer.shape[1] == 2 * channels else Output(answer)
