"""Proxies of several noise levels: norms of scores, statistics of the path to noise, and the score against its slope.

Each measures a few numbers of an image, fits a density to those of images that belong, and scores by that density.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from diffprob.base.checks import MOST_STEPS, able, real, several, whole
from diffprob.base.errors import FieldError, InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import check_points, ordered_sum
from diffprob.denoise.denoiser import Denoiser
from diffprob.density.calibrate import fit_kernel, fit_normal, kernel_log_density, normal_log_density
from diffprob.density.measure import MOST_NOISES, noise, states, time
from diffprob.density.proxy import Fitted, Proxy, present
from diffprob.likelihood.flow import Divergence, Hutchinson
from diffprob.process.grids import Leading
from diffprob.process.linear import LinearProcess


@dataclass(frozen=True)
class ScoreNorms(Proxy):
    """log N(norms), the norms |sigma score| = |eps| at x_t = alpha x_0 and ``levels`` noise levels sigma/alpha.

    The levels are evenly spaced in log from ``least`` to ``most``, by default those of the paper in [-1, 1]. The law
    is normal with a full, shrunk covariance; the paper takes a Gaussian mixture or a nearest neighbour.

    Args:
        noises: so many draws of the noise, over which the norms are averaged; 0, as in the paper, adds none.

    Exact when: the norms on normal data are sigma |S_t^-1 alpha (x_0 - m)|; the log density is scipy's.

    Reference: Mahmood, Oliva & Styner, "Multiscale score matching for out-of-distribution detection" (2021).
    """

    levels: int = 10
    least: float = 0.02
    most: float = 2.0
    noises: int = 0

    needs_fit: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("levels", self.levels, 2, 1000)
        whole("noises", self.noises, 0, MOST_NOISES)
        real("least", self.least, "(0, 1e6]")
        real("most", self.most, "(0, 1e6]")
        if self.least >= self.most:
            raise FieldError("least", f"must lie between 0 and most, got {self.least} and {self.most}")

    def _levels(self) -> Tensor:
        return torch.linspace(math.log(self.least), math.log(self.most), self.levels, dtype=torch.float64).exp()

    @property
    def columns(self) -> tuple[str, ...]:
        """A norm for every noise level."""
        return tuple(f"norm at {level:.3g}" for level in self._levels().tolist())

    def times(self, process: LinearProcess) -> Tensor:
        """When the process has the noise levels, float64 (levels,), increasing.

        Raises:
            InputError: it does not have them, or two fall on one time of a discrete schedule.
        """
        logsnr, (low, high) = -2 * self._levels().log(), (process.logsnr(1.0), process.logsnr(process.schedule.start))
        times = process.schedule.snap(process.schedule.time(logsnr))
        # A level may be missed by what rounding does to it.
        if not bool((logsnr >= low - 1e-9).all() and (logsnr <= high + 1e-9).all()):
            ends = ((-0.5 * end).exp().item() for end in (high, low))
            raise InputError(f"{self!r}: the process has noise levels from {next(ends):.3g} to {next(ends):.3g}")
        if bool((times.diff() <= 0).any()):
            raise InputError(f"{self!r}: two levels fall on one time of {process.schedule!r}, take fewer levels")
        return times

    @torch.no_grad()
    def statistics(self, model: Denoiser, x: Tensor, rng: Rng) -> Tensor:
        """The norms, float64 (B, levels)."""
        process = model.process
        norms = [
            [ordered_sum(noise(model, xt, t).square()).sqrt() for xt in states(process, x, t, self.noises, rng)]
            for t in self.times(process)
        ]
        return torch.stack([torch.stack(draws, 1).mean(1) for draws in norms], 1)

    def fit(self, statistics: Tensor) -> dict[str, Tensor]:
        """Mean, scale and factor of the covariance."""
        return fit_normal(statistics, self)

    def score(self, statistics: Tensor, fitted: Fitted | None = None) -> Tensor:
        """log N(norms) in nats, (B,)."""
        return normal_log_density(present(fitted, self, statistics), statistics)


def path_noises(model: Denoiser, x: Tensor, times: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(t, eps) along DDIM from the image up to noise: one evaluation at each of the increasing times.

    It begins at alpha x_0; x_u = alpha_u D + sigma_u eps with D and eps of the time before (Song et al. 2021, DDIM,
    section 4.3). eps is float64 (B, *event).
    """
    check_points(x, "an image")
    process, state = model.process, model.process.marginal(x, times[0]).mean
    for t, above in pairwise([*times, times[-1]]):
        posterior = model(state, t)
        eps = process.predicted_noise(posterior.mean, state.double(), t)
        yield t, eps
        state = process.add_noise(posterior.mean.double(), eps, above).to(x.dtype)


@dataclass(frozen=True)
class PathStatistics(Proxy):
    """log density of the sums of eps, eps^2, eps^3 and of its rate d eps/dt to the same powers along DDIM upwards.

    Sums run over elements and over the ``steps`` times, evenly spaced below 1; rates are differences between neighbours
    over the time between them. The density is a normal kernel estimate; the released code fits a Gaussian mixture of
    50 or 100 parts, chosen by cross-validation, to many more images.

    Exact when: on normal data eps follows a linear recursion, whose sums these are.

    Reference: Heng, Thiery & Soh, "Out-of-distribution detection with a single unconditional diffusion model" (2024),
    DiffPath-6D.
    """

    steps: int = 10

    needs_fit: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("steps", self.steps, 2, MOST_STEPS)

    @property
    def columns(self) -> tuple[str, ...]:
        """Three powers of the noise and of its rate."""
        return ("eps", "eps^2", "eps^3", "rate", "rate^2", "rate^3")

    @torch.no_grad()
    def statistics(self, model: Denoiser, x: Tensor, rng: Rng) -> Tensor:
        """The six sums, float64 (B, 6); it draws no numbers.

        Raises:
            InputError: a discrete schedule with fewer times.
        """
        schedule = model.process.schedule
        if schedule.steps is not None and schedule.steps < self.steps:
            raise InputError(f"{self!r}: {schedule!r} has {schedule.steps} times")
        sums, before = torch.zeros(len(x), 6, dtype=torch.float64, device=x.device), None
        for t, eps in path_noises(model, x, Leading()(model.process, self.steps).flip(0)):
            sums[:, :3] += _powers(eps)
            if before is not None:
                sums[:, 3:] += _powers((eps - before[1]) / float(t - before[0]))
            before = t, eps
        return sums

    def fit(self, statistics: Tensor) -> dict[str, Tensor]:
        """The points and the width of their kernels."""
        return fit_kernel(statistics, self)

    def score(self, statistics: Tensor, fitted: Fitted | None = None) -> Tensor:
        """log density of the six sums, nats, (B,)."""
        return kernel_log_density(present(fitted, self, statistics), statistics)


def _powers(x: Tensor) -> Tensor:
    """Sums of x, x^2 and x^3, (B, 3)."""
    return torch.stack([ordered_sum(x), ordered_sum(x * x), ordered_sum(x * x * x)], 1)


@dataclass(frozen=True)
class Scoped(Proxy):
    """log density of T = -|score|^2/tr(grad score) at a few times; E|score|^2 = -E tr(grad score) puts T near 1.

    In terms of the noise T = |eps|^2/tr(I - alpha dD/dx), D = E[x_0|x_t]. The density is a kernel estimate over images
    that belong, so that too large and too small a T both tell. T is not finite where the trace vanishes.

    Args:
        times: of the noise; two in the paper, t = 1 and 300 of 1000.
        noises: draws of x_t; numerator and denominator are summed over them. 0 takes alpha x_0 without noise.
        divergence: how the trace is found; probes are drawn anew for every time.

    Exact when: on normal data tr(grad score) = -tr S_t^-1.

    Reference: Barkley, Culbertson & Fridovich-Keil, "SCOPED: score-curvature out-of-distribution proximity evaluator
    for diffusion" (2025).
    """

    times: tuple[float, ...] = (0.001, 0.3)
    noises: int = 1
    divergence: Divergence = Hutchinson()

    needs_fit: ClassVar[bool] = True

    def __post_init__(self) -> None:
        several("times", self.times, lambda name, t: real(name, t, "(0, 1]"), 1, 1000, "(0.001, 0.3)")
        whole("noises", self.noises, 0, MOST_NOISES)
        able("divergence", self.divergence, "directions", "Hutchinson()")

    @property
    def columns(self) -> tuple[str, ...]:
        """A ratio for every time."""
        return tuple(f"ratio at {t:g}" for t in self.times)

    def statistics(self, model: Denoiser, x: Tensor, rng: Rng) -> Tensor:
        """T at every time, float64 (B, times).

        Raises:
            ValueError: the mean of the model has no gradient.
        """
        return torch.stack([self._ratio(model, x, t, rng.fold(f"time {k}")) for k, t in enumerate(self.times)], 1)

    def _ratio(self, model: Denoiser, x: Tensor, t: float, rng: Rng) -> Tensor:
        at = time(model.process, t)
        with torch.no_grad():
            cases = list(states(model.process, x, at, self.noises, rng))
        parts = [_norm_and_trace(model, xt, at, self.divergence.directions(rng.at(k), x)) for k, xt in enumerate(cases)]
        norms, traces = (sum(part, torch.zeros_like(part[0])) for part in zip(*parts, strict=True))
        return norms / traces

    def fit(self, statistics: Tensor) -> dict[str, Tensor]:
        """The points and the width of their kernels."""
        return fit_kernel(statistics, self)

    def score(self, statistics: Tensor, fitted: Fitted | None = None) -> Tensor:
        """log density of the ratios, nats, (B,)."""
        return kernel_log_density(present(fitted, self, statistics), statistics)


def _norm_and_trace(model: Denoiser, xt: Tensor, t: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """|eps|^2 and tr(I - alpha dD/dx), each float64 (B,), without a graph."""
    with torch.enable_grad():
        xt = xt.detach().requires_grad_(True)
        mean = model(xt, t).mean
    if not mean.requires_grad:
        raise ValueError("the mean of the denoiser has no gradient with respect to the state")
    alpha = float(model.process.alpha(t))
    trace = torch.zeros(len(xt), dtype=torch.float64, device=xt.device)
    for k, v in enumerate(directions):
        (product,) = torch.autograd.grad(mean, xt, v.expand_as(mean), retain_graph=k + 1 < len(directions))
        trace += ordered_sum((v - alpha * product) * v)
    eps = model.process.predicted_noise(mean.detach().double(), xt.detach().double(), t)
    return ordered_sum(eps * eps), trace
