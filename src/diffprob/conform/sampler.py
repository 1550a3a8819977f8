"""Samplers against exact models: purity, noise, companions, evaluations, declared order, weak moments."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.distributions import LocationScale
from diffprob.base.errors import ConformanceError
from diffprob.base.rng import Rng
from diffprob.conform.expectations import check_frozen, check_mean, check_order, expect, made, refuses, run_checks
from diffprob.conform.references import IsotropicData, LineMixture, exact_models, net_denoiser, tensor
from diffprob.denoise.denoiser import Denoiser
from diffprob.denoise.ideal import GaussianData
from diffprob.process.grids import LogSNR, Uniform
from diffprob.process.linear import LinearProcess, StraightScaling, SubVariancePreserving, VarianceExploding
from diffprob.process.schedule import VPSDE, Cosine, LinearBetas, LogLinear, Straight, SubVP
from diffprob.sampling.simulate import Sampler, State, cost, draw, plan, simulate, start

SDE = LinearProcess(VPSDE())
PROCESSES = (
    *(SDE, LinearProcess(LinearBetas(10, 0.01, 0.5)), LinearProcess(Cosine(50))),
    LinearProcess(SubVP(), SubVariancePreserving()),
    LinearProcess(LogLinear(), VarianceExploding()),
    LinearProcess(Straight(), StraightScaling()),
)
TIMES = Uniform()(SDE, 6)
SHAPE = (1, 8, 8)
WIDTH = 250  # independent elements of an event: norms over it hardly vary, which predictor-corrector methods rely on
STEPS = (40, 80, 160, 320)
MIXTURE = LineMixture([0.5, 0.3, 0.2], [-0.9, 0.2, 1.1], [0.05, 0.02, 0.1])


def check_sampler(sampler: Sampler | type[Sampler]) -> None:
    """Whether a sampler does what `diffprob.sampling.simulate` and everything above rely on.

    A step is pure, moves the clock and refuses to go up; noise depends on the seed and the step, and a sampler that
    declares an order uses none; an image depends on none of its companions; a chain that is resumed goes on; it works
    with every kind of posterior and on every process, with as many evaluations as it says. With an order, the errors on
    Gaussian data and on a mixture fall with it; without one, mean and variance are those of the data.

    Args:
        sampler: of any kind; a class is made with its defaults.

    Raises:
        ConformanceError: the first thing that it does not do, in one sentence.
    """
    ours: Any = made(sampler)
    general = (check_frozen, purity, descent, noise, companions, resuming, posteriors, processes, evaluations)
    run_checks(ours, general)
    if not is_deterministic(ours):
        run_checks(ours, (moments,))
    elif has_fixed_steps(ours):
        run_checks(ours, (order_on_gaussian_data, order_on_a_mixture))


def is_deterministic(sampler: Sampler) -> bool:
    """A sampler that declares an order follows the probability flow."""
    return sampler.order is not None


def has_fixed_steps(sampler: Sampler) -> bool:
    """Steps of its own choosing have an order in the tolerance, not in the grid."""
    return is_deterministic(sampler) and sampler.evaluations is not None


def purity(sampler: Sampler) -> None:
    """The same arguments give the same bits, nothing that came in is changed, and the clock moves."""
    who = shown(sampler)
    expect(
        sampler.order is None or sampler.order >= 1, f"{who} declares the order {sampler.order}; at least 1, or None"
    )
    for dtype in (torch.float32, torch.float64):
        model, rng = net_denoiser(SDE), Rng.of(3, 4)
        x = start(model, rng, SHAPE, dtype)
        state, kept = State(x, TIMES[1], index=1), x.clone()
        with torch.no_grad():
            first, second = (sampler.step(model, state, TIMES[2], rng) for _ in range(2))
        expect(torch.equal(first.x, second.x), f"{who}: a step gives other bits for the same arguments")
        expect(torch.equal(x, kept) and state.index == 1, f"{who}: a step changes the state that came in")
        expect(first.index == 2, f"{who}: the index after a step is {first.index}, not one more than before (2)")
        expect(
            float(first.t) == float(TIMES[2]), f"{who}: the state after a step stands at t = {float(first.t):g}, not s"
        )
        same = first.x.shape == x.shape and first.x.dtype == dtype
        expect(same, f"{who}: a step makes {first.x.dtype} {tuple(first.x.shape)} of {dtype} {tuple(x.shape)}")
        expect(not torch.equal(first.x, x), f"{who}: a step moves nothing")
        known = first.posterior is not None and first.posterior.mean.shape == x.shape
        expect(known, f"{who}: the state after a step lacks the posterior that led there")


def descent(sampler: Sampler) -> None:
    """A step upwards, to no time, or with another number of streams than of samples is refused (`check_step`)."""
    model = net_denoiser(SDE)
    state = State(start(model, Rng.of(0, 3), SHAPE), TIMES[1])
    for s, what in ((TIMES[0], "a step up in time"), (TIMES[1] * math.nan, "a step to no time")):
        refuses(sampler, lambda s=s: sampler.step(model, state, s, Rng.of(0, 3)), what)
    refuses(sampler, lambda: sampler.step(model, state, TIMES[2], Rng.of(0, 2)), "two streams for three samples")


def noise(sampler: Sampler) -> None:
    """Noise depends on the seed and on the step; a sampler that declares an order uses none."""
    who, model = shown(sampler), net_denoiser(SDE)
    x = start(model, Rng.of(3, 4), SHAPE)
    with torch.no_grad():
        same, other_seed, other_step = (
            sampler.step(model, State(x, TIMES[1], index=i), TIMES[2], Rng.of(seed, 4)).x
            for seed, i in ((3, 1), (50, 1), (3, 2))
        )
    # A stochastic sampler whose model has no variance may still be deterministic: DDIM(0, spread=True) on a point
    # posterior.
    noisy, stepwise = not torch.equal(same, other_seed), not torch.equal(same, other_step)
    expect(noisy == stepwise, f"{who}: the noise depends on the {'seed' if noisy else 'step'} alone, not on both")
    expect(not (is_deterministic(sampler) and noisy), f"{who} declares an order, but its steps depend on the seed")


def companions(sampler: Sampler) -> None:
    """Image i has the same bits alone, in another batch and in another place of it."""
    who, model = shown(sampler), net_denoiser(SDE, chunk=4)
    everything = draw(model, sampler, TIMES, Rng.of(5, 9), SHAPE)
    backwards = Rng.of(5, 9).select(torch.arange(8, -1, -1))
    for rng, expected, what in (
        (Rng.of(5, 1), everything[:1], "alone"),
        (Rng.of(5, 3, first=6), everything[6:], "in a batch of three"),
        (backwards, everything.flip(0), "in another order"),
    ):
        same = torch.equal(draw(model, sampler, TIMES, rng, SHAPE), expected)
        expect(same, f"{who}: an image has other bits {what} than in a batch of nine")


def resuming(sampler: Sampler) -> None:
    """A chain that goes on from a copy of one of its states ends with the same bits."""
    model, rng = net_denoiser(SDE), Rng.of(1, 2)
    states = list(simulate(model, sampler, start(model, rng, SHAPE), TIMES, rng))
    for stop in (1, 4):
        resumed = list(simulate(model, sampler, copy.deepcopy(states[stop - 1]), TIMES, rng))
        same = torch.equal(resumed[-1].x, states[-1].x) and len(resumed) == len(states) - stop
        expect(same, f"{shown(sampler)}: a chain that is resumed after {stop} steps ends elsewhere")


def posteriors(sampler: Sampler, kinds: Sequence[str] = ()) -> None:
    """Normal laws, mixtures, finite data: every kind of posterior leads to finite states."""
    models = exact_models(SDE)
    for kind in kinds or models:
        model, rng = models[kind], Rng.of(0, 3)
        for state in simulate(model, sampler, start(model, rng, (2,), torch.float64), TIMES, rng):
            expect(torch.isfinite(state.x).all(), f"{shown(sampler)}: a state under the {kind} model is not finite")


def processes(sampler: Sampler, over: Sequence[LinearProcess] = PROCESSES) -> None:
    """From the exact law at the first time, 40 steps end where the data is: means within the data's spread."""
    for process in over:
        model = IsotropicData(0.4, 0.01, process)
        n = 2 if sampler.evaluations is None else min(40, process.schedule.steps or 40)
        times, rng = LogSNR()(process, n), Rng.of(0, 8)
        alpha, sigma = process.coefficients(times[0])
        x = alpha * 0.4 + (sigma**2 + alpha**2 * 0.01).sqrt() * rng.fold("x").normal((WIDTH,), torch.float64)
        *_, last = simulate(model, sampler, x, times, rng)
        where = f"{shown(sampler)} on {shown(process.schedule)}"
        _named(where, check_mean, last.x.flatten(), 0.4)
        # A table of ten betas up to 0.5 is coarser: solvers of the SDE are of first order.
        spread = float(last.x.std())
        expect(0 < spread < (0.13 if n != 10 else 0.15), f"{where}: samples spread by {spread:.3f}, the data by 0.1")


class MixtureMean:
    """The exact posterior mean of `MIXTURE`, independently: all that a solver of the flow may use."""

    process = SDE

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
        """A point."""
        alpha, sigma = (c.expand(len(xt)) for c in SDE.coefficients(t))
        guess = torch.from_numpy(MIXTURE.noise(xt[:, 0].numpy(), alpha.numpy(), sigma.numpy()))
        return LocationScale((xt - (sigma * guess)[:, None]) / alpha[:, None], torch.zeros((), dtype=xt.dtype))


class Counting(MixtureMean):
    """Counts its evaluations, of samples too."""

    calls = samples = 0

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
        """As there."""
        self.calls += 1
        self.samples += len(xt)
        return super().__call__(xt, t)


def evaluations(sampler: Sampler, over: Sequence[int] = (1, 2, 7, 12)) -> None:
    """The model is asked as often as `cost` says, and never more than was allowed."""
    for allowed in over:
        x = torch.linspace(-1.7, 1.6, 3, dtype=torch.float64)[:, None]
        model, (planned, n) = Counting(), plan(sampler, allowed)
        list(simulate(model, planned, x, Uniform()(SDE, n), Rng.of(0, 3)))
        who = shown(planned)
        if planned.evaluations is None:
            # By tolerance: a grid of two times, and a sample that has arrived is not evaluated any more.
            expect((n, cost(planned, n)) == (2, None), f"{who} has no number of evaluations, yet a plan of {n} times")
            expect(3 * 4 < model.samples < 3 * model.calls, f"{who}: samples that have arrived are evaluated still")
            continue
        expect(
            model.calls == cost(planned, n), f"{who} asks the model {model.calls} times, and says {cost(planned, n)}"
        )
        expect(model.calls <= allowed, f"{who} takes {model.calls} evaluations where {allowed} were allowed")
        spared = model.calls > allowed - planned.evaluations
        expect(spared, f"{who} takes {model.calls} of {allowed} evaluations, though one more step would fit")


def before_reconstruction(model: Denoiser, sampler: Sampler, x: Tensor, times: Tensor, rng: Rng) -> State:
    """The state at the last noisy time."""
    *_, last, _ = simulate(model, sampler, x, times, rng)
    return last


def order_on_gaussian_data(sampler: Sampler) -> None:
    """The probability flow of N(m, C) in closed form: x -> alpha_s m + (S_s/S_t)^(1/2) (x - alpha_t m)."""
    mean, variances = tensor([0.4, -0.2, 0.1]), tensor([0.9, 0.1, 0.01])
    model = GaussianData(mean, torch.diag(variances), SDE)
    x = Rng.of(2, 4).normal((3,), torch.float64)
    (alpha, sigma), (alpha_s, sigma_s) = (SDE.coefficients(t) for t in LogSNR()(SDE, 2))
    ratio = (alpha_s**2 * variances + sigma_s**2) / (alpha**2 * variances + sigma**2)
    _check_flow(sampler, "Gaussian data", model, x, alpha_s * mean + ratio.sqrt() * (x - alpha * mean))


def order_on_a_mixture(sampler: Sampler) -> None:
    """Against fourth-order Runge-Kutta with 1000 steps of an independent implementation."""
    x = torch.linspace(-1.7, 1.6, 7, dtype=torch.float64)[:, None]
    first, last = ((float(alpha), float(sigma)) for alpha, sigma in map(SDE.coefficients, LogSNR()(SDE, 2)))
    exact = torch.from_numpy(MIXTURE.flow(x[:, 0].numpy(), first, last))[:, None]
    _check_flow(sampler, "a mixture", MixtureMean(), x, exact)


def _check_flow(sampler: Sampler, data: str, model: Denoiser, x: Tensor, exact: Tensor) -> None:
    rng = Rng.of(0, len(x))
    ends = [before_reconstruction(model, sampler, x, LogSNR()(SDE, n + 1), rng).x for n in STEPS]
    errors = [float((end - exact).abs().max()) for end in ends]
    _named(f"{shown(sampler)} on {data}", check_order, sampler.order, STEPS, errors)


def moments(sampler: Sampler) -> None:
    """Mean and variance after 120 steps, within 4 standard errors and the O(1/K) bias of a step without the
    posterior's spread.

    That bias is 8% at eta = 1 by the exact recursion; a sign error or a wrong index moves the variance by tens of
    percents.
    """
    n, who = 2000, f"{shown(sampler)} on N(0.4, 0.3)"
    model, times = IsotropicData(0.4, 0.3, SDE), LogSNR()(SDE, 120)
    (alpha, sigma), (alpha_s, sigma_s) = (SDE.coefficients(times[k]) for k in (0, -1))
    rng = Rng.of(9, n // WIDTH)
    x = alpha * 0.4 + (alpha**2 * 0.3 + sigma**2).sqrt() * rng.normal((WIDTH,), torch.float64)
    last = before_reconstruction(model, sampler, x, times, rng).x.flatten()
    mean, variance = alpha_s * 0.4, float(alpha_s**2 * 0.3 + sigma_s**2)
    _named(who, check_mean, last, mean)
    square = (last - mean) ** 2
    spread = float(square.mean())
    allowed = 4 * float(square.std()) / n**0.5 + 0.08 * variance
    expect(
        abs(spread - variance) < allowed, f"{who}: the samples' variance is {spread:.3f}, that of x_t {variance:.3f}"
    )
    kurtosis = float(((last - mean) ** 4).mean() / square.mean() ** 2)
    expect(abs(kurtosis - 3) < 4 * (24 / n) ** 0.5, f"{who}: the samples' kurtosis is {kurtosis:.2f}, a normal law's 3")


def _named(who: str, check: Any, *arguments: Any) -> None:
    """A comparison whose sentence begins with what was compared."""
    try:
        check(*arguments)
    except ConformanceError as error:
        raise ConformanceError(f"{who}: {error}") from None
