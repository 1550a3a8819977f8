"""The chain of a denoising autoencoder keeps the law of the data if it draws, and not if it takes the mean."""

import torch
from truth.statistics import assert_mean, assert_moments

from diffprob.base.distributions import Dirac
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData
from diffprob.process.linear import LinearProcess, VarianceExploding
from diffprob.process.schedule import LogLinear
from diffprob.sampling.denoising_chain import denoising_chain
from diffprob.training.denoising import add_noise

N, T = 5000, torch.tensor(0.5, dtype=torch.float64)
PROCESS = LinearProcess(LogLinear(), VarianceExploding())
MEAN, COV = torch.tensor([0.7, -0.2]).double(), torch.tensor([[0.9, 0.3], [0.3, 0.4]]).double()
DATA = GaussianData(MEAN, COV, PROCESS)


def last(posterior):
    """The end of a chain that starts at the data, where it must stay, and of one that starts elsewhere."""

    def corrupt(x, rng):
        return add_noise(PROCESS, x, T.expand(len(x)), rng).xt

    x0 = MEAN + Rng.of(1, N).normal((2,), torch.float64) @ torch.linalg.cholesky(COV).T
    for x in (x0, torch.zeros(N, 2, dtype=torch.float64)):
        *_, end = denoising_chain(corrupt, posterior, x, Rng.of(2, N), 25)
        yield end


def test_drawing_keeps_mean_and_variance_of_the_data():
    for end in last(lambda seen: DATA(seen, T)):
        assert_moments(end, MEAN, COV)


def test_the_mean_alone_has_too_small_a_variance_by_the_known_factor():
    """In the eigenbasis of the data s^4/(2 s^2 + v), v the variance of the noise."""
    values, vectors = torch.linalg.eigh(COV)
    v = float(PROCESS.sigma(T)) ** 2
    for end in last(lambda seen: Dirac(DATA(seen, T).mean)):
        turned = (end - MEAN) @ vectors
        assert_mean(turned.square(), values**2 / (2 * values + v))
    assert (values**2 / (2 * values + v) < values / 2).all()
