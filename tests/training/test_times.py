"""Times and weights of the training against scipy's laws and the papers' formulas."""

import itertools
import math

import pytest
import torch
from scipy import stats
from training.linear_net import for_gaussian

from diffprob.base.rng import Rng
from diffprob.config.registry import ALL
from diffprob.config.spec import parse
from diffprob.denoise.prediction import X0, Epsilon, Score, V
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import VPSDE, LinearBetas, LogLinear, Straight
from diffprob.training.denoising import Denoising
from diffprob.training.times import LogitNormal, LogNormal, UniformTimes
from diffprob.training.weights import MinSNR

EDM = LinearProcess(LogLinear(0.002, 80.0), VarianceExploding())
FLOW = LinearProcess(Straight(), StraightScaling())
DDPM = LinearProcess(LinearBetas())
N = 40_000
FARTHEST = math.sqrt(math.log(2 / 1e-6) / (2 * N))  # once in a million times, of a right law


def distance(values, law):
    return stats.kstest(values.numpy(), law.cdf).statistic


def test_edm_draws_its_noise_from_the_published_law():
    sigma = EDM.sigma(LogNormal()(EDM, Rng.of(0, N)))
    assert distance(sigma.log(), stats.norm(-1.2, 1.2)) < FARTHEST
    assert distance(sigma.log(), stats.norm(-1.15, 1.2)) > FARTHEST  # the test can fail


def test_flow_matching_draws_logits_from_a_normal_law():
    t = LogitNormal(0.3, 0.8)(FLOW, Rng.of(1, N))
    assert distance(torch.logit(t), stats.norm(0.3, 0.8)) < FARTHEST
    torch.testing.assert_close(
        t, LogNormal(0.3, 0.8)(FLOW, Rng.of(1, N)), rtol=0, atol=1e-3
    )  # the same on straight paths


def test_a_law_is_cut_off_at_the_ends_of_the_schedule():
    """VPSDE has sigma/alpha from 0.0105 to 152: a wide law is that law given that it lies between."""
    process, wide = LinearProcess(VPSDE()), LogNormal(0.0, 5.0)
    place = -0.5 * process.logsnr(wide(process, Rng.of(2, N)))
    low, high = (-0.5 * float(process.logsnr(t)) for t in (1e-3, 1.0))
    assert distance(place, stats.truncnorm(low / 5, high / 5, scale=5)) < FARTHEST


def test_discrete_times_have_the_masses_of_their_neighbourhoods():
    """The share of every ten steps of a DDPM, by the normal law between their ends: four standard errors."""
    t = LogNormal()(DDPM, Rng.of(3, N))
    index = (t * 1000).round().long()
    assert torch.equal(t, index.double() / 1000)
    edges = (torch.arange(10, 1000, 10) + 0.5).double() / 1000
    normal = stats.norm(-1.2, 1.2)
    place = torch.tensor(normal.cdf((-0.5 * DDPM.logsnr(edges)).numpy()))
    ends = [float(normal.cdf(-0.5 * float(DDPM.logsnr(end)))) for end in (0.001, 1.0)]
    expected = torch.cat([torch.zeros(1), (place - ends[0]) / (ends[1] - ends[0]), torch.ones(1)]).diff()
    share = torch.bincount((index - 1).clamp_min(0) // 10, minlength=100).double() / N
    assert ((share - expected).abs() < 4.5 * (expected * (1 - expected) / N).sqrt() + 1e-12).all()


def test_loss_in_expectation_is_that_of_the_law_of_times():
    """For data N(0, v) and the exact network the loss at t is known, so its mean under any law of times is (4 s.e.)."""
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, sigma = DDPM.coefficients(t)
    floor = 1 - sigma**2 / (alpha**2 * 0.4 + sigma**2)
    x0 = math.sqrt(0.4) * Rng.of(5, N).fold("data").normal((2,), torch.float64)
    seen = []
    for times in (UniformTimes(), LogNormal(), LogitNormal(0.5, 0.7)):
        loss = Denoising(times)(for_gaussian(DDPM), x0, Rng.of(0, N)).detach()
        masses = torch.cat([torch.zeros(1), times.cdf(DDPM, t)]).diff()
        assert abs(float(masses.sum()) - 1) < 1e-12
        error = float(loss.std()) / math.sqrt(N)
        seen.append(float(loss.mean()))
        assert abs(seen[-1] - float((masses * floor).sum())) < 4 * error
    assert min(abs(a - b) for a, b in itertools.pairwise(seen)) > 0.01  # the laws differ, so this can fail


def test_default_draws_the_times_of_before_to_the_bit():
    t = UniformTimes()(DDPM, Rng.of(0, 50))
    assert torch.equal(t, (Rng.of(0, 50).integers((), 1000) + 1).double() / 1000)
    assert parse("Denoising()", ALL) == Denoising(UniformTimes(), None)


def test_min_snr_matches_the_papers():
    """Hang et al., section 3.4: min(SNR, 5) for x_0, min(SNR, 5)/SNR for the noise, min(SNR, 5)/(SNR + 1) for v."""
    t = torch.tensor([0.001, 0.05, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)
    snr = DDPM.logsnr(t).exp()
    least = snr.clamp_max(5)
    for prediction, expected in ((X0(), least), (Epsilon(), least / snr), (V(), least / (snr + 1))):
        torch.testing.assert_close(MinSNR().factor(DDPM, prediction, t), expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("prediction", [X0(), Score(), V()], ids=repr)
def test_no_limit_weighs_every_prediction_as_the_noise(prediction):
    """A network off by a tenth has the loss of one that predicts noise: score matching's sigma^2 is one case."""
    x0 = Rng.of(5, 64).normal((3,), torch.float64)
    t = UniformTimes()(DDPM, Rng.of(9, 64).fold("time"))
    model, noise = for_gaussian(DDPM, prediction=prediction), for_gaussian(DDPM)
    xt = DDPM.add_noise(x0, torch.ones_like(x0), t)
    weight = MinSNR(math.inf).factor(DDPM, prediction, t)[:, None]
    off = prediction.from_x0(DDPM, xt, t, model(xt, t).mean + 0.1) - model.raw(xt, t).main
    same = Epsilon().from_x0(DDPM, xt, t, noise(xt, t).mean + 0.1) - noise.raw(xt, t).main
    torch.testing.assert_close(weight * off**2, same**2, rtol=1e-8, atol=0)
    assert prediction != Score() or torch.allclose(weight[:, 0], DDPM.sigma(t) ** 2, rtol=1e-12)


def test_a_law_without_any_time_of_the_schedule_is_refused():
    with pytest.raises(ValueError, match="another mean would be right"):
        LogNormal(20.0, 0.1)(LinearProcess(VPSDE()), Rng.of(0, 3))
