"""A sampler of one's own: a frozen dataclass with one pure method."""

from dataclasses import dataclass

from torch import Tensor

import diffprob as dp
from diffprob.base.distributions import Dirac
from diffprob.sampling.simulate import check_step


@dataclass(frozen=True)
class Plain:
    """DDIM, in three lines."""

    order = 1
    evaluations = 1

    def step(self, model, state: dp.State, s: Tensor, rng: dp.Rng) -> dp.State:
        check_step(state, s, rng)
        posterior = model(state.x, state.t)
        x = model.process.reverse(Dirac(posterior.mean), state.x, s, state.t, eta=0.0).mean
        return dp.State(x, s, state.index + 1, posterior)


model = dp.load("digits")
ours, theirs = model.sample(4, steps=20, sampler=Plain()), model.sample(4, steps=20, sampler=dp.DDIM())
print("equal to DDIM:", bool((ours.images == theirs.images).all()))
