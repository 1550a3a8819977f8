"""How much of x_0 a denoiser leaves open at every time: what the analytic reverse variance follows from."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from diffprob.base.checks import one_of, shown, whole
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
        t = torch.as_tensor(t, dtype=torch.float64)
        values = getattr(self, moment).to(t.device)
        # Minus the log-SNR increases with t; a straight path has an infinite one at t = 1.
        knots, value = (-process.logsnr(at).clamp(-1e3, 1e3) for at in (self.times.to(t.device), t))
        if len(knots) == 1:
            return values.expand(t.shape)
        right = torch.searchsorted(knots, value.contiguous()).clamp(1, len(knots) - 1)
        low, high = knots[right - 1], knots[right]
        return torch.lerp(values[right - 1], values[right], ((value - low) / (high - low)).clamp(0, 1))

    def gamma(self, process: LinearProcess) -> tuple[Tensor, Tensor]:
        """Gamma = E|score|^2/d at the times, and its standard error, from ``norm``: (1 - alpha^2/(alpha^2 + sigma^2)
        norm)/sigma^2."""
        alpha, sigma = process.coefficients(self.times)
        unit = alpha**2 / (alpha**2 + sigma**2)
        return (1 - unit * self.norm) / sigma**2, unit * self.norm_error / sigma**2


def noise_residual(process: LinearProcess, x0: Tensor, mean: Tensor, t: Tensor) -> Tensor:
    """NPR: o = (x_0 - x0h)^2 (alpha^2 + sigma^2)/sigma^2 = (eps - eh)^2 (alpha^2 + sigma^2)/alpha^2, (B, *event).

    Its mean given x_t is E[(x_0 - x0h)^2 | x_t], the right variance for the mean really predicted: that of the data
    plus the squared error of the mean (Bao et al. 2022, eq. 13).

    Exact when: always, for a step of any eta; equal to the data's variance when the mean is exact.
    """
    alpha, sigma = process.coefficients(t)
    return per_sample((alpha**2 + sigma**2) / sigma**2, x0) * (mean - x0) ** 2
