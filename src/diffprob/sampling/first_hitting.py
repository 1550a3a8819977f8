"""The first-hitting sampler of absorbing processes: from one element that gets its value to the next."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffprob.base.distributions import Categorical
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum
from diffprob.process.survival import Staircase, times_like
from diffprob.sampling.simulate import State, check_step


@dataclass(frozen=True)
class FirstHitting:
    """Draws the time of the next element, 1 - alpha(tau) = (1 - alpha(t)) u^(1/n) for n masked ones, and gives one of
    them, any alike, its value at that time.

    So the chain has the law of infinitely many steps with d evaluations of the model, whatever grid it is asked to
    stop at, and no two elements are drawn at once.

    When: exact draws from a masked diffusion without a grid.

    Exact when: the posterior of each element is, for any grid.

    Reference: Zheng et al., "Masked diffusion models are secretly time-agnostic masked models and exploit inaccurate
    categorical sampling" (2025), algorithm 1.
    """

    order = None
    evaluations = None
    of_levels = True
    needs_masks = True  # and no others

    def step(self, model: Any, state: State, s: Tensor, rng: Rng) -> State:
        """All events between state.t and s, however many.

        Raises:
            InputError: a process without masks, or one whose elements have their own steps.
        """
        check_step(state, s, rng)
        process: Any = getattr(model, "process", None)
        if not hasattr(process, "mask") or isinstance(process.survival, Staircase) or process.stages > 1:
            raise InputError(
                "FirstHitting() needs an absorbing process of one stage with a smooth survival: take Ancestral()"
            )
        return self._down(model, state, s, rng)

    def finish(self, model: Any, state: State, rng: Rng) -> State:
        """All events that are left, down to t = 0."""
        return self.step(model, state, torch.zeros_like(state.t), rng)

    def _down(self, model: Any, state: State, s: Tensor, rng: Rng) -> State:
        survival, mask = model.process.survival, model.process.mask
        x, rng = state.x, rng.fold("hit").at(state.index)
        end = survival.masked(s)
        share = survival.masked(state.t).expand(len(x)).to(x.device)
        posterior, round_ = None, 0
        while True:
            here = rng.fold(f"event {round_}")
            masked = x == mask
            left = flat_sum(masked.double())
            share = share * here.fold("time").uniform((), torch.float64).to(x.device) ** (1 / left.clamp_min(1))
            hit = (left > 0) & (share > end)
            if not bool(hit.any()):
                break
            # The time of an event; a sample that has none is asked at the end of the step, for nothing.
            odds = torch.log1p(-share.clamp_min(float(end))) - torch.log(share.clamp_min(float(end)))
            times = torch.where(hit, survival.time(odds), survival.time(odds).clamp_min(float(s) or 1e-9))
            posterior = model(x, times)
            chosen = Categorical(torch.where(masked, 0.0, -torch.inf).flatten(1).where(hit[:, None], 0.0))
            index = chosen.sample(here.fold("element"))
            place = torch.arange(masked[0].numel(), device=x.device) == index[:, None]
            place = place.reshape(x.shape) & times_like(hit.double(), x).bool()
            x = torch.where(place, posterior.sample(here.fold("value")).to(x.dtype), x)
            round_ += 1
        if posterior is None:
            posterior = model(x, state.t)
        return State(x, torch.as_tensor(s, dtype=torch.float64), state.index + 1, posterior)
