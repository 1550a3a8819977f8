"""Noise schedules: log-SNR curves on t in [0, 1], 0 = data and 1 = noise, each with its inverse.

``logsnr(t) = log(alpha(t)^2 / sigma(t)^2)``, in float64. A discrete DDPM schedule is a table at t = i/T with log alpha
linear in between (the convention of DPM-Solver, Lu et al. 2022, app. D.4).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from diffprob.base.checks import MOST_STEPS, real, whole
from diffprob.base.shapes import sigmoid


class Schedule(Protocol):
    """A decreasing log-SNR curve (frozen dataclass: its repr is its configuration)."""

    @property
    def steps(self) -> int | None:
        """T of a discrete schedule, None for a continuous one."""
        ...

    @property
    def start(self) -> float:
        """The last noisy time of a sampling grid; the step from there to the data is the reconstruction."""
        ...

    def logsnr(self, t: Tensor) -> Tensor:
        """log(alpha^2/sigma^2) at t, float64, same shape as t."""
        ...

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`."""
        ...

    def snap(self, t: Tensor) -> Tensor:
        """The nearest times at which a discrete schedule is defined; the identity for a continuous one."""
        ...


def logsnr_of_log_alpha(log_alpha: Tensor) -> Tensor:
    """log(a^2/(1-a^2)) = 2 log a - log(-expm1(2 log a)), for variance-preserving curves."""
    return 2 * log_alpha - torch.log(-torch.expm1(2 * log_alpha))


def log_alpha_of_logsnr(logsnr: Tensor) -> Tensor:
    """log a = log sigmoid(logsnr) / 2, for variance-preserving curves."""
    return 0.5 * torch.nn.functional.logsigmoid(logsnr)


class Continuous:
    """What schedules without a table share: no snapping, and a last noisy time of 1e-3 (Song et al. 2021, app. C)."""

    steps = None
    start = 1e-3

    def snap(self, t: Tensor) -> Tensor:
        """Every time is defined."""
        return t


class Discrete:
    """What schedules of T times share: 1/T is the last noisy one, and others are moved to the nearest."""

    steps: int

    @property
    def start(self) -> float:
        """1/T, the time of x_1."""
        return 1 / self.steps

    def snap(self, t: Tensor) -> Tensor:
        """The nearest multiple of 1/T, at least 1/T; halfway between two, the even one."""
        position = t * self.steps
        # A tie stays a tie after rounding errors: 0.3875 * 1000 may come out as 387.49999999999994.
        half = (2 * position).round() / 2
        position = torch.where((position - half).abs() < 1e-9, half, position)
        return position.round().clamp(1, self.steps) / self.steps


class Tabulated(Discrete):
    """A table of beta_1..beta_T: abar_i = prod (1 - beta_j) at t = i/T (Ho et al. 2020, eq. 4).

    Exact when: t is a multiple of 1/T.
    """

    def betas(self) -> Tensor:
        """beta_1..beta_T, float64 (T,)."""
        raise NotImplementedError

    def logsnr(self, t: Tensor) -> Tensor:
        """log-SNR with log alpha interpolated linearly between the knots."""
        t = torch.as_tensor(t, dtype=torch.float64)
        position = t.clamp(0, 1) * self.steps
        table = _log_alphas(self).to(t.device)
        # Within 1e-9 of a knot the table's own value is meant: 0.7 * 1000 is 699.9999999999999.
        position = torch.where((position - position.round()).abs() < 1e-9, position.round(), position)
        left = position.floor().clamp_max(self.steps - 1).long()
        return logsnr_of_log_alpha(torch.lerp(table[left], table[left + 1], position - left))

    def time(self, logsnr: Tensor) -> Tensor:
        """Inverse interpolation in log alpha."""
        target = log_alpha_of_logsnr(torch.as_tensor(logsnr, dtype=torch.float64))
        table = _log_alphas(self).to(target.device)
        right = torch.searchsorted(-table, -target).clamp(1, self.steps)
        low, high = table[right - 1], table[right]
        return ((right - 1 + (target - low) / (high - low)) / self.steps).clamp(0, 1)


@lru_cache(maxsize=32)
def _log_alphas(schedule: Tabulated) -> Tensor:
    """log alpha at t = 0, 1/T, ..., 1, float64 (T+1,)."""
    betas = schedule.betas()
    return torch.cat([betas.new_zeros(1), 0.5 * torch.log1p(-betas).cumsum(0)])


@dataclass(frozen=True)
class LinearBetas(Tabulated):
    """beta_t = first + (t-1)/(T-1) (last - first) (Ho et al. 2020, sec. 4).

    For another T than 1000 keep the total noise: multiply ``first`` and ``last`` by 1000/T.
    """

    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02

    def __post_init__(self) -> None:
        whole("steps", self.steps, 2, MOST_STEPS)
        real("first", self.first, "(0, 1)")
        real("last", self.last, "(0, 1)")
        if self.first > self.last:
            raise ValueError(f"expected 0 < first <= last < 1, got first={self.first}, last={self.last}")

    def betas(self) -> Tensor:
        """beta_1..beta_T, evenly spaced."""
        return torch.linspace(self.first, self.last, self.steps, dtype=torch.float64)


@dataclass(frozen=True)
class ScaledLinear(LinearBetas):
    """sqrt(beta_t) evenly spaced, with the end points of latent diffusion (Rombach et al. 2022).

    alpha_T^2 = 0.00466 with the defaults: x_T is not pure noise.
    """

    first: float = 0.00085
    last: float = 0.012

    def betas(self) -> Tensor:
        """beta_1..beta_T, their roots evenly spaced."""
        return torch.linspace(math.sqrt(self.first), math.sqrt(self.last), self.steps, dtype=torch.float64) ** 2


@dataclass(frozen=True)
class Quadratic(ScaledLinear):
    """sqrt(beta_t) evenly spaced between DDPM's end points (Ho et al. 2020, app. B)."""

    first: float = 1e-4
    last: float = 0.02


@dataclass(frozen=True)
class Cosine(Tabulated):
    """abar_t = f(t/T)/f(0), f(r) = cos^2((r + shift)/(1 + shift) pi/2) (Nichol & Dhariwal 2021, eq. 17).

    beta_t is clipped, and the table is the product of 1 - beta_t after the clip, so abar_T is small but not zero.
    """

    steps: int = 1000
    shift: float = 0.008
    clip: float = 0.999

    def __post_init__(self) -> None:
        whole("steps", self.steps, 2, MOST_STEPS)
        real("shift", self.shift, "(0, 1000]")
        real("clip", self.clip, "(0, 1)")

    def betas(self) -> Tensor:
        """beta_t = min(1 - f(t/T)/f((t-1)/T), clip)."""
        r = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        f = torch.cos((r + self.shift) / (1 + self.shift) * math.pi / 2) ** 2
        return (1 - f[1:] / f[:-1]).clamp_max(self.clip)


@dataclass(frozen=True)
class ConstantErasure(Discrete):
    """abar_t = 1 - (1 - left) t/T: each step erases the same share of the signal that there was, a T-th for ``left`` 0.

    beta_t = (1 - left)/(T - (1 - left)(t - 1)), which for ``left`` 0 is 1/(T - t + 1). Then nothing is left at t = 1,
    where the log-SNR is -inf: predict x_0 or v there, not the noise.

    Args:
        steps: T.
        left: abar_T; the released code of the reference leaves about 1/T.

    Exact when: always, between the times too.

    Reference: Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium thermodynamics" (2015), sec.
    2.4.1.
    """

    steps: int = 1000
    left: float = 0.0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, MOST_STEPS)
        real("left", self.left, "[0, 1)")

    def betas(self) -> Tensor:
        """beta_1..beta_T, float64 (T,)."""
        index = torch.arange(self.steps, dtype=torch.float64)
        return (1 - self.left) / (self.steps - (1 - self.left) * index)

    def logsnr(self, t: Tensor) -> Tensor:
        """log(abar/(1 - abar))."""
        gone = (1 - self.left) * torch.as_tensor(t, dtype=torch.float64)
        return torch.log1p(-gone) - torch.log(gone)

    def time(self, logsnr: Tensor) -> Tensor:
        """(1 - abar)/(1 - left)."""
        return sigmoid(-torch.as_tensor(logsnr, dtype=torch.float64)) / (1 - self.left)


@dataclass(frozen=True)
class VPSDE(Continuous):
    """log alpha(t) = -t^2 (beta_max - beta_min)/4 - t beta_min/2 (Song et al. 2021, eq. 33)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        real("beta_min", self.beta_min, "(0, 10000]")
        real("beta_max", self.beta_max, "(0, 10000]")
        if self.beta_min >= self.beta_max:
            raise ValueError(f"expected 0 < beta_min < beta_max, got {self.beta_min} and {self.beta_max}")

    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha(t), float64."""
        t = torch.as_tensor(t, dtype=torch.float64)
        return -0.25 * t * t * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def logsnr(self, t: Tensor) -> Tensor:
        """log(a^2/(1-a^2))."""
        return logsnr_of_log_alpha(self.log_alpha(t))

    def time(self, logsnr: Tensor) -> Tensor:
        """t = q / (sqrt(beta_min^2 + q) + beta_min) / (beta_max - beta_min), q = -4 (beta_max - beta_min) log alpha."""
        return self._time_of_log_alpha(log_alpha_of_logsnr(torch.as_tensor(logsnr, dtype=torch.float64)))

    def _time_of_log_alpha(self, log_alpha: Tensor) -> Tensor:
        span = self.beta_max - self.beta_min
        q = -4 * span * log_alpha
        return q / (torch.sqrt(self.beta_min**2 + q) + self.beta_min) / span


@dataclass(frozen=True)
class SubVP(VPSDE):
    """The mean of `VPSDE` with sigma = 1 - alpha^2 (Song et al. 2021, eq. 29); use with `SubVariancePreserving`."""

    def logsnr(self, t: Tensor) -> Tensor:
        """2 log(a/(1-a^2))."""
        log_alpha = self.log_alpha(t)
        return 2 * log_alpha - 2 * torch.log(-torch.expm1(2 * log_alpha))

    def time(self, logsnr: Tensor) -> Tensor:
        """Solve a/(1-a^2) = exp(logsnr/2) for a = 2r/(1 + sqrt(1 + 4r^2)), then invert log alpha(t)."""
        half = 0.5 * torch.as_tensor(logsnr, dtype=torch.float64)
        # 1/a = h + sqrt(h^2 + 1) with h = exp(-logsnr/2)/2, i.e. log a = -asinh(h): no overflow at either end.
        return self._time_of_log_alpha(-torch.asinh(0.5 * torch.exp(-half)))


@dataclass(frozen=True)
class LogLinear(Continuous):
    """sigma(t) = sigma_min (sigma_max/sigma_min)^t (Song et al. 2021, eq. 30); use with `VarianceExploding`.

    The noise at t = 0 is finite: sigma_min.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    start = 0.0

    def __post_init__(self) -> None:
        real("sigma_min", self.sigma_min, "[1e-9, 1e9]")
        real("sigma_max", self.sigma_max, "[1e-9, 1e9]")
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"expected 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")

    def logsnr(self, t: Tensor) -> Tensor:
        """-2 log sigma(t)."""
        t = torch.as_tensor(t, dtype=torch.float64)
        return -2 * (math.log(self.sigma_min) + t * math.log(self.sigma_max / self.sigma_min))

    def time(self, logsnr: Tensor) -> Tensor:
        """log(sigma/sigma_min) / log(sigma_max/sigma_min)."""
        log_sigma = -0.5 * torch.as_tensor(logsnr, dtype=torch.float64)
        return (log_sigma - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Continuous):
    """dx = -x dr + sqrt(2) dw for r = horizon t: alpha = exp(-horizon t), sigma^2 = 1 - alpha^2.

    A horizon of 5.06 has the terminal SNR of DDPM's linear schedule.
    """

    horizon: float = 5.0

    def __post_init__(self) -> None:
        real("horizon", self.horizon, "(0, 1000]")

    def logsnr(self, t: Tensor) -> Tensor:
        """log(a^2/(1-a^2)) with log a = -horizon t."""
        return logsnr_of_log_alpha(-self.horizon * torch.as_tensor(t, dtype=torch.float64))

    def time(self, logsnr: Tensor) -> Tensor:
        """-log a / horizon."""
        return -log_alpha_of_logsnr(torch.as_tensor(logsnr, dtype=torch.float64)) / self.horizon


@dataclass(frozen=True)
class Straight(Continuous):
    """alpha = 1 - t, sigma = t: straight paths (Lipman et al. 2023; Liu et al. 2023); use with `StraightScaling`.

    At t = 1 the signal is zero and logsnr is -inf.
    """

    def logsnr(self, t: Tensor) -> Tensor:
        """2 log((1-t)/t)."""
        t = torch.as_tensor(t, dtype=torch.float64)
        return 2 * (torch.log1p(-t) - torch.log(t))

    def time(self, logsnr: Tensor) -> Tensor:
        """1/(1 + exp(logsnr/2))."""
        return sigmoid(-0.5 * torch.as_tensor(logsnr, dtype=torch.float64))
