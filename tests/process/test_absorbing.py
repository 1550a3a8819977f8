"""The absorbing process against transition matrices and Bayes' rule, and draws of categoricals."""

import math

import pytest
import torch

from diffprob.base.distributions import Categorical, Dirac, LocationScale
from diffprob.base.divergence import kl
from diffprob.base.errors import NoClosedForm, NumericalError
from diffprob.base.rng import Rng
from diffprob.process.absorbing import AbsorbingProcess, random_order
from diffprob.process.chain import noisy_times
from diffprob.process.grids import LogSNR, Native, QuadraticTimes, Trailing, Uniform
from diffprob.process.of_levels import point_logits
from diffprob.process.survival import CosineSurvival, LinearSurvival, Staircase

K = 3
SMOOTH = [LinearSurvival(), CosineSurvival()]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def transition(survival, s: float, t: float) -> torch.Tensor:
    """P(x_t = j | x_s = i) as a matrix (K + 1, K + 1), from alpha alone."""
    alpha_s, alpha_t = (1 - float(survival.masked(tensor(u))) for u in (s, t))
    kept = alpha_t / alpha_s
    matrix = kept * torch.eye(K + 1, dtype=torch.float64)
    matrix[:, K] += 1 - kept
    matrix[K] = tensor([0.0] * K + [1.0])
    return matrix


def probabilities(law: Categorical) -> torch.Tensor:
    return law.log_probabilities.exp()


@pytest.mark.parametrize("survival", SMOOTH, ids=repr)
@pytest.mark.parametrize(("s", "t"), [(0.2, 0.7), (0.0, 0.4), (0.3, 1.0)])
def test_marginal_and_bridge_are_those_of_the_chain(survival, s: float, t: float) -> None:
    process = AbsorbingProcess(K, survival)
    to_s, to_t, step = (transition(survival, *pair) for pair in ((0.0, s), (0.0, t), (s, t)))
    for x0 in range(K):
        law = process.marginal(tensor([[float(x0)]]), t)
        assert torch.allclose(probabilities(law)[0, 0], to_t[x0], atol=1e-12)
        for xt in range(K + 1):
            joint = to_s[x0] * step[:, xt]  # q(x_s | x_0) q(x_t | x_s)
            if joint.sum() > 0:
                bridge = process.bridge(tensor([[float(x0)]]), tensor([[float(xt)]]), s, t)
                assert torch.allclose(probabilities(bridge)[0, 0], joint / joint.sum(), atol=1e-12)


@pytest.mark.parametrize("survival", SMOOTH, ids=repr)
def test_reverse_averages_the_bridge(survival) -> None:
    process, (s, t) = AbsorbingProcess(K, survival), (0.25, 0.75)
    posterior = Categorical(tensor([0.2, 0.5, 0.3]).log().expand(1, 2, K))
    xt = tensor([[float(K), 1.0]])
    law = probabilities(process.reverse(posterior, xt, s, t))
    bridges = [probabilities(process.bridge(tensor([[float(k), 1.0]]), xt, s, t)) for k in range(K)]
    weights = tensor([0.2, 0.5, 0.3])
    expected = sum(w * bridge[0, 0] for w, bridge in zip(weights, bridges, strict=True))
    assert torch.allclose(law[0, 0], expected, atol=1e-12)
    assert torch.equal(law[0, 1], tensor([0.0, 1.0, 0.0, 0.0]))
    point = process.reverse(Dirac(tensor([[2.0, 1.0]])), xt, s, t)
    assert torch.equal(probabilities(point), bridges[2])
    # KL(bridge || reverse) = (alpha_s - alpha_t)/(1 - alpha_t) times -log p(x_0), of the masked element alone.
    shown = 1 - float(survival.masked(tensor(s)) / survival.masked(tensor(t)))
    nats = kl(process.bridge(tensor([[2.0, 1.0]]), xt, s, t), process.reverse(posterior, xt, s, t))
    assert torch.allclose(nats, tensor([-shown * math.log(0.3)]), atol=1e-12)


@pytest.mark.parametrize("survival", SMOOTH, ids=repr)
def test_survival_and_its_inverse(survival) -> None:
    t = torch.linspace(1e-6, 1 - 1e-6, 101, dtype=torch.float64)
    masked = survival.masked(t)
    assert bool((masked.diff() > 0).all()) and float(survival.masked(tensor(0.0))) == 0
    assert torch.allclose(torch.sigmoid(-survival.logsnr(t)), masked, rtol=1e-12, atol=0)
    assert torch.allclose(survival.time(survival.logsnr(t)), t, rtol=1e-9, atol=1e-14)
    h = 1e-6
    inside = t[5:-5]
    slope = (survival.masked(inside + h) - survival.masked(inside - h)) / (2 * h)
    assert torch.allclose(survival.rate(inside), slope / survival.masked(inside), rtol=1e-8)
    assert float(survival.masked(tensor(1.0))) == pytest.approx(1, abs=1e-15)


def test_staircase_is_certain_given_the_order() -> None:
    process, x0 = AbsorbingProcess(K, Staircase(4)), tensor([[0.0, 1.0, 2.0, 1.0]])
    with pytest.raises(ValueError, match="no order is bound"):
        process.marginal(x0, 0.5)
    bound = process.with_order(torch.tensor([[2, 0, 3, 1]]))
    for k, expected in enumerate(([0, 1, 2, 1], [0, 1, 3, 1], [3, 1, 3, 1], [3, 1, 3, 3], [3, 3, 3, 3])):
        state = bound.marginal(x0, k / 4).sample(Rng.of(0, 1))
        assert state.dtype == torch.float64 and state.tolist() == [expected], k
        if k < 4:
            again = bound.bridge(x0, bound.marginal(x0, (k + 1) / 4).mean, k / 4, (k + 1) / 4)
            assert torch.equal(again.sample(Rng.of(1, 1)), state)
    assert torch.equal(bound.prior(x0).sample(Rng.of(0, 1)), tensor([[3.0] * 4]))
    with pytest.raises(ValueError, match="each of the ranks"):
        process.with_order(torch.tensor([[0, 0, 1, 2]]))
    with pytest.raises(ValueError, match="would be right"):
        bound.marginal(tensor([[0.0, 1.0]]), 0.5)


def test_orders_are_uniform_and_belong_to_their_streams() -> None:
    n = 24_000
    order = random_order(Rng.of(0, n), torch.zeros(n, 4))
    code = (order * torch.tensor([64, 16, 4, 1])).sum(1)
    _, counts = torch.unique(code, return_counts=True)
    assert len(counts) == 24
    chi2 = float(((counts - n / 24) ** 2 / (n / 24)).sum())
    assert chi2 < 23 + 4 * math.sqrt(46)
    assert torch.equal(random_order(Rng.of(7, 2), torch.zeros(2, 4)), order[7:9])
    assert torch.equal(order.sort(1).values, torch.arange(4).expand(n, 4))


def test_grids_serve_absorbing_processes() -> None:
    stairs = AbsorbingProcess(K, Staircase(5))
    assert torch.allclose(Native()(stairs, 5), tensor([1.0, 0.8, 0.6, 0.4, 0.2]))
    for grid in (Uniform(), QuadraticTimes(), Trailing(), LogSNR()):
        for process in (stairs, AbsorbingProcess(K), AbsorbingProcess(K, CosineSurvival())):
            times = grid(process, 4)
            assert torch.equal(noisy_times(process, times), times)
    with pytest.raises(ValueError, match="where LinearSurvival"):
        noisy_times(AbsorbingProcess(K), tensor([1.0, 0.0]))


def test_draws_have_the_law_that_they_say() -> None:
    """Of a flat law of 256 values in float32: of even numbers each value gets as many, and of 10^5 random ones too."""
    even = Categorical(torch.zeros(1, 40 * 256, 256)).sample(Even())
    assert torch.equal(torch.bincount(even.flatten()), torch.full((256,), 40))
    flat, rng = Categorical(torch.zeros(100, 500, 256)), Rng.of(0, 100)
    draws = torch.stack([flat.sample(rng.at(k)) for k in range(2)])
    counts, expected = torch.bincount(draws.flatten(), minlength=256).double(), 1e5 / 256
    assert len(counts) == 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 255 + 4 * math.sqrt(2 * 255)


class Even:
    """Streams whose uniform numbers lie evenly."""

    def __len__(self) -> int:
        return 1

    def uniform(self, shape, dtype):
        n = math.prod(shape)
        return ((torch.arange(n, dtype=dtype) + 0.5) / n).reshape(1, *shape)


class Last:
    """Streams whose uniform numbers are the largest there are."""

    def __len__(self) -> int:
        return 1

    def uniform(self, shape, dtype):
        return torch.full((1, *shape), 1 - 2.0**-33, dtype=dtype)


def test_a_value_of_weight_0_is_never_drawn() -> None:
    """In float32 the probabilities of 255 values may add up to 1 - 10^-7, and the last value, the mask, is drawn."""
    logits = torch.cat([Rng.of(0, 200).normal((255,)), torch.full((200, 1), -math.inf)], 1)
    assert bool((torch.exp(logits.log_softmax(-1)).double().sum(-1) < 1 - 1e-9).any())
    assert all(int(Categorical(row[None, None]).sample(Last())) < 255 for row in logits)


@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.marginal(tensor([[0.5]]), 0.5),
        lambda p: p.marginal(tensor([[3.0]]), 0.5),
        lambda p: p.marginal(torch.tensor([[1]]), 0.5),
        lambda p: p.marginal(tensor([[1.0]]), 1.5),
        lambda p: p.bridge(tensor([[1.0]]), tensor([[4.0]]), 0.2, 0.5),
        lambda p: p.bridge(tensor([[1.0]]), tensor([[3.0]]), 0.6, 0.5),
        lambda p: p.bridge(tensor([[1.0]]), tensor([[3.0]]), tensor([0.6]), tensor([0.5])),
        lambda p: p.bridge(tensor([[1.0]]), tensor([[3.0]]), 0.2, 0.5, eta=0.0),
        lambda p: p.marginal(tensor([[1.0], [1.0]]), tensor([0.1, 0.2, 0.3])),
        lambda _: AbsorbingProcess(1),
        lambda _: AbsorbingProcess(3, survival=2),
        lambda _: Staircase(0),
    ],
)
def test_invalid_arguments(call) -> None:
    with pytest.raises(ValueError):
        call(AbsorbingProcess(K))


def test_other_posteriors_have_no_closed_form() -> None:
    xt = tensor([[3.0]])
    for posterior in (LocationScale(xt, xt), Categorical(torch.zeros(1, 1, 4))):
        with pytest.raises(NoClosedForm):
            AbsorbingProcess(K).reverse(posterior, xt, 0.2, 0.5)
    with pytest.raises(NumericalError):
        Categorical(point_logits(xt, 4) * math.nan).sample(Rng.of(0, 1))
