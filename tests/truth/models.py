"""Exact models and tiny networks that many tests share; most are those of `diffprob.conform`."""

import torch
from torch import Tensor

from diffprob.conform.references import IsotropicData, TinyNet, exact_models, mixture_data, net_denoiser, tensor
from diffprob.denoise.ideal import GaussianData, MixtureData
from diffprob.process.linear import LinearProcess

__all__ = [
    "COV", "MEAN", "IsotropicData", "TinyNet", "exact_models", "gaussian_data", "mixture_data", "mixture_moments",
    "net_denoiser", "tensor",
]  # fmt: skip

MEAN = tensor([0.3, -0.5, 0.1])
ROTATION = torch.linalg.qr(tensor([[1.0, 2.0, 0.5], [-0.3, 1.0, 2.0], [0.7, -1.0, 1.0]]))[0]
COV = (ROTATION * tensor([0.9, 0.1, 0.002])) @ ROTATION.T


def gaussian_data(process: LinearProcess = LinearProcess()) -> GaussianData:
    """Three correlated dimensions with variances from 0.9 to 0.002."""
    return GaussianData(MEAN, COV, process)


def mixture_moments(model: MixtureData) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of the data of a mixture."""
    w = model.weights / model.weights.sum()
    means = torch.stack([c.mean for c in model.components])
    mean = (w[:, None] * means).sum(0)
    offset = means - mean
    covs = torch.stack([c.cov for c in model.components])
    return mean, (w[:, None, None] * (covs + offset[:, :, None] * offset[:, None, :])).sum(0)
