"""Discrete denoisers: posteriors by Bayes' rule, bounds that are -log p, chain rules that normalise, chains' laws."""

import itertools
import math

import pytest
import torch
from torch import nn

from diffprob.base.distributions import Categorical
from diffprob.base.errors import ConformanceError
from diffprob.base.rng import Rng
from diffprob.conform import check_denoiser
from diffprob.denoise.categorical import CategoricalDenoiser, JointLaw, carry_over
from diffprob.denoise.denoiser import Evaluation, Index
from diffprob.denoise.level_law import LogisticMixture, Softmax
from diffprob.likelihood.bound import Decoder, step_nats, variational_bound
from diffprob.net.layers import Output
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.grids import Native, Uniform
from diffprob.process.linear import LinearProcess
from diffprob.process.survival import CosineSurvival, LinearSurvival, Staircase
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.simulate import draw

K, D = 3, 3
POINTS = torch.tensor(list(itertools.product(range(K), repeat=D)), dtype=torch.float64)
ORDERS = [torch.tensor([ranks]) for ranks in itertools.permutations(range(D))]
STAIRS = AbsorbingProcess(K, Staircase(D))


def joint(process: AbsorbingProcess = STAIRS, points: torch.Tensor = POINTS) -> JointLaw:
    weights = Rng.of(3, 1).normal((len(points),), torch.float64)[0].exp()
    return JointLaw(points, weights / weights.sum(), process)


class Conditionals(nn.Module):
    """Logits that depend on all that is shown, as no joint law needs to; it remembers its inputs."""

    def __init__(self, levels: int = K, d: int = D) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        shape = ((levels + 1) ** d, d, levels)
        self.table = nn.Parameter(2 * torch.randn(shape, generator=generator, dtype=torch.float64))
        self.base = levels + 1

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> Output:
        code = (x * self.base ** torch.arange(x.shape[1])).sum(1).long()
        self.times = t
        return Output(self.table[code])


class Echo(nn.Module):
    def forward(self, x: torch.Tensor, t: torch.Tensor) -> Output:
        return Output(x)


def test_posterior_is_that_of_bayes() -> None:
    model = joint()
    for state in itertools.product(range(K + 1), repeat=D):
        xt = torch.tensor([state], dtype=torch.float64)
        posterior = model(xt, torch.tensor(0.5, dtype=torch.float64)).log_probabilities.exp()
        agree = [
            (point, float(w))
            for point, w in zip(POINTS.tolist(), model.weights, strict=True)
            if all(a in (b, K) for a, b in zip(state, point, strict=True))
        ]
        total = sum(w for _, w in agree)
        for i, k in itertools.product(range(D), range(K)):
            expected = sum(w for point, w in agree if point[i] == k) / total
            assert float(posterior[0, i, k]) == pytest.approx(expected, abs=1e-12)
        assert float(model.log_prob(xt)) == pytest.approx(math.log(total), abs=1e-12)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: str(order.flatten().tolist()))
def test_bound_of_a_staircase_is_the_negative_log_likelihood(order: torch.Tensor) -> None:
    """With the exact conditionals, for every order and point; and for any conditionals it sums to one."""
    model = joint()
    times = Native()(STAIRS, D)
    bound = variational_bound(model.with_process(STAIRS.with_order(order)), POINTS, times, Rng.of(0, 27), Decoder(None))
    assert torch.equal(bound.prior, torch.zeros(27, dtype=torch.float64))
    assert torch.allclose(bound.total, -model.log_prob(POINTS), atol=1e-12)
    net = CategoricalDenoiser(Conditionals(), STAIRS, Index(D)).with_process(STAIRS.with_order(order))
    other = variational_bound(net, POINTS, times, Rng.of(0, 27), Decoder(None)).total
    assert float(other.neg().exp().sum()) == pytest.approx(1, abs=1e-12)
    assert not torch.allclose(other, bound.total, atol=0.1)


def test_random_orders_of_each_sample_and_few_terms() -> None:
    """Orders differ between samples, and steps drawn at random are unbiased: the mean is that of -log p."""
    n, model = 1600, joint()
    x0 = POINTS[17].expand(n, D)
    bound = variational_bound(
        model.bind(Rng.of(5, n), x0), x0, Native()(STAIRS, D), Rng.of(0, n), Decoder(None), terms=1
    )
    error = bound.total + model.log_prob(x0)
    assert abs(float(error.mean())) < 4 * float(error.std()) / n**0.5
    assert float(error.std()) > 0.01


def expected_bound(model: JointLaw, x0: torch.Tensor, times: torch.Tensor) -> float:
    """The bound of independent masks, by a sum over all of them instead of draws."""
    process, total = model.process, 0.0
    masks = torch.tensor(list(itertools.product((False, True), repeat=x0.shape[1])))
    states = torch.where(masks, float(process.mask), x0)
    starts = x0.expand(len(masks), -1)
    for t, s in itertools.pairwise([*times, torch.zeros((), dtype=torch.float64)]):
        weights = process.marginal(starts, t).log_prob(states).exp()
        kept = weights > 0
        posterior = model(states[kept], t)
        if float(s) > 0:
            nats = step_nats(process, posterior, starts[kept], states[kept], s, t)
        else:
            nats = -posterior.log_prob(starts[kept])
        total += float((weights[kept] * nats).sum())
    return total


@pytest.mark.parametrize("survival", [LinearSurvival(), CosineSurvival()], ids=repr)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_two_point_data_costs_one_bit_an_element_on_every_grid(survival, n: int) -> None:
    """METHOD 14.5: independent elements, each of two values alike."""
    process = AbsorbingProcess(2, survival)
    points = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    model = JointLaw(points, torch.ones(8), process)
    assert expected_bound(model, points[5:6], Uniform()(process, n)) == pytest.approx(3 * math.log(2), abs=1e-12)


@pytest.mark.parametrize("survival", [LinearSurvival(), CosineSurvival()], ids=repr)
def test_finer_grids_approach_the_entropy_from_above(survival) -> None:
    process = AbsorbingProcess(2, survival)
    points = torch.tensor(list(itertools.product((0.0, 1.0), repeat=2)), dtype=torch.float64)
    model = JointLaw(points, torch.tensor([0.4, 0.1, 0.2, 0.3]), process)
    entropy = -float((model.weights * model.weights.log()).sum())
    gaps = []
    for n in (1, 4, 16):
        costs = [expected_bound(model, x0[None], Uniform()(process, n)) for x0 in points]
        gaps.append(sum(float(w) * cost for w, cost in zip(model.weights, costs, strict=True)) - entropy)
    assert all(first > second > 0 for first, second in itertools.pairwise(gaps))
    assert gaps[-1] < 0.2 * gaps[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chain_draws_from_the_joint_law(dtype: torch.dtype) -> None:
    n, model = 6000, joint()
    rng = Rng.of(0, n)
    bound = model.bind(rng, torch.zeros(n, D))
    x = draw(bound, Ancestral(), Native()(STAIRS, D), rng, (D,), dtype)
    assert x.dtype == dtype and bool((x < K).all())
    counts = torch.bincount((x.double() @ torch.tensor([9.0, 3.0, 1.0], dtype=torch.float64)).long(), minlength=27)
    expected = n * model.weights
    assert float(((counts - expected) ** 2 / expected).sum()) < 26 + 4 * math.sqrt(52)
    one_step = draw(bound, Ancestral(), torch.ones(1, dtype=torch.float64), rng, (D,), dtype)
    counts = torch.bincount((one_step.double() @ torch.tensor([9.0, 3.0, 1.0], dtype=torch.float64)).long())
    assert float(((counts - expected) ** 2 / expected).sum()) > 100  # all at once are independent, which the law is not


def test_network_posterior_keeps_what_is_shown() -> None:
    net = Conditionals()
    model = CategoricalDenoiser(net, AbsorbingProcess(K), Index(D), Evaluation(chunk=2))
    xt = torch.tensor([[0.0, 3.0, 2.0], [3.0, 3.0, 3.0], [1.0, 1.0, 3.0]])
    posterior = model(xt, torch.tensor([0.5, 1.0, 0.3], dtype=torch.float64))
    assert isinstance(posterior, Categorical) and posterior.logits.shape == (3, D, K)
    assert torch.equal(posterior.log_probabilities[0, 0].exp(), torch.tensor([1.0, 0.0, 0.0]))
    draws = posterior.sample(Rng.of(0, 3))
    assert draws.dtype == xt.dtype and bool((draws[xt < K] == xt[xt < K]).all())
    whole = CategoricalDenoiser(net, AbsorbingProcess(K), Index(D))(xt, torch.tensor(0.5, dtype=torch.float64))
    assert torch.equal(whole.logits[1], net(xt.double(), xt)[0][1].float())
    with pytest.raises(ValueError, match="need logits"):
        CategoricalDenoiser(Echo(), AbsorbingProcess(K))(xt, torch.tensor(0.5, dtype=torch.float64))
    with pytest.raises(ValueError, match="levels"):
        model.with_process(AbsorbingProcess(K + 1))
    with pytest.raises(ValueError, match="eta must be 1"):
        draw(model, DDIM(0.5, spread=True), torch.tensor([1.0, 0.5], dtype=torch.float64), Rng.of(0, 2), (D,))


def test_exact_and_network_denoisers_conform() -> None:
    check_denoiser(joint(), data=POINTS, exact=True, dtype=torch.float64)
    check_denoiser(joint(AbsorbingProcess(K)), data=POINTS.float())
    check_denoiser(CategoricalDenoiser(Conditionals(), STAIRS), shape=(D,))


class Forgetful(JointLaw):
    def __call__(self, xt, t):
        return Categorical(super().__call__(xt, t).logits.roll(1, -1), xt.dtype)


class Biased(JointLaw):
    def __call__(self, xt, t):
        return carry_over(0.5 * super().__call__(xt, t).logits, xt, self.process)


@pytest.mark.parametrize(("kind", "sentence"), [(Forgetful, "is not certain"), (Biased, "cross-entropy")])
def test_planted_mistake_of_a_denoiser_is_detected(kind: type, sentence: str) -> None:
    model = joint()
    with pytest.raises(ConformanceError, match=sentence):
        check_denoiser(kind(model.points, model.weights, STAIRS), data=POINTS, exact=True, dtype=torch.float64)


def test_invalid_laws() -> None:
    for points, weights in (([[0.0, 3.0]], [1.0]), ([[0.0, 1.0]], [0.0]), ([[0.0, 1.0]], [1.0, 2.0]), ([[0.5]], [1.0])):
        with pytest.raises(ValueError):
            JointLaw(points, weights, AbsorbingProcess(3))
    with pytest.raises(ValueError, match="agrees with no point"):
        JointLaw([[0.0, 1.0]], [1.0], AbsorbingProcess(3))(torch.tensor([[2.0, 3.0]]), torch.tensor(0.5))


def test_law_of_levels_sums_to_one_and_is_that_of_its_bins() -> None:
    outputs = 2 * torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for law, numbers in ((LogisticMixture(4), outputs), (Softmax(), outputs[..., :9])):
        logs = law.logits(numbers, 9).log_softmax(-1)
        assert law.outputs(9) == numbers.shape[-1]
        for k in range(9):
            own = law.log_prob(numbers, torch.full((3, 5), float(k), dtype=torch.float64), 9)
            assert torch.allclose(own, logs[..., k], atol=1e-12)
    raw = LogisticMixture(4).logits(outputs, 9)
    assert torch.allclose(raw.logsumexp(-1), torch.zeros(3, 5, dtype=torch.float64), atol=1e-12)
    weights, shift, scale = outputs.unflatten(-1, (3, 4)).unbind(-2)
    means, stds = torch.tensor([-0.75, -0.25, 0.25, 0.75]) + shift, (scale.exp() / 4).clamp_min(math.exp(-7))
    edge = torch.linspace(-1, 1, 9, dtype=torch.float64)[3] + 0.125
    below = (weights.softmax(-1) * torch.sigmoid((edge - means) / stds)).sum(-1)
    assert torch.allclose(raw.exp()[..., :4].sum(-1), below, atol=1e-12)
    far = LogisticMixture(1).log_prob(torch.tensor([[0.0, 3.0, -20.0]]), torch.zeros(1), 256)
    assert bool(far.isfinite().all())
    with pytest.raises(ValueError, match="is a law of levels"):
        Softmax().check(LinearProcess())
