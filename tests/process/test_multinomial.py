"""The multinomial process against matrices and Bayes' rule, and of two values against the paper of 2015."""

import itertools
import math

import pytest
import torch

from diffprob.base.distributions import Categorical, Dirac, LocationScale
from diffprob.base.errors import InputError, NoClosedForm
from diffprob.base.rng import Rng
from diffprob.likelihood.bound import Decoder, prior_nats, step_nats, variational_bound
from diffprob.process.multinomial import MultinomialProcess, StepLaw
from diffprob.process.of_levels import point_logits
from diffprob.process.schedule import ConstantErasure, Cosine, LinearBetas
from diffprob.process.survival import LinearSurvival

T, K = 6, 3
PI = (0.2, 0.7, 0.1)
SCHEDULES = [ConstantErasure(T), ConstantErasure(T, 0.1), LinearBetas(T, 0.05, 0.6), Cosine(T)]
over_schedules = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def transitions(schedule, pi: tuple[float, ...]) -> list[torch.Tensor]:
    """P(x_t = j | x_(t-1) = i) for t = 1..T, from beta alone."""
    k = len(pi)
    return [(1 - b) * torch.eye(k, dtype=torch.float64) + b * tensor(pi).expand(k, k) for b in schedule.betas()]


def product(matrices) -> torch.Tensor:
    total = torch.eye(K, dtype=torch.float64)
    for matrix in matrices:
        total = total @ matrix
    return total


def probabilities(law: Categorical) -> torch.Tensor:
    return law.log_probabilities.exp()


@over_schedules
def test_marginal_and_bridge_are_those_of_the_chain(schedule) -> None:
    process, steps = MultinomialProcess(K, schedule, PI), transitions(schedule, PI)
    for s, t in itertools.combinations(range(T + 1), 2):
        to_s, to_t, step = product(steps[:s]), product(steps[:t]), product(steps[s:t])
        for x0, xt in itertools.product(range(K), repeat=2):
            state, here = tensor([[float(x0)]]), tensor([[float(xt)]])
            assert torch.allclose(probabilities(process.marginal(state, t / T))[0, 0], to_t[x0], atol=1e-12)
            joint = to_s[x0] * step[:, xt]  # q(x_s | x_0) q(x_t | x_s)
            bridge = process.bridge(state, here, s / T, t / T)
            assert torch.allclose(probabilities(bridge)[0, 0], joint / joint.sum(), atol=1e-12)


def test_two_values_are_the_binomial_diffusion_of_2015() -> None:
    """Table app. 1, and the posterior of two bits written out: q(x_(t-1) = 1 | x_t, x_0) by Bayes' rule."""
    betas = LinearBetas(T, 0.05, 0.6).betas()
    process = MultinomialProcess(2, LinearBetas(T, 0.05, 0.6))
    assert torch.allclose(probabilities(process.prior(torch.zeros(1, 1).double())), tensor([[[0.5, 0.5]]]), atol=1e-15)
    mean = tensor([0.0, 1.0])
    for t, beta in enumerate(betas, 1):
        before, mean = mean, mean * (1 - beta) + 0.5 * beta
        rate = probabilities(process.marginal(tensor([[0.0], [1.0]]), t / T))[:, 0, 1]
        assert torch.allclose(rate, mean, atol=1e-14)
        for x0, xt in itertools.product((0, 1), repeat=2):
            up = [x * (1 - beta) + 0.5 * beta for x in (0, 1)]  # P(x_t = 1 | x_(t-1))
            like = [p if xt else 1 - p for p in up]
            one, none = like[1] * before[x0], like[0] * (1 - before[x0])
            ours = process.bridge(tensor([[float(x0)]]), tensor([[float(xt)]]), (t - 1) / T, t / T)
            assert float(probabilities(ours)[0, 0, 1]) == pytest.approx(float(one / (one + none)), abs=1e-13)


def test_each_step_erases_the_same_share_of_the_signal() -> None:
    """beta_t = 1/(T - t + 1): abar falls by 1/T a step, to 0. It is the linear survival of absorbing processes."""
    steps = 20
    schedule = ConstantErasure(steps)
    assert schedule.betas().tolist() == [1 / (steps - t + 1) for t in range(1, steps + 1)]
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    kept = torch.sigmoid(schedule.logsnr(t))
    assert torch.allclose(kept, torch.cat([tensor([1.0]), (1 - schedule.betas()).cumprod(0)]), atol=1e-14)
    assert torch.allclose(kept.diff(), torch.full((steps,), -1 / steps).double(), atol=1e-14)
    assert torch.allclose(schedule.logsnr(t), LinearSurvival().logsnr(t), rtol=1e-12)
    some = ConstantErasure(steps, 0.05)
    assert float(torch.sigmoid(some.logsnr(tensor(1.0)))) == pytest.approx(0.05, abs=1e-14)
    assert torch.allclose((1 - some.betas()).cumprod(0), torch.sigmoid(some.logsnr(t[1:])), rtol=1e-12)
    # The information that a bit keeps does not fall evenly: log 2 minus the entropy of (1 + abar)/2.
    p = (1 + kept) / 2
    information = math.log(2) + torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)
    assert float(information[0] - information[1]) > 3 * float(information[-2] - information[-1]) > 0


@over_schedules
def test_reverse_averages_the_bridge(schedule) -> None:
    process, (s, t) = MultinomialProcess(K, schedule, PI), (1 / T, 4 / T)
    weights = tensor([0.2, 0.5, 0.3])
    xt = tensor([[2.0, 1.0]])
    law = probabilities(process.reverse(Categorical(weights.log().expand(1, 2, K)), xt, s, t))
    bridges = [probabilities(process.bridge(torch.full_like(xt, float(k)), xt, s, t)) for k in range(K)]
    expected = sum(w * bridge for w, bridge in zip(weights, bridges, strict=True))
    assert torch.allclose(law, expected, atol=1e-12)
    point = process.reverse(Dirac(torch.full_like(xt, 2.0)), xt, s, t)
    assert torch.equal(probabilities(point), bridges[2])
    # Each sample at its own times.
    both = process.bridge(xt.repeat(2, 1), xt.repeat(2, 1), tensor([s, 0.0]), tensor([t, 1 / T]))
    assert torch.allclose(probabilities(both)[0], probabilities(process.bridge(xt, xt, s, t))[0], atol=1e-15)
    assert torch.allclose(probabilities(both)[1].amax(-1), torch.ones(2).double(), atol=1e-15)


def posterior(process: MultinomialProcess, data: torch.Tensor, xt: torch.Tensor, t: float) -> Categorical:
    """p(x_0 | x_t) of one element with the law ``data``, by Bayes' rule."""
    values = torch.arange(process.levels, dtype=torch.float64)[:, None]
    likelihood = probabilities(process.marginal(values, t))[:, 0]  # [x0, xt]
    return Categorical((data.log() + likelihood.log()[:, xt.long()[0, 0]]).expand(1, 1, -1))


@pytest.mark.parametrize("grid", [[6, 5, 4, 3, 2, 1], [6, 4, 1], [6]])
@pytest.mark.parametrize("pi", [(0.5, 0.5), (0.8, 0.2)])
def test_bound_of_one_bit_is_its_negative_log_probability(pi, grid) -> None:
    """With the exact conditionals every term is the log of a ratio of one joint law: -log p(x_0) on every grid."""
    process, data = MultinomialProcess(2, ConstantErasure(T), pi), tensor([0.3, 0.7])
    for bit in (0, 1):
        x0, total = tensor([[float(bit)]]), float(prior_nats(process, tensor([[float(bit)]]), 1.0))
        for t, s in itertools.pairwise([*grid, 0]):
            for value, weight in enumerate(probabilities(process.marginal(x0, t / T))[0, 0]):
                xt = tensor([[float(value)]])
                law = posterior(process, data, xt, t / T)
                nats = step_nats(process, law, x0, xt, s / T, t / T) if s else -law.log_prob(x0)
                total += float(weight * nats)
        assert total == pytest.approx(-math.log(float(data[bit])), abs=1e-12)


def test_bound_by_draws_agrees() -> None:
    process, data, n = MultinomialProcess(2, ConstantErasure(T)), tensor([0.3, 0.7]), 2000

    class Exact:
        def __init__(self) -> None:
            self.process = process

        def __call__(self, xt, t):
            laws = [posterior(process, data, tensor([[value]]), float(t)).logits[0, 0] for value in (0.0, 1.0)]
            return Categorical(torch.stack(laws)[xt.long()], xt.dtype)

    x0 = torch.ones(n, 1, dtype=torch.float64)
    bound = variational_bound(
        Exact(), x0, torch.arange(T, 0, -1) / torch.tensor(T).double(), Rng.of(0, n), Decoder(None)
    )
    error = bound.total + math.log(0.7)
    assert abs(float(error.mean())) < 4 * float(error.std()) / n**0.5
    assert float(error.std()) > 0.01


def test_law_of_the_step_itself_is_for_that_step() -> None:
    process, xt = MultinomialProcess(2, ConstantErasure(T)), tensor([[1.0]])
    law = StepLaw(tensor([0.3, 0.7]).log().expand(1, 1, 2), torch.float64, 3 / T, T)
    step = process.reverse(law, xt, 2 / T, 3 / T)
    assert torch.allclose(probabilities(step), tensor([[[0.3, 0.7]]])) and type(step) is Categorical
    refused = [lambda s=s: process.reverse(law, xt, s, 3 / T) for s in (1 / T, 2.5 / T)]
    for call in (*refused, lambda: law.sample(Rng.of(0, 1)), lambda: law.log_prob(xt)):
        with pytest.raises(InputError, match=f"the steps of 1/{T} alone"):
            call()
    last = StepLaw(law.logits, torch.float64, 1 / T, T)
    assert float(last.log_prob(xt)) == pytest.approx(math.log(0.7)) and last.sample(Rng.of(0, 1)).shape == (1, 1)


def test_few_bits_of_float32_states_are_those_of_float64() -> None:
    """Steps of 1/10^5 are the difference of numbers near 1: computed in float64 whatever the state."""
    process = MultinomialProcess(2, ConstantErasure(10**5))
    args = (1e-5, 2e-5)
    x = torch.zeros(1, 1)
    ours = process.bridge(x, x, *args).logits
    exact = process.bridge(x.double(), x.double(), *args).logits
    assert ours.dtype == torch.float32 and torch.allclose(ours.double(), exact, rtol=1e-6)
    # q(x_s = 1 | x_t = 0, x_0 = 0) = (b/2)(beta'/2)/q(x_t = 0): two changes in two steps.
    b, change = 1e-5, 1e-5 / (1 - 1e-5)
    assert float(exact[0, 0, 1].exp()) == pytest.approx(b / 2 * change / 2 / (1 - 1e-5), rel=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.marginal(tensor([[0.5]]), 0.5),
        lambda p: p.marginal(tensor([[3.0]]), 0.5),
        lambda p: p.marginal(torch.tensor([[1]]), 0.5),
        lambda p: p.marginal(tensor([[1.0]]), 1.5),
        lambda p: p.bridge(tensor([[1.0]]), tensor([[3.0]]), 0.2, 0.5),
        lambda p: p.bridge(tensor([[1.0]]), tensor([[1.0]]), 0.6, 0.5),
        lambda p: p.bridge(tensor([[1.0]]), tensor([[1.0]]), tensor([0.6]), tensor([0.5])),
        lambda p: p.bridge(tensor([[1.0]]), tensor([[1.0]]), 0.2, 0.5, eta=0.0),
        lambda _: MultinomialProcess(1),
        lambda _: MultinomialProcess(3, schedule=2),
        lambda _: MultinomialProcess(3, stationary=(0.5, 0.5)),
        lambda _: MultinomialProcess(2, stationary=(0.5, 0.6)),
        lambda _: MultinomialProcess(2, stationary=(1.0, 0.0)),
        lambda _: ConstantErasure(0),
        lambda _: ConstantErasure(10, 1.0),
    ],
)
def test_invalid_arguments(call) -> None:
    with pytest.raises(ValueError):
        call(MultinomialProcess(K))


def test_other_posteriors_have_no_closed_form() -> None:
    xt = tensor([[2.0]])
    for law in (LocationScale(xt, xt), Categorical(torch.zeros(1, 1, 4))):
        with pytest.raises(NoClosedForm):
            MultinomialProcess(K).reverse(law, xt, 0.2, 0.5)


@pytest.mark.parametrize("schedule", [LinearSurvival(), Cosine(), ConstantErasure(1000)], ids=repr)
def test_rate_is_the_limit_of_short_steps(schedule) -> None:
    """A step of h costs h times the rate, up to h^2."""
    process, n, h = MultinomialProcess(3, schedule, (0.2, 0.5, 0.3)), 6, 1e-6
    x0, xt = (Rng.of(seed, n).integers((2,), 3).double() for seed in (0, 1))
    posterior = Categorical(Rng.of(2, n).normal((2, 3), torch.float64), torch.float64)
    t = torch.linspace(0.1003, 0.9003, n, dtype=torch.float64)  # between the times of a table
    bridge, step = process.bridge(x0, xt, t - h, t), process.reverse(posterior, xt, t - h, t)
    log_q, log_p = bridge.log_probabilities, step.log_probabilities
    nats = (log_q.exp() * (log_q - log_p)).sum((1, 2)) / h
    torch.testing.assert_close(process.rate_nats(posterior, x0, xt, t), nats, rtol=1e-4, atol=1e-6)
    one = process.rate_nats(posterior, x0, xt, t[2])
    torch.testing.assert_close(one[2], process.rate_nats(posterior, x0, xt, t)[2])
    exact = Categorical(point_logits(x0, 3), torch.float64)
    assert float(process.rate_nats(exact, x0, xt, t).abs().max()) == 0
    with pytest.raises(InputError, match="steps of 1/8 alone"):
        process.rate_nats(StepLaw(posterior.logits, torch.float64, t, 8), x0, xt, t)
