"""Processes: schedules that fall and invert, scalings that keep the ratio, bridges that keep the marginal, laws."""

from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.rng import Rng
from diffprob.conform.absorbing import (
    bridge_is_that_of_one_chain,
    bridge_keeps_marginal,
    law_is_stationary,
    laws_add_up,
    share,
)
from diffprob.conform.expectations import check_frozen, check_mean, expect, made, run_checks
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.linear import LinearProcess
from diffprob.process.multinomial import MultinomialProcess


def check_process(process: Any) -> None:
    """Whether a process, or a schedule in the default process, adds noise as everything above relies on.

    The log-SNR falls and its inverse inverts, times are snapped to the schedule's own, alpha and sigma have the ratio
    that the log-SNR says, a bridge keeps the marginal for every eta, and densities integrate to one.

    Of an `AbsorbingProcess` or a survival: the masked share rises from 0 to 1 and inverts, all laws add up to one, and
    a bridge keeps the marginal. Of a `MultinomialProcess`: the laws add up, the prior is stationary, and a bridge keeps
    the marginal and is that of a chain.

    Args:
        process: a `LinearProcess` or a schedule for one, an `AbsorbingProcess` or a survival for one, or a
            `MultinomialProcess`; a class is made with its defaults.

    Raises:
        ConformanceError: the first thing that does not hold, in one sentence.
    """
    process = made(process)
    if hasattr(process, "masked_elements"):
        run_checks(process, (check_frozen,))
        process = AbsorbingProcess(3, process)
    if isinstance(process, AbsorbingProcess):
        run_checks(process, (check_frozen, laws_add_up, bridge_keeps_marginal))
        for schedule in dict.fromkeys((process.survival, process.schedule)):
            run_checks(schedule, (check_frozen, shape_and_precision, snapping, share))
        return
    if isinstance(process, MultinomialProcess):
        run_checks(process, (check_frozen, laws_add_up, law_is_stationary))
        run_checks(process, (bridge_keeps_marginal, bridge_is_that_of_one_chain))
        run_checks(process.schedule, (check_frozen, shape_and_precision, snapping))
        return
    if not hasattr(process, "schedule"):
        run_checks(process, (check_frozen,))
        process = LinearProcess(process)
    for part in (process, process.schedule, process.scaling, process.law):
        run_checks(part, (check_frozen,))
    run_checks(process.schedule, (falling, inversion, shape_and_precision, snapping))
    run_checks(process.scaling, (ratio,))
    run_checks(process, (bridge, densities))
    run_checks(process.law, (standardised, noise_of_times))


def noisy_times(schedule: Any, n: int = 401, end: float = 1.0) -> Tensor:
    """Rising times from the last noisy one."""
    return torch.linspace(schedule.start, end, n, dtype=torch.float64)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _close(value: Tensor, expected: Tensor, relative: float, absolute: float) -> bool:
    expected = expected.expand(value.shape)
    same = (value - expected).abs() <= absolute + relative * expected.abs()
    return bool((same | (value == expected)).all())


def falling(schedule: Any) -> None:
    """The log-SNR falls from the data to the noise."""
    who, logsnr = shown(schedule), schedule.logsnr(noisy_times(schedule))
    expect((logsnr.diff() < 0).all(), f"{who}: the log-SNR does not fall with t")
    expect(torch.isfinite(logsnr[:-1]).all(), f"{who}: the log-SNR is not finite at a noisy time")
    expect(logsnr[-1] < 0, f"{who}: more signal than noise at t = 1")
    expect(schedule.logsnr(_number(0.0)) >= logsnr[0], f"{who}: less signal at t = 0 than at its first noisy time")
    expect(0 <= schedule.start < 1, f"{who}: its first noisy time is {schedule.start:g}, not in [0, 1)")


def inversion(schedule: Any) -> None:
    """time(logsnr(t)) = t, to a few ulps of the logsnr divided by its slope."""
    who, t = shown(schedule), noisy_times(schedule, end=0.9999)
    logsnr = schedule.logsnr(t)
    slope = (torch.gradient(logsnr, spacing=(t,))[0]).abs()
    error = (schedule.time(logsnr) - t).abs()
    allowed = 1e-14 + 1e-14 * (1 + logsnr.abs()) / slope
    expect((error <= allowed).all(), f"{who}: time(logsnr(t)) is not t, but up to {float(error.max()):.3g} off")
    middle = torch.linspace(float(logsnr[0]), float(logsnr[-1]), 101, dtype=torch.float64)
    again = schedule.logsnr(schedule.time(middle))
    expect(_close(again, middle, 1e-11, 1e-11), f"{who}: logsnr(time(l)) is not l")


def shape_and_precision(schedule: Any) -> None:
    """float64 of the shape of t."""
    who = shown(schedule)
    for shape in ((), (1,), (3,)):
        t = torch.full(shape, 0.37, dtype=torch.float64)
        value = schedule.logsnr(t)
        precise = value.dtype == schedule.time(value).dtype == torch.float64
        expect(precise, f"{who}: logsnr and time give {value.dtype} and {schedule.time(value).dtype}, not float64")
        shapes = {tuple(result.shape) for result in (value, schedule.time(value), schedule.snap(t))}
        expect(shapes == {shape}, f"{who}: logsnr, time and snap make {sorted(shapes)} of the shape {shape}")
        same = torch.equal(value, schedule.logsnr(_number(0.37)).expand(shape))
        expect(same, f"{who}: the log-SNR of a time depends on the shape that it comes in")


def snapping(schedule: Any) -> None:
    """`snap` gives the nearest of the schedule's own times; all are its own where it has no steps."""
    who, t = shown(schedule), noisy_times(schedule, 777)
    snapped = schedule.snap(t)
    expect(torch.equal(schedule.snap(snapped), snapped), f"{who}: a time that was snapped is snapped elsewhere")
    if schedule.steps is None:
        expect(torch.equal(snapped, t), f"{who}: has no steps, yet snap moves times")
        return
    expect(schedule.start == 1 / schedule.steps, f"{who}: its first noisy time is {schedule.start:g}, not 1/steps")
    whole = (snapped * schedule.steps).round() / schedule.steps
    expect(torch.equal(whole, snapped), f"{who}: snap gives times that are no multiples of 1/steps")
    near = (snapped - t).abs().max() <= 0.5 / schedule.steps + 1e-12
    expect(near, f"{who}: snap does not give the nearest of its times")
    ends = float(schedule.snap(_number(0.0))) == schedule.start and float(schedule.snap(_number(1.0))) == 1
    expect(ends, f"{who}: snap leaves [start, 1]")
    own = torch.arange(1, schedule.steps + 1, dtype=torch.float64) / schedule.steps
    expect(torch.equal(schedule.snap(own), own), f"{who}: snap moves its own times")


def ratio(scaling: Any) -> None:
    """alpha^2/sigma^2 is what the log-SNR says; signal grows with it, noise falls."""
    who = shown(scaling)
    logsnr = torch.linspace(-15, 20, 141, dtype=torch.float64)
    alpha, sigma = scaling.coefficients(logsnr)
    expect(alpha.dtype == sigma.dtype == torch.float64, f"{who}: coefficients of {alpha.dtype}, not float64")
    expect((alpha > 0).all() and (sigma > 0).all(), f"{who}: a coefficient is not positive")
    same = _close(2 * (alpha.log() - sigma.log()), logsnr, 1e-12, 1e-12)
    expect(same, f"{who}: log(alpha^2/sigma^2) is not the log-SNR")
    expect((alpha.diff() >= 0).all() and (sigma.diff() <= 0).all(), f"{who}: more signal-to-noise with less signal")


def bridge(process: Any) -> None:
    """For every eta, the bridge averaged over q(x_t|x_0) is q(x_s|x_0); it has noise where eta is not 0."""
    who = shown(process)
    # Without any signal at t = 1 an exploding variance is infinite there.
    end = 1.0 if torch.isfinite(process.schedule.logsnr(_number(1.0))) else 0.999
    t = noisy_times(process.schedule, 12, end)
    s, t = torch.cartesian_prod(t, t).T
    s, t = s[s < t], t[s < t]
    (alpha_s, sigma_s), (alpha_t, sigma_t) = process.coefficients(s), process.coefficients(t)
    for eta in (0.0, 0.4, 1.0):
        c = process.bridge_coefficients(s, t, eta)
        mean = _close(c.c0 + c.ct * alpha_t, alpha_s, 1e-12, 1e-14)
        expect(mean, f"{who}: at eta = {eta:g} the bridge does not keep the mean, c0 + ct alpha_t = alpha_s")
        variance = _close(c.ct**2 * sigma_t**2 + c.ell**2, sigma_s**2, 1e-12, 0.0)
        expect(
            variance,
            f"{who}: at eta = {eta:g} the bridge does not keep the variance, (ct sigma_t)^2 + ell^2 = sigma_s^2",
        )
        expect(bool((c.ell > 0).all()) == (eta > 0), f"{who}: the bridge has noise at eta = 0, or none above")


def densities(process: Any) -> None:
    """The densities of noise, of the prior and of a bridge integrate to one."""
    who, x0 = shown(process), torch.tensor([[0.7]], dtype=torch.float64)
    bounded = bool(torch.isfinite(process.sigma(1.0)))
    for t in (process.schedule.start, 0.5, 1.0 if bounded else 0.999):
        expect(float(process.sigma(t)) > 0, f"{who}: no noise at t = {t:g}")
        laws = {"q(x_t|x_0)": process.marginal(x0, t)}
        if bounded:
            laws["the prior"] = process.prior(x0)
        if t < 1:
            laws["the bridge"] = process.bridge(x0, x0, 0.5 * t, t)
        for name, law in laws.items():
            if float(law.std) > 0:
                reach, centre = 14 * max(float(law.std), 1e-9), float(law.mean)
                points = torch.linspace(centre - reach, centre + reach, 2001, dtype=torch.float64)[:, None]
                total = float(law.log_prob(points).exp().sum() * 2 * reach / 2000)
                expect(abs(total - 1) < 1e-10, f"{who}: {name} at t = {t:g} integrates to {total:.12g}, not 1")


def standardised(law: Any) -> None:
    """A density of mean 0 and variance 1, whose samples and distribution function belong to it."""
    who = shown(law)
    points = torch.linspace(-40, 40, 20_001, dtype=torch.float64)
    density = law.log_density(points).exp() * 80 / 20_000
    z = law.sample(Rng.of(0, 30_000), (1,), torch.float64)
    expect(z.shape == (30_000, 1) and z.dtype == torch.float64, f"{who}: samples are {z.dtype} {tuple(z.shape)}")
    for power, expected, what in ((0, 1, "total"), (1, 0, "mean"), (2, 1, "variance"), (3, None, "third moment")):
        moment = float((points**power * density).sum())
        right = expected is None or abs(moment - expected) < 1e-7
        expect(right, f"{who}: the {what} of its density is {moment:.6g}, not {expected}")
        if power:
            check_mean(z**power, moment)
    edges, h = torch.linspace(-4, 4, 81, dtype=torch.float64), 1e-5
    slope = (law.log_cdf(edges + h).exp() - law.log_cdf(edges - h).exp()) / (2 * h)
    expect(
        _close(slope, law.log_density(edges).exp(), 1e-5, 1e-8), f"{who}: log_cdf is not the integral of its density"
    )


def noise_of_times(law: Any) -> None:
    """At every time and in every step the noise has mean 0 and variance 1, of each sample's own time and stream."""
    who, n = shown(law), 4000
    process = LinearProcess(law=law)
    schedule = process.schedule
    rng = Rng.of(5, n)
    for times in (_number(1.0), torch.tensor([0.001, 0.3], dtype=torch.float64).repeat(n // 2)):
        laws = {"at": law.at(schedule, times), "between": law.between(schedule, times - 0.001, times)}
        for name, own in laws.items():
            z = own.sample(rng, (4,), torch.float64)
            expect(z.shape == (n, 4) and z.dtype == torch.float64, f"{who}.{name}: draws {z.dtype} {tuple(z.shape)}")
            for half in (z[::2], z[1::2]):
                check_mean(half.flatten(), 0.0)
                check_mean(half.flatten() ** 2, 1.0)
    few = times[:3]
    alone = law.at(schedule, few[1:2]).sample(rng.select(slice(1, 2)), (4,), torch.float32)
    together = law.at(schedule, few).sample(rng.select(slice(0, 3)), (4,), torch.float32)
    expect(torch.equal(alone, together[1:2]), f"{who}: the noise of a sample depends on its companions")
    x = torch.zeros(3, 4)
    expect(torch.equal(process.noise_like(rng.select(slice(0, 3)), x, few), together), f"{who}: a process draws others")
    same = process.law.stable == bool(law.at(schedule, _number(0.5)).stable)
    expect(same, f"{who}: it is stable in one place and not in another")
