"""Noise schedules that are trained with the network: a monotone curve of the log-SNR between two fixed ends, and the
rates beta of a chain's own steps."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import MOST_STEPS, instance, real, whole
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Continuous, Discrete, Tabulated, logsnr_of_log_alpha

KNOTS = 1024  # intervals of the table that a trained curve becomes
MOST_UNITS = 4096
_LEAST, _MOST = 1e-6, 1 - 1e-5  # of a rate that is trained, as in the released code of 2015


class LearnedSchedule:
    """What schedules that are trained share: ``table`` is what became of the part that `build` makes for training.

    ``objective`` names the loss that trains it.
    """

    objective: str

    def build(self) -> nn.Module:
        """The part of a `NetDenoiser` to train."""
        raise NotImplementedError

    def tabulated(self, part: Any) -> "LearnedSchedule":
        """The schedule with the part as it stands now."""
        raise NotImplementedError


class Monotone(nn.Module):
    """A strictly increasing map f of [0, 1] onto itself, with its slope: (f(u), f'(u)), float64, shaped like u.

    g(u) = w u + sum_j v_j sigmoid(a_j u + b_j) with w, v_j, a_j > 0, and f(u) = (g(u) - g(0))/(g(1) - g(0)): the
    network of Kingma et al. 2021 (appendix H) with its two linear layers on u written as one. It starts close to the
    identity, without random numbers.

    Args:
        units: number of sigmoids.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        centres = (torch.arange(units) + 0.5) / units
        steepness = torch.full((units,), 8.0)
        self.line = nn.Parameter(_unsoft(torch.ones(())))
        self.heights = nn.Parameter(_unsoft(torch.full((units,), 0.1 / units)))
        self.steepness = nn.Parameter(_unsoft(steepness))
        self.offsets = nn.Parameter(-steepness * centres)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        line, heights, steep = (F.softplus(p.double()) for p in (self.line, self.heights, self.steepness))
        offsets = self.offsets.double()
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device=offsets.device)
        at = torch.cat([u.double().reshape(-1), ends])
        bends = torch.sigmoid(steep * at[:, None] + offsets)
        value = line * at + bends @ heights
        slope = line + (bends * (1 - bends)) @ (heights * steep)
        low, span = value[-2], value[-1] - value[-2]
        return ((value[:-2] - low) / span).reshape(u.shape), (slope[:-2] / span).reshape(u.shape)


def _unsoft(value: Tensor) -> Tensor:
    """The inverse of softplus."""
    return torch.log(torch.expm1(value))


@dataclass(frozen=True, eq=False)
class Curve:
    """An increasing table f(0) = 0, ..., f(1) = 1, float64 (K + 1,), as a value: equal where the numbers are."""

    knots: Tensor
    digest: bytes

    @classmethod
    def of(cls, shape: Monotone) -> "Curve":
        """The map as it stands now."""
        with torch.no_grad():
            device = shape.offsets.device
            knots = shape(torch.linspace(0, 1, KNOTS + 1, dtype=torch.float64, device=device))[0].cpu()
        knots[0], knots[-1] = 0.0, 1.0
        return cls(knots, hashlib.sha256(knots.numpy().tobytes()).digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curve) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def at(self, u: Tensor) -> Tensor:
        """f(u), linear between the knots."""
        position, knots = u * (len(self.knots) - 1), self.knots.to(u.device)
        left = position.detach().floor().clamp(0, len(knots) - 2).long()
        return torch.lerp(knots[left], knots[left + 1], position - left)

    def inverse(self, value: Tensor) -> Tensor:
        """u with f(u) = value."""
        knots = self.knots.to(value.device)
        right = torch.searchsorted(knots, value.contiguous()).clamp(1, len(knots) - 1)
        low, high = knots[right - 1], knots[right]
        return (right - 1 + (value - low) / (high - low)) / (len(knots) - 1)


@dataclass(frozen=True)
class Learned(Continuous, LearnedSchedule):
    """log-SNR falls from ``most`` at the last noisy time to ``least`` at t = 1, along a curve that is trained.

    Between its ends the curve does not change the continuous bound, only the variance of its estimate, which is what
    training makes small; the last noisy time is 1e-3, and below it sigma/alpha is proportional to t. The curve is a
    `Monotone` in the `NetDenoiser`; here stands the table that it became, or a straight line before training.

    Args:
        most: log(alpha^2/sigma^2) at the last noisy time.
        least: at t = 1; theirs is -5, whose prior costs 0.003 nats a dimension, and -10 hardly anything.
        units: of the `Monotone`.
        table: the trained curve; a model fills it in.

    Reference: Kingma et al., "Variational diffusion models" (2021), sections 3.1 and 5.1, appendix H.
    """

    most: float = 13.3
    least: float = -10.0
    units: int = 64
    table: Curve | None = field(default=None, repr=False)
    objective = "ContinuousBound()"

    def __post_init__(self) -> None:
        real("most", self.most, "[-300, 300]")
        real("least", self.least, "[-300, 300]")
        if self.least >= self.most:
            raise ValueError(f"expected least < most, got least={self.least} and most={self.most}")
        whole("units", self.units, 1, MOST_UNITS)
        instance("table", self.table, Curve, "a trained curve", none=True)

    def build(self) -> Monotone:
        """The curve to train."""
        return Monotone(self.units)

    def tabulated(self, part: Monotone) -> "Learned":
        """The schedule with the curve as it stands now: a table, with an inverse, that trains no more."""
        return replace(self, table=Curve.of(part))

    def logsnr(self, t: Tensor) -> Tensor:
        """most + (least - most) f(u), u = (t - start)/(1 - start); most + 2 log(start/t) below the start."""
        t = torch.as_tensor(t, dtype=torch.float64)
        u = ((t - self.start) / (1 - self.start)).clamp(0, 1)
        bent = u if self.table is None else self.table.at(u)
        below = 2 * torch.log(self.start / t.clamp_max(self.start))
        return self.most + (self.least - self.most) * bent + below

    def along(self, shape: Monotone, t: Tensor) -> tuple[Tensor, Tensor]:
        """(logsnr, -d logsnr/dt) of the curve in training at times not below the start, float64, shaped like t."""
        bent, slope = shape((t - self.start) / (1 - self.start))
        fall = self.most - self.least
        return self.most - fall * bent, fall * slope / (1 - self.start)

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`."""
        logsnr = torch.as_tensor(logsnr, dtype=torch.float64)
        value = ((logsnr - self.most) / (self.least - self.most)).clamp(0, 1)
        u = value if self.table is None else self.table.inverse(value)
        below = torch.exp(-0.5 * (logsnr - self.most).clamp_min(0))
        return self.start * below + (1 - self.start) * u


@dataclass(frozen=True, eq=False)
class AtTimes(Continuous):
    """The log-SNR at the times of one batch and nowhere else, so that gradients flow to the curve it came from."""

    times: Tensor
    values: Tensor

    def logsnr(self, t: Tensor) -> Tensor:
        """The values, float64 (B,).

        Raises:
            ValueError: other times.
        """
        if t is not self.times:
            raise ValueError("a schedule in training is known at the times of its batch only")
        return self.values

    def time(self, logsnr: Tensor) -> Tensor:
        """Not known.

        Raises:
            ValueError: always.
        """
        raise ValueError("a schedule in training has no inverse")


class Rates(nn.Module):
    """beta_1..beta_T, float64 (T,), all but the first to train: logistic functions of free numbers.

    Args:
        betas: where they begin, float64 (T,).
    """

    first: Tensor

    def __init__(self, betas: Tensor) -> None:
        super().__init__()
        self.register_buffer("first", betas[:1].clone())
        self.logits = nn.Parameter(torch.logit((betas[1:] - _LEAST) / (_MOST - _LEAST)))

    def forward(self) -> Tensor:
        later = _LEAST + (_MOST - _LEAST) * torch.sigmoid(self.logits.double())
        return torch.cat([self.first.double(), later])


@dataclass(frozen=True, eq=False)
class RateTable:
    """Rates as a value: equal where the numbers are."""

    betas: Tensor
    digest: bytes

    @classmethod
    def of(cls, rates: Rates) -> "RateTable":
        """The rates as they stand now."""
        betas = rates().detach().cpu()
        return cls(betas, hashlib.sha256(betas.numpy().tobytes()).digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RateTable) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True)
class LearnedBetas(Tabulated, LearnedSchedule):
    """beta_2..beta_T are trained for the bound of the chain of T steps; beta_1 is fixed, lest the data be overfitted.

    The bound of finitely many steps does depend on where they lie, and its gradient reaches the rates through x_t =
    alpha x_0 + sigma eps with eps held fixed. They begin at an even erasure, down to 1/(T + 1) of the signal.

    Args:
        steps: T.
        first: beta_1.
        table: the trained rates; a model fills it in.

    Reference: Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium thermodynamics" (2015), sec.
    2.4.1 ("frozen noise").
    """

    steps: int = 1000
    first: float = 0.001
    table: RateTable | None = field(default=None, repr=False)
    objective = "VariationalBound()"

    def __post_init__(self) -> None:
        whole("steps", self.steps, 2, MOST_STEPS)
        real("first", self.first, "[1e-9, 0.5]")
        instance("table", self.table, RateTable, "trained rates", none=True)

    def betas(self) -> Tensor:
        """beta_1..beta_T."""
        if self.table is not None:
            return self.table.betas
        kept = torch.linspace(1 - self.first, 1 / (self.steps + 1), self.steps, dtype=torch.float64)
        return 1 - kept / torch.cat([kept.new_ones(1), kept[:-1]])

    def build(self) -> Rates:
        """The rates to train."""
        return Rates(replace(self, table=None).betas())

    def tabulated(self, part: Rates) -> "LearnedBetas":
        """The schedule with the rates as they stand now."""
        return replace(self, table=RateTable.of(part))

    def along(self, part: Rates) -> "AtSteps":
        """The schedule of the rates in training, with gradients."""
        return AtSteps(self.steps, logsnr_of_log_alpha(0.5 * torch.log1p(-part()).cumsum(0)))


@dataclass(frozen=True, eq=False)
class AtSteps(Discrete):
    """The log-SNR of a chain's own times and nowhere else, so that gradients flow to what it came from.

    Args:
        steps: T.
        values: at 1/T, ..., 1, float64 (T,).
    """

    steps: int
    values: Tensor

    def logsnr(self, t: Tensor) -> Tensor:
        """The values at multiples of 1/T, float64 shaped like t; infinite at 0."""
        index = (torch.as_tensor(t, dtype=torch.float64) * self.steps).round().long().to(self.values.device)
        return torch.cat([self.values.new_full((1,), torch.inf), self.values])[index]

    def time(self, logsnr: Tensor) -> Tensor:
        """Not known.

        Raises:
            ValueError: always.
        """
        raise ValueError("a schedule in training has no inverse")


def tabulate_schedule(process: LinearProcess, schedule: LearnedSchedule, part: nn.Module) -> LinearProcess:
    """The process with its schedule as it stands now: a table, with an inverse, that trains no more."""
    tabulated: Any = schedule.tabulated(part)
    return replace(process, schedule=tabulated)
