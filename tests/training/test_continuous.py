"""The bound of infinitely many steps, and schedules that learn: closed forms, VDM's invariance, runs that come back."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from training.linear_net import for_gaussian
from truth.statistics import LIMIT, assert_mean

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.config.registry import ALL
from diffprob.config.spec import parse, render
from diffprob.denoise.learned import LearnedRange
from diffprob.denoise.prediction import X0, Epsilon, V
from diffprob.likelihood.bound import Decoder, continuous_bound, variational_bound
from diffprob.likelihood.flow import flow_log_prob
from diffprob.process.grids import Uniform
from diffprob.process.learned import Learned
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import VPSDE, LogLinear, Straight
from diffprob.runs.folder import Run
from diffprob.sampling.ancestral import Ancestral
from diffprob.sampling.simulate import simulate, start
from diffprob.training.bound import VariationalBound
from diffprob.training.continuous import ContinuousBound
from diffprob.training.denoising import Denoising

LEARNED = LinearProcess(Learned(6.0, -5.0, 8))


@dataclass(frozen=True)
class LateVPSDE(VPSDE):
    """So much time without noise that whoever forgets it is wrong by a third."""

    start = 0.3


@dataclass(frozen=True)
class LateLearned(Learned):
    """Likewise."""

    start = 0.3


LATE = LinearProcess(LateLearned(6.0, -5.0, 8))


def gaussian(n, v=0.4, d=4):
    return math.sqrt(v) * Rng.of(5, n).fold("data").normal((d,), torch.float64)


def closed_form(process, v=0.4):
    """1/2 int E|eps - eh|^2/d d(-logsnr) for N(0, v I) and the exact mean: half the log of (1 + v SNR) at the ends."""
    ends = [1 + v * math.exp(float(process.logsnr(t))) for t in (process.schedule.start, 1.0)]
    return 0.5 * math.log(ends[0] / ends[1])


def bent(model, seed=0):
    """Another curve between the same ends."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.curve.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
        model.curve.heights += 5
    model.tabulate_schedule()
    model.net.process = model.process
    return model


@pytest.mark.parametrize("importance", [False, True])
@pytest.mark.parametrize("prediction", [Epsilon(), V(), X0()], ids=repr)
@pytest.mark.parametrize(
    "process", [LinearProcess(LateVPSDE()), LinearProcess(LogLinear(0.05, 10.0), VarianceExploding())], ids=repr
)
def test_average_loss_matches_the_closed_form(process, prediction, importance):
    n = 20_000
    model = for_gaussian(process, prediction=prediction)
    loss = ContinuousBound(importance)(model, gaussian(n), Rng.of(0, n)).detach()
    assert_mean(loss, closed_form(process))
    assert loss.std() / math.sqrt(n) < 0.04 * closed_form(process)


def test_importance_sampling_lowers_the_variance():
    n, model = 4000, for_gaussian(LinearProcess(VPSDE()))
    even, chosen = (ContinuousBound(on)(model, gaussian(n), Rng.of(0, n)).detach() for on in (False, True))
    assert chosen.var() < 0.1 * even.var()


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_loss_depends_only_on_the_ends_of_the_schedule(seed):
    """Kingma et al. 2021, section 5.1: the closed form knows the ends alone."""
    n, model = 20_000, for_gaussian(LATE)
    if seed is not None:
        bent(model, seed)
    loss = ContinuousBound()(model, gaussian(n), Rng.of(0, n)).detach()
    assert_mean(loss, closed_form(LATE))
    assert loss.std() / math.sqrt(n) < 0.03 * closed_form(LATE)


def test_learned_schedule_is_monotone_and_keeps_its_ends():
    straight, model = Learned(6.0, -5.0, 8), bent(for_gaussian(LEARNED))
    schedule = model.process.schedule
    t = torch.linspace(1e-3, 1, 2001, dtype=torch.float64)
    logsnr = schedule.logsnr(t)
    assert float(logsnr[0]) == pytest.approx(6, abs=1e-12) and float(logsnr[-1]) == pytest.approx(-5, abs=1e-12)
    assert (logsnr.diff() < 0).all()
    assert (logsnr - straight.logsnr(t)).abs().max() > 0.5, "it is another curve"
    torch.testing.assert_close(schedule.time(logsnr), t, rtol=0, atol=1e-12)
    exact, rate = schedule.along(model.curve, t)
    # The table is linear between 1025 points.
    torch.testing.assert_close(logsnr, exact.detach(), rtol=0, atol=1e-3)
    h = 1e-6
    middle = t[1:-1]
    slope = (schedule.along(model.curve, middle + h)[0] - schedule.along(model.curve, middle - h)[0]) / (2 * h)
    torch.testing.assert_close(rate[1:-1], -slope, rtol=1e-6, atol=1e-6)
    assert model.process != LEARNED and model.process.schedule == replace(schedule)
    assert repr(schedule) == "Learned(most=6.0, least=-5.0, units=8)"


def test_bound_measured_on_the_learned_schedule_matches_the_closed_form():
    """The bound of infinitely many steps that is measured afterwards has the same closed form."""
    n, model = 2000, bent(for_gaussian(LEARNED))
    with torch.no_grad():
        bound = continuous_bound(model, gaussian(n), Rng.of(0, n), 5, Decoder(None, 0.1)).steps / 4
    assert_mean(bound, closed_form(LEARNED))


def test_noise_falls_to_zero_below_the_last_noisy_time():
    t = torch.tensor([0.0, 1e-4, 5e-4, 1e-3], dtype=torch.float64)
    ratio = torch.exp(-0.5 * LEARNED.logsnr(t))
    torch.testing.assert_close(ratio, math.exp(-3) * t / 1e-3, rtol=1e-12, atol=0)
    torch.testing.assert_close(LEARNED.schedule.time(LEARNED.logsnr(t)), t, rtol=1e-12, atol=0)


def test_schedule_minimises_the_squared_loss_and_network_the_loss():
    """Gradients against central differences of the averages of loss^2 and of loss."""
    model = for_gaussian(LEARNED, factor=0.8)
    model.double()
    x0, rng = gaussian(200), Rng.of(0, 200)

    def loss():
        return ContinuousBound()(model, x0, rng)

    loss().mean().backward()
    cases = [(model.net.factor, 1)] + [(parameter, 2) for parameter in model.curve.parameters()]
    h = 1e-5
    for parameter, power in cases:
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for i in range(0, len(flat), 3):
            old = float(flat[i])
            with torch.no_grad():
                flat[i] = old + h
                above = float((loss() ** power).mean())
                flat[i] = old - h
                below = float((loss() ** power).mean())
                flat[i] = old
            assert float(gradient[i]) == pytest.approx((above - below) / (2 * h), rel=1e-4, abs=1e-7)


def test_training_only_the_schedule_lowers_the_variance():
    n = 256
    model = for_gaussian(LEARNED)
    model.net.factor.requires_grad_(False)
    adam = torch.optim.Adam(model.curve.parameters(), lr=0.05)
    for step in range(100):
        adam.zero_grad()
        rng = Rng.of(0, n).at(step)
        x0 = math.sqrt(0.4) * rng.fold("data").normal((4,), torch.float64)
        ContinuousBound()(model, x0, rng).mean().backward()
        adam.step()
    model.tabulate_schedule()
    model.net.process = model.process
    n = 10_000
    before, after = (ContinuousBound()(m, gaussian(n), Rng.of(9, n)).detach() for m in (for_gaussian(LEARNED), model))
    assert after.var() < 0.8 * before.var()
    error = math.sqrt(float(before.var() + after.var()) / n)
    assert abs(float(before.mean() - after.mean())) < LIMIT * error


def test_untrainable_combinations_are_errors():
    x0, rng = gaussian(2), Rng.of(0, 2)
    learned = for_gaussian(LEARNED)
    with pytest.raises(InputError, match=r"take objective=ContinuousBound\(\)"):
        Denoising()(learned, x0, rng)
    with pytest.raises(InputError, match=r"ContinuousBound\(importance=False\)"):
        ContinuousBound(True)(learned, x0, rng)
    with pytest.raises(InputError, match="is continuous"):
        VariationalBound(levels=17)(learned, x0, rng)
    with pytest.raises(InputError, match="take variance=Zero"):
        ContinuousBound()(for_gaussian(LEARNED, variance=LearnedRange()), x0, rng)
    with pytest.raises(InputError, match="is infinite"):
        ContinuousBound()(for_gaussian(LinearProcess(Straight(), StraightScaling()), prediction=V()), x0, rng)
    for wrong in ({"most": -11.0}, {"units": 0}, {"table": 3}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Learned(**wrong)


@pytest.fixture
def recipe(recipe):
    """The tiny recipe with a schedule that learns, fast enough to see it."""
    training = replace(recipe.training, lr=1e-2)
    return replace(recipe, process=LEARNED, objective=ContinuousBound(), training=training)


def test_run_with_a_learned_schedule_resumes_and_loads(train, final_state, recipe, tmp_path):
    """Resumed bits are equal; loaded, the process has the averaged curve, and samples and bounds take it as any."""

    def interrupt(progress):
        if progress.step == 12:
            raise KeyboardInterrupt

    trainer = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", on_step=interrupt)
    train(tmp_path / "cut")
    left, right = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    assert left[1].keys() == right[1].keys() and left[2] == right[2]
    assert all(torch.equal(tensor, right[1][name]) for name, tensor in left[1].items())

    run = Run.open(tmp_path / "whole")
    assert parse(render(run.recipe), ALL) == run.recipe and run.recipe.process == LEARNED
    model = run.load()
    t = torch.linspace(1e-3, 1, 50, dtype=torch.float64)
    wanted = model.process.schedule.along(trainer.average.curve, t)[0]
    torch.testing.assert_close(model.process.logsnr(t), wanted, rtol=0, atol=1e-4)
    assert (model.process.logsnr(t) - LEARNED.logsnr(t)).abs().max() > 0.01, "it has moved"
    assert torch.equal(model.process.logsnr(0.5), model.process.logsnr(torch.tensor([0.5], dtype=torch.float64))[0])
    times, rng = Uniform()(model.process, 5), Rng.of(0, 3)
    for state in simulate(model, Ancestral(), start(model, rng, (1, 8, 8)), times, rng):
        assert torch.isfinite(state.x).all()
    bound = variational_bound(model, torch.zeros(3, 1, 8, 8), times, rng, Decoder(17))
    assert torch.isfinite(bound.total).all()
    flow = flow_log_prob(model, torch.zeros(1, 1, 8, 8), Rng.of(0, 1), rtol=0.1, atol=0.1)
    assert torch.isfinite(flow.log_prob).all()
