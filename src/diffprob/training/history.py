"""The last losses seen at every time of a chain, and times drawn where they are large."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from diffprob.base.rng import Rng


class LossHistory:
    """The last ``length`` losses at each of T times, and p_t proportional to the root of their mean square.

    Mixed with a uniform share; uniform altogether until every time has ``length`` losses. What a step notes counts from
    the next step on, in the order of the global batch, so that neither the number of processes nor the parts of a batch
    change what is drawn, and a resumed training draws what it would have drawn.

    Args:
        steps: T.
        length: losses kept at each time.
        uniform: share of the times drawn uniformly.

    Exact when: always: E[loss/(T p_t)] does not depend on p_t; its variance is least with the exact mean squares.

    Reference: Nichol & Dhariwal, "Improved denoising diffusion probabilistic models" (2021), eq. 18.
    """

    def __init__(self, steps: int, length: int, uniform: float) -> None:
        self.steps, self.length, self.uniform = steps, length, uniform
        self.losses = torch.zeros(steps, length, dtype=torch.float64)
        self.counts = torch.zeros(steps, dtype=torch.int64)
        self.noted: list[Tensor] = []

    @property
    def probabilities(self) -> Tensor:
        """p_t at t = 1/T, ..., 1, float64 (T,)."""
        even = torch.full((self.steps,), 1 / self.steps, dtype=torch.float64)
        root = self.losses.square().mean(1).sqrt()
        if int(self.counts.min()) < self.length or not 0 < float(root.sum()) < float("inf"):
            return even
        return (1 - self.uniform) * root / root.sum() + self.uniform * even

    def draw(self, rng: Rng) -> tuple[Tensor, Tensor]:
        """Places i = 0, ..., T - 1 of times (i + 1)/T, int64 (B,), and their probabilities, float64 (B,)."""
        p = self.probabilities
        total = p.cumsum(0)
        u = rng.uniform((), torch.float64).cpu() * total[-1]
        index = torch.searchsorted(total, u, right=True).clamp_max(self.steps - 1)
        return index, p[index]

    def note(self, index: Tensor, losses: Tensor) -> None:
        """Keep losses (B,) until `synchronise`."""
        self.noted.append(torch.stack([index.to(losses.device).double(), losses.detach().double()], 1))

    def synchronise(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Take in what was noted since the last time, by all processes; called by each after a step.

        Args:
            gather: (B, 2) of every process -> all of them, in the order of the processes.
        """
        for part in self.noted:
            for place, loss in gather(part).cpu().tolist():
                at = int(place)
                self.losses[at, int(self.counts[at]) % self.length] = loss
                self.counts[at] += 1
        self.noted = []

    def state(self) -> dict[str, Tensor]:
        """What resuming needs."""
        return {"losses": self.losses.clone(), "counts": self.counts.clone()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        self.losses.copy_(state["losses"])
        self.counts.copy_(state["counts"])
        self.noted = []
