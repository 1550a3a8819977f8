"""Data whose posterior is known in closed form, and a tiny network: what components are checked against."""

import numpy as np
import torch
from torch import Tensor, nn

from diffprob.base.distributions import LocationScale
from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Denoiser, Evaluation, NetDenoiser
from diffprob.denoise.ideal import FiniteData, GaussianData, MixtureData, TwoPoint
from diffprob.net.layers import Output
from diffprob.process.linear import LinearProcess


def tensor(values: object) -> Tensor:
    """float64."""
    return torch.tensor(values, dtype=torch.float64)


class IsotropicData:
    """x_0 ~ N(mean, variance I), any number of elements: cheaper than `GaussianData`."""

    def __init__(self, mean: float, variance: float, process: LinearProcess) -> None:
        self.mean, self.variance, self.process = mean, variance, process

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
        """p(x_0 | x_t)."""
        alpha, sigma = (per_sample(c, xt) for c in self.process.coefficients(t))
        total = alpha**2 * self.variance + sigma**2
        mean = self.mean + alpha * self.variance / total * (xt - alpha * self.mean)
        return LocationScale(mean, (sigma**2 * self.variance / total).sqrt())


def mixture_data(process: LinearProcess = LinearProcess()) -> MixtureData:
    """Three correlated normals in the plane, unequal weights."""
    means = tensor([[-0.8, 0.4], [0.7, 0.6], [0.1, -0.9]])
    covs = tensor([[[0.05, 0.02], [0.02, 0.04]], [[0.03, -0.02], [-0.02, 0.08]], [[0.1, 0.0], [0.0, 0.01]]])
    return MixtureData.of(tensor([0.5, 0.3, 0.2]), means, covs, process)


def exact_models(process: LinearProcess = LinearProcess()) -> dict[str, Denoiser]:
    """One of each kind, in the plane."""
    points = tensor([[-1.0, 0.2], [0.3, 0.9], [0.5, -0.7], [1.0, 1.0]])
    return {
        "gaussian": GaussianData(tensor([0.3, -0.5]), tensor([[0.5, 0.2], [0.2, 0.3]]), process),
        "mixture": mixture_data(process),
        "finite": FiniteData(points, process),
        "two-point": TwoPoint(process),
    }


class TinyNet(nn.Module):
    """Two convolutions and a time shift: (B, C, H, W), labels (B,) -> Output. It remembers its calls."""

    def __init__(self, channels: int = 1, width: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.time = nn.Linear(1, width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        for parameter in self.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        self.calls: list[tuple[torch.Size, torch.dtype, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor) -> Output:
        self.calls.append((x.shape, t.dtype, t.detach().clone()))
        shift = self.time(t[:, None].to(x.dtype) / 1000)[:, :, None, None]
        return Output(self.last(torch.tanh(self.first(x) + shift)))


def net_denoiser(process: LinearProcess = LinearProcess(), chunk: int | None = None, channels: int = 1) -> NetDenoiser:
    """A `NetDenoiser` around a `TinyNet`."""
    return NetDenoiser(TinyNet(channels), process, evaluation=Evaluation(chunk=chunk))


class LineMixture:
    """A normal mixture on the line under x = alpha x_0 + sigma z, in numpy: what solvers are compared with.

    It shares no formula with the library.
    """

    def __init__(self, weights: list[float], means: list[float], variances: list[float]) -> None:
        self.weights, self.means, self.variances = (np.array(v)[:, None] for v in (weights, means, variances))

    def moments(self, alpha: float = 1.0, sigma: float = 0.0) -> tuple[float, float]:
        """Mean and variance of x."""
        mean = (self.weights * self.means).sum()
        variance = (self.weights * (self.variances + self.means**2)).sum() - mean**2
        return alpha * mean, alpha**2 * variance + sigma**2

    def noise(self, x: np.ndarray, alpha: np.ndarray | float, sigma: np.ndarray | float) -> np.ndarray:
        """E[z | x] = -sigma grad log q(x)."""
        variance = alpha**2 * self.variances + sigma**2
        offset = x - alpha * self.means
        logs = np.log(self.weights) - 0.5 * offset**2 / variance - 0.5 * np.log(variance)
        responsibilities = np.exp(logs - logs.max(0))
        responsibilities /= responsibilities.sum(0)
        return sigma * (responsibilities * offset / variance).sum(0)

    def flow(
        self, x: np.ndarray, start: tuple[float, float], end: tuple[float, float], steps: int = 1000
    ) -> np.ndarray:
        """The probability flow from (alpha, sigma) to (alpha, sigma): dy/dr = E[z|x], y = x/alpha, r = sigma/alpha.

        Fourth-order Runge-Kutta, evenly spaced in log r; variance-preserving coefficients.
        """
        first, last = (np.log(sigma / alpha) for alpha, sigma in (start, end))
        h = (last - first) / steps
        y = x / start[0]

        def velocity(y: np.ndarray, log_r: float) -> np.ndarray:
            r = np.exp(log_r)
            alpha = 1 / np.sqrt(1 + r * r)
            return r * self.noise(alpha * y, alpha, alpha * r)

        for i in range(steps):
            at = first + i * h
            k1 = velocity(y, at)
            k2 = velocity(y + h / 2 * k1, at + h / 2)
            k3 = velocity(y + h / 2 * k2, at + h / 2)
            k4 = velocity(y + h * k3, at + h)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y * end[0]
