"""An autoencoder whose best weights are known: linear, without a bias."""

import torch
from torch import nn

from diffprob.net.autoencoder import Coded


class Linear(nn.Module):
    """Images of d numbers to k of them, (k, 1, 1), and back."""

    def __init__(self, shape, k):
        super().__init__()
        self.shape, self.k = shape, k
        d = torch.Size(shape).numel()
        self.down = nn.Linear(d, k, bias=False, dtype=torch.float64)
        self.up = nn.Linear(k, d, bias=False, dtype=torch.float64)

    def latent_shape(self, shape):
        return self.k, 1, 1

    def encode(self, x):
        return self.down(x.flatten(1))[:, :, None, None]

    def decode(self, z):
        return self.up(z.flatten(1)).unflatten(1, self.shape)

    def forward(self, x, noise):
        z = self.encode(x)
        return Coded(self.decode(z), z)
