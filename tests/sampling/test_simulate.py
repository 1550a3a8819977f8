"""The loop: explicit state, resumable, pure, and polite to its caller."""

import copy
import math
import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from truth.models import exact_models, gaussian_data, mixture_data, mixture_moments, net_denoiser, tensor
from truth.statistics import assert_frequencies, assert_mean, assert_moments

from diffprob.base.distributions import Gaussian, LocationScale
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import FiniteData
from diffprob.process.grids import LogSNR, Uniform
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import VPSDE, LogLinear, Straight
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.simulate import State, draw, simulate, start

DDPM = LinearProcess()
TIMES = Uniform()(DDPM, 6)
SHAPE = (1, 8, 8)


def chain(sampler: object, n: int = 3, first: int = 0, model: object = None) -> list[State]:
    model = model or net_denoiser(chunk=4)
    rng = Rng.of(5, n, first)
    return list(simulate(model, sampler, start(model, rng, SHAPE), TIMES, rng))


def test_simulate_yields_every_step_and_the_reconstruction() -> None:
    states = chain(Ancestral())
    assert [float(s.t) for s in states] == [*TIMES[1:].tolist(), 0.0]
    assert [s.index for s in states] == [1, 2, 3, 4, 5, 6]
    assert all(s.x.shape == (3, *SHAPE) and s.x.dtype == torch.float32 for s in states)
    assert all(s.t.dtype == torch.float64 and s.t.shape == () for s in states)
    model = net_denoiser(chunk=4)
    assert torch.equal(states[-1].x, model(states[-2].x, TIMES[-1]).mean)
    assert torch.equal(states[2].posterior.mean, model(states[1].x, TIMES[2]).mean)


def test_chain_of_one_time_is_the_reconstruction() -> None:
    model, x = gaussian_data(), Rng.of(0, 2).normal((3,), torch.float64)
    (state,) = simulate(model, Ancestral(), x, tensor([1.0]), Rng.of(0, 2))
    assert torch.equal(state.x, model(x, tensor(1.0)).mean)


def test_draw_is_the_end_of_the_chain() -> None:
    for sampler in (Ancestral(), DDIM(), DDIM(0.5)):
        x = draw(net_denoiser(chunk=4), sampler, TIMES, Rng.of(5, 3), SHAPE)
        assert torch.equal(x, chain(sampler)[-1].x)
        assert not x.requires_grad


def test_chain_starts_from_the_prior() -> None:
    process = LinearProcess(LogLinear(), VarianceExploding())
    x = start(net_denoiser(process), Rng.of(0, 20_000), (2,), torch.float64)
    assert_moments(x, torch.zeros(2), 2500 * torch.eye(2))


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(), DDIM(0.5), DDIM(1.0, spread=True)], ids=repr)
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_copied_state_resumes_with_the_same_bits(sampler: object, stop: int) -> None:
    states = chain(sampler)
    copies = [copy.deepcopy(states[stop - 1]), pickle.loads(pickle.dumps(states[stop - 1]))]  # noqa: S301
    assert not copies[0].x.is_set_to(states[stop - 1].x)
    for state in (*copies, State(states[stop - 1].x, states[stop - 1].t, stop)):
        rest = list(simulate(net_denoiser(chunk=4), sampler, state, TIMES, Rng.of(5, 3)))
        assert len(rest) == 6 - stop
        for a, b in zip(rest, states[stop:], strict=True):
            assert torch.equal(a.x, b.x)
            assert (a.index, float(a.t)) == (b.index, float(b.t))


def test_noise_depends_on_the_step_index() -> None:
    states = chain(Ancestral())
    state = replace(states[1], index=0)
    rest = list(simulate(net_denoiser(chunk=4), Ancestral(), state, TIMES, Rng.of(5, 3)))
    assert not torch.equal(rest[0].x, states[2].x)


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(), DDIM(0.5)], ids=repr)
def test_sample_has_the_same_bits_in_any_batch(sampler: object) -> None:
    everything = chain(sampler, 64)[-1].x
    for n in (1, 2, 7):
        assert torch.equal(chain(sampler, n)[-1].x, everything[:n])
    assert torch.equal(chain(sampler, 3, first=31)[-1].x, everything[31:34])


def test_noise_is_independent_between_steps_and_samples() -> None:
    """The increments of a chain whose model says nothing: successive noises are independent, so variances add."""

    class Origin:
        process = LinearProcess(VPSDE())

        def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
            return LocationScale(torch.zeros_like(xt), torch.zeros(()))

    model, n = Origin(), 20_000
    times = LogSNR()(model.process, 8)
    rng = Rng.of(0, n)
    *_, last, _ = simulate(model, Ancestral(), start(model, rng, (1,), torch.float64), times, rng)
    sigma = model.process.sigma(times[-1])
    assert_mean((last.x / sigma) ** 2, 1.0)
    assert_mean((last.x[1:] * last.x[:-1]) / sigma**2, 0.0)


BAD_TIMES = {
    "rising": [0.2, 0.5],
    "repeated": [1.0, 0.5, 0.5],
    "above one": [1.1, 0.5],
    "below zero": [1.0, -0.1],
    "empty": [],
    "two-dimensional": [[1.0, 0.5]],
    "not a number": [math.nan],
    "not a number inside": [1.0, math.nan, 0.5],
    "not a number at the end": [1.0, 0.5, math.nan],
    "infinite": [math.inf, 0.5],
}


@pytest.mark.parametrize("name", BAD_TIMES)
def test_invalid_times_are_errors(name: str) -> None:
    model = gaussian_data()
    with pytest.raises(ValueError, match=r"times must|a time in \[0, 1\]"):
        next(simulate(model, Ancestral(), torch.zeros(1, 3).double(), tensor(BAD_TIMES[name]), Rng.of(0, 1)))


def test_state_off_the_grid_is_an_error() -> None:
    state = State(torch.zeros(1, 3, dtype=torch.float64), tensor(0.123))
    with pytest.raises(ValueError, match=r"0\.123"):
        next(simulate(gaussian_data(), Ancestral(), state, TIMES, Rng.of(0, 1)))


def test_grad_mode_of_the_caller_is_unchanged() -> None:
    model = net_denoiser()
    rng = Rng.of(0, 2)
    weights = [p.clone() for p in model.parameters()]
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            for state in simulate(model, Ancestral(), start(model, rng, SHAPE), TIMES, rng):
                assert torch.is_grad_enabled() == enabled
                assert not torch.is_inference_mode_enabled()
                assert not state.x.requires_grad
            generator = simulate(model, Ancestral(), start(model, rng, SHAPE), TIMES, rng)
            next(generator)
            generator.close()
            assert torch.is_grad_enabled() == enabled
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_denoiser_may_use_gradients_inside_the_loop() -> None:
    """A denoiser that opens enable_grad works in the loop: no inference mode anywhere."""
    exact = gaussian_data()

    class Guided:
        process = exact.process

        def __call__(self, xt: Tensor, t: Tensor) -> Gaussian:
            with torch.enable_grad():
                x = xt.detach().requires_grad_()
                gradient = torch.autograd.grad(exact.log_prob(x, t).sum(), x)[0]
            posterior = exact(xt, t)
            return Gaussian(posterior.mean + 0 * gradient, posterior.cov)

    a, b = (draw(m, Ancestral(), TIMES, Rng.of(0, 2), (3,), torch.float64) for m in (Guided(), exact))
    assert torch.equal(a, b)


@pytest.mark.parametrize("t", [0.1, 0.6, 1.0])
def test_one_step_to_time_zero_draws_data_points(t: float) -> None:
    """The exact posterior of finite data, stepped to t = 0, draws data points with its own frequencies."""
    model, n = exact_models()["finite"], 20_000
    xt = tensor([[0.2, 0.1]]).expand(n, 2)
    state = Ancestral().step(model, State(xt, tensor(t)), tensor(0.0), Rng.of(3, n))
    distance, nearest = torch.cdist(state.x, model.points).min(1)
    assert float(distance.max()) == 0
    weights = model(xt[:1], tensor(t)).weights[:, 0].flatten()
    assert_frequencies(torch.bincount(nearest, minlength=4).numpy(), weights.numpy())


def test_chain_draws_every_data_point_equally_often() -> None:
    model, n = exact_models()["finite"], 4000
    x = draw(model, Ancestral(), LogSNR()(DDPM, 12), Rng.of(0, n), (2,), torch.float64)
    distance, nearest = torch.cdist(x, model.points).min(1)
    assert float(distance.max()) < 0.05  # x_1 has sigma 0.01
    assert_frequencies(torch.bincount(nearest, minlength=4).numpy(), torch.full((4,), 0.25).double().numpy())


EXACT = [
    (LinearProcess(), 3),
    (LinearProcess(VPSDE()), 6),
    (LinearProcess(LogLinear(), VarianceExploding()), 5),
    (LinearProcess(Straight(), StraightScaling()), 4),
]


@pytest.mark.parametrize(("process", "steps"), EXACT, ids=repr)
@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(0.0, spread=True), DDIM(0.4, spread=True)], ids=repr)
def test_ancestral_chain_is_exact_on_mixtures(sampler: object, process: LinearProcess, steps: int) -> None:
    """`reverse` of a mixture posterior is the exact kernel: moments to 4 standard errors after a handful of steps."""
    model, n = mixture_data(process), 5_000
    mean, cov = mixture_moments(model)
    # From the exact law of x at t = 1, not from the prior.
    rng = Rng.of(11, n)
    x = process.marginal(model_draw(model, n), 1.0).sample(rng.fold("prior"))
    *_, last, _ = simulate(model, sampler, x, LogSNR()(process, steps), rng)
    alpha, sigma = process.coefficients(last.t)
    assert_moments(last.x, alpha * mean, alpha**2 * cov + sigma**2 * torch.eye(2))
    # The third moment tells three modes from one: E(x-m)^3 = sum w (delta^3 + 3 delta C_ii).
    delta = torch.stack([c.mean for c in model.components]) - mean
    spread = torch.stack([torch.diagonal(c.cov) for c in model.components])
    third = (model.weights[:, None] * (delta**3 + 3 * delta * spread)).sum(0)
    assert_mean((last.x - alpha * mean) ** 3, alpha**3 * third)


def model_draw(model: object, n: int) -> Tensor:
    """n exact draws of the data of a mixture."""
    weights = model.weights / model.weights.sum()
    u = Rng.of(77, n).fold("choice").uniform((), torch.float64)
    choice = torch.searchsorted(weights.cumsum(0), u)
    parts = [Gaussian(c.mean.expand(n, 2), c.cov[None]).sample(Rng.of(77, n).fold("data")) for c in model.components]
    return torch.stack(parts)[choice, torch.arange(n)]


def test_errors_along_the_chain_match_the_posterior_covariance() -> None:
    """E|x_0 - E[x_0|x_t]|^2 = tr Cov[x_0|x_t] along the chain, with x_0 drawn from the last posterior."""
    model, n = gaussian_data(), 10_000
    x = Gaussian(DDPM.alpha(1.0) * model.mean.expand(n, 3), model.marginal_cov(tensor(1.0))).sample(Rng.of(1, n))
    states = list(simulate(model, Ancestral(), x, LogSNR()(DDPM, 7), Rng.of(2, n)))
    x0 = states[-1].posterior.sample(Rng.of(3, n))
    times = [1.0, *(float(s.t) for s in states[:-1])]
    for state, t in zip(states, times, strict=True):
        alpha, sigma = (float(c) for c in DDPM.coefficients(t))
        spectrum = torch.linalg.eigvalsh(model.cov)
        expected = float((sigma**2 * spectrum / (alpha**2 * spectrum + sigma**2)).sum())
        assert float(torch.diagonal(state.posterior.cov[0]).sum()) == pytest.approx(expected, rel=1e-10)
        assert_mean(((x0 - state.posterior.mean) ** 2).sum(1), expected)
        assert_mean((x0 - state.posterior.mean) * state.posterior.mean, 0.0)


def test_reconstruction_is_the_posterior_mean() -> None:
    """What is lost is Cov[x_0|x_1], of the order of sigma_1^2."""
    model = FiniteData(tensor([[-1.0], [1.0]]))
    *_, last = simulate(model, DDIM(), Rng.of(0, 50).normal((1,), torch.float64), LogSNR()(DDPM, 40), Rng.of(0, 50))
    torch.testing.assert_close(last.x.abs(), torch.ones(50, 1, dtype=torch.float64), rtol=0, atol=1e-9)


def test_states_keep_their_dtype_through_a_chain() -> None:
    for dtype in (torch.float32, torch.float64):
        for sampler in (Ancestral(), DDIM(), DDIM(0.5), DDIM(0.5, spread=True)):
            assert draw(net_denoiser(), sampler, TIMES, Rng.of(0, 2), SHAPE, dtype).dtype == dtype


@pytest.mark.parametrize("eta", [-0.1, 1.5, math.nan])
def test_invalid_eta_is_an_error(eta: float) -> None:
    with pytest.raises(ValueError, match=str(eta)):
        DDIM(eta)


def test_declared_orders_of_ancestral_and_ddim() -> None:
    assert Ancestral().order is None
    assert DDIM().order == 1
    assert DDIM(0.1).order is None
    assert DDIM(0.0, spread=True).order is None
