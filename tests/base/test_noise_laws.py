"""Noise that is not normal: the papers' means, what a chain really adds up to, and what no bound can say."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from training.linear_net import for_gaussian

from diffprob.base.errors import InputError, NoClosedForm
from diffprob.base.gamma_law import Gamma
from diffprob.base.laws import Normal
from diffprob.base.mixture_law import MixtureOfGaussians
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import TwoPoint
from diffprob.likelihood.bound import Decoder, continuous_bound, variational_bound
from diffprob.likelihood.flow import flow_log_prob
from diffprob.process.grids import Native
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import VPSDE, LinearBetas
from diffprob.sampling.ancestral import Ancestral
from diffprob.sampling.simulate import draw
from diffprob.training.bound import VariationalBound
from diffprob.training.continuous import ContinuousBound
from diffprob.training.denoising import Denoising

N = 40_000
FARTHEST = math.sqrt(math.log(2 / 1e-6) / (2 * N))  # Kolmogorov's distance of a right law, once in a million times
BETAS = LinearBetas().betas()
T3 = torch.tensor(0.003, dtype=torch.float64)


def components(law, t=0.0):
    return law.at(LinearBetas(), torch.tensor(t, dtype=torch.float64))


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("phi", [0.0, 0.3, 0.9])
def test_two_components_have_the_means_of_the_thesis(p: float, phi: float) -> None:
    """m_1 by the thesis's eq. 26, as it is printed, and m_2 = -p/(1 - p) m_1; mean 0 and variance 1 (1e-14)."""
    law = components(MixtureOfGaussians(phi, (p, 1 - p)))
    first = math.sqrt((1 - phi**2) / (p * (1 - p) + p**3 / (1 - p) + 2 * p**2))
    torch.testing.assert_close(law.means, torch.tensor([first, -p / (1 - p) * first], dtype=torch.float64))
    assert abs(float((law.weights * law.means).sum())) < 1e-14
    assert float((law.weights * law.means**2).sum() + law.std**2) == pytest.approx(1, abs=1e-14)


def test_settings_may_change_with_time_and_keep_mean_0_and_variance_1() -> None:
    """Linear in t, for every sample its own; four components."""
    law = MixtureOfGaussians(0.2, (0.1, 0.2, 0.3, 0.4), (3.0, 1.0, -0.5, -4.0), 1.0, (0.4, 0.3, 0.2, 0.1))
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    at = law.at(LinearBetas(), t)
    torch.testing.assert_close(at.std, torch.tensor([0.2, 0.4, 1.0], dtype=torch.float64))
    torch.testing.assert_close(at.weights[1], torch.tensor([0.175, 0.225, 0.275, 0.325], dtype=torch.float64))
    torch.testing.assert_close((at.weights * at.means).sum(-1), torch.zeros(3, dtype=torch.float64), atol=1e-14, rtol=0)
    variance = (at.weights * at.means**2).sum(-1) + at.std**2
    torch.testing.assert_close(variance, torch.ones(3, dtype=torch.float64), atol=1e-14, rtol=0)
    assert (at.means[2] == 0).all()


def test_phi_of_one_is_ddpm_to_the_bit() -> None:
    """The same normals give the same training loss and the same samples, in both readings."""
    x0 = Rng.of(3, 5).normal((2,))
    wanted = None
    for law in (Normal(), MixtureOfGaussians(1.0), MixtureOfGaussians(1.0, (0.3, 0.7), reading="markov")):
        process = LinearProcess(LinearBetas(20, 0.005, 0.3), law=law)
        loss = Denoising()(for_gaussian(process), x0.double(), Rng.of(0, 5)).detach()
        sample = draw(TwoPoint(process), Ancestral(), Native()(process, 20), Rng.of(1, 5), (2,))
        wanted = wanted or (loss, sample)
        assert torch.equal(loss, wanted[0]) and torch.equal(sample, wanted[1])
    # Nearly 1 is nearly normal by its own formulas, not by falling back on the normal law.
    near = MixtureOfGaussians(1 - 1e-12).at(LinearBetas(), T3)
    assert not isinstance(near, Normal)
    z = Rng.of(0, 9).normal((3,), torch.float64)
    torch.testing.assert_close(near.sample(Rng.of(0, 9), (3,), torch.float64), z, rtol=0, atol=1e-5)
    torch.testing.assert_close(near.log_density(z), Normal().log_density(z), rtol=0, atol=1e-9)


def weights(t: int, first: int = 0) -> np.ndarray:
    """w_i^2 = beta_i prod_{j > i} alpha_j / (1 - abar), of the steps first + 1 .. t, in numpy."""
    beta = BETAS.numpy()[first:t]
    after = np.append(np.cumprod((1 - beta)[::-1])[::-1][1:], 1.0)
    return beta * after / (1 - np.prod(1 - beta))


@pytest.mark.parametrize(("t", "published"), [(1, 1.0), (2, 0.504), (3, 0.339), (5, 0.208), (10, 0.109), (50, 0.0249)])
def test_kurtosis_tells_the_readings_apart(t: int, published: float) -> None:
    """Excess kurtosis k_4 = -2 (1 - phi^2)^2 in the closed form, k_4 sum w_i^4 along the chain (4 standard errors)."""
    four = float((weights(t) ** 2).sum())
    assert four == pytest.approx(published, abs=6e-4)
    k4 = -2 * (1 - 0.3**2) ** 2
    time = torch.tensor(t / 1000, dtype=torch.float64)
    for reading, expected in (("closed form", k4), ("markov", k4 * four)):
        law = MixtureOfGaussians(0.3, reading=reading).at(LinearBetas(), time)
        z = law.sample(Rng.of(7, N), (1,), torch.float64)[:, 0]
        assert abs(float((z**2).mean()) - 1) < 4 * float((z**2).std()) / N**0.5
        fourth = z**4
        assert abs(float(fourth.mean()) - 3 - expected) < 4 * float(fourth.std()) / N**0.5
    assert t < 2 or abs(k4 - k4 * four) > 8 * float(fourth.std()) / N**0.5  # so they are told apart


@pytest.mark.parametrize(("s", "t"), [(0, 3), (2, 5), (4, 5)])
def test_chain_has_the_law_of_all_its_ways(s: int, t: int) -> None:
    """Against the mixture of all 2^(t - s) ways, with weights and phi that change from step to step (1 in 10^6)."""
    law = MixtureOfGaussians(0.1, (0.3, 0.7), last_phi=0.9, last_weights=(0.9, 0.1), reading="markov")
    squares = weights(t, s)
    parts = [
        components(MixtureOfGaussians(0.1, (0.3, 0.7), None, 0.9, (0.9, 0.1)), i / 1000) for i in range(s + 1, t + 1)
    ]
    std = math.sqrt(sum(w * float(part.std) ** 2 for w, part in zip(squares, parts, strict=True)))
    ways = list(itertools.product((0, 1), repeat=t - s))
    masses = [math.prod(float(part.weights[k]) for k, part in zip(way, parts, strict=True)) for way in ways]
    means = [
        sum(math.sqrt(w) * float(part.means[k]) for w, k, part in zip(squares, way, parts, strict=True)) for way in ways
    ]
    ends = torch.tensor([s / 1000, t / 1000], dtype=torch.float64)
    z = law.between(LinearBetas(), *ends).sample(Rng.of(2, N), (1,), torch.float64)[:, 0]

    def cdf(x):
        return sum(m * stats.norm(mean, std).cdf(x) for m, mean in zip(masses, means, strict=True))

    assert stats.kstest(z.numpy(), cdf).statistic < FARTHEST
    if s == 0:
        at = law.at(LinearBetas(), ends[1]).sample(Rng.of(2, N), (1,), torch.float64)[:, 0]
        assert torch.equal(at, z)
    wrong = components(MixtureOfGaussians(0.1, (0.3, 0.7), None, 0.9, (0.9, 0.1)), t / 1000)
    assert (
        t - s == 1
        or stats.kstest(wrong.sample(Rng.of(2, N), (1,), torch.float64)[:, 0].numpy(), cdf).statistic > FARTHEST
    )


def test_ancestral_step_draws_the_mixture() -> None:
    """x_s - mean over its standard deviation has the mixture's kurtosis, -2 (1 - phi^2)^2 (4 standard errors)."""
    process = LinearProcess(law=MixtureOfGaussians(0.2))
    s, t = (torch.tensor(v, dtype=torch.float64) for v in (0.499, 0.5))
    law = process.bridge(torch.zeros(N, 1, dtype=torch.float64), torch.ones(N, 1, dtype=torch.float64), s, t)
    z = (law.sample(Rng.of(4, N)) - law.mean) / law.std
    assert abs(float((z**4).mean()) - 3 + 2 * (1 - 0.2**2) ** 2) < 4 * float((z**4).std()) / N**0.5
    prior = process.prior(torch.zeros(N, 1, dtype=torch.float64)).sample(Rng.of(4, N)) / process.sigma(1.0)
    assert abs(float((prior**4).mean()) - 3 + 2 * (1 - 0.2**2) ** 2) < 4 * float((prior**4).std()) / N**0.5


def test_gamma_noise_adds_up_to_gamma_noise_of_the_same_scale_alone() -> None:
    """Ten steps of DDGM by numpy's gammas, k_t = beta_t/(abar_t theta^2): their sum has the law at ten (1 in 10^6), and
    with alpha_t for abar_t, METHOD's wrong reading, it has not even the variance."""
    theta, t, rng = 0.02, 10, np.random.default_rng(0)
    beta = BETAS.numpy()[:t]
    abar = np.cumprod(1 - beta)
    x = np.zeros(N)
    for b, a in zip(beta, abar, strict=True):
        scale, shape = math.sqrt(a) * theta, b / (a * theta**2)
        x = math.sqrt(1 - b) * x + rng.gamma(shape, scale, N) - shape * scale
    time = torch.tensor(t / 1000, dtype=torch.float64)
    law = Gamma(theta).at(LinearBetas(), time)
    k = (1 - abar[-1]) / abar[-1] / theta**2
    assert float(law.shape) == pytest.approx(k, rel=1e-10)
    z = law.sample(Rng.of(0, N), (1,), torch.float64)[:, 0].numpy()
    expected = stats.gamma(k, loc=-math.sqrt(k), scale=1 / math.sqrt(k))
    assert stats.kstest(z, expected.cdf).statistic < FARTHEST
    assert stats.kstest(x / math.sqrt(1 - abar[-1]), expected.cdf).statistic < FARTHEST
    assert stats.kstest(z, stats.norm.cdf).statistic > FARTHEST  # skewed, so the test can fail
    step = Gamma(theta).between(LinearBetas(), time - 0.001, time)
    assert float(step.shape) == pytest.approx(beta[-1] / (abar[-1] * theta**2), rel=1e-9)
    points = torch.linspace(-1.5, 4, 23, dtype=torch.float64)
    torch.testing.assert_close(law.log_density(points), torch.tensor(expected.logpdf(points)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        law.log_mass(points, points + 0.1).exp(),
        torch.tensor(expected.cdf(points + 0.1) - expected.cdf(points)),
        rtol=1e-7,
        atol=1e-12,
    )


def test_small_shapes_are_gamma_too() -> None:
    law = Gamma(10.0).at(LinearBetas(), torch.tensor(0.6, dtype=torch.float64))
    k = float(law.shape)
    assert k < 1
    z = law.sample(Rng.of(0, N), (1,), torch.float64)[:, 0].numpy()
    assert stats.kstest(z, stats.gamma(k, loc=-math.sqrt(k), scale=1 / math.sqrt(k)).cdf).statistic < FARTHEST


@pytest.mark.parametrize("law", [MixtureOfGaussians(), MixtureOfGaussians(reading="markov"), Gamma()], ids=repr)
def test_what_needs_the_law_of_a_step_is_refused_in_one_line(law) -> None:
    process = LinearProcess(law=law)
    model, x = TwoPoint(process), torch.ones(2, 1, dtype=torch.float64)
    rng, decoder = Rng.of(0, 2), Decoder(2)
    for ask in (
        lambda: variational_bound(model, x, Native()(process, 1000)[::200], rng, decoder),
        lambda: continuous_bound(model, x, rng, 3, decoder),
        lambda: flow_log_prob(model, x, rng),
        lambda: VariationalBound().check(process, None),
        lambda: ContinuousBound().check(process, None),
    ):
        with pytest.raises(InputError, match=r"only its mean and variance are known") as caught:
            ask()
        assert len(str(caught.value)) <= 300
    with pytest.raises(NoClosedForm, match="bins of grey levels"):
        Decoder(2).law(process, process.marginal(x, T3), T3, None).log_prob(x)


def test_reading_of_a_chain_needs_a_chain() -> None:
    with pytest.raises(InputError, match="has no steps"):
        LinearProcess(VPSDE(), law=MixtureOfGaussians(reading="markov")).prior(torch.zeros(1, 1))
    with pytest.raises(NoClosedForm):
        MixtureOfGaussians(reading="markov").at(LinearBetas(), T3).log_density(torch.zeros(1))
    with pytest.raises(NoClosedForm, match="points has no density"):
        MixtureOfGaussians(0.0).log_density(torch.zeros(1))
