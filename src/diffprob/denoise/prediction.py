"""What a network predicts: affine maps between its output and x_0.

Every parameterisation is x_0 = A x_t + B output with A, B functions of t; the inverse and the training target follow
from the same two numbers (Ho et al. 2020, eqs. 8-15; Salimans & Ho 2022, app. D).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from diffprob.base.checks import MOST_STEPS, real, whole
from diffprob.base.shapes import is_one_time, per_sample, scaled
from diffprob.process.linear import LinearProcess


class Prediction(ABC):
    """An affine map between the network's output and x_0; subclasses give A and B."""

    @abstractmethod
    def coefficients(self, process: LinearProcess, t: Tensor) -> tuple[Tensor, Tensor]:
        """(A, B) with x_0 = A x_t + B output, float64, shaped like t."""

    def check(self, process: LinearProcess) -> None:
        """Refuse a process at whose noise nothing can be said about x_0 in this way.

        Raises:
            ValueError: x_0 is the output divided by alpha, which is 0 at t = 1, or the noise there is infinite: no
                chain can begin.
        """
        with torch.device("cpu"):  # a network may be built without memory, on "meta"
            process.most_noise()
            a, b = self.coefficients(process, torch.ones((), dtype=torch.float64))
        if not bool(torch.isfinite(a) and torch.isfinite(b)):
            raise ValueError(
                f"prediction {self!r} divides by alpha, which is 0 at t = 1 with {process.schedule!r}: V() or "
                "X0() would be right"
            )

    def input_scale(self, process: LinearProcess, t: Tensor) -> Tensor | None:
        """By what x_t is multiplied before the network sees it, float64, shaped like t; None: 1 at all times."""
        return None

    def gain(self, process: LinearProcess, t: Tensor) -> float:
        """By what the network's error is multiplied in x_0 at a time (): |B|, for `Epsilon` sigma/alpha."""
        return float(self.coefficients(process, t)[1].abs())

    def to_x0(self, process: LinearProcess, xt: Tensor, t: Tensor, output: Tensor) -> Tensor:
        """x_0 from the network's output, (B, *event)."""
        a, b = _at(self, process, float(t)) if is_one_time(t) else self.coefficients(process, t)
        return scaled(xt, a) + scaled(output, b)

    def from_x0(self, process: LinearProcess, xt: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """The output that stands for x_0: (x_0 - A x_t)/B, (B, *event)."""
        a, b = self.coefficients(process, t)
        return per_sample(1 / b, xt) * x0 - per_sample(a / b, xt) * xt

    def target(self, process: LinearProcess, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The training target at x_t = alpha x_0 + sigma noise: ((1 - A alpha) x_0 - A sigma noise)/B, (B, *event).

        The coefficients are combined in float64 before anything is multiplied, so nothing cancels in float32.
        """
        a, b = self.coefficients(process, t)
        alpha, sigma = process.coefficients(t)
        return per_sample((1 - a * alpha) / b, x0) * x0 - per_sample(a * sigma / b, x0) * noise


def network_input(prediction: Prediction, process: LinearProcess, xt: Tensor, t: Tensor) -> Tensor:
    """x_t as a network sees it, (B, *event): times the prediction's `input_scale`."""
    scale = prediction.input_scale(process, t)
    return xt if scale is None else scaled(xt, scale)


@lru_cache(maxsize=8192)
def _at(prediction: Prediction, process: LinearProcess, t: float) -> tuple[Tensor, Tensor]:
    """(A, B) at one time of a chain."""
    with torch.inference_mode(False):
        return prediction.coefficients(process, torch.tensor(t, dtype=torch.float64))


@dataclass(frozen=True)
class Epsilon(Prediction):
    """The noise: x_0 = (x_t - sigma eps)/alpha (Ho et al. 2020, eq. 15)."""

    def coefficients(self, process: LinearProcess, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1/alpha, -sigma/alpha)."""
        alpha, sigma = process.coefficients(t)
        return 1 / alpha, -sigma / alpha


@dataclass(frozen=True)
class X0(Prediction):
    """x_0 itself."""

    def coefficients(self, process: LinearProcess, t: Tensor) -> tuple[Tensor, Tensor]:
        """(0, 1)."""
        t = torch.as_tensor(t, dtype=torch.float64)
        return torch.zeros_like(t), torch.ones_like(t)


@dataclass(frozen=True)
class V(Prediction):
    """v = alpha eps - sigma x_0, so x_0 = (alpha x_t - sigma v)/(alpha^2 + sigma^2) (Salimans & Ho 2022, sec. 4)."""

    def coefficients(self, process: LinearProcess, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, -sigma)/(alpha^2 + sigma^2)."""
        alpha, sigma = process.coefficients(t)
        total = alpha * alpha + sigma * sigma
        return alpha / total, -sigma / total


@dataclass(frozen=True)
class Score(Prediction):
    """grad log q(x_t): x_0 = (x_t + sigma^2 score)/alpha, Tweedie's formula (Efron 2011, eq. 1.4)."""

    def coefficients(self, process: LinearProcess, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1/alpha, sigma^2/alpha)."""
        alpha, sigma = process.coefficients(t)
        return 1 / alpha, sigma * sigma / alpha


@dataclass(frozen=True)
class Mu(Prediction):
    """mu, the mean of x_s given x_t one step of 1/T below: x_0 = (mu - ct x_t)/c0 (Ho et al. 2020, eq. 7)."""

    steps: int = 1000

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, MOST_STEPS)

    def coefficients(self, process: LinearProcess, t: Tensor) -> tuple[Tensor, Tensor]:
        """(-ct/c0, 1/c0) of the bridge from t to t - 1/T; at t <= 1/T that step is the whole way to the data: (0,
        1)."""
        t = torch.as_tensor(t, dtype=torch.float64)
        last = t <= (1 + 1e-9) / self.steps
        inner = torch.where(last, torch.full_like(t, 2 / self.steps), t)
        bridge = process.bridge_coefficients(inner - 1 / self.steps, inner)
        zero, one = torch.zeros_like(t), torch.ones_like(t)
        return torch.where(last, zero, -bridge.ct / bridge.c0), torch.where(last, one, 1 / bridge.c0)


@dataclass(frozen=True)
class EDM(Prediction):
    """F of x_0 = c_skip y + c_out F(c_in y), in EDM's variables y = x_t/alpha and r = sigma/alpha (its sigma).

    With n^2 = sigma^2 + alpha^2 sd^2, the variance of x_t for data of the standard deviation sd, that is x_0 = (alpha
    sd^2/n^2) x_t + (sigma sd/n) F(x_t/n) on every scaling, also where alpha = 0. For such data what the network is
    shown and its target have variance 1 at all times, so that the squared error of F needs no weight: EDM's lambda
    times c_out^2 is 1. EDM's clock is `LogNoise`, its times `LogNormal`.

    Args:
        sigma_data: the standard deviation of the data in model space.

    Exact when: always an affine map; with alpha^2 + sigma^2 = 1 and sd = 1 it is `V` with the other sign.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models" (2022), table 1 and
    eq. 7.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        real("sigma_data", self.sigma_data, "[1e-6, 1e6]")

    def coefficients(self, process: LinearProcess, t: Tensor) -> tuple[Tensor, Tensor]:
        """(c_skip/alpha, c_out) = (alpha sd^2/n^2, sigma sd/n)."""
        alpha, sigma = process.coefficients(t)
        size = self._size(process, t)
        return alpha * (self.sigma_data / size) ** 2, sigma * self.sigma_data / size

    def input_scale(self, process: LinearProcess, t: Tensor) -> Tensor:
        """c_in/alpha = 1/n."""
        return 1 / self._size(process, t)

    def _size(self, process: LinearProcess, t: Tensor) -> Tensor:
        """n, the standard deviation of x_t, float64, shaped like t."""
        alpha, sigma = process.coefficients(t)
        return torch.hypot(alpha * self.sigma_data, sigma)
