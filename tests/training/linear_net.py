"""Networks whose losses are known: the exact posterior mean of N(0, v I), and plain parameters."""

import torch
from torch import nn

from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Index, NetDenoiser
from diffprob.denoise.prediction import Epsilon
from diffprob.denoise.variance import Zero
from diffprob.net.layers import Output


class ForGaussian(nn.Module):
    """E[x_0|x_t] of N(0, v I), spoilt by ``factor``, in any prediction; ``extra`` is one parameter for each time."""

    def __init__(self, process, prediction, v, factor, steps):
        super().__init__()
        self.process, self.prediction, self.v, self.steps = process, prediction, v, steps
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))
        self.extra = nn.Parameter(torch.zeros(steps, dtype=torch.float64))

    def forward(self, x, label):
        t = (label + 1) / self.steps
        alpha, sigma = self.process.coefficients(t)
        mean = per_sample(alpha * self.v / (alpha**2 * self.v + sigma**2), x) * x
        main = self.factor * self.prediction.from_x0(self.process, x, t, mean)
        index = label.round().long().clamp(0, self.steps - 1)
        return Output(main, per_sample(self.extra[index], x).expand(x.shape))


def for_gaussian(process, v=0.4, variance=Zero(), prediction=Epsilon(), factor=1.0):
    """A float64 `NetDenoiser`, exact at factor 1."""
    steps = process.schedule.steps or 1000
    model = NetDenoiser(ForGaussian(process, prediction, v, factor, steps), process, prediction, Index(steps), variance)
    model.net.process = model.process  # with the table of a learned schedule
    return model
