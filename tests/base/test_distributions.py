"""Every distribution integrates or sums to one, and its samples have its moments."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from truth.models import tensor
from truth.quadrature import integral, integrates_to_one, line, plane
from truth.statistics import assert_mean, assert_moments

from diffprob.base.distributions import Categorical, Dirac, Distribution, Gaussian, LocationScale, Mixture
from diffprob.base.errors import NoClosedForm, NumericalError
from diffprob.base.rng import Rng

COV = tensor([[0.5, 0.3], [0.3, 0.4]])
MEAN2 = tensor([0.4, -1.1])
LOGITS = tensor([0.3, -0.2, 1.1])
CENTRES = tensor([[-1.0, 0.5], [2.0, 1.0], [0.0, -2.0]])
SPREADS = tensor([[0.3, 0.7], [1.1, 0.4], [0.5, 0.9]])


def components(n: int, d: int) -> tuple[LocationScale, ...]:
    return tuple(LocationScale(m[:d].expand(n, d), s[:d].expand(n, d)) for m, s in zip(CENTRES, SPREADS, strict=True))


def gaussians(n: int) -> tuple[Gaussian, ...]:
    return tuple(Gaussian(m.expand(n, 2), (k + 1) * COV[None]) for k, m in enumerate(CENTRES))


CONTINUOUS: dict[str, tuple[int, Callable[[int], Distribution]]] = {
    "normal-1": (1, lambda n: LocationScale(tensor([[0.7]]).expand(n, 1), tensor(1.3))),
    "normal-2": (2, lambda n: LocationScale(MEAN2.expand(n, 2), tensor([0.6, 1.4]))),
    "normal-per-sample": (2, lambda n: LocationScale(MEAN2.expand(n, 2), tensor([[0.8]]).expand(n, 1))),
    "gaussian-1": (1, lambda n: Gaussian(tensor([[0.7]]).expand(n, 1), tensor([[[0.3]]]))),
    "gaussian-2": (2, lambda n: Gaussian(MEAN2.expand(n, 2), COV[None])),
    "gaussian-2-per-sample": (2, lambda n: Gaussian(MEAN2.expand(n, 2), COV.expand(n, 2, 2))),
    "mixture-1": (1, lambda n: Mixture(LOGITS.expand(n, 3), components(n, 1))),
    "mixture-2": (2, lambda n: Mixture(LOGITS.expand(n, 3), components(n, 2))),
    "mixture-of-gaussians": (2, lambda n: Mixture(LOGITS.expand(n, 3), gaussians(n))),
    "elementwise-1": (1, lambda n: Mixture(LOGITS.expand(n, 1, 3), components(n, 1))),
    "elementwise-2": (2, lambda n: Mixture(torch.stack([LOGITS, -LOGITS]).expand(n, 2, 3), components(n, 2))),
}


@pytest.fixture(params=CONTINUOUS)
def case(request: pytest.FixtureRequest) -> tuple[int, Callable[[int], Distribution]]:
    return CONTINUOUS[request.param]


def moments_by_quadrature(d: int, build: Callable[[int], Distribution]) -> tuple[Tensor, Tensor]:
    points, weight = plane(-12, 12, 401) if d == 2 else line(-12, 12, 4001)
    points = points.reshape(-1, d)
    mass = build(len(points)).log_prob(points).exp()[:, None] * weight
    mean = (mass * points).sum(0)
    offset = points - mean
    return mean, (mass[:, :, None] * offset[:, :, None] * offset[:, None, :]).sum(0)


def test_density_integrates_to_one(case: tuple[int, Callable[[int], Distribution]]) -> None:
    d, build = case
    integrates_to_one(lambda x: build(len(x)).log_prob(x), d)


def test_mean_and_variance_match_quadrature(case: tuple[int, Callable[[int], Distribution]]) -> None:
    d, build = case
    mean, cov = moments_by_quadrature(d, build)
    law = build(3)
    torch.testing.assert_close(law.mean, mean.expand(3, d), rtol=0, atol=1e-10)
    variance = law.variance + torch.zeros_like(law.mean)
    torch.testing.assert_close(variance, torch.diagonal(cov).expand(3, d), rtol=0, atol=1e-9)


def test_sample_moments_match_the_density(case: tuple[int, Callable[[int], Distribution]]) -> None:
    d, build = case
    mean, cov = moments_by_quadrature(d, build)
    assert_moments(build(40_000).sample(Rng.of(0, 40_000)), mean, cov)


def test_average_log_prob_of_samples_matches_the_entropy(case: tuple[int, Callable[[int], Distribution]]) -> None:
    """E[-log p] over samples is the entropy: this also catches samples of another shape with equal moments."""
    d, build = case
    points, weight = plane(-12, 12, 401) if d == 2 else line(-12, 12, 4001)
    points = points.reshape(-1, d)
    entropy = integral(lambda x: torch.special.entr(build(len(x)).log_prob(x).exp()), points, weight)
    law = build(40_000)
    assert_mean(-law.log_prob(law.sample(Rng.of(1, 40_000))), entropy)


def test_samples_depend_only_on_the_stream(case: tuple[int, Callable[[int], Distribution]]) -> None:
    _, build = case
    x = build(8).sample(Rng.of(5, 8))
    assert torch.equal(x, build(8).sample(Rng.of(5, 8)))
    torch.testing.assert_close(x[:2], build(2).sample(Rng.of(5, 2)), rtol=1e-14, atol=1e-14)
    assert not torch.equal(x, build(8).sample(Rng.of(5, 8).at(1)))


def test_log_prob_matches_torch_distributions() -> None:
    x = Rng.of(0, 50).normal((2,), torch.float64)
    normal = torch.distributions.Normal(MEAN2, tensor([0.6, 1.4]))
    torch.testing.assert_close(
        CONTINUOUS["normal-2"][1](50).log_prob(x), normal.log_prob(x).sum(-1), rtol=1e-13, atol=0
    )
    full = torch.distributions.MultivariateNormal(MEAN2, COV)
    torch.testing.assert_close(CONTINUOUS["gaussian-2"][1](50).log_prob(x), full.log_prob(x), rtol=1e-12, atol=0)
    mixed = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=LOGITS),
        torch.distributions.Independent(torch.distributions.Normal(CENTRES, SPREADS), 1),
    )
    torch.testing.assert_close(CONTINUOUS["mixture-2"][1](50).log_prob(x), mixed.log_prob(x), rtol=1e-12, atol=1e-13)


def test_image_density_equals_flattened_density() -> None:
    """A picture's density is that of its flattened numbers."""
    n, shape = 4, (2, 3, 3)
    x, mean = (Rng.of(i, n).normal(shape, torch.float64) for i in (0, 1))
    std = tensor([0.5, 1.0, 2.0, 3.0])
    law = LocationScale(mean, std.reshape(-1, 1, 1, 1))
    expected = torch.distributions.Normal(mean, std.reshape(-1, 1, 1, 1)).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(law.log_prob(x), expected, rtol=1e-13, atol=0)
    full = Gaussian(mean, torch.diag_embed((std**2)[:, None].expand(n, 18)))
    torch.testing.assert_close(full.log_prob(x), expected, rtol=1e-13, atol=0)
    assert full.variance.shape == x.shape
    torch.testing.assert_close(full.sample(Rng.of(3, n)), law.sample(Rng.of(3, n)), rtol=1e-13, atol=1e-13)
    mixture = Mixture(torch.zeros(n, 2, dtype=torch.float64), (law, LocationScale(-mean, law.std)))
    both = torch.stack([law.log_prob(x), LocationScale(-mean, law.std).log_prob(x)])
    torch.testing.assert_close(mixture.log_prob(x), torch.logsumexp(both, 0) - math.log(2), rtol=1e-13, atol=0)
    assert mixture.sample(Rng.of(0, n)).shape == mixture.mean.shape == x.shape


def test_singular_gaussian_can_be_sampled() -> None:
    direction = tensor([[1.0], [2.0]])
    x = Gaussian(torch.zeros(1000, 2, dtype=torch.float64), (direction @ direction.T)[None]).sample(Rng.of(0, 1000))
    torch.testing.assert_close(x[:, 1], 2 * x[:, 0], rtol=0, atol=1e-7)  # the square root of a rounding error
    assert_mean(x[:, 0] ** 2, 1.0)


def test_dirac_has_no_spread() -> None:
    x = tensor([[1.0, 2.0]])
    point = Dirac(x)
    assert torch.equal(point.mean, x)
    assert torch.equal(point.sample(Rng.of(0, 1)), x)
    assert float(point.variance) == 0
    with pytest.raises(NoClosedForm):
        point.log_prob(x)


def test_mixture_of_diracs_has_the_weighted_moments() -> None:
    points = tuple(Dirac(p.expand(20_000, 2)) for p in CENTRES)
    law = Mixture(LOGITS.expand(20_000, 3), points)
    weights = LOGITS.softmax(0)
    mean = weights @ CENTRES
    cov = (CENTRES - mean).T @ torch.diag(weights) @ (CENTRES - mean)
    torch.testing.assert_close(law.mean[0], mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(law.variance[0], torch.diagonal(cov), rtol=1e-14, atol=0)
    x = law.sample(Rng.of(0, 20_000))
    assert_moments(x, mean, cov)
    assert (torch.cdist(x, CENTRES).min(1).values == 0).all()
    for distribution in (law, Mixture(LOGITS.expand(20_000, 2, 3), points)):
        with pytest.raises(NoClosedForm):
            distribution.log_prob(x)


def test_mixture_weights_per_element_draw_elements_independently() -> None:
    points = (Dirac(torch.full((20_000, 2), -1.0)), Dirac(torch.full((20_000, 2), 1.0)))
    together = Mixture(torch.zeros(20_000, 2), points).sample(Rng.of(0, 20_000))
    apart = Mixture(torch.zeros(20_000, 2, 2), points).sample(Rng.of(0, 20_000))
    assert_mean(together.prod(1), 1.0)
    assert_mean(apart.prod(1), 0.0)
    assert_mean(apart.mean(1), 0.0)


def test_mixture_log_prob_is_finite_far_from_every_component() -> None:
    law = CONTINUOUS["mixture-2"][1](1)
    assert torch.isfinite(law.log_prob(tensor([[1e3, -1e3]]))).all()


def test_categorical_sums_to_one_and_sample_frequencies_match() -> None:
    n, k = 30_000, 5
    logits = Rng.of(3, 1).normal((2, k), torch.float64)
    law = Categorical(logits.expand(n, 2, k))
    total = torch.zeros(())
    for a in range(k):
        for b in range(k):
            total = total + Categorical(logits).log_prob(torch.tensor([[a, b]])).exp()
    assert abs(float(total) - 1) < 1e-14
    p = logits[0].softmax(-1)
    values = torch.arange(k, dtype=torch.float64)
    torch.testing.assert_close(law.mean[0], p @ values, rtol=1e-14, atol=0)
    torch.testing.assert_close(law.variance[0], p @ values**2 - (p @ values) ** 2, rtol=1e-13, atol=0)
    x = law.sample(Rng.of(0, n))
    assert x.dtype == torch.int64
    assert_mean(torch.nn.functional.one_hot(x, k), p)
    single = Categorical(logits[:, 0])
    assert single.sample(Rng.of(0, 1)).shape == single.log_prob(torch.tensor([2])).shape == (1,)
    torch.testing.assert_close(single.log_prob(torch.tensor([2]))[0], p[0, 2].log(), rtol=1e-14, atol=0)


def test_categorical_never_draws_a_class_of_probability_zero() -> None:
    logits = tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).expand(5000, 5)
    assert set(Categorical(logits).sample(Rng.of(0, 5000)).tolist()) == {1, 3}


def test_mean_variance_and_samples_keep_the_dtype() -> None:
    for dtype in (torch.float32, torch.float64):
        law = LocationScale(torch.zeros(2, 3, dtype=dtype), torch.ones((), dtype=dtype))
        mixture = Mixture(torch.zeros(2, 2, dtype=dtype), (law, law))
        for distribution in (law, mixture, Gaussian(law.mean, torch.eye(3, dtype=dtype)[None])):
            assert (
                distribution.sample(Rng.of(0, 2)).dtype
                == distribution.mean.dtype
                == distribution.variance.dtype
                == dtype
            )
            assert distribution.log_prob(law.mean).dtype == dtype


EVEN, ORIGIN = torch.zeros(3, 2), Dirac(torch.zeros(3, 1))
NO_CHOICE = {
    "one stream for three samples": lambda: Categorical(EVEN).sample(Rng.of(0, 1)),
    "one stream for three mixtures": lambda: Mixture(EVEN, (ORIGIN, ORIGIN)).sample(Rng.of(0, 1)),
    "NaN weights": lambda: Categorical(EVEN * math.nan).sample(Rng.of(0, 3)),
    "zero weights": lambda: Mixture(EVEN - math.inf, (ORIGIN, ORIGIN)).sample(Rng.of(0, 3)),
    "fractional index": lambda: Categorical(EVEN).log_prob(torch.tensor([0.7, 0, 1])),
    "index out of range": lambda: Categorical(EVEN).log_prob(torch.tensor([2, 0, 1])),
    "two weights for one component": lambda: Mixture(EVEN, (ORIGIN,)),
    "no components": lambda: Mixture(EVEN[:, :0], ()),
    "fractional seed": lambda: Rng.of(1.5, 2),
    "fractional number of streams": lambda: Rng.of(0, 2.5),
    "negative number of streams": lambda: Rng.of(0, -1),
    "negative first sample": lambda: Rng.of(0, 2, -5),
    "fractional step": lambda: Rng.of(0, 2).at(1.7),
}


@pytest.mark.parametrize("what", NO_CHOICE)
def test_invalid_arguments_are_errors(what: str) -> None:
    """Weights of no number chose the first component; half a step drew the numbers of the step before."""
    with pytest.raises((ValueError, NumericalError)):
        NO_CHOICE[what]()
