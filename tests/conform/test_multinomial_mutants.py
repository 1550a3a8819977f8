"""Planted mistakes in multinomial processes, each found by the check that is for it."""

from dataclasses import dataclass

import pytest
import torch

from diffprob.base.distributions import Categorical
from diffprob.base.errors import ConformanceError
from diffprob.conform import check_process
from diffprob.process.multinomial import MultinomialProcess
from diffprob.process.of_levels import point_logits


@dataclass(frozen=True)
class UniformPrior(MultinomialProcess):
    def prior(self, like):
        return Categorical(torch.zeros(*like.shape, self.levels, dtype=like.dtype).log_softmax(-1), like.dtype)


@dataclass(frozen=True)
class LateMarginal(MultinomialProcess):
    def marginal(self, x0, t):
        return super().marginal(x0, 0.5 * torch.as_tensor(t, dtype=torch.float64))


@dataclass(frozen=True)
class WrongStep(MultinomialProcess):
    def bridge(self, x0, xt, s, t, eta=1.0):
        return super().bridge(x0, xt, 0.9 * s, t, eta)


@dataclass(frozen=True)
class Unnormalised(MultinomialProcess):
    def _step(self, logits, xt, s, t, eta):
        law = super()._step(logits, xt, s, t, eta)
        return Categorical(law.logits + 0.1, law.dtype)


@dataclass(frozen=True)
class Forgetful(MultinomialProcess):
    """x_s as if x_t were not there: the marginal is kept, but not by Bayes' rule."""

    def bridge(self, x0, xt, s, t, eta=1.0):
        return self.marginal(x0, s)


@dataclass(frozen=True)
class Certain(MultinomialProcess):
    def marginal(self, x0, t):
        return Categorical(point_logits(x0, self.levels).clamp_min(-50).log_softmax(-1), x0.dtype)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (UniformPrior, "the prior does not stay"),
        (LateMarginal, "do not give"),
        (WrongStep, "do not give"),
        (Unnormalised, "adds up to"),
        (Forgetful, "not Bayes' rule"),
        (Certain, "do not give"),
    ],
)
def test_planted_mistake_is_detected(kind: type, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_process(kind(3, stationary=(0.2, 0.7, 0.1)))
