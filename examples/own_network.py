"""A network of one's own as a model: anything with net(x, t)."""

import torch
from torch import nn

import diffprob as dp


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 1, 3, padding=1))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.body(torch.cat([x, t.view(-1, 1, 1, 1).expand_as(x)], 1))


torch.manual_seed(0)
clock = dp.Scale(1.0)  # what the network gets as the time: t itself, in (0, 1]
model = dp.Model(
    Net(), shape=(1, 8, 8), levels=17, process=dp.LinearProcess(dp.Cosine()), prediction=dp.predictions.V(), clock=clock
)
print(model.sample(4, steps=10))
print(model.bits_per_dim(dp.Digits("test").load(), n=16, method=dp.ChainBound(steps=20)))
