"""The first-hitting sampler: the joint law on any grid, one element at a time, times of events."""

import itertools
import math

import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.denoise.categorical import JointLaw
from diffprob.denoise.ideal import TwoPoint
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.grids import Uniform
from diffprob.process.survival import CosineSurvival, LinearSurvival, Staircase
from diffprob.sampling.first_hitting import FirstHitting
from diffprob.sampling.simulate import State, draw, plan, simulate, start

K, D, N = 3, 3, 4000
POINTS = torch.tensor(list(itertools.product(range(K), repeat=D)), dtype=torch.float64)
WEIGHTS = Rng.of(3, 1).normal((27,), torch.float64)[0].softmax(0)


def law(survival) -> JointLaw:
    return JointLaw(POINTS, WEIGHTS, AbsorbingProcess(K, survival))


@pytest.mark.parametrize("survival", [LinearSurvival(), CosineSurvival()], ids=repr)
@pytest.mark.parametrize("n", [1, 4])
def test_samples_have_the_joint_law_on_any_grid(survival, n: int) -> None:
    model = law(survival)
    x = draw(model, FirstHitting(), Uniform()(model.process, n), Rng.of(0, N), (D,))
    assert x.dtype == torch.float32 and bool((x < K).all())
    counts = torch.bincount((x.double() @ torch.tensor([9.0, 3.0, 1.0], dtype=torch.float64)).long(), minlength=27)
    assert float(((counts - N * WEIGHTS) ** 2 / (N * WEIGHTS)).sum()) < 26 + 4 * math.sqrt(52)


@pytest.mark.parametrize("survival", [LinearSurvival(), CosineSurvival()], ids=repr)
def test_share_of_masks_is_that_of_the_time(survival) -> None:
    model, rng = law(survival), Rng.of(0, N)
    times = torch.tensor([1.0, 0.7, 0.2], dtype=torch.float64)
    for state in itertools.islice(simulate(model, FirstHitting(), start(model, rng, (D,)), times, rng), 2):
        share = float(survival.masked(state.t))
        masked = (state.x == K).double()
        assert abs(float(masked.mean()) - share) < 4 * math.sqrt(share * (1 - share) / (N * D))
        together = float(masked.prod(1).mean())  # elements are masked independently
        assert abs(together - share**D) < 4 * math.sqrt(share**D * (1 - share**D) / N)


def test_sample_depends_on_its_own_stream_alone() -> None:
    model = law(LinearSurvival())
    _, n = plan(FirstHitting(), 10)
    times = Uniform()(model.process, n)
    everything = draw(model, FirstHitting(), times, Rng.of(5, 9), (D,))
    assert torch.equal(draw(model, FirstHitting(), times, Rng.of(5, 2, first=4), (D,)), everything[4:6])
    assert torch.equal(draw(model, FirstHitting(), times, Rng.of(5, 9), (D,)), everything)


def test_other_processes_are_refused() -> None:
    t = torch.tensor([1.0, 0.5], dtype=torch.float64)
    for model in (TwoPoint(), law(Staircase(D))):
        with pytest.raises(InputError, match="smooth survival"):
            FirstHitting().step(model, State(torch.zeros(2, D), t[0]), t[1], Rng.of(0, 2))
