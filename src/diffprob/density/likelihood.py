"""Proxies that are log p of an image in nats: the bound, the flow, and either less what any image of its kind costs."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from diffprob.base.checks import MOST_STEPS, able, real, shown, whole
from diffprob.base.errors import FieldError, InputError
from diffprob.base.levels import check_levels
from diffprob.base.rng import Rng
from diffprob.base.shapes import check_points
from diffprob.denoise.denoiser import Denoiser
from diffprob.density.complexity import code_length
from diffprob.density.proxy import Fitted, Proxy
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.likelihood.flow import Divergence, Hutchinson, flow_log_prob
from diffprob.process.grids import Uniform
from diffprob.process.times import native_steps
from diffprob.space.dequantise import dequantised
from diffprob.space.pixels import Pixels
from diffprob.space.space import Space


@dataclass(frozen=True)
class BoundDensity(Proxy):
    """Minus the variational bound of the chain on evenly spaced times: at most log p(x_0), nats.

    The variance of the model's posterior decides the bound as much as its mean does.

    Args:
        steps: times of the chain; None: all those of a discrete schedule, 1000 of a continuous one.
        terms: so many of the steps between them, drawn at random and unbiased; None: all.
        levels: grey levels, whose probability it is; None: those of the space that it is bound to, and without one the
            density in model space.
        eta: of the family of kernels, above 0.

    Exact when: with the exact posterior and its full covariance the average over the noise is log p(x_0), up to the
    signal that is left at t = 1.

    Reference: Ho et al., "Denoising diffusion probabilistic models" (2020), eqs. 5 and 13.
    """

    steps: int | None = None
    terms: int | None = 20
    levels: int | None = None
    eta: float = 1.0

    nats: ClassVar[bool] = True
    of_levels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, MOST_STEPS, none=True)
        whole("terms", self.terms, 1, MOST_STEPS, none=True)
        check_levels(self.levels)
        real("eta", self.eta, "(0, 1]")  # a chain without noise has no bound

    def bind(self, space: Space) -> Self:
        """The levels of the space, unless others were asked for."""
        space.log_det()
        return replace(self, levels=space.bins) if self.levels is None else self

    def statistics(self, model: Denoiser, x: Tensor, rng: Rng) -> Tensor:
        """Minus the bound, nats, float64 (B, 1).

        Raises:
            InputError: a discrete schedule with fewer times than steps.
        """
        check_points(x, "an image")
        schedule = model.process.schedule
        steps = self.steps or native_steps(schedule.steps)
        if schedule.steps is not None and schedule.steps < steps:
            raise InputError(f"{self!r}: {schedule!r} has {schedule.steps} times")
        times = Uniform()(model.process, steps)
        bound = variational_bound(model, x.double(), times, rng, Decoder(self.levels), self.terms, self.eta)
        return -bound.total.double()[:, None]


@dataclass(frozen=True)
class FlowDensity(Proxy):
    """log p(x + u) of the probability flow, nats of a density in model space, u one centred draw within the bins.

    Without levels there are no bins, and x itself is put in.

    Args:
        divergence: how the trace is found.
        tolerance: relative and absolute, of a step.
        levels: K, for bins of width 2/(K - 1); None: those of the space that it is bound to.

    Exact when: with the exact denoiser log q(x_t0) for small tolerances, up to the signal that is left at t = 1.

    Reference: Song et al., "Score-based generative modeling through stochastic differential equations" (2021), eq. 39;
    Theis, van den Oord & Bethge, "A note on the evaluation of generative models" (2016), eq. 12, for u.
    """

    divergence: Divergence = Hutchinson()
    tolerance: float = 1e-3
    levels: int | None = None

    nats: ClassVar[bool] = True

    def __post_init__(self) -> None:
        able("divergence", self.divergence, "directions", "Hutchinson()")
        check_levels(self.levels)
        real("tolerance", self.tolerance, "[1e-12, 1)")

    def bind(self, space: Space) -> Self:
        """The levels of the space, unless others were asked for."""
        space.log_det()
        return replace(self, levels=space.levels) if self.levels is None else self

    def statistics(self, model: Denoiser, x: Tensor, rng: Rng) -> Tensor:
        """log p, nats, float64 (B, 1)."""
        if self.levels is not None:
            space = Pixels((1, 1, x[0].numel()), self.levels)
            rows = space.exact(x.reshape(len(x), *space.shape))
            x = dequantised(space, rows, rng).reshape(x.shape)
        flow = flow_log_prob(model, x, rng, self.divergence, self.tolerance, self.tolerance)
        return flow.log_prob[:, None]


@dataclass(frozen=True)
class ComplexityCorrected(Proxy):
    """log p(x) + L(x) ln 2, L the bits of a lossless code that knows no model: a likelihood ratio against it.

    A plain image is likely under any model of images; what a compressor finds simple about it is taken off. The
    published score -log p - L has the other sign. With a density in place of a probability the units differ by a
    constant, the same for all images of a space.

    Args:
        of: a proxy of log p in nats.
        levels: grey levels of what is coded; None: those of the space that it is bound to.

    Exact when: always; L is `code_length`.

    Reference: Serra et al., "Input complexity and out-of-distribution detection with likelihood-based generative
    models" (2020), eq. 1; there the shortest of the codes of PNG, JPEG 2000 and FLIF.
    """

    of: Proxy = BoundDensity()
    levels: int | None = None

    def __post_init__(self) -> None:
        check_levels(self.levels)
        if not isinstance(self.of, Proxy) or not self.of.nats:
            raise FieldError("of", f"must measure log p in nats, like BoundDensity(), got {shown(self.of)}")

    @property
    def columns(self) -> tuple[str, ...]:
        """log p, and the length of the code."""
        return ("log p", "bits")

    def bind(self, space: Space) -> Self:
        """Both with the levels of the space, unless others were asked for."""
        return replace(self, of=self.of.bind(space), levels=space.levels if self.levels is None else self.levels)

    @property
    def measured(self) -> Proxy:
        """What the density measures; `complete` adds the code."""
        return self.of.measured

    def statistics(self, model: Denoiser, x: Tensor, rng: Rng) -> Tensor:
        """log p in nats and L in bits, float64 (B, 2).

        Raises:
            InputError: what is coded is not known, because the proxy was not bound to a pixel space, or no image.
        """
        self._require_images(x)
        return self.complete(self.of.statistics(model, x, rng), x)

    def complete(self, measured: Tensor, x: Tensor) -> Tensor:
        """With the bits of the code.

        Raises:
            InputError: as `statistics`.
        """
        self._require_images(x)
        coded = code_length(Pixels((1, 1, 1), self.levels or 256).exact(x))
        return torch.cat([self.of.complete(measured, x), coded[:, None].to(measured)], 1)

    def _require_images(self, x: Tensor) -> None:
        if self.levels is None or x.ndim != 4:
            raise InputError(f"{self!r} needs images (B, C, H, W) and their grey levels, as in levels=256")

    def score(self, statistics: Tensor, fitted: Fitted | None = None) -> Tensor:
        """log p + L ln 2, nats, (B,)."""
        return statistics[:, 0] + statistics[:, 1] * math.log(2)
