"""Multinomial denoisers: posteriors by Bayes' rule over all states, bounds, what chains draw, planted mistakes."""

import itertools
import math

import pytest
import torch
from torch import nn

from diffprob.base.distributions import Categorical
from diffprob.base.errors import ConformanceError, InputError
from diffprob.base.rng import Rng
from diffprob.conform import check_denoiser
from diffprob.denoise.denoiser import Evaluation, Index
from diffprob.denoise.level_law import Softmax
from diffprob.denoise.multinomial import MultinomialDenoiser, MultinomialLaw, StepSoftmax
from diffprob.likelihood.bound import Decoder, continuous_bound, step_nats, variational_bound
from diffprob.net.layers import Output
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.grids import Native, Uniform
from diffprob.process.multinomial import MultinomialProcess, StepLaw
from diffprob.process.schedule import ConstantErasure
from diffprob.process.survival import LinearSurvival
from diffprob.sampling.ancestral import Ancestral
from diffprob.sampling.simulate import draw
from diffprob.training.categorical import CategoricalBound

K, D, T = 3, 2, 8
PREDICTIONS = {False: Softmax(), True: StepSoftmax()}
STATES = torch.tensor(list(itertools.product(range(K), repeat=D)), dtype=torch.float64)
WEIGHTS = Rng.of(3, 1).normal((K**D,), torch.float64)[0].softmax(0)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def law(schedule=ConstantErasure(T), pi=(0.2, 0.5, 0.3)) -> MultinomialLaw:
    return MultinomialLaw(STATES, WEIGHTS, MultinomialProcess(K, schedule, pi))


class Table(nn.Module):
    """Logits for every state and label, or, with an exact model, its posteriors."""

    def __init__(self, levels: int = K, d: int = D) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        shape = (T, levels**d, d, levels)
        self.table = nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        self.levels = levels

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> Output:
        place = self.levels ** torch.arange(x.shape[1] - 1, -1, -1)
        return Output(self.table[t.round().long(), (x * place).sum(1).long()])


def exact_bound(model, x0: torch.Tensor, times: torch.Tensor) -> float:
    """The steps' part of the bound by a sum over all states instead of draws; the prior's is 0 here."""
    process, total = model.process, 0.0
    starts = x0.expand(len(STATES), -1)
    for t, s in itertools.pairwise([*times, torch.zeros((), dtype=torch.float64)]):
        weights = process.marginal(starts, t).log_prob(STATES).exp()
        total += float((weights * step_nats(process, model(STATES, t), starts, STATES, s, t)).sum())
    return total


def test_posterior_is_that_of_bayes() -> None:
    model, (s, t) = law(), (0.0, 5 / T)
    for xt in STATES:
        joint = [
            float(w) * math.exp(float(model.process.marginal(x0[None], t).log_prob(xt[None])))
            for x0, w in zip(STATES, WEIGHTS, strict=True)
        ]
        posterior = model(xt[None], tensor(t)).log_probabilities.exp()
        for i, k in itertools.product(range(D), range(K)):
            share = sum(p for x0, p in zip(STATES.tolist(), joint, strict=True) if x0[i] == k) / sum(joint)
            assert float(posterior[0, i, k]) == pytest.approx(share, abs=1e-12)
        assert float(model.log_prob(xt[None], t)) == pytest.approx(math.log(sum(joint)), abs=1e-12)
    assert torch.allclose(model.log_prob(STATES), WEIGHTS.log(), atol=1e-12)
    assert torch.equal(model(STATES, tensor(s)).log_probabilities.exp().argmax(-1), STATES.long())


def test_independent_elements_cost_minus_log_p_on_every_grid() -> None:
    first, second = tensor([0.5, 0.2, 0.3]), tensor([0.1, 0.1, 0.8])
    weights = first[STATES[:, 0].long()] * second[STATES[:, 1].long()]
    model = MultinomialLaw(STATES, weights, MultinomialProcess(K, ConstantErasure(T)))
    for n in (1, 3, T):
        bound = exact_bound(model, STATES[5:6], Uniform()(model.process, n))
        assert bound == pytest.approx(-math.log(float(weights[5])), abs=1e-12)


def test_finer_chains_approach_the_entropy_from_above() -> None:
    """Elements that are drawn at once are drawn as if independent, which matters less the shorter the step."""
    entropy = -float((WEIGHTS * WEIGHTS.log()).sum())
    gaps = []
    for steps in (1, 4, 16):
        model = law(ConstantErasure(steps))
        times = Native()(model.process, steps)
        costs = [exact_bound(model, x0[None], times) for x0 in STATES]
        gaps.append(sum(float(w) * cost for w, cost in zip(WEIGHTS, costs, strict=True)) - entropy)
    assert all(first > second > 0 for first, second in itertools.pairwise(gaps))
    assert gaps[-1] < 0.2 * gaps[0]


def test_relative_law_of_the_step_begins_where_the_step_does() -> None:
    """Logits of 0 say q(x_t|x_s) normalised, a first guess that costs a fraction of an even law; others any law."""
    process, n = MultinomialProcess(K, ConstantErasure(T), (0.2, 0.5, 0.3)), 90
    x0, t = STATES.repeat(10, 1), tensor(range(n)).remainder(T).add(1) / T
    xt = process.marginal(x0, t).sample(Rng.of(0, n))

    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> Output:
            return Output(torch.zeros(*x.shape, K, dtype=x.dtype))

    nats = []
    for prediction in (StepSoftmax(relative=True), StepSoftmax()):
        posterior = MultinomialDenoiser(Fixed(), process, Index(T), prediction=prediction)(xt, t)
        nats.append(step_nats(process, posterior, x0, xt, t - 1 / T, t).mean())
        if prediction.relative:
            expected = process.likelihood(xt, t, t - 1 / T).softmax(-1)
            torch.testing.assert_close(posterior.log_probabilities.exp(), expected, rtol=1e-6, atol=1e-9)
    assert float(nats[0]) < 0.5 * float(nats[1])


def test_infinitely_many_steps_cost_the_entropy() -> None:
    """Exact conditionals of every element are all that infinitely short steps need; within four standard errors."""
    exact, n = law(LinearSurvival()), 8000
    x0 = STATES.repeat_interleave((n * WEIGHTS).round().long(), 0)
    nats = continuous_bound(exact, x0, Rng.of(0, len(x0)), 4, Decoder(None)).total
    entropy = -float((WEIGHTS * WEIGHTS.log()).sum())
    assert abs(float(nats.mean()) - entropy) < 4 * float(nats.std()) / math.sqrt(len(x0)) + 2e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chain_draws_from_the_law(dtype: torch.dtype) -> None:
    n, model = 3000, law(ConstantErasure(32))
    x = draw(model, Ancestral(), Native()(model.process, 32), Rng.of(0, n), (D,), dtype)
    assert x.dtype == dtype
    counts = torch.bincount((x[:, 0] * K + x[:, 1]).long(), minlength=K**D)
    expected = n * WEIGHTS
    assert float(((counts - expected) ** 2 / expected).sum()) < 8 + 4 * math.sqrt(16)
    once = draw(model, Ancestral(), torch.ones(1, dtype=torch.float64), Rng.of(0, n), (D,), dtype)
    counts = torch.bincount((once[:, 0] * K + once[:, 1]).long(), minlength=K**D)
    assert float(((counts - expected) ** 2 / expected).sum()) > 60  # all at once are independent


@pytest.mark.parametrize("step", [False, True])
def test_loss_is_the_bound_of_the_chain(step: bool) -> None:
    """Its mean over times and states is that of `variational_bound`, for a network that says x_0 or the step."""
    process, n = MultinomialProcess(K, ConstantErasure(T)), 4000
    model = MultinomialDenoiser(Table(), process, Index(T), prediction=PREDICTIONS[step])
    x0 = STATES[5:6]
    with torch.no_grad():
        expected = exact_bound(model, x0, Native()(process, T))
        loss = CategoricalBound()(model, x0.expand(n, D), Rng.of(2, n).at(3))
        assert abs(float(loss.mean()) * D - expected) < 4 * float(loss.std()) * D / n**0.5
        alone = CategoricalBound()(model, x0.expand(3, D), Rng.of(2, 3).at(3))
        assert torch.allclose(alone, loss[:3], atol=1e-12)
        bound = variational_bound(model, x0.expand(n, D), Native()(process, T), Rng.of(0, n), Decoder(None)).total
        assert abs(float(bound.mean()) - expected) < 4 * float(bound.std()) / n**0.5
    if not step:
        with torch.no_grad():
            more = CategoricalBound(auxiliary=0.5)(model, x0.expand(n, D), Rng.of(2, n).at(3))
        assert bool((more > loss).all())
    else:
        with pytest.raises(InputError, match="auxiliary must be 0"):
            CategoricalBound(auxiliary=0.5)(model, x0, Rng.of(2, 1))


@pytest.mark.parametrize("step", [False, True])
def test_training_finds_the_exact_conditionals(step: bool) -> None:
    """A table of logits trained by the loss has the bound of the exact model, up to a hundredth of a nat."""
    process = MultinomialProcess(2, ConstantErasure(4))
    points = tensor(list(itertools.product((0.0, 1.0), repeat=2)))
    weights = tensor([0.4, 0.1, 0.1, 0.4])
    exact = MultinomialLaw(points, weights, process)
    model = MultinomialDenoiser(Table(2), process, Index(4), prediction=PREDICTIONS[step])
    optimiser = torch.optim.Adam(model.parameters(), 0.2)
    rows = torch.tensor([0] * 8 + [1] * 2 + [2] * 2 + [3] * 8).repeat(16)
    for k in range(60):
        for group in optimiser.param_groups:
            group["lr"] = 0.2 * (1 - k / 60)
        loss = CategoricalBound()(model, points[rows], Rng.of(0, len(rows)).at(k)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    rng, times = Rng.of(1, 8000), Native()(process, 4)
    x0 = points[rows.repeat(25)]
    with torch.no_grad():
        costs = [variational_bound(m, x0, times, rng, Decoder(None)).total for m in (model, exact)]
    gap = costs[0] - costs[1]
    assert -0.01 < float(gap.mean()) < 0.03


def test_network_answers_in_chunks_and_is_refused_otherwise() -> None:
    process = MultinomialProcess(K, ConstantErasure(T))
    model = MultinomialDenoiser(Table(), process, Index(T), Evaluation(chunk=2))
    posterior = model(STATES[:5], torch.full((5,), 0.5, dtype=torch.float64))
    assert type(posterior) is Categorical and posterior.logits.shape == (5, D, K)
    assert torch.equal(posterior.logits[4], model.net.table[3, 4])
    with pytest.raises(ValueError, match="need logits"):
        MultinomialDenoiser(Table(2), MultinomialProcess(3, ConstantErasure(T)), Index(T))(STATES[:1] * 0, tensor(0.5))
    with pytest.raises(ValueError, match="has no steps"):
        MultinomialDenoiser(Table(), MultinomialProcess(K, LinearSurvival()), prediction=StepSoftmax())
    with pytest.raises(ValueError):
        MultinomialDenoiser(Table(), AbsorbingProcess(K))
    for other in (AbsorbingProcess(K), MultinomialProcess(K, LinearSurvival())):
        with pytest.raises(InputError):
            CategoricalBound().check(other)


def drawn(n: int = 4000) -> torch.Tensor:
    return STATES[Categorical(WEIGHTS.log().expand(n, -1)).sample(Rng.of(9, n))]


def test_exact_and_network_denoisers_conform() -> None:
    check_denoiser(law(), data=drawn(), exact=True, dtype=torch.float64)
    check_denoiser(law(LinearSurvival()), data=drawn().float())
    process = MultinomialProcess(K, ConstantErasure(T))
    for step in (False, True):
        check_denoiser(MultinomialDenoiser(Table(), process, Index(T), prediction=PREDICTIONS[step]), shape=(D,))
    assert isinstance(
        MultinomialDenoiser(Table(), process, Index(T), prediction=StepSoftmax())(STATES, tensor(0.5)), StepLaw
    )


class Flat(MultinomialLaw):
    """The law of the data whatever x_t is."""

    def __call__(self, xt, t):
        return Categorical(super().__call__(xt, torch.ones(())).logits, xt.dtype)


class Sharp(MultinomialLaw):
    def __call__(self, xt, t):
        return Categorical(1.2 * super().__call__(xt, t).logits, xt.dtype)


class Late(MultinomialLaw):
    def __call__(self, xt, t):
        return super().__call__(xt, 0.8 * torch.as_tensor(t))


@pytest.mark.parametrize("kind", [Flat, Sharp, Late])
def test_planted_mistake_of_a_denoiser_is_detected(kind: type) -> None:
    with pytest.raises(ConformanceError, match="standard errors"):
        check_denoiser(kind(STATES, WEIGHTS, law().process), data=drawn(), exact=True, dtype=torch.float64)


def test_invalid_laws() -> None:
    process = MultinomialProcess(3)
    for points, weights in (([[0.0, 3.0]], [1.0]), ([[0.0, 1.0]], [0.0]), ([[0.0, 1.0]], [1.0, 2.0]), ([[0.5]], [1.0])):
        with pytest.raises(ValueError):
            MultinomialLaw(points, weights, process)
    with pytest.raises(ValueError, match="agrees with no point"):
        MultinomialLaw([[0.0, 1.0]], [1.0], process)(tensor([[2.0, 2.0]]), tensor(0.0))
