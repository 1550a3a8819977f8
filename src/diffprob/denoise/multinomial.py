"""Denoisers of multinomial diffusion: a network that says the law of x_0, or of the step itself, and the exact one."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffprob.base.checks import flag, instance
from diffprob.base.distributions import Categorical
from diffprob.conditions.condition import Condition
from diffprob.denoise.denoiser import Clock, Evaluation, Index, NetworkModel
from diffprob.denoise.law_of_points import LawOfPoints
from diffprob.denoise.level_law import LevelLaw, Softmax
from diffprob.process.multinomial import MultinomialProcess, StepLaw
from diffprob.process.times import as_time


@dataclass(frozen=True)
class StepSoftmax(Softmax):
    """K numbers for each element, the logits of x_s one step of 1/T below, as the paper of 2015 has it: f_b(x_t, t).

    Only a `MultinomialProcess` with steps takes it, and then no other steps than its own. By itself it begins far from
    any step, where x_s is nearly x_t, and learns that first; with ``relative`` it begins there, and says the same laws.

    Args:
        relative: p(x_s = k|x_t) is proportional to exp(logit_k) q(x_t|x_s = k), in place of exp(logit_k).

    Reference: Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium thermodynamics" (2015), table
    app. 1.
    """

    relative: bool = False

    def __post_init__(self) -> None:
        flag("relative", self.relative)

    def check(self, process: Any) -> None:
        """Refuse what has no such steps.

        Raises:
            ValueError: another process, or a schedule without steps.
        """
        if not isinstance(process, MultinomialProcess) or process.schedule.steps is None:
            raise ValueError(
                f"prediction {self!r} is of the steps of a MultinomialProcess(levels): another process, or one whose "
                "schedule has no steps, takes Softmax()"
            )


class MultinomialDenoiser(NetworkModel[Categorical]):
    """A network as a denoiser of multinomial diffusion: its outputs (B, *event, n) say the law of each element.

    Gradients flow through it. States go to the network as they are, whole numbers.

    Args:
        net: module with ``net(xt, label) -> Output(main, None)``, and a third argument where it has a condition.
        process: the multinomial process.
        clock: the network's time input.
        evaluation: chunk size and precision.
        condition: what else the network takes.
        prediction: what the outputs of an element stand for: a law of x_0, from which any step follows (Austin et al.
            2021), or `StepSoftmax`, the law of the step of 1/T.

    Exact when: p(x_s|x_t) has independent elements, which it nears as steps get shorter.

    Raises:
        ValueError: `StepSoftmax` with a schedule without steps.
    """

    process: MultinomialProcess

    def __init__(
        self,
        net: nn.Module,
        process: MultinomialProcess,
        clock: Clock = Index(),
        evaluation: Evaluation = Evaluation(),
        condition: Condition | None = None,
        prediction: LevelLaw = Softmax(),
    ) -> None:
        instance("process", process, MultinomialProcess)
        prediction.check(process)
        super().__init__(net, process, clock, evaluation, condition)
        self.prediction = prediction

    def posterior(self, xt: Tensor, t: Tensor) -> Categorical:
        """p(x_0 | x_t), or the law of the step, of the whole batch at once: what training works with."""
        return self._posterior(xt, t, *self.raw(xt, t))

    def _posterior(self, xt: Tensor, t: Tensor, main: Tensor, extra: Tensor | None) -> Categorical:
        levels, steps = self.process.levels, self.process.schedule.steps
        wanted = (*xt.shape, self.prediction.outputs(levels))
        if main.shape != wanted:
            raise ValueError(f"states {tuple(xt.shape)} need logits {wanted}, got {tuple(main.shape)}")
        logits = self.prediction.logits(main, levels)
        if steps and isinstance(self.prediction, StepSoftmax):
            if self.prediction.relative:
                logits = logits + self.process.likelihood(xt, t, t - 1 / steps).to(logits.dtype)
            return StepLaw(logits, xt.dtype, t, steps)
        return Categorical(logits, xt.dtype)


@dataclass(frozen=True, eq=False)
class MultinomialLaw(LawOfPoints):
    """x_0 is one of N points with given probabilities: p(x_0|x_t) by Bayes' rule, its law of every element.

    The weight of a point given x_t is its own times prod_i q(x_t,i | x_0,i).

    Args:
        points: (N, *event), whole numbers 0..K-1, each point once: a tensor, array or lists.
        weights: (N,), at least 0 and not all 0; normalised here.
        process: with K levels.

    Exact when: always for each element; drawn together they are independent only where the law says so.

    Raises:
        ValueError: other weights, or points that are no levels.
    """

    process: MultinomialProcess

    def __post_init__(self) -> None:
        instance("process", self.process, MultinomialProcess)
        super().__post_init__()

    def _joint(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """log of weight times q(x_t | point), float64 (B, N)."""
        self.check_states(xt)
        each = self.process.likelihood(xt, t).flatten(1, -2)  # (B, d, K)
        index = self.points.to(xt.device).long().flatten(1)[None, ..., None].expand(len(xt), -1, -1, -1)
        chosen = each[:, None].expand(-1, len(self.points), -1, -1).gather(-1, index)[..., 0].sum(-1)
        return chosen + self.log_weights.to(xt.device)

    def __call__(self, xt: Tensor, t: Tensor) -> Categorical:
        """p(x_0 | x_t), element by element.

        Raises:
            ValueError: no time, or at t = 0 a state that agrees with no point.
        """
        return self.elements(self._joint(xt, as_time(t, self.process.schedule.steps)), xt)

    def log_prob(self, xt: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """log q(x_t), nats, (B,): that of the data at t = 0."""
        return torch.logsumexp(self._joint(xt, t), 1)
