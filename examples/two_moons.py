"""Samples, scores and densities where they are known: two moons as a mixture of small normal distributions."""

import math

import torch

import diffprob as dp

angle = torch.linspace(0, math.pi, 12)
upper = torch.stack([angle.cos(), angle.sin()], -1)
lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], -1)
means = torch.cat([upper, lower]) - torch.tensor([0.5, 0.25])
process, small = dp.LinearProcess(dp.Cosine()), 0.02 * torch.eye(2)
data = dp.MixtureData(torch.ones(24), tuple(dp.GaussianData(mean, small, process) for mean in means))

model = dp.Model(data, shape=(2,))
samples = model.sample(500, steps=10)
print(samples)
log_prob = model.log_prob(
    samples.images[:5], method=dp.ProbabilityFlow(divergence=dp.divergences.Exact(), tolerance=1e-3)
)
print("log p of five samples:", log_prob)
print("score there, at t = 0.1:", model.score(torch.from_numpy(samples.images[:5]), 0.1))
