"""Exact models and tiny networks that many tests share."""

import torch
from torch import Tensor, nn

from diffprob.base.distributions import LocationScale
from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Evaluation, NetDenoiser
from diffprob.denoise.ideal import FiniteData, GaussianData, MixtureData, TwoPoint
from diffprob.net.layers import Output
from diffprob.process.linear import LinearProcess


def tensor(values: object) -> Tensor:
    """float64."""
    return torch.tensor(values, dtype=torch.float64)


MEAN = tensor([0.3, -0.5, 0.1])
ROTATION = torch.linalg.qr(tensor([[1.0, 2.0, 0.5], [-0.3, 1.0, 2.0], [0.7, -1.0, 1.0]]))[0]
COV = (ROTATION * tensor([0.9, 0.1, 0.002])) @ ROTATION.T


def gaussian_data(process: LinearProcess = LinearProcess()) -> GaussianData:
    """Three correlated dimensions with variances from 0.9 to 0.002."""
    return GaussianData(MEAN, COV, process)


class IsotropicData:
    """x_0 ~ N(mean, variance I), any number of elements: cheaper than `GaussianData`."""

    def __init__(self, mean: float, variance: float, process: LinearProcess) -> None:
        self.mean, self.variance, self.process = mean, variance, process

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
        alpha, sigma = (per_sample(c, xt) for c in self.process.coefficients(t))
        total = alpha**2 * self.variance + sigma**2
        mean = self.mean + alpha * self.variance / total * (xt - alpha * self.mean)
        return LocationScale(mean, (sigma**2 * self.variance / total).sqrt())


def mixture_data(process: LinearProcess = LinearProcess()) -> MixtureData:
    """Three correlated normals in the plane, unequal weights."""
    means = tensor([[-0.8, 0.4], [0.7, 0.6], [0.1, -0.9]])
    covs = tensor([[[0.05, 0.02], [0.02, 0.04]], [[0.03, -0.02], [-0.02, 0.08]], [[0.1, 0.0], [0.0, 0.01]]])
    return MixtureData.of(tensor([0.5, 0.3, 0.2]), means, covs, process)


def mixture_moments(model: MixtureData) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of the data of a mixture."""
    w = model.weights / model.weights.sum()
    means = torch.stack([c.mean for c in model.components])
    mean = (w[:, None] * means).sum(0)
    offset = means - mean
    covs = torch.stack([c.cov for c in model.components])
    return mean, (w[:, None, None] * (covs + offset[:, :, None] * offset[:, None, :])).sum(0)


def exact_models(process: LinearProcess = LinearProcess()) -> dict[str, object]:
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
