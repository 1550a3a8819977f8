"""The density of the probability flow: every sample and the logarithm of its volume, followed up to pure noise.

With dx/dt = F(x, t) the flow,

    log p(x_t0) = log p(x_1) + integral of div F from t0 to 1,

solved in the variables of `diffprob.sampling.adaptive`: lambda = log(alpha/sigma) and the variance-preserving state, in
which div F = a (tr dD/dx - a d). The change of state adds d log((alpha^2 + sigma^2)^(1/2)) between the two ends.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffprob.base.checks import one_of, whole
from diffprob.base.distributions import Distribution
from diffprob.base.rng import Rng, one_for_each
from diffprob.base.shapes import check_points, ordered_sum, per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.denoise.subset import for_samples
from diffprob.process.linear import VariancePreserving, predicted_noise
from diffprob.sampling.adaptive import FARTHEST, Control, Image, check_tolerances, magnitude, march

FIRST = 0.1  # the first step in lambda that is tried


class Divergence(Protocol):
    """How the trace of a Jacobian J is found: sum_k v_k^T J v_k over a few directions (frozen dataclass)."""

    def directions(self, rng: Rng, like: Tensor) -> Tensor:
        """v_k, (n, B or 1, *event): they stay the same during one solve."""
        ...


@dataclass(frozen=True)
class Exact:
    """The d unit vectors: the trace itself, by d vector-Jacobian products an evaluation. For small d.

    Exact when: always.
    """

    def directions(self, rng: Rng, like: Tensor) -> Tensor:
        """The rows of the identity, shared by all samples."""
        d = math.prod(like.shape[1:])
        return torch.eye(d, dtype=like.dtype, device=like.device).reshape(d, 1, *like.shape[1:])


@dataclass(frozen=True)
class Hutchinson:
    """Random v with E[v v^T] = I: E[v^T J v] = tr J, averaged over ``probes`` of them.

    One set of probes for a whole solve, so that the equation stays smooth; the integral is unbiased. With S = (J +
    J^T)/2 the variance is 2 sum_{i != j} S_ij^2 for Rademacher probes and 2 |S|_F^2 for Gaussian ones, over ``probes``.

    Args:
        probes: their number, vector-Jacobian products an evaluation.
        law: "rademacher" (signs) or "gaussian".

    Exact when: in expectation; for Rademacher probes always if J is diagonal.

    Reference: Hutchinson (1990); Grathwohl et al., "FFJORD" (2019), eq. 8 and section 3.1.1 for the single probe.
    """

    probes: int = 1
    law: str = "rademacher"

    def __post_init__(self) -> None:
        whole("probes", self.probes, 1, 10000)
        one_of("law", self.law, ("rademacher", "gaussian"))

    def directions(self, rng: Rng, like: Tensor) -> Tensor:
        """Probes over the root of their number, from each sample's own stream."""
        one_for_each(rng, like)
        rng, shape = rng.fold("probes"), (self.probes, *like.shape[1:])
        # A sign is the uppermost bit of a word.
        drawn = rng.normal(shape, like.dtype) if self.law == "gaussian" else 1.0 - 2.0 * (rng.bits(shape) >> 31)
        return drawn.movedim(1, 0).to(like) / self.probes**0.5


@dataclass(frozen=True, eq=False)
class FlowLikelihood:
    """log p(x_t0) of the probability flow and its parts, float64 nats, each (B,).

    Args:
        log_prob: prior + divergence.
        prior: log p(x_1).
        divergence: integral of div F from t0 to 1, in the process's own state.
        latent: x_1, (B, *event), in the dtype of the data.
        evaluations: of the model, int64 (B,); each comes with as many vector-Jacobian products as there are directions.
    """

    log_prob: Tensor
    prior: Tensor
    divergence: Tensor
    latent: Tensor
    evaluations: Tensor


# Dormand & Prince (1980), RK5(4)7M: times of the stages, their rows, and the fourth-order weights.
_TIMES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
_ROWS = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_WORSE = (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)


def _slope(z: Tensor, lam: Tensor, image: Tensor) -> Tensor:
    """d/dlambda of (x, l), for the image (D, tr(dD/dx - a I)/d): a (D - a x), and a times the trace."""
    alpha = VariancePreserving().coefficients(2 * lam)[0][:, None].to(z)
    return alpha * (image - alpha * torch.cat([z[:, :-1], torch.zeros_like(z[:, -1:])], 1))


def _combined(slopes: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    return sum((w * k for w, k in zip(weights, slopes, strict=True) if w), torch.zeros_like(slopes[0]))


def dormand_prince(image: Image, z: Tensor, lam: Tensor, h: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fifth order with an embedded fourth, six evaluations besides D(x) of which the last begins the next step."""
    size, slopes, y = h[:, None].to(z), [_slope(z, lam, d)], z
    for time, row in zip(_TIMES[1:], _ROWS, strict=True):
        y = z + size * _combined(slopes, row)
        d = image(y, lam + time * h)
        slopes.append(_slope(y, lam + time * h, d))
    return y, z + size * _combined(slopes, _WORSE), d


@dataclass(frozen=True)
class _Joint(Control):
    """The tolerance of a step for the sample and for its volume in nats per dimension: the larger E of the two."""

    def error(self, better: Tensor, worse: Tensor, previous: Tensor) -> Tensor:
        parts = (slice(None, -1), slice(-1, None))
        samples, volumes = (Control.error(self, better[:, p], worse[:, p], previous[:, p]) for p in parts)
        return torch.maximum(samples, volumes)


def _images(model: Denoiser, like: Tensor, directions: Tensor, counts: Tensor) -> Callable[[Tensor], Image]:
    """(D, tr(dD/dx - a I)/d) of packed states (b, d + 1), for the samples of an index; ``counts`` is updated.

    The trace of the identity is estimated along: where the data fills the space, Gaussian probes cancel against it.
    """
    process, shape = model.process, like.shape[1:]

    def of(index: Tensor) -> Image:
        conditioned = for_samples(model, index)
        chosen = directions if directions.shape[1] == 1 else directions[:, index.to(directions.device)]

        def image(z: Tensor, lam: Tensor) -> Tensor:
            counts[index] += 1
            t = process.schedule.time(2 * lam).clamp(max=1)
            with torch.enable_grad():
                x = z[:, :-1].detach().reshape(-1, *shape).requires_grad_(True)
                mean = conditioned(per_sample(magnitude(process, t), x) * x, t).mean
            if not mean.requires_grad:
                raise ValueError("the mean of the denoiser has no gradient with respect to the state")
            alpha = per_sample(VariancePreserving().coefficients(2 * lam)[0], mean)
            trace = torch.zeros(len(z), dtype=z.dtype, device=z.device)
            for k, v in enumerate(chosen):
                (product,) = torch.autograd.grad(mean, x, v.expand_as(mean), retain_graph=k + 1 < len(chosen))
                trace += ordered_sum((product - alpha * v) * v)
            return torch.cat([mean.detach().flatten(1), trace[:, None] / (z.shape[1] - 1)], 1)

        return image

    return of


@torch.no_grad()
def flow_log_prob(
    model: Denoiser,
    x: Tensor,
    rng: Rng,
    divergence: Divergence = Hutchinson(),
    rtol: float = 1e-5,
    atol: float = 1e-5,
    prior: Distribution | None = None,
) -> FlowLikelihood:
    """log p(x_t0) of the probability flow, t0 the schedule's last noisy time, each sample by its own steps.

    A density of x_t0, normalised over x_t0. Dequantised images are put in as x_t0 := x_0, as published; the bits then
    code images for the model that shows x_t0 as it is, without a last denoising. See `diffprob.space.dequantise`.

    Args:
        x: x_t0 in the process's own state, (B, *event), solved in float64; the whole batch's graph is in memory.
        rng: one stream per sample, for the probes.
        rtol, atol: of a step, for x (root mean square) and the volume in nats per dimension; see `Control`.
        prior: p(x_1); None: the process's, which differs from q(x_1) by what signal is left.

    Exact when: the tolerances are small, with the exact denoiser and prior = q(x_1).

    Reference: Song et al., "Score-based generative modeling through stochastic differential equations" (2021), eq. 39.
    """
    check_tolerances(rtol, atol)
    check_points(x)
    model.process.require_linear("the density of the probability flow")
    model.process.check_law("the density of the probability flow")
    process, d = model.process, math.prod(x.shape[1:])
    ends = torch.tensor([process.schedule.start, 1.0], dtype=torch.float64)
    sizes, span = magnitude(process, ends), process.logsnr(ends) / 2
    unreachable = not bool(torch.isfinite(span[1]))
    if unreachable:
        span[1] = FARTHEST
    start = (x.double() / per_sample(sizes[0], x.double())).flatten(1)
    z = torch.cat([start, start.new_zeros(len(x), 1)], 1)
    counts = torch.zeros(len(x), dtype=torch.int64)
    images = _images(model, x, divergence.directions(rng, x.double()), counts)
    everyone = images(torch.arange(len(x)))
    steps = torch.full((len(x),), FIRST, dtype=torch.float64)
    first = everyone(z, span[0].expand(len(x)))
    z = march(images, dormand_prince, _Joint(rtol, atol, 5, FIRST), z, first, span, steps)
    if unreachable:
        z = _to_noise(everyone, z, span[1].expand(len(x)))
    x1 = (sizes[1].to(z) * z[:, :-1]).reshape(x.shape)
    grown = d * (z[:, -1] + (sizes[1] / sizes[0]).log().to(z))
    law = process.prior(x1) if prior is None else prior
    end = law.log_prob(x1)
    return FlowLikelihood(end + grown, end, grown, x1.to(x.dtype), counts)


def _to_noise(image: Image, z: Tensor, lam: Tensor) -> Tensor:
    """From `FARTHEST` to a time without any signal: a step of DDIM, and half the slope of the volume.

    D - E[x_0] and its derivative fall like a there, so that the volume's slope falls like a^2 and its integral is half
    of it; errors are of the order e^-20.
    """
    d = image(z, lam)
    x = predicted_noise(d[:, :-1], z[:, :-1], *VariancePreserving().coefficients(2 * lam))
    return torch.cat([x, z[:, -1:] - _slope(z, lam, d)[:, -1:] / 2], 1)
