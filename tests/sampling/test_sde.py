"""Solvers of the reverse SDE: weak order by exact moments, and the predictor-corrector method where it is defined."""

import itertools
import math

import pytest
import torch
from truth.models import MEAN, IsotropicData, gaussian_data, net_denoiser, tensor
from truth.order import assert_order

from diffprob.base.distributions import Dirac
from diffprob.base.rng import Rng
from diffprob.denoise.variance import UnitData
from diffprob.process.geometric import Geometric
from diffprob.process.grids import LogSNR, Uniform
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import VPSDE, LinearBetas, LogLinear, OrnsteinUhlenbeck, Straight
from diffprob.sampling.ancestral import Ancestral
from diffprob.sampling.langevin import AnnealedLangevin, balanced_size
from diffprob.sampling.sde import EulerMaruyama, PredictorCorrector, ReverseDiffusion
from diffprob.sampling.simulate import State, simulate

STEPS = (40, 80, 160, 320)
PROCESSES = {
    "table": LinearProcess(LinearBetas()),
    "vp": LinearProcess(VPSDE()),
    "ve": LinearProcess(LogLinear(0.01, 5.0), VarianceExploding()),
}


SPREAD = tensor([0.9, 0.1, 0.002])


def law_at_the_end(process, sampler, times):
    """Exact mean and variance of every element of the chain on N(MEAN, diag SPREAD): a step is affine in x."""
    model = IsotropicData(MEAN, SPREAD, process)
    alpha, sigma = process.coefficients(times[0])
    mean, variance = alpha * MEAN, alpha**2 * SPREAD + sigma**2
    ends = torch.stack([torch.zeros(3), torch.ones(3)]).double()
    for t, s in itertools.pairwise(times):
        law = sampler.kernel(process, model(ends, t), ends, s, t)
        gain = law.mean[1] - law.mean[0]
        mean, variance = gain * mean + law.mean[0], gain**2 * variance + law.variance
    return mean, variance


@pytest.mark.parametrize("sampler", [EulerMaruyama(), ReverseDiffusion()], ids=repr)
@pytest.mark.parametrize("kind", PROCESSES)
def test_sde_solvers_have_weak_order_one(kind: str, sampler) -> None:
    """Mean and variance of the chain without sampling: slope 1 from 40 to 320 steps, also on a table of 1000 times.

    Subgrids of the table are uniform: those in log-SNR cannot get finer than the table near the data.
    """
    process, errors = PROCESSES[kind], []
    for steps in STEPS:
        times = (Uniform() if kind == "table" else LogSNR())(process, steps + 1)
        mean, variance = law_at_the_end(process, sampler, times)
        alpha, sigma = process.coefficients(times[-1])
        relative = variance / (alpha**2 * SPREAD + sigma**2) - 1
        errors.append((float((mean - alpha * MEAN).abs().max()), float(relative.abs().max())))
    means, variances = zip(*errors, strict=True)
    assert_order(1, STEPS, variances, slack=0.15)
    if kind == "ve":  # its score has mean 0, and so has every step
        assert max(means) < 1e-12
    else:
        assert_order(1, STEPS, means, slack=0.15)


def test_steps_between_knots_match_the_papers() -> None:
    """x + log(1 - beta)/2-drift and beta noise; reverse diffusion is 2 - sqrt(1 - beta), beta, sqrt(beta)."""
    process, x = PROCESSES["table"], Rng.of(0, 4).normal((3,), torch.float64)
    beta, model = LinearBetas().betas(), gaussian_data(process)
    for i in (2, 500, 1000):
        t, s = tensor(i / 1000), tensor((i - 1) / 1000)
        score, b = model.score(x, t), beta[i - 1]
        law = ReverseDiffusion().kernel(process, model(x, t), x, s, t)
        torch.testing.assert_close(law.mean, (2 - (1 - b).sqrt()) * x + b * score, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(law.std, b.sqrt(), rtol=1e-10, atol=0)
        law = EulerMaruyama().kernel(process, model(x, t), x, s, t)
        torch.testing.assert_close(law.mean, (1 - torch.log(1 - b) / 2) * x + b * score, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(law.std, b.sqrt(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("sampler", [EulerMaruyama(), ReverseDiffusion(), PredictorCorrector()], ids=repr)
def test_step_from_pure_noise_equals_ancestral(sampler) -> None:
    """f is infinite where alpha = 0."""
    model = IsotropicData(0.4, 0.0, LinearProcess(Straight(), StraightScaling()))
    state, rng = State(Rng.of(0, 3).normal((4,), torch.float64), tensor(1.0)), Rng.of(5, 3)
    torch.testing.assert_close(
        sampler.step(model, state, tensor(0.8), rng).x, Ancestral().step(model, state, tensor(0.8), rng).x
    )


@pytest.mark.parametrize("process", [PROCESSES["vp"], PROCESSES["ve"]], ids=["vp", "ve"])
def test_corrector_has_its_stationary_variance(process) -> None:
    """At a fixed level the chain's variance is v/(1 - e/(2v)) with e = 2 A snr^2 v: 1.026 v at 0.16 where A = 1.

    Norms over 2000 elements vary by 2%, so e is nearly a constant.
    """
    t, n, d = tensor(0.5), 20, 2000
    model = IsotropicData(0.0, 0.3, process)
    alpha, sigma = process.coefficients(t)
    v = float(alpha**2 * 0.3 + sigma**2)
    x = v**0.5 * Rng.of(1, n).normal((d,), torch.float64)
    sampler = PredictorCorrector(corrections=60)
    s = t * (1 - 1e-9)  # a predictor of no length
    last = sampler.step(model, State(x, t), s, Rng.of(2, n)).x
    ratio = float(last.var() / v)
    assert abs(ratio - 1 / (1 - 0.16**2)) < 4 * (2 / (n * d)) ** 0.5 + 0.002


def test_corrector_improves_few_steps() -> None:
    """30 steps of reverse diffusion on N(m, v I) in 400 dimensions, with and without two corrections."""
    process = PROCESSES["vp"]
    model, times = IsotropicData(0.4, 0.05, process), LogSNR()(process, 31)
    variance = float(process.alpha(times[-1]) ** 2 * 0.05 + process.sigma(times[-1]) ** 2)

    def error(sampler) -> float:
        x = Rng.of(3, 10).normal((400,), torch.float64)
        *_, last, _ = simulate(model, sampler, x, times, Rng.of(3, 10))
        return abs(float(last.x.var()) / variance - 1)

    assert error(PredictorCorrector(corrections=2)) < 0.5 * error(ReverseDiffusion())


def test_corrector_with_zero_score_does_not_move() -> None:
    """The score is exactly 0: the step would be infinite."""
    model = IsotropicData(0.0, 0.3, PROCESSES["vp"])
    out = PredictorCorrector().step(
        model, State(torch.zeros(2, 8, dtype=torch.float64), tensor(0.5)), tensor(0.4), Rng.of(0, 2)
    )
    assert torch.isfinite(out.x).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PredictorCorrector(snr=0.0), "snr must lie in \\(0, 1\\), got 0.0"),
        (lambda: PredictorCorrector(snr=math.nan), "snr must lie in .*got nan"),
        (lambda: PredictorCorrector(corrections=0), "corrections must be at least 1, got 0"),
        (lambda: AnnealedLangevin(steps=0), "steps must be at least 1, got 0"),
        (lambda: AnnealedLangevin(size=2.0), "size must lie in \\(0, 2\\) or None, got 2.0"),
        (lambda: AnnealedLangevin(size=None, convention="paper"), "size must be a number with convention='paper'"),
        (lambda: AnnealedLangevin(convention="v2"), "convention must be one of code, paper, got 'v2'"),
    ],
)
def test_invalid_settings_are_errors(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def still(process, sampler, level: float, n: int = 20, d: int = 1000):
    """Variance over level^2 after a long chain at one level of data that is a point at 0."""
    model = IsotropicData(0.0, 0.0, process)
    t = process.schedule.time(tensor(-2 * math.log(level)))
    sigma = process.sigma(t)
    x = sigma * Rng.of(0, n).normal((d,), torch.float64)
    last = sampler.step(model, State(x, t), t, Rng.of(1, n)).x
    return float((last / sigma).var())


@pytest.mark.parametrize(("size", "expected"), [(0.062, 1.032), (0.1, 1.053), (0.2, 1.111)])
def test_langevin_has_its_stationary_variance(size: float, expected: float) -> None:
    """1/(1 - size/2), to 4 standard errors of 20,000 values; the paper's convention is half the step."""
    steps = math.ceil(4 / size)
    bound = 4 * (2 / 20_000) ** 0.5 * expected + 5e-4
    for sampler in (AnnealedLangevin(steps, size), AnnealedLangevin(steps, 2 * size, "paper")):
        assert abs(still(PROCESSES["ve"], sampler, 0.5) - expected) < bound
    assert abs(1 / (1 - size / 2) - expected) < 6e-4


def test_langevin_matches_the_published_update() -> None:
    """In y = x/alpha at the level sigma/alpha: y + a score(y) + sqrt(2a) z, on a process with alpha < 1."""
    for process in (PROCESSES["vp"], PROCESSES["ve"]):
        model, t = gaussian_data(process), tensor(0.6)
        alpha, sigma = process.coefficients(t)
        x = Rng.of(0, 4).normal((3,), torch.float64)
        y, level = x / alpha, sigma / alpha
        score = alpha * model.score(x, t)
        for sampler, a in ((AnnealedLangevin(1, 0.1), 0.1), (AnnealedLangevin(1, 0.1, "paper"), 0.05)):
            law = sampler.kernel(process, model(x, t).mean, x, t, 0.1)
            torch.testing.assert_close(law.mean / alpha, y + a * level**2 * score, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(law.std / alpha, (2 * a) ** 0.5 * level)


def annealed(process, sampler, levels: int) -> float:
    """Variance over truth at the last level for data N(0.4, 0.3), by exact recursion of its affine steps."""
    model, times = IsotropicData(0.4, 0.3, process), LogSNR()(process, levels)
    alpha, sigma = process.coefficients(times[0])
    mean, variance = alpha * 0.4, alpha**2 * 0.3 + sigma**2
    ends = tensor([[0.0], [1.0]])
    for t, s in itertools.pairwise(times):
        ratio = process.alpha(s) / process.alpha(t)
        mean, variance = ratio * mean, ratio**2 * variance
        law = sampler.kernel(process, model(ends, s).mean, ends, s, sampler.size_at(process, s, t))
        gain = (law.mean[1] - law.mean[0])[0]
        for _ in range(sampler.steps):
            mean, variance = gain * mean + law.mean[0, 0], gain**2 * variance + law.variance.flatten()[0]
    alpha, sigma = process.coefficients(times[-1])
    torch.testing.assert_close(mean, alpha * 0.4, rtol=0, atol=1e-9)
    return float(variance / (alpha**2 * 0.3 + sigma**2))


@pytest.mark.parametrize("process", [LinearProcess(LogLinear(0.01, 50.0), VarianceExploding()), PROCESSES["table"]])
def test_langevin_error_falls_with_more_steps(process) -> None:
    """NCSNv2's 232 levels with 5 steps leave the variance of a wide normal too large by a seventh at most.

    The level falls by du = 2 log(sigma_t/sigma_s) while a chain forgets 2 size n per level: its excess is of the order
    du/(2 size n) = 0.12, and goes down with n.
    """
    few, many = (annealed(process, AnnealedLangevin(n, 0.062), 232) - 1 for n in (5, 40))
    assert 0 < many < few / 3
    assert many < 0.03
    assert few < 1 / 7


@pytest.mark.parametrize(
    ("levels", "most", "steps", "published"), [(232, 50, 5, 0.062), (500, 90, 5, 0.033), (1086, 190, 3, 0.018)]
)
def test_step_size_rule_matches_the_published_sizes(levels: int, most: float, steps: int, published: float) -> None:
    """NCSNv2, table 2: eps/sigma_L^2 for CIFAR-10, CelebA and LSUN bedrooms, whose least level is 0.01."""
    process = LinearProcess(Geometric(levels, 0.01, most), VarianceExploding())
    size = AnnealedLangevin(steps, None).size_at(process, tensor(0.5 - 1 / levels), tensor(0.5))
    assert abs(size - published) < 5.1e-4


def test_step_size_rule_is_the_best_for_a_point() -> None:
    """The variance after the chain, by its own recursion, is least at the rule's size, for close and wide levels."""
    for ratio, steps in ((1.0376, 5), (1.668, 100), (3.0, 2), (50.0, 1)):
        best = balanced_size(ratio, steps)

        def variance(size: float, v: float = ratio**2, steps: int = steps) -> float:
            for _ in range(steps):
                v = (1 - size) ** 2 * v + 2 * size
            return v

        assert 1 < variance(best) <= min(variance(best * 1.01), variance(best * 0.99)) + 1e-12
    assert balanced_size(math.inf, 5) == 1.0 and balanced_size(1.0, 5) == pytest.approx(0.001)


def test_ncsn_ends_at_the_data_when_its_levels_are_close() -> None:
    """232 levels with the size of the rule leave the variance of N(0.4, 0.3) a seventh too large at most, few levels
    more; the last step to the data removes the last level's noise."""
    process = LinearProcess(Geometric(232, 0.01, 50.0), VarianceExploding())
    few, many = (annealed(process, AnnealedLangevin(5, None), levels) - 1 for levels in (20, 232))
    assert 0 < many < 1 / 7
    assert many < few / 2


def test_ornstein_uhlenbeck_reverse_equation_has_twice_the_flows_score() -> None:
    """dx = (x + 2 score) dr + sqrt(2) dw, backwards (METHOD 1.6): 800 Euler steps of horizon 4 end at the data's
    variance to 6%; with a factor of 1 for the 2 they end farther off than that, and without noise at almost none."""
    process = LinearProcess(OrnsteinUhlenbeck(4.0))
    times = torch.linspace(1, 1e-3, 801, dtype=torch.float64)

    def variance(factor: float, noise: float) -> float:
        v = 1.0
        for t, s in itertools.pairwise(times.tolist()):
            alpha, sigma = (float(c) for c in process.coefficients(t))
            h = 4 * (t - s)
            v = (1 + h * (1 - factor / (alpha**2 * 0.09 + sigma**2))) ** 2 * v + noise * 2 * h
        return v

    exact = float(process.alpha(1e-3) ** 2 * 0.09 + process.sigma(1e-3) ** 2)
    model = IsotropicData(0.0, tensor([0.09]), process)
    v = tensor(float(process.sigma(1.0) ** 2))
    ends = tensor([[0.0], [1.0]])
    for t, s in itertools.pairwise(times):
        law = EulerMaruyama().kernel(process, model(ends, t), ends, s, t)
        v = (law.mean[1] - law.mean[0])[0] ** 2 * v + law.variance.flatten()[0]
    assert abs(float(v) / exact - 1) < 0.06 and abs(float(v) / variance(2.0, 1.0) - 1) < 1e-3
    assert variance(1.0, 1.0) / exact > 1.5 and variance(2.0, 0.0) < 1e-3


def test_langevin_at_a_level_without_signal_scales_the_state() -> None:
    """alpha = 0 at t = 1 of a straight path, where y is infinite."""
    process = LinearProcess(Straight(), StraightScaling())
    x = torch.ones(1, 2, dtype=torch.float64)
    out = AnnealedLangevin(1, 1e-12).step(
        IsotropicData(0.4, 0.1, process), State(x, tensor(1.0)), tensor(0.7), Rng.of(0, 1)
    )
    torch.testing.assert_close(out.x, 0.7 * x, rtol=0, atol=1e-5)


def test_ddim_with_sigma_hat_equals_ancestral_with_unit_data() -> None:
    """The mean of eta = 1 with the forward variance 1 - abar_t/abar_s (Song et al. 2021, DDIM, appendix D.3)."""
    process = PROCESSES["table"]
    times = Uniform()(process, 7)
    model = net_denoiser(process)
    model.variance = UnitData()
    x = Rng.of(0, 2).normal((1, 8, 8), torch.float64)
    for t, s in itertools.pairwise(times):
        posterior = model(x, t)
        law = process.reverse(posterior, x, s, t)
        sigma_hat = 1 - (process.alpha(t) / process.alpha(s)) ** 2
        torch.testing.assert_close(law.variance, sigma_hat.expand(law.variance.shape), rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(law.mean, process.reverse(Dirac(posterior.mean), x, s, t).mean, rtol=0, atol=0)
