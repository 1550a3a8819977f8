"""What has no meaning is refused where it comes in: whole numbers for points, streams that are too few, counts that are
none, values that are no numbers, noise without end."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from truth.models import IsotropicData, gaussian_data, net_denoiser

from diffprob.base.distributions import Discretised, LocationScale
from diffprob.base.errors import InputError, NumericalError
from diffprob.base.rng import Rng
from diffprob.config.registry import GRIDS, SAMPLERS
from diffprob.denoise.prediction import X0
from diffprob.density.noise import DenoisingScore, NoiseNorm
from diffprob.likelihood.bound import Decoder, continuous_bound, variational_bound
from diffprob.likelihood.flow import flow_log_prob
from diffprob.process.calculus import drift_and_diffusion, increments
from diffprob.process.grids import Leading, Native, Uniform
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.path import LeastCost, cheapest_paths, reconstruction_costs, step_costs
from diffprob.process.schedule import VPSDE, LinearBetas, OrnsteinUhlenbeck, Straight
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.between import add_noise, times_from
from diffprob.sampling.defaults import affordable, default
from diffprob.sampling.exponential import UniPC
from diffprob.sampling.invert import invert
from diffprob.sampling.restore import RePaint, beyond, denoised, draw_denoised, estimate_noise, unclip
from diffprob.sampling.simulate import State, cost, draw, plan, simulate
from diffprob.sampling.translate import sdedit

TEN = LinearProcess(LinearBetas(10, 0.01, 0.5))
SDE = LinearProcess(VPSDE())
MODEL = IsotropicData(0.3, 0.2, TEN)
TIMES = Uniform()(TEN, 4)
X = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2)
LEVELS = torch.zeros(3, 2, dtype=torch.uint8)
NAN = math.nan


def chain(x: Tensor, n: int, sampler: object = Ancestral()) -> Tensor:
    *_, last = simulate(MODEL, sampler, x, TIMES, Rng.of(0, n))
    return last.x


@pytest.mark.parametrize("n", [0, -1, 2.5, NAN, True, "3", None, 10**9], ids=repr)
@pytest.mark.parametrize("grid", GRIDS)
def test_invalid_number_of_times_is_an_error(grid: str, n: object) -> None:
    made = LeastCost(paths=(torch.ones(1), torch.ones(2))) if GRIDS[grid] is LeastCost else GRIDS[grid]()
    processes = [TEN] if GRIDS[grid] in (Native, LeastCost) else [TEN, SDE]
    for process in processes:
        with pytest.raises(ValueError, match=r"number of times|has \d+ times|were asked for"):
            made(process, n)


def test_grid_accepts_numpy_integers() -> None:
    assert torch.equal(Uniform()(SDE, np.int64(4)), Uniform()(SDE, 4))


REFUSED = {
    "levels as a state": lambda: chain(LEVELS, 3, UniPC()),
    "levels noised": lambda: add_noise(TEN, LEVELS, 0.5, Rng.of(0, 3)),
    "levels inverted": lambda: invert(MODEL, LEVELS, TIMES),
    "levels as x_0 of the bound": lambda: variational_bound(MODEL, LEVELS, TIMES, Rng.of(0, 3), Decoder(None)),
    "levels as x_0 of the flow": lambda: flow_log_prob(MODEL, LEVELS, Rng.of(0, 3)),
    "levels as known pixels": lambda: RePaint(DDIM(), torch.ones(2), LEVELS),
    "levels of a network": lambda: net_denoiser()(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.tensor(0.5)),
    "a dtype of whole numbers": lambda: draw(MODEL, DDIM(), TIMES, Rng.of(0, 3), (2,), torch.int64),
    "one stream for a chain of three": lambda: chain(X, 1),
    "three streams for a chain of one": lambda: chain(X[:1], 3),
    "one stream for three inversions": lambda: invert(MODEL, X, TIMES, Rng.of(0, 1)),
    "one stream for three edits": lambda: sdedit(MODEL, X, 0.5, Ancestral(), TIMES, Rng.of(0, 1)),
    "five streams for a bound of three": lambda: variational_bound(MODEL, X, TIMES, Rng.of(0, 5), Decoder(None)),
    "two streams for a limit of three": lambda: continuous_bound(MODEL, X, Rng.of(0, 2), 2, Decoder(None)),
    "one stream for three cut images": lambda: beyond(X, X, 0.1, Rng.of(0, 1)),
    "half a term": lambda: variational_bound(MODEL, X, TIMES, Rng.of(0, 3), Decoder(None), terms=1.5),
    "half a random time": lambda: continuous_bound(MODEL, X, Rng.of(0, 3), 1.5, Decoder(None)),
    "half a level": lambda: Decoder(2.5),
    "half a level of a law": lambda: Discretised(LocationScale(X, X.abs()), 2.5),
    "a decoder's std": lambda: Decoder(3, NAN),
    "half an evaluation": lambda: plan(UniPC(), 2.5),
    "no evaluation": lambda: plan(UniPC(), 0),
    "no times to pay": lambda: cost(UniPC(), 0),
    "half an evaluation to choose by": lambda: default(2.5, TEN, (1, 8, 8)),
    "none to afford": lambda: affordable(TEN, -1),
    "a rising grid": lambda: times_from(TEN, TIMES.flip(0), 0.5),
    "half a repeat": lambda: sdedit(MODEL, X, 0.5, DDIM(), TIMES, Rng.of(0, 3), repeats=1.5),
    "half a jump": lambda: RePaint(DDIM(), torch.ones(2), X, jumps=1.5),
    "a mask of no number": lambda: RePaint(DDIM(), torch.tensor([NAN, 1.0]), X),
    "cut by noise below 0": lambda: beyond(X, X, -0.1, Rng.of(0, 3)),
    "cut by noise of no number": lambda: unclip(MODEL, X, NAN, Rng.of(0, 3)),
    "cut between no limits": lambda: beyond(X, X, 0.1, Rng.of(0, 3), 1.0, -1.0),
    "rounds below 0": lambda: unclip(MODEL, X, 0.5, Rng.of(0, 3), rounds=-1),
    "noise below 0": lambda: draw_denoised(MODEL, Ancestral(), X, -1.0, TIMES, Rng.of(0, 3)),
    "a step of the forward process backwards": lambda: increments(TEN, 0.5, 0.2),
    "the slope at the data": lambda: drift_and_diffusion(SDE, torch.tensor([0.5, 0.0])),
    "a negative variance of a path": lambda: step_costs(TEN, TIMES.flip(0), -torch.ones(4)),
    "a variance of no number": lambda: reconstruction_costs(torch.tensor([0.1, NAN]), 17),
    "one level": lambda: reconstruction_costs(torch.ones(2), 1),
    "a path of costs of no number": lambda: cheapest_paths(torch.full((3, 3), NAN), 2),
    "a start without end": lambda: LinearProcess(Straight(), VarianceExploding()).prior(X),
    "a step of one stream for three": lambda: Ancestral().step(MODEL, State(X, TIMES[0]), TIMES[1], Rng.of(0, 1)),
    "a prediction at noise without end": lambda: X0().check(LinearProcess(Straight(), VarianceExploding())),
}


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_arguments_are_errors(what: str) -> None:
    with pytest.raises((ValueError, InputError)) as caught:
        REFUSED[what]()
    assert len(str(caught.value)) < 300 and "ambiguous" not in str(caught.value)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_step_upwards_in_time_is_an_error(sampler: str) -> None:
    """Upwards Langevin's level would be another one, and the others' noise of a negative variance, or none."""
    state, stays = State(X, TIMES[1]), sampler == "AnnealedLangevin"
    for s in [TIMES[0], TIMES[1] * NAN, *([] if stays else [TIMES[1]])]:
        with pytest.raises(ValueError, match="a step goes down in time"):
            SAMPLERS[sampler]().step(MODEL, state, s, Rng.of(0, 3))


PICTURES = torch.linspace(-1, 1, 27, dtype=torch.float64).reshape(3, 1, 3, 3)
NOT_FINITE = {
    "a state": lambda x: [*simulate(MODEL, DDIM(), x, TIMES, Rng.of(0, 3))],
    "noised": lambda x: add_noise(TEN, x, 0.5, Rng.of(0, 3)),
    "inverted": lambda x: invert(MODEL, x, TIMES),
    "edited": lambda x: sdedit(MODEL, x, 0.5, DDIM(), TIMES, Rng.of(0, 3)),
    "the bound of a density": lambda x: variational_bound(MODEL, x, TIMES, Rng.of(0, 3), Decoder(None)),
    "levels": lambda x: Decoder(3).check(x),
    "the limit": lambda x: continuous_bound(MODEL, x, Rng.of(0, 3), 2, Decoder(None)),
    "the flow": lambda x: flow_log_prob(MODEL, x, Rng.of(0, 3)),
    "denoised": lambda x: denoised(MODEL, x, 0.5),
    "denoised by a chain": lambda x: draw_denoised(MODEL, DDIM(), x, 0.5, TIMES, Rng.of(0, 3)),
    "the noise of": estimate_noise,
    "uncut": lambda x: unclip(MODEL, x, 0.5, Rng.of(0, 3)),
    "a proxy": lambda x: NoiseNorm(0.5)(MODEL, x, Rng.of(0, 3)),
    "a proxy without noise": lambda x: DenoisingScore(0.5)(MODEL, x, Rng.of(0, 3)),
}


@pytest.mark.parametrize("value", [NAN, math.inf])
@pytest.mark.parametrize("what", NOT_FINITE)
def test_images_that_are_not_finite_are_errors(what: str, value: float) -> None:
    """Also where the answer would be finite: a median passes over a NaN."""
    x = PICTURES.clone()
    x[1, 0, 1, 1] = value
    with pytest.raises(NumericalError, match=f"holds {'NaN' if value != value else 'infinity'}"):
        NOT_FINITE[what](x)


def test_model_output_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(NumericalError, match="the model's answers are not finite: a predicted image holds NaN"):
        unclip(IsotropicData(NAN, 0.2, TEN), PICTURES, 0.5, Rng.of(0, 3))


def test_empty_batch_gives_an_empty_result() -> None:
    """An empty batch comes out empty, of chains, bounds and flows."""
    model, none = gaussian_data(SDE), Rng.of(0, 0)
    x = torch.empty(0, *model.mean.shape, dtype=torch.float64)
    times = Uniform()(SDE, 3)
    for sampler in (Ancestral(), DDIM(), UniPC()):
        *_, last = simulate(model, sampler, x, times, none)
        assert last.x.shape == x.shape
    for bound in (
        variational_bound(model, x, times, none, Decoder(None)),
        continuous_bound(model, x, none, 2, Decoder(None)),
    ):
        assert bound.total.shape == (0,)
    assert flow_log_prob(model, x, none).log_prob.shape == (0,)
    assert estimate_noise(PICTURES[:0]).shape == (0,)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    "process", [LinearProcess(OrnsteinUhlenbeck(300.0)), LinearProcess(Straight(), StraightScaling())]
)
def test_chain_through_times_without_signal_stays_finite(sampler: str, process: LinearProcess) -> None:
    """alpha = e^-100 is no signal in float32, where it and its products are 0: as at alpha = 0, a step of DDIM."""
    model = IsotropicData(0.3, 0.2, process)
    x = draw(model, SAMPLERS[sampler](), Leading()(process, 3), Rng.of(0, 4), (2,))
    assert bool(torch.isfinite(x).all())
