"""At which times a network is trained: the law that t is drawn from, one time for each image of a batch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from diffprob.base.checks import real
from diffprob.base.rng import Rng
from diffprob.process.linear import LinearProcess


class Times(Protocol):
    """The law of the time in training (frozen dataclass: its repr is its configuration)."""

    def __call__(self, process: LinearProcess, rng: Rng) -> Tensor:
        """One time for each stream, float64 (B,), between the schedule's last noisy time and 1; those of a discrete
        schedule are its own."""
        ...

    def cdf(self, process: LinearProcess, t: Tensor) -> Tensor:
        """The probability of a time up to t, float64, shaped like t."""
        ...


def uniform_times(process: LinearProcess, rng: Rng) -> Tensor:
    """One time for each stream, float64 (B,): uniform on {1/T, ..., 1}, or between a continuous schedule's last noisy
    time and 1."""
    steps, start = process.schedule.steps, process.schedule.start
    if steps is None:
        return start + (1 - start) * rng.uniform((), torch.float64)
    return (rng.integers((), steps) + 1).double() / steps


@dataclass(frozen=True)
class UniformTimes:
    """Every time alike: {1/T, ..., 1} of a discrete schedule, or from a continuous one's last noisy time to 1.

    Reference: Ho et al. 2020, algorithm 1.
    """

    def __call__(self, process: LinearProcess, rng: Rng) -> Tensor:
        """One time for each stream, float64 (B,)."""
        return uniform_times(process, rng)

    def cdf(self, process: LinearProcess, t: Tensor) -> Tensor:
        """The share of the times up to t."""
        steps, start = process.schedule.steps, process.schedule.start
        t = torch.as_tensor(t, dtype=torch.float64)
        share = (t - start) / (1 - start) if steps is None else _steps_up_to(t, steps) / steps
        return share.clamp(0, 1)


def _steps_up_to(t: Tensor, steps: int) -> Tensor:
    """How many of 1/T, ..., 1 are at most t; within 1e-9 of one that one is meant."""
    return (t * steps + 1e-9).floor()


class _NormalTimes(ABC):
    """t drawn so that a rising function of it, its place, is N(mean, std^2), given that the schedule has that time.

    On a discrete schedule the time is moved to the nearest of its own.
    """

    mean: float
    std: float

    def __post_init__(self) -> None:
        real("mean", self.mean, "[-20, 20]")
        real("std", self.std, "[0.01, 20]")

    @abstractmethod
    def place(self, process: LinearProcess, t: Tensor) -> Tensor:
        """Where t lies on the line, float64, shaped like t; it rises with t."""

    @abstractmethod
    def time(self, process: LinearProcess, place: Tensor) -> Tensor:
        """The inverse of `place`."""

    def _below(self, process: LinearProcess, t: Tensor) -> Tensor:
        """The normal law's probability of a place up to that of t."""
        return torch.special.ndtr((self.place(process, t) - self.mean) / self.std)

    def __call__(self, process: LinearProcess, rng: Rng) -> Tensor:
        """One time for each stream, float64 (B,), by the inverse of the distribution function.

        Raises:
            ValueError: the schedule has none of the times that this law draws.
        """
        u = rng.uniform((), torch.float64)
        low, high = _ends(self, process)
        t = self.time(process, self.mean + self.std * torch.special.ndtri(low + (high - low) * u))
        return process.schedule.snap(t.clamp(process.schedule.start, 1))

    def cdf(self, process: LinearProcess, t: Tensor) -> Tensor:
        """The probability of a time up to t; of a discrete schedule's, up to the middle between it and the next.

        Raises:
            ValueError: as in a call.
        """
        t = torch.as_tensor(t, dtype=torch.float64)
        steps, start = process.schedule.steps, process.schedule.start
        low, high = _ends(self, process)
        if steps is None:
            inside = t.clamp(start, 1)
        else:
            count = _steps_up_to(t, steps)
            inside = ((count + 0.5) / steps).clamp(start, 1)
        share = ((self._below(process, inside) - low) / (high - low)).clamp(0, 1)
        return torch.where(t < start - 1e-12, 0.0, torch.where(t >= 1, 1.0, share))


@lru_cache(maxsize=64)
def _ends(times: _NormalTimes, process: LinearProcess) -> tuple[float, float]:
    """The probabilities below the last noisy time and below 1: numbers, so that no device is waited for in a step."""
    ends = torch.tensor([process.schedule.start, 1.0], dtype=torch.float64)
    low, high = times._below(process, ends).tolist()
    if not high - low > 1e-9:
        raise ValueError(f"{times!r} has no time that {process.schedule!r} has: another mean would be right")
    return low, high


@dataclass(frozen=True)
class LogNormal(_NormalTimes):
    """ln(sigma/alpha) ~ N(mean, std^2), through the schedule's log-SNR, cut off at the schedule's ends.

    The noise distribution of EDM, where sigma/alpha is called sigma: the defaults are those of its table 1, for data
    with a standard deviation of 0.5.

    Exact when: always; checked by its distribution function.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models" (2022), table 1.
    """

    mean: float = -1.2
    std: float = 1.2

    def place(self, process: LinearProcess, t: Tensor) -> Tensor:
        """ln(sigma/alpha) = -logsnr/2."""
        return -0.5 * process.logsnr(t)

    def time(self, process: LinearProcess, place: Tensor) -> Tensor:
        """The time of the log-SNR -2 place."""
        return process.schedule.time(-2 * place)


@dataclass(frozen=True)
class LogitNormal(_NormalTimes):
    """ln(t/(1 - t)) ~ N(mean, std^2): more often the middle of the way, cut off at the last noisy time.

    On straight paths it is `LogNormal` with the same numbers.

    Exact when: always; checked by its distribution function.

    Reference: Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis" (2024), eq. 19.
    """

    mean: float = 0.0
    std: float = 1.0

    def place(self, process: LinearProcess, t: Tensor) -> Tensor:
        """ln(t/(1 - t))."""
        t = torch.as_tensor(t, dtype=torch.float64)
        return torch.log(t) - torch.log1p(-t)

    def time(self, process: LinearProcess, place: Tensor) -> Tensor:
        """1/(1 + exp(-place))."""
        return torch.sigmoid(place)
