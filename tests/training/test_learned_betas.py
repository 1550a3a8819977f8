"""Rates of a chain that are trained: gradients against the closed form, the optimum, and runs that come back."""

import math

import pytest
import torch
from training.linear_net import for_gaussian
from truth.statistics import assert_mean

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.denoise.learned import LearnedRange
from diffprob.denoise.prediction import X0
from diffprob.process.learned import LearnedBetas, Rates
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import LinearBetas
from diffprob.training.bound import Hybrid, VariationalBound
from diffprob.training.continuous import ContinuousBound
from diffprob.training.denoising import Denoising

T, V, LEVELS = 6, 0.04, 256
SCHEDULE = LearnedBetas(T, 0.01)


def model_of(schedule=SCHEDULE):
    return for_gaussian(LinearProcess(schedule), v=V).double()


def data(n: int, step: int = 0) -> torch.Tensor:
    return math.sqrt(V) * Rng.of(5, n).at(step).fold("data").normal((2,), torch.float64)


def closed_form(betas: torch.Tensor) -> torch.Tensor:
    """The whole bound of N(0, V) in T steps of beta-tilde, nats a dimension: L_T + sum 1/2 (SNR_s - SNR_t) mmse + L_0.

    METHOD 2.5; the decoder's deviation is that of the second step, and its bins are narrow beside it.
    """
    kept = torch.log1p(-betas).cumsum(0).exp()
    snr = kept / (1 - kept)
    mmse = V / (1 + V * snr)
    steps = 0.5 * ((snr[:-1] - snr[1:]) * mmse[1:]).sum()
    ell2 = (1 - kept[0]) * (1 - snr[1] / snr[0])
    decoder = 0.5 * torch.log(2 * math.pi * ell2) + mmse[0] / (2 * ell2) - math.log(2 / (LEVELS - 1))
    return 0.5 * snr[-1] * V + steps + decoder


def test_they_begin_at_an_even_erasure_with_a_fixed_first_rate() -> None:
    betas = SCHEDULE.betas()
    kept = (1 - betas).cumprod(0)
    assert float(betas[0]) == pytest.approx(0.01, abs=1e-15) and float(kept[-1]) == pytest.approx(1 / (T + 1))
    assert torch.allclose(kept.diff(), kept.diff().mean().expand(T - 1))
    rates = SCHEDULE.build()
    assert torch.allclose(rates(), betas, atol=1e-8) and rates.logits.shape == (T - 1,)
    t = torch.arange(1, T + 1, dtype=torch.float64) / T
    live = SCHEDULE.along(rates)
    assert torch.allclose(live.logsnr(t), SCHEDULE.logsnr(t), atol=1e-5) and live.logsnr(t).requires_grad
    assert float(live.logsnr(torch.zeros(1).double()).detach()) == math.inf
    assert repr(SCHEDULE.tabulated(rates)) == "LearnedBetas(steps=6, first=0.01)"


def test_gradient_is_that_of_the_closed_form() -> None:
    """The mean over samples and times, of the value and of each rate's gradient; noise is fixed, the prior counted."""
    model, n = model_of(), 6000
    rates = model.curve
    assert isinstance(rates, Rates)
    with torch.no_grad():
        rates.logits += torch.tensor([0.5, -0.3, 0.2, 0.4, -0.6])
    model.tabulate_schedule()
    model.net.process = model.process
    value = closed_form(rates())
    (expected,) = torch.autograd.grad(value, rates.logits)
    parts = []
    for k in range(20):
        loss = VariationalBound(LEVELS)(model, data(n // 20, k), Rng.of(1000 * k, n // 20)).mean()
        (gradient,) = torch.autograd.grad(loss, rates.logits)
        parts.append(torch.cat([loss.detach()[None].double(), gradient.double()]))
    assert_mean(torch.stack(parts), torch.cat([value.detach()[None], expected.double()]))


def test_trained_rates_reach_the_optimum_of_the_closed_form() -> None:
    """Of what direct minimisation gains by other rates, training on draws gains 49 parts of 50, and never more."""
    schedule = LearnedBetas(4, 0.03)
    best = schedule.build()
    direct = torch.optim.LBFGS(best.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        direct.zero_grad()
        value = closed_form(best())
        value.backward()
        return value

    direct.step(closure)
    model = for_gaussian(LinearProcess(schedule), v=V, prediction=X0()).double()
    optimiser = torch.optim.Adam(model.curve.parameters(), 0.1)
    for k in range(100):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - k / 100)
        loss = VariationalBound(LEVELS)(model, data(512, k), Rng.of(0, 512).at(k)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.tabulate_schedule()
        model.net.process = model.process
    begin, ours = (float(closed_form(betas)) for betas in (schedule.betas(), model.process.schedule.betas()))
    gain = begin - float(closed_form(best()).detach())
    assert gain > 0.15
    assert 0.98 * gain < begin - ours <= gain + 1e-9


def test_weights_bring_the_rates_back() -> None:
    model = model_of()
    with torch.no_grad():
        model.curve.logits += 1.0
    model.tabulate_schedule()
    other = model_of()
    assert other.process != model.process
    other.load_state_dict(model.state_dict())
    assert other.process == model.process and hash(other.process) == hash(model.process)
    assert torch.equal(other.process.schedule.betas()[:1], SCHEDULE.betas()[:1])


def test_other_objectives_refuse_them() -> None:
    process = LinearProcess(SCHEDULE)
    with pytest.raises(InputError, match=r"objective=VariationalBound\(\)"):
        Denoising().check(process, model_of().variance)
    with pytest.raises(InputError, match=r"take objective=VariationalBound\(\)"):
        Hybrid().check(process, LearnedRange())
    with pytest.raises(InputError, match=r"take VariationalBound\(\)"):
        ContinuousBound().check(process, model_of().variance)
    space = type("Space", (), {"levels": LEVELS, "log_det": lambda self: 0.0})()
    with pytest.raises(InputError, match="history=0"):
        VariationalBound(history=2).bind(model_of(), space)
    for arguments in ((1,), (6, 0.0), (6, 0.01, "x")):
        with pytest.raises(ValueError):
            LearnedBetas(*arguments)


def test_fixed_schedules_keep_their_loss() -> None:
    """Neither the prior's part nor gradients are added where there is nothing to train."""
    model = model_of(LinearBetas(T, 0.01, 0.5))
    loss = VariationalBound(LEVELS)(model, data(6000), Rng.of(0, 6000)).detach()
    betas = LinearBetas(T, 0.01, 0.5).betas()
    kept = (1 - betas).prod()
    assert_mean(loss, float(closed_form(betas) - 0.5 * V * kept / (1 - kept)))
