"""How much of x_0 a denoiser leaves open at every time: what the analytic reverse variance follows from."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from diffprob.base.checks import one_of, shown, whole
from diffprob.base.errors import NumericalError
from diffprob.base.finite import check_tensors
from diffprob.base.shapes import per_sample
from diffprob.process.linear import LinearProcess


@dataclass(frozen=True, eq=False)
class NoiseMoments:
    """E Var[x_0|x_t], averaged over the d elements, at K times, in units of unit data's sigma^2/(alpha^2 + sigma^2).

    Two estimates, which agree for the exact denoiser, each with its standard error; all float64 (K,).

    Args:
        times: increasing.
        norm: from 1 - E|eh|^2/d = 1 - sigma^2 Gamma, Gamma = E|score|^2/d (Bao et al. 2022, eq. 8).
        norm_error: its standard error.
        residual: from E|eps - eh|^2/d: right for the mean that the network really predicts (Bao et al. 2022b, eq. 13).
        residual_error: its standard error.
        count: images per time.

    Raises:
        ValueError: times that do not increase, other shapes or types, or no images.
        NumericalError: a value that is not finite.
    """

    times: Tensor
    norm: Tensor
    norm_error: Tensor
    residual: Tensor
    residual_error: Tensor
    count: int

    def __post_init__(self) -> None:
        whole("count", self.count, 1)
        columns = {column.name: getattr(self, column.name) for column in fields(self) if column.name != "count"}
        if self.times.ndim != 1 or not len(self.times) or any(c.shape != self.times.shape for c in columns.values()):
            raise ValueError(f"moments are (K,) each, got {', '.join(f'{tuple(c.shape)}' for c in columns.values())}")
        if not bool((self.times.diff() > 0).all()):
            raise ValueError(f"times must increase, got {shown(self.times.tolist())}")
        check_tensors(columns, "the moments are")

    def relative(self, moment: str, process: LinearProcess, t: Tensor) -> Tensor:
        """The estimate ``moment`` at t, float64, shaped like t.

        Linear in log-SNR between the times of the table, since in these units the variance changes little, and constant
        outside them.
        """
        one_of("moment", moment, ("norm", "residual"))
        return _interpolated(process, self.times, getattr(self, moment), torch.as_tensor(t, dtype=torch.float64))

    def gamma(self, process: LinearProcess) -> tuple[Tensor, Tensor]:
        """Gamma = E|score|^2/d at the times, and its standard error, from ``norm``: (1 - alpha^2/(alpha^2 + sigma^2)
        norm)/sigma^2."""
        alpha, sigma = process.coefficients(self.times)
        unit = alpha**2 / (alpha**2 + sigma**2)
        return (1 - unit * self.norm) / sigma**2, unit * self.norm_error / sigma**2


@dataclass(frozen=True, eq=False)
class VarianceQuantiles:
    """How Var[x_0|x_t] is spread over elements and x_t at K times, in units of unit data's sigma^2/(alpha^2 + sigma^2).

    What a chain costs that has a variance for every element follows from it (`step_costs`): where most of an image is
    known and some of it is not, less than from the mean variance.

    Args:
        times: increasing, float64 (K,).
        values: Q equally frequent ones at each time, positive, float64 (K, Q).

    Raises:
        ValueError: times that do not increase, or other shapes or types.
        NumericalError: a value that is not finite or not positive.
    """

    times: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        shapes, kinds = (tuple(self.times.shape), tuple(self.values.shape)), {self.times.dtype, self.values.dtype}
        if self.values.ndim != 2 or not self.values.numel() or shapes[0] != shapes[1][:1] or kinds != {torch.float64}:
            raise ValueError(f"expected float64 times (K,) and values (K, Q), got {shapes[0]} and {shapes[1]}")
        if not bool((self.times.diff() > 0).all()):
            raise ValueError(f"times must increase, got {shown(self.times.tolist())}")
        check_tensors({"values": self.values, "times": self.times}, "the quantiles are")
        if not bool((self.values > 0).all()):
            raise NumericalError(f"a variance must be positive, got {float(self.values.min()):g}")

    def variance(self, process: LinearProcess, t: Tensor) -> Tensor:
        """Var[x_0|x_t] at the times t (N,), float64 (N, Q); between those of the table linear in logarithms."""
        alpha, sigma = process.coefficients(t)
        unit = sigma**2 / (alpha**2 + sigma**2)
        return _interpolated(process, self.times, self.values.log(), t.double()).exp() * unit[:, None]


def _interpolated(process: LinearProcess, times: Tensor, values: Tensor, t: Tensor) -> Tensor:
    """Values (K, ...) at increasing times, linear in log-SNR between them and constant outside, (*t.shape, ...)."""
    values = values.to(t.device)
    # Minus the log-SNR increases with t; a straight path has an infinite one at t = 1.
    knots, value = (-process.logsnr(at).clamp(-1e3, 1e3) for at in (times.to(t.device), t))
    if len(knots) == 1:
        return values[0].expand(*t.shape, *values.shape[1:])
    right = torch.searchsorted(knots, value.contiguous()).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    share = ((value - low) / (high - low)).clamp(0, 1)
    return torch.lerp(values[right - 1], values[right], share[(...,) + (None,) * (values.ndim - 1)])


def noise_residual(process: LinearProcess, x0: Tensor, mean: Tensor, t: Tensor) -> Tensor:
    """NPR: o = (x_0 - x0h)^2 (alpha^2 + sigma^2)/sigma^2 = (eps - eh)^2 (alpha^2 + sigma^2)/alpha^2, (B, *event).

    Its mean given x_t is E[(x_0 - x0h)^2 | x_t], the right variance for the mean really predicted: that of the data
    plus the squared error of the mean (Bao et al. 2022, eq. 13).

    Exact when: always, for a step of any eta; equal to the data's variance when the mean is exact.
    """
    alpha, sigma = process.coefficients(t)
    return per_sample((alpha**2 + sigma**2) / sigma**2, x0) * (mean - x0) ** 2
