"""Denoisers of discrete data: p(x_0 | x_t) is a categorical law of every element, certain where x_t is not masked."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from diffprob.base.checks import instance
from diffprob.base.distributions import Categorical
from diffprob.base.rng import Rng
from diffprob.conditions.condition import Condition
from diffprob.denoise.denoiser import Clock, Evaluation, Index, NetworkModel
from diffprob.denoise.law_of_points import LawOfPoints
from diffprob.denoise.level_law import LevelLaw, Softmax
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.times import as_time


def carry_over(logits: Tensor, xt: Tensor, process: AbsorbingProcess) -> Categorical:
    """p(x_0 | x_t) with ``logits`` (B, *event, K) where x_t (B, *event) leaves x_0 open; certain elsewhere.

    Reference: Sahoo et al., "Simple and effective masked diffusion language models" (2024), sec. 3.2.3.
    """
    return Categorical(process.restrict(logits, xt), xt.dtype)


class CategoricalDenoiser(NetworkModel[Categorical]):
    """A network as a denoiser of discrete data: its outputs (B, *event, n) say the law of each element's level.

    Gradients flow through it. States go to the network as they are, whole numbers with K for the mask: it tells a
    masked element from a level 0 by itself (`diffprob.net.levels`).

    Args:
        net: module with ``net(xt, label) -> Output(main, None)``, and a third argument where it has a condition.
        process: the absorbing process.
        clock: the network's time input.
        evaluation: chunk size and precision.
        condition: what else the network takes.
        prediction: what the n outputs of an element stand for.

    Exact when: p(x_0|x_t) has independent elements, or one element is drawn in a step.
    """

    process: AbsorbingProcess

    def __init__(
        self,
        net: nn.Module,
        process: AbsorbingProcess,
        clock: Clock = Index(),
        evaluation: Evaluation = Evaluation(),
        condition: Condition | None = None,
        prediction: LevelLaw = Softmax(),
    ) -> None:
        instance("process", process, AbsorbingProcess)
        super().__init__(net, process, clock, evaluation, condition)
        self.prediction = prediction

    def begin(self, rng: Rng, x: Tensor) -> Self:
        """The same network for chains that begin in the states x (B, *event): `AbsorbingProcess.begin`."""
        return self.with_process(self.process.begin(rng, x))

    def bind(self, rng: Rng, like: Tensor) -> Self:
        """The same network with a random order for each of the samples ``like`` (B, *event): `AbsorbingProcess.bind`.

        Raises:
            ValueError: another number of streams than of samples.
        """
        return self.with_process(self.process.bind(rng, like))

    def with_process(self, process: AbsorbingProcess) -> Self:
        """The same network, sharing all its weights, for another process of the same levels, such as one with an order.

        Raises:
            ValueError: other levels.
        """
        if process.levels != self.process.levels:
            raise ValueError(f"the network has {self.process.levels} levels, got a process of {process.levels}")
        return super().with_process(process)

    def _posterior(self, xt: Tensor, t: Tensor, main: Tensor, extra: Tensor | None) -> Categorical:
        levels = self.process.levels
        if main.shape != (*xt.shape, self.prediction.outputs(levels)):
            wanted = (*xt.shape, self.prediction.outputs(levels))
            raise ValueError(f"states {tuple(xt.shape)} need logits {wanted}, got {tuple(main.shape)}")
        return carry_over(self.prediction.logits(main, levels), xt, self.process)


@dataclass(frozen=True, eq=False)
class JointLaw(LawOfPoints):
    """x_0 is one of N points with given probabilities: p(x_0|x_t) by Bayes' rule, its law of every element.

    The weight of a point is its own where it agrees with all that is not masked in x_t, and 0 otherwise; the time says
    nothing beyond that (Ou et al. 2025, theorem 1).

    Args:
        points: (N, *event), whole numbers 0..K-1, each point once: a tensor, array or lists.
        weights: (N,), at least 0 and not all 0; normalised here.
        process: with K levels.

    Exact when: always for each element; drawn together they are independent only where the law says so.

    Raises:
        ValueError: other weights, or points that are no levels.
    """

    process: AbsorbingProcess

    def __post_init__(self) -> None:
        instance("process", self.process, AbsorbingProcess)
        super().__post_init__()

    def begin(self, rng: Rng, x: Tensor) -> "JointLaw":
        """The same law for chains that begin in the states x (B, *event): `AbsorbingProcess.begin`."""
        return self.with_process(self.process.begin(rng, x))

    def bind(self, rng: Rng, like: Tensor) -> "JointLaw":
        """The same law with a random order for each of the samples ``like`` (B, *event)."""
        return self.with_process(self.process.bind(rng, like))

    def with_process(self, process: AbsorbingProcess) -> "JointLaw":
        """The same law under another process."""
        return replace(self, process=process)

    def _agreeing(self, xt: Tensor) -> Tensor:
        """log weight of each point, -inf where it disagrees with x_t, float64 (B, N)."""
        self.check_states(xt)
        states = xt.double().flatten(1)[:, None]
        same = self.process.agree(states, self.points.flatten(1)).all(-1)
        return torch.where(same, self.log_weights, -torch.inf)

    def __call__(self, xt: Tensor, t: Tensor) -> Categorical:
        """p(x_0 | x_t), element by element.

        Raises:
            ValueError: a state that no point leads to, or no time.
        """
        as_time(t, self.process.schedule.steps)
        return carry_over(self.elements(self._agreeing(xt), xt).logits, xt, self.process)

    def log_prob(self, xt: Tensor) -> Tensor:
        """log of the probability that x_0 agrees with what is not masked in x_t, in nats, (B,): log p(x_0) without
        masks."""
        return torch.logsumexp(self._agreeing(xt), 1)
