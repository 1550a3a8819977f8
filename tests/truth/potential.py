"""Potentials that are known: the scalar of Gaussian data, and a quadratic form to be learned."""

import torch
from torch import Tensor, nn

from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Index, NetDenoiser
from diffprob.denoise.ideal import GaussianData
from diffprob.denoise.prediction import Epsilon, Prediction
from diffprob.net.layers import Output
from diffprob.net.potential import Potential


class GaussianBody(nn.Module):
    """P with x_0 = A x_t + B grad P for N(m, C): sigma/2 (x - alpha m)^T S^-1 (x - alpha m) in `Epsilon`, in other
    predictions a multiple of that and one of |x|^2/2."""

    def __init__(self, data: GaussianData, prediction: Prediction) -> None:
        super().__init__()
        self.data, self.prediction = data, prediction
        # A network has parameters; this one says which dtype they have.
        self.unit = nn.Parameter(torch.ones((), dtype=torch.float64), requires_grad=False)

    def forward(self, x: Tensor, label: Tensor) -> Output:
        steps = self.data.process.schedule.steps or 1000
        t = (label.double() + 1) / steps
        alpha, sigma = self.data.process.coefficients(t)
        a, b = self.prediction.coefficients(self.data.process, t)
        scale = self.prediction.input_scale(self.data.process, t)
        scale = torch.ones_like(t) if scale is None else scale
        x = x / per_sample(scale, x)  # what is shown, undone
        offset = (x - per_sample(alpha, x) * self.data.mean).flatten(1)
        inverse = torch.linalg.inv(self.data.marginal_cov(t))
        quadratic = sigma / 2 * torch.einsum("bi,bij,bj->b", offset, inverse.expand(len(x), -1, -1), offset)
        # eps = ((1 - alpha A) x - alpha B out)/sigma, solved for out and integrated over what is shown.
        integral = ((1 - alpha * a) * x.flatten(1).square().sum(1) / 2 - sigma * quadratic) / (alpha * b)
        return Output(scale * integral * self.unit)


def gaussian_potential(data: GaussianData, prediction: Prediction = Epsilon()) -> NetDenoiser:
    """The exact `Potential` of N(m, C) as a denoiser, float64."""
    net = Potential(GaussianBody(data, prediction))
    return NetDenoiser(net, data.process, prediction, Index(data.process.schedule.steps or 1000))
