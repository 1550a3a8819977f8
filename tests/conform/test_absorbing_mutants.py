"""Planted mistakes in absorbing processes, each found by the check that is for it."""

from dataclasses import dataclass

import pytest
import torch

from diffprob.base.errors import ConformanceError
from diffprob.conform import check_process
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.survival import CosineSurvival, LinearSurvival


@dataclass(frozen=True)
class Surviving(LinearSurvival):
    def masked(self, t):
        return 0.9 * torch.as_tensor(t, dtype=torch.float64)


@dataclass(frozen=True)
class OtherOdds(CosineSurvival):
    def logsnr(self, t):
        return LinearSurvival().logsnr(t)


@dataclass(frozen=True)
class Lossy(AbsorbingProcess):
    def marginal(self, x0, t):
        return super().marginal(x0, 0.5 * torch.as_tensor(t, dtype=torch.float64))


@dataclass(frozen=True)
class WrongStep(AbsorbingProcess):
    def bridge(self, x0, xt, s, t, eta=1.0):
        return super().bridge(x0, xt, 0.9 * s, t, eta)


@pytest.mark.parametrize(
    ("component", "sentence"),
    [
        (Surviving(), "survives t = 1"),
        (OtherOdds(), "not that of its log odds"),
        (Lossy(3), "survives t = 1"),
        (WrongStep(3), "do not give"),
    ],
)
def test_planted_mistake_is_detected(component, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_process(component)
