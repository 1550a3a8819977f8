"""Identities between solvers, what they cost, and chains that are put away and taken up again."""

import pickle

import pytest
import torch
from conform.components import name
from truth.models import tensor

from diffprob.base.rng import Rng
from diffprob.conform.sampler import MIXTURE, SDE, MixtureMean, before_reconstruction
from diffprob.denoise.ideal import GaussianData
from diffprob.process.grids import LogSNR, Trailing, Uniform
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine, LinearBetas
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.exponential import DPMpp, DPMppSDE, UniPC
from diffprob.sampling.simulate import State, cost, plan, simulate
from diffprob.sampling.singlestep import DPMFast, DPMSolver, Heun

X = torch.linspace(-1.7, 1.6, 7, dtype=torch.float64)[:, None]
GRIDS = [LogSNR()(SDE, 12), Uniform()(SDE, 9)]


def end(sampler, times, model=None):
    return before_reconstruction(model or MixtureMean(), sampler, X, times, Rng.of(0, 7)).x


@pytest.mark.parametrize("times", GRIDS, ids=["logsnr", "uniform"])
def test_first_order_solvers_equal_ddim(times):
    for solver in (DPMpp(points=1), DPMSolver(order=1)):
        torch.testing.assert_close(end(solver, times), end(DDIM(), times), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("times", GRIDS, ids=["logsnr", "uniform"])
def test_first_order_sde_dpmpp_equals_ancestral(times):
    """Of a posterior without variance: beta-tilde."""
    torch.testing.assert_close(end(DPMppSDE(history=1), times), end(Ancestral(), times), rtol=1e-12, atol=1e-12)


def test_predictor_of_unipc_2_equals_dpmpp_2m():
    """The corrector changes x_t; with the last correction undone both predict alike."""
    model, times = MixtureMean(), GRIDS[0]
    rng = Rng.of(0, 7)
    first = DPMpp(2).step(model, next(simulate(model, DPMpp(2), X, times, rng)), times[2], rng)
    # UniPC's second step on the same history, without correcting x.
    posteriors = [model(X, times[0]), model(next(simulate(model, DPMpp(2), X, times, rng)).x, times[1])]
    start = next(simulate(model, DPMpp(2), X, times, rng)).x
    images = [posteriors[1].mean, posteriors[0].mean]
    predicted = UniPC(2)._advance(SDE, start, times[2], [times[1], times[0]], images)
    torch.testing.assert_close(predicted, first.x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sampler", [DPMpp(3), DPMppSDE(), UniPC(3)], ids=name)
def test_pickled_multistep_chain_resumes_with_the_same_bits(sampler):
    model, times, rng = GaussianData(tensor([0.4]), tensor([[0.3]]), SDE), GRIDS[0], Rng.of(4, 7)
    states = list(simulate(model, sampler, X, times, rng))
    halfway = pickle.loads(pickle.dumps(states[5]))  # noqa: S301 - our own bytes
    assert halfway.memory
    assert torch.equal(list(simulate(model, sampler, halfway, times, rng))[-1].x, states[-1].x)


@pytest.mark.parametrize("process", [LinearProcess(LinearBetas()), LinearProcess(Cosine())], ids=str)
@pytest.mark.parametrize("solver", [DPMpp(), UniPC(), DPMSolver(), Heun()], ids=name)
def test_second_order_beats_ddim_on_tabulated_schedules(process, solver):
    """At 80 evaluations, where the exact flow of N(m, v) is known."""
    mean, variance = tensor([0.4]), tensor([[0.05]])
    model = GaussianData(mean, variance, process)

    def error(sampler):
        times = LogSNR()(process, plan(sampler, 80)[1])
        (a0, s0), (a1, s1) = process.coefficients(times[0]), process.coefficients(times[-1])
        spread = ((a1**2 * 0.05 + s1**2) / (a0**2 * 0.05 + s0**2)).sqrt()
        exact = a1 * 0.4 + spread * (X - a0 * 0.4)
        return float((before_reconstruction(model, sampler, X, times, Rng.of(0, 7)).x - exact).abs().max())

    assert error(solver) < 0.5 * error(DDIM())


def test_churn_keeps_the_marginal_law():
    """Heun with churn on a mixture: two moments of the data's noisy law, within four standard errors."""
    n, times = 4000, LogSNR()(SDE, 80)
    rng = Rng.of(3, n)
    model = MixtureMean()
    (a, s), (b, r) = (tuple(float(c) for c in SDE.coefficients(t)) for t in (times[0], times[-1]))
    z = rng.fold("x").normal((2,), torch.float64)
    weights, means, variances = (
        torch.from_numpy(v).flatten() for v in (MIXTURE.weights, MIXTURE.means, MIXTURE.variances)
    )
    kind = (torch.special.ndtr(z[:, :1]) > weights.cumsum(0)).sum(1).clamp_max(2)
    x = (a * means[kind] + (a * a * variances[kind] + s * s).sqrt() * z[:, 1])[:, None]
    last = before_reconstruction(model, Heun(churn=0.3), x, times, rng).x[:, 0]
    assert abs(float(last.mean() - b * weights @ means)) < 4 * float(last.std()) / n**0.5
    square, second = last**2, b * b * weights @ (variances + means**2) + r * r
    assert abs(float(square.mean() - second)) < 4 * float(square.std()) / n**0.5


@pytest.mark.parametrize("total", range(1, 20))
def test_fast_uses_the_requested_evaluations(total):
    """Order 3 for all steps but the last: {2, 1}, {1} or {2} for K mod 3 = 0, 1, 2 (the published code)."""
    sampler, n = plan(DPMFast(), total + 1)
    orders = sampler.costs(n - 1)
    assert sum(orders) == total
    assert cost(sampler, n) == total + 1
    assert orders[-2:] == {0: (2, 1), 1: (3, 1), 2: (3, 2)}[total % 3] or total < 3
    assert all(order == 3 for order in orders[: -2 if total % 3 == 0 else -1])


def test_fast_equals_single_steps_of_the_expected_orders():
    sampler, n = plan(DPMFast(), 10)
    times, model, rng = LogSNR()(SDE, n), MixtureMean(), Rng.of(0, 7)
    state = State(X, times[0])
    for s, order in zip(times[1:], (3, 3, 2, 1), strict=True):
        state = DPMSolver(order).step(model, state, s, rng)
    assert torch.equal(end(sampler, times), state.x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPMpp(points=4), "points must be 1, 2 or 3, got 4"),
        (lambda: DPMppSDE(history=3), "history must be 1 or 2, got 3"),
        (lambda: UniPC(p=0), "p must be 1, 2 or 3, got 0"),
        (lambda: UniPC(variant="bh3"), "variant must be one of bh1, bh2, got 'bh3'"),
        (lambda: DPMSolver(order=4), "order must be 1, 2 or 3, got 4"),
        (lambda: DPMFast(total=0), "total must be at least 1, got 0"),
        (lambda: Heun(churn=-1), r"churn must lie in \[0, 1e6\], got -1"),
        (lambda: Heun(lowest=2.0, highest=1.0), "lowest must lie between 0 and highest"),
        (lambda: Heun(noise=0.0), r"noise must lie in \(0, 1000\], got 0.0"),
    ],
)
def test_invalid_settings_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sde_solver_matches_diffusers_with_the_same_noise():
    """DPMSolverMultistepScheduler, algorithm sde-dpmsolver++, trailing: float32 in both, errors of 1e-7 a step."""
    diffusers = pytest.importorskip("diffusers")
    process, rng = LinearProcess(LinearBetas()), Rng.of(3, 16)
    model, n = GaussianData(tensor([0.4, -0.1]), torch.diag(tensor([0.3, 0.01])), process), 6
    x = rng.fold("prior").normal((2,))
    state = list(simulate(model, DPMppSDE(2), x, Trailing()(process, n), rng))[-1]
    scheduler = diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", timestep_spacing="trailing")
    scheduler.set_timesteps(n)
    for k, label in enumerate(scheduler.timesteps):
        t = (label.double() + 1) / 1000
        alpha, sigma = (c.float() for c in process.coefficients(t))
        noise = (x - alpha * model(x, t).mean) / sigma
        x = scheduler.step(noise, label, x, variance_noise=rng.fold("step").at(k).normal((2,))).prev_sample
    torch.testing.assert_close(state.x, x, rtol=0, atol=1e-4)
