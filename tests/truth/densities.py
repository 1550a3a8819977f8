"""Densities whose every number is known, and a store that keeps a training in memory."""

import copy
import math

import torch
from torch import nn


class Normal(nn.Module):
    """N(0, v I) as an energy without its constant; ``normalised`` gives it a log_prob."""

    def __init__(self, v, normalised=False):
        super().__init__()
        self.v = nn.Parameter(torch.tensor(v, dtype=torch.float64))
        if normalised:
            self.log_prob = self._log_prob

    def forward(self, x):
        return 0.5 * x.flatten(1).square().sum(1) / self.v

    def _log_prob(self, x):
        return -self(x) - 0.5 * x[0].numel() * torch.log(2 * math.pi * self.v)


class MemoryStore:
    """Keeps the newest snapshot, and the log up to it."""

    def __init__(self):
        self.kept, self.records = None, []

    def save(self, snapshot):
        self.kept = copy.deepcopy(snapshot)

    def load(self):
        if self.kept is not None:
            self.records = [record for record in self.records if record["step"] <= self.kept.step]
        return copy.deepcopy(self.kept)

    def append(self, record):
        self.records.append(record)
