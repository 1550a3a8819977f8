"""The two-sided test where the answer is known: normal vectors live on a sphere."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from truth.models import gaussian_data, tensor
from truth.proxies import assert_independent

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.density.noise import NoiseNorm
from diffprob.density.path import ScoreNorms
from diffprob.density.proxy import Proxy
from diffprob.density.typicality import Typical
from diffprob.evaluation.detection import auroc
from diffprob.space.pixels import Pixels


@dataclass(frozen=True)
class NormalDensity(Proxy):
    """log N(x; 0, I) without its constant."""

    levels: int | None = None
    nats: ClassVar[bool] = True

    def bind(self, space: Pixels) -> "NormalDensity":
        return NormalDensity(space.levels)

    def statistics(self, model, x: Tensor, rng: Rng) -> Tensor:
        return -0.5 * x.double().square().sum(1, keepdim=True)


def test_mode_of_a_normal_law_is_atypical() -> None:
    """-|x|^2/2 has mean -d/2 and variance d/2: the score is -||x|^2 - d|/sqrt(2 d), best on the sphere, and the mode,
    the densest point, is sqrt(d/2) standard deviations away. One side takes half the points in it for the densest."""
    d, n = 40, 4000
    x = Rng.of(0, n).normal((d,), torch.float64)
    proxy, rng = Typical(NormalDensity()), Rng.of(0, 3)
    fitted = proxy.fit(proxy.statistics(None, x, Rng.of(0, n)))
    points = torch.stack([torch.zeros(d), torch.ones(d), 2 * torch.ones(d)]).double()
    scores = proxy(None, points, rng, fitted)
    exact = -(points.square().sum(1) - d).abs() / (2 * d) ** 0.5
    # The mean is known to 1/sqrt(n) standard deviations, the standard deviation to sqrt((2 + 12/d)/(4 n)) of itself.
    torch.testing.assert_close(scores, exact, rtol=4 * 0.012, atol=4 / n**0.5)
    small = 0.7 * Rng.of(n, 300).normal((d,), torch.float64)
    fresh = Rng.of(2 * n, 300).normal((d,), torch.float64)
    streams = Rng.of(0, 300)
    assert auroc(NormalDensity()(None, fresh, streams), NormalDensity()(None, small, streams)).value < 0.1
    assert auroc(proxy(None, fresh, streams, fitted), proxy(None, small, streams, fitted)).value > 0.9


def test_typicality_of_a_fitted_proxy_uses_its_score() -> None:
    """The inner fit is that of the proxy alone, and what is compared is its score."""
    model, inner, n = gaussian_data(), ScoreNorms(3), 80
    x = Rng.of(0, n).normal((3,), torch.float64)
    statistics = inner.statistics(model, x, Rng.of(0, n))
    proxy = Typical(inner)
    assert proxy.needs_fit and proxy.columns == inner.columns
    fitted, alone = proxy.fit(statistics), inner.fit(statistics)
    scores = inner.score(statistics, alone)
    exact = -((scores - scores.mean()) / scores.std()).abs()
    assert torch.equal(proxy.score(statistics, fitted), exact)
    assert torch.equal(proxy(model, x, Rng.of(0, n), fitted), exact)


def test_bind_reaches_the_inner_proxy() -> None:
    assert Typical(NormalDensity()).bind(Pixels((1, 2, 2), 16)) == Typical(NormalDensity(16))
    assert Typical().of == NoiseNorm()


def test_invalid_arguments_are_errors() -> None:
    proxy = Typical(NormalDensity())
    with pytest.raises(InputError, match="at least 50 images that belong, got 10"):
        proxy.fit(torch.randn(10, 1))
    with pytest.raises(InputError, match="not finite"):
        proxy.fit(torch.full((60, 1), torch.inf))
    with pytest.raises(InputError, match="all images that belong have the same score"):
        proxy.fit(torch.ones(60, 1))
    with pytest.raises(InputError, match="has to be fitted"):
        proxy.score(tensor([[1.0]]))


def test_scores_have_the_same_bits_in_any_batch() -> None:
    proxy = Typical(NoiseNorm(noises=2))
    statistics = assert_independent(proxy)
    fitted = proxy.fit(statistics.repeat(4, 1))
    assert torch.equal(proxy.score(statistics, fitted)[3:4], proxy.score(statistics[3:4], fitted))
