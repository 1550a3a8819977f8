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
    "grey levels as a state": lambda: chain(LEVELS, 3, UniPC()),
    "noise on grey levels": lambda: add_noise(TEN, LEVELS, 0.5, Rng.of(0, 3)),
    "inversion of grey levels": lambda: invert(MODEL, LEVELS, TIMES),
    "bound of grey levels": lambda: variational_bound(MODEL, LEVELS, TIMES, Rng.of(0, 3), Decoder(None)),
    "flow of grey levels": lambda: flow_log_prob(MODEL, LEVELS, Rng.of(0, 3)),
    "grey levels as known pixels": lambda: RePaint(DDIM(), torch.ones(2), LEVELS),
    "network on grey levels": lambda: net_denoiser()(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.tensor(0.5)),
    "integer dtype": lambda: draw(MODEL, DDIM(), TIMES, Rng.of(0, 3), (2,), torch.int64),
    "one stream for a chain of three": lambda: chain(X, 1),
    "three streams for a chain of one": lambda: chain(X[:1], 3),
    "one stream for three inversions": lambda: invert(MODEL, X, TIMES, Rng.of(0, 1)),
    "one stream for three edits": lambda: sdedit(MODEL, X, 0.5, Ancestral(), TIMES, Rng.of(0, 1)),
    "five streams for a bound of three": lambda: variational_bound(MODEL, X, TIMES, Rng.of(0, 5), Decoder(None)),
    "two streams for a continuous bound of three": lambda: continuous_bound(MODEL, X, Rng.of(0, 2), 2, Decoder(None)),
    "one stream for three clipped images": lambda: beyond(X, X, 0.1, Rng.of(0, 1)),
    "fractional terms": lambda: variational_bound(MODEL, X, TIMES, Rng.of(0, 3), Decoder(None), terms=1.5),
    "fractional number of random times": lambda: continuous_bound(MODEL, X, Rng.of(0, 3), 1.5, Decoder(None)),
    "fractional levels of a decoder": lambda: Decoder(2.5),
    "fractional levels of a law": lambda: Discretised(LocationScale(X, X.abs()), 2.5),
    "NaN std of a decoder": lambda: Decoder(3, NAN),
    "fractional evaluations": lambda: plan(UniPC(), 2.5),
    "zero evaluations": lambda: plan(UniPC(), 0),
    "cost of zero times": lambda: cost(UniPC(), 0),
    "fractional evaluations for the default": lambda: default(2.5, TEN, (1, 8, 8)),
    "negative evaluations": lambda: affordable(TEN, -1),
    "increasing grid": lambda: times_from(TEN, TIMES.flip(0), 0.5),
    "fractional repeats": lambda: sdedit(MODEL, X, 0.5, DDIM(), TIMES, Rng.of(0, 3), repeats=1.5),
    "fractional jumps": lambda: RePaint(DDIM(), torch.ones(2), X, jumps=1.5),
    "NaN mask": lambda: RePaint(DDIM(), torch.tensor([NAN, 1.0]), X),
    "unclipping with negative noise": lambda: beyond(X, X, -0.1, Rng.of(0, 3)),
    "unclipping with NaN noise": lambda: unclip(MODEL, X, NAN, Rng.of(0, 3)),
    "unclipping with reversed limits": lambda: beyond(X, X, 0.1, Rng.of(0, 3), 1.0, -1.0),
    "negative rounds": lambda: unclip(MODEL, X, 0.5, Rng.of(0, 3), rounds=-1),
    "negative noise": lambda: draw_denoised(MODEL, Ancestral(), X, -1.0, TIMES, Rng.of(0, 3)),
    "increments from t to s": lambda: increments(TEN, 0.5, 0.2),
    "drift at time zero": lambda: drift_and_diffusion(SDE, torch.tensor([0.5, 0.0])),
    "negative variances of a path": lambda: step_costs(TEN, TIMES.flip(0), -torch.ones(4)),
    "NaN variance": lambda: reconstruction_costs(torch.tensor([0.1, NAN]), 17),
    "one level": lambda: reconstruction_costs(torch.ones(2), 1),
    "NaN costs": lambda: cheapest_paths(torch.full((3, 3), NAN), 2),
    "infinite prior": lambda: LinearProcess(Straight(), VarianceExploding()).prior(X),
    "one stream for a step of three": lambda: Ancestral().step(MODEL, State(X, TIMES[0]), TIMES[1], Rng.of(0, 1)),
    "prediction at infinite noise": lambda: X0().check(LinearProcess(Straight(), VarianceExploding())),
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
    "simulate": lambda x: [*simulate(MODEL, DDIM(), x, TIMES, Rng.of(0, 3))],
    "add_noise": lambda x: add_noise(TEN, x, 0.5, Rng.of(0, 3)),
    "invert": lambda x: invert(MODEL, x, TIMES),
    "sdedit": lambda x: sdedit(MODEL, x, 0.5, DDIM(), TIMES, Rng.of(0, 3)),
    "variational_bound": lambda x: variational_bound(MODEL, x, TIMES, Rng.of(0, 3), Decoder(None)),
    "decoder check": lambda x: Decoder(3).check(x),
    "continuous_bound": lambda x: continuous_bound(MODEL, x, Rng.of(0, 3), 2, Decoder(None)),
    "flow_log_prob": lambda x: flow_log_prob(MODEL, x, Rng.of(0, 3)),
    "denoised": lambda x: denoised(MODEL, x, 0.5),
    "draw_denoised": lambda x: draw_denoised(MODEL, DDIM(), x, 0.5, TIMES, Rng.of(0, 3)),
    "estimate_noise": estimate_noise,
    "unclip": lambda x: unclip(MODEL, x, 0.5, Rng.of(0, 3)),
    "noise norm": lambda x: NoiseNorm(0.5)(MODEL, x, Rng.of(0, 3)),
    "denoising score": lambda x: DenoisingScore(0.5)(MODEL, x, Rng.of(0, 3)),
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


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "FirstHitting"])  # of levels
@pytest.mark.parametrize(
    "process", [LinearProcess(OrnsteinUhlenbeck(300.0)), LinearProcess(Straight(), StraightScaling())]
)
def test_chain_through_times_without_signal_stays_finite(sampler: str, process: LinearProcess) -> None:
    """alpha = e^-100 is no signal in float32, where it and its products are 0: as at alpha = 0, a step of DDIM."""
    model = IsotropicData(0.3, 0.2, process)
    x = draw(model, SAMPLERS[sampler](), Leading()(process, 3), Rng.of(0, 4), (2,))
    assert bool(torch.isfinite(x).all())
