"""Every sampler of the table against exact models: declared order, weak moments, purity, resuming."""

import copy
import dataclasses

import pytest
import torch
from conform.components import PROCESSES, SAMPLERS, name
from torch import Tensor
from truth.gaussian import marginal_moments
from truth.models import IsotropicData, exact_models, net_denoiser, tensor
from truth.order import assert_order
from truth.reference import LineMixture
from truth.statistics import assert_mean

from diffprob.base.distributions import LocationScale
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData
from diffprob.process.grids import LogSNR, Uniform
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import VPSDE
from diffprob.sampling.simulate import State, cost, draw, plan, simulate, start

over_samplers = pytest.mark.parametrize("sampler", SAMPLERS, ids=name)
SDE = LinearProcess(VPSDE())
TIMES = Uniform()(SDE, 6)
SHAPE = (1, 8, 8)
WIDTH = 250  # independent elements of an event: norms over it hardly vary, which predictor-corrector methods rely on


def deterministic(sampler) -> bool:
    """A sampler that declares an order follows the probability flow."""
    return sampler.order is not None


def fixed(sampler) -> bool:
    """Steps of its own choosing have an order in the tolerance, not in the grid (tests/sampling/test_adaptive.py)."""
    return deterministic(sampler) and sampler.evaluations is not None


def before_reconstruction(model, sampler, x: Tensor, times: Tensor, rng: Rng) -> State:
    """The state at the last noisy time."""
    *_, last, _ = simulate(model, sampler, x, times, rng)
    return last


@over_samplers
def test_is_a_frozen_dataclass(sampler) -> None:
    assert dataclasses.is_dataclass(sampler)
    assert sampler == dataclasses.replace(sampler)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sampler.anything = 1
    assert sampler.order is None or sampler.order >= 1


@over_samplers
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_step_is_pure_and_moves_the_clock(sampler, dtype: torch.dtype) -> None:
    model, rng = net_denoiser(SDE), Rng.of(3, 4)
    x = start(model, rng, SHAPE, dtype)
    state = State(x, TIMES[1], index=1)
    kept = x.clone()
    with torch.no_grad():
        first, second = sampler.step(model, state, TIMES[2], rng), sampler.step(model, state, TIMES[2], rng)
    assert torch.equal(first.x, second.x)
    assert torch.equal(x, kept)
    assert state.index == 1
    assert first.index == 2
    assert float(first.t) == float(TIMES[2])
    assert first.x.shape == x.shape
    assert first.x.dtype == dtype
    assert not torch.equal(first.x, x)
    assert first.posterior is not None
    assert first.posterior.mean.shape == x.shape


@over_samplers
def test_noise_is_used_exactly_by_stochastic_samplers(sampler) -> None:
    model = net_denoiser(SDE)
    x = start(model, Rng.of(3, 4), SHAPE)
    with torch.no_grad():
        here, there, later = (
            sampler.step(model, State(x, TIMES[1], index=i), TIMES[2], Rng.of(seed, 4)).x
            for seed, i in ((3, 1), (50, 1), (3, 2))
        )
    # A stochastic sampler whose model has no variance may still be deterministic: DDIM(0, spread=True) on a point
    # posterior.
    noisy = not torch.equal(here, there)
    assert noisy == (not torch.equal(here, later)), "the noise must depend on the seed and on the step"
    assert not (deterministic(sampler) and noisy)


@over_samplers
def test_companions_do_not_matter(sampler) -> None:
    model = net_denoiser(SDE, chunk=4)
    everything = draw(model, sampler, TIMES, Rng.of(5, 9), SHAPE)
    assert torch.equal(draw(model, sampler, TIMES, Rng.of(5, 1), SHAPE), everything[:1])
    assert torch.equal(draw(model, sampler, TIMES, Rng.of(5, 3, first=6), SHAPE), everything[6:])
    backwards = Rng.of(5, 9).select(torch.arange(8, -1, -1))
    assert torch.equal(draw(model, sampler, TIMES, backwards, SHAPE), everything.flip(0))


@over_samplers
def test_pause_and_resume_change_nothing(sampler) -> None:
    model, rng = net_denoiser(SDE), Rng.of(1, 2)
    states = list(simulate(model, sampler, start(model, rng, SHAPE), TIMES, rng))
    for stop in (1, 4):
        resumed = list(simulate(model, sampler, copy.deepcopy(states[stop - 1]), TIMES, rng))
        assert torch.equal(resumed[-1].x, states[-1].x)
        assert len(resumed) == len(states) - stop


@over_samplers
@pytest.mark.parametrize("kind", exact_models())
def test_works_with_every_kind_of_posterior(sampler, kind: str) -> None:
    model, rng = exact_models(SDE)[kind], Rng.of(0, 3)
    for state in simulate(model, sampler, start(model, rng, (2,), torch.float64), TIMES, rng):
        assert torch.isfinite(state.x).all()


@over_samplers
@pytest.mark.parametrize("process", PROCESSES, ids=name)
def test_works_on_every_process(sampler, process) -> None:
    """From the exact law at the first time, 40 steps end where the data is: means within the data's spread."""
    model = IsotropicData(0.4, 0.01, process)
    n = 2 if sampler.evaluations is None else min(40, process.schedule.steps or 40)
    times, rng = LogSNR()(process, n), Rng.of(0, 8)
    alpha, sigma = process.coefficients(times[0])
    x = alpha * 0.4 + (sigma**2 + alpha**2 * 0.01).sqrt() * rng.fold("x").normal((WIDTH,), torch.float64)
    *_, last = simulate(model, sampler, x, times, rng)
    assert_mean(last.x.flatten(), 0.4)
    # A table of ten betas up to 0.5 is coarser: solvers of the SDE are of first order.
    assert 0 < float(last.x.std()) < (0.13 if n != 10 else 0.15)


STEPS = (40, 80, 160, 320)
MIXTURE = LineMixture([0.5, 0.3, 0.2], [-0.9, 0.2, 1.1], [0.05, 0.02, 0.1])


class MixtureMean:
    """The exact posterior mean of `MIXTURE`, independently: all that a solver of the flow may use."""

    process = SDE

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
        alpha, sigma = (c.expand(len(xt)) for c in SDE.coefficients(t))
        noise = torch.from_numpy(MIXTURE.noise(xt[:, 0].numpy(), alpha.numpy(), sigma.numpy()))
        return LocationScale((xt - (sigma * noise)[:, None]) / alpha[:, None], torch.zeros((), dtype=xt.dtype))


class Counting(MixtureMean):
    """Counts its evaluations, of samples too."""

    calls = samples = 0

    def __call__(self, xt, t):
        self.calls += 1
        self.samples += len(xt)
        return super().__call__(xt, t)


@over_samplers
@pytest.mark.parametrize("evaluations", [1, 2, 7, 12])
def test_evaluations_are_what_they_are_said_to_be(sampler, evaluations: int) -> None:
    x = torch.linspace(-1.7, 1.6, 3, dtype=torch.float64)[:, None]
    model, (sampler, n) = Counting(), plan(sampler, evaluations)
    list(simulate(model, sampler, x, Uniform()(SDE, n), Rng.of(0, 3)))
    if sampler.evaluations is None:
        # By tolerance: a grid of two times, and a sample that has arrived is not evaluated any more.
        assert (n, cost(sampler, n)) == (2, None)
        assert 3 * 4 < model.samples < 3 * model.calls
        return
    assert model.calls == cost(sampler, n) <= evaluations
    assert model.calls > evaluations - sampler.evaluations


def flow_errors(model, sampler, x: Tensor, exact: Tensor) -> list[float]:
    rng = Rng.of(0, len(x))
    ends = [before_reconstruction(model, sampler, x, LogSNR()(SDE, n + 1), rng).x for n in STEPS]
    return [float((end - exact).abs().max()) for end in ends]


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if fixed(s)], ids=name)
def test_declared_order_on_gaussian_data(sampler) -> None:
    """The probability flow of N(m, C) in closed form: x -> alpha_s m + (S_s/S_t)^(1/2) (x - alpha_t m)."""
    mean, variances = tensor([0.4, -0.2, 0.1]), tensor([0.9, 0.1, 0.01])
    model = GaussianData(mean, torch.diag(variances), SDE)
    x = Rng.of(2, 4).normal((3,), torch.float64)
    times = LogSNR()(SDE, 2)
    (top, top_cov), (end, end_cov) = (marginal_moments(SDE, mean, torch.diag(variances), t) for t in times)
    exact = end + torch.sqrt(torch.diagonal(end_cov) / torch.diagonal(top_cov)) * (x - top)
    assert_order(sampler.order, STEPS, flow_errors(model, sampler, x, exact))


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if fixed(s)], ids=name)
def test_declared_order_on_a_mixture(sampler) -> None:
    """Against fourth-order Runge-Kutta with 1000 steps of an independent implementation."""
    x = torch.linspace(-1.7, 1.6, 7, dtype=torch.float64)[:, None]
    times = LogSNR()(SDE, 2)
    ends = [tuple(float(c) for c in SDE.coefficients(t)) for t in times]
    exact = torch.from_numpy(MIXTURE.flow(x[:, 0].numpy(), *ends))[:, None]
    assert_order(sampler.order, STEPS, flow_errors(MixtureMean(), sampler, x, exact))


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if not deterministic(s)], ids=name)
def test_weak_moments_of_stochastic_samplers(sampler) -> None:
    """Mean and variance after 120 steps, within 4 standard errors and the O(1/K) bias of a step without the
    posterior's spread.

    That bias is 8% at eta = 1 by the exact recursion; a sign error or a wrong index moves the variance by tens of
    percents.
    """
    n, data = 2000, (tensor([0.4]), tensor([[0.3]]))
    model, times = IsotropicData(0.4, 0.3, SDE), LogSNR()(SDE, 120)
    mean, variance = (m.squeeze() for m in marginal_moments(SDE, *data, times[0]))
    rng = Rng.of(9, n // WIDTH)
    x = mean + variance.sqrt() * rng.normal((WIDTH,), torch.float64)
    last = before_reconstruction(model, sampler, x, times, rng).x.flatten()
    mean, variance = (m.squeeze() for m in marginal_moments(SDE, *data, times[-1]))
    assert_mean(last, mean)
    square = (last - mean) ** 2
    assert abs(float(square.mean() - variance)) < 4 * float(square.std()) / n**0.5 + 0.08 * float(variance)
    kurtosis = ((last - mean) ** 4).mean() / square.mean() ** 2
    assert abs(float(kurtosis) - 3) < 4 * (24 / n) ** 0.5


def test_the_reference_flow_keeps_the_mixture() -> None:
    """The oracle itself: its flow maps quantiles of the noisy law to quantiles of the data's."""
    times = LogSNR()(SDE, 2)
    ends = [tuple(float(c) for c in SDE.coefficients(t)) for t in times]
    normal = torch.distributions.Normal(tensor(0.0), tensor(1.0))

    def cdf(x: Tensor, alpha: float, sigma: float) -> Tensor:
        z = (x - alpha * torch.from_numpy(MIXTURE.means)) / torch.from_numpy(
            alpha**2 * MIXTURE.variances + sigma**2
        ).sqrt()
        return (torch.from_numpy(MIXTURE.weights) * normal.cdf(z)).sum(0)

    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    moved = torch.from_numpy(MIXTURE.flow(x.numpy(), *ends))
    torch.testing.assert_close(cdf(moved, *ends[1]), cdf(x, *ends[0]), rtol=0, atol=1e-9)
