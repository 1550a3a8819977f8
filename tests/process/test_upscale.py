"""Upscaling: bits add up to the entropy over the stages, chains normalise in every order, one stage is absorbing."""

import itertools
import math

import pytest
import torch
from torch import nn

from diffprob.base.errors import InputError
from diffprob.base.level_tree import LevelTree
from diffprob.base.rng import Rng
from diffprob.conform import check_denoiser
from diffprob.conform.process import check_process
from diffprob.denoise.categorical import CategoricalDenoiser, JointLaw, carry_over
from diffprob.denoise.denoiser import Index
from diffprob.denoise.level_law import LogisticMixture, Softmax
from diffprob.likelihood.bound import Decoder, continuous_bound, variational_bound
from diffprob.likelihood.orders import element_nats, order_log_prob
from diffprob.net.layers import Output
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.grids import Native, Uniform
from diffprob.process.survival import CosineSurvival, LinearSurvival, Staircase
from diffprob.process.upscale import UpscaleProcess
from diffprob.sampling.ancestral import Ancestral
from diffprob.sampling.first_hitting import FirstHitting
from diffprob.sampling.simulate import State, draw
from diffprob.training.masked import MaskedCrossEntropy, OrderAgnostic

K, D = 5, 3  # to the base of 2 in three stages, of which the last level has nodes of one level alone
PROCESS = UpscaleProcess(K, Staircase(D), branching=2)
POINTS = torch.tensor(list(itertools.product(range(K), repeat=D)), dtype=torch.float64)
ORDERS = [torch.tensor([ranks]) for ranks in itertools.permutations(range(D))]
STEPS = torch.arange(3 * D, 0, -1, dtype=torch.float64) / (3 * D)


def law(process=PROCESS) -> JointLaw:
    return JointLaw(POINTS, Rng.of(3, 1).normal((len(POINTS),), torch.float64)[0].exp(), process)


def entropy(model: JointLaw) -> float:
    return -float((model.log_weights.exp() * model.log_weights).sum())


class Conditionals(nn.Module):
    """Logits of any kind for every state."""

    def __init__(self, process: UpscaleProcess, outputs: int) -> None:
        super().__init__()
        self.base = process.states
        shape = (process.states**D, D, outputs)
        self.table = torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> Output:
        return Output(self.table[(x * self.base ** torch.arange(D)).sum(1).long()].to(x.dtype))


@pytest.mark.parametrize(
    ("levels", "branching", "stages"), [(17, 4, 3), (256, 16, 2), (256, 2, 8), (5, 5, 1), (5, 9, 1)]
)
def test_nodes_are_intervals_that_split(levels: int, branching: int, stages: int) -> None:
    tree = LevelTree(levels, branching)
    x = torch.arange(levels, dtype=torch.float64)
    assert tree.stages == stages and torch.equal(tree.node(x, stages), x)
    assert bool((tree.node(x, 0) == levels).all())  # the root is where other processes have the mask
    seen = set()
    for j in range(stages + 1):
        node = tree.node(x, j)
        low, high = tree.interval(node)
        assert bool(((low <= x) & (x <= high)).all() and (tree.depth(node) == j).all())
        assert all(
            len(tree.node(x[(low == start)], min(j + 1, stages)).unique()) <= branching for start in low.unique()
        )
        seen |= set(node.tolist())
    assert seen == set(range(tree.states))
    logs = Rng.of(0, 1).normal((levels,), torch.float64)[0].log_softmax(0)
    low, high = tree.interval(torch.arange(tree.states).double())
    by_hand = [float(logs[int(a) : int(b) + 1].exp().sum()) for a, b in zip(low, high, strict=True)]
    assert torch.allclose(tree.log_mass(logs).exp(), torch.tensor(by_hand).double(), atol=1e-12)


@pytest.mark.parametrize("survival", [Staircase(4), LinearSurvival(), CosineSurvival()], ids=repr)
@pytest.mark.parametrize(("levels", "branching"), [(5, 2), (4, 4)])
def test_is_a_process(survival, levels: int, branching: int) -> None:
    check_process(UpscaleProcess(levels, survival, branching=branching))


@pytest.mark.parametrize("survival", [Staircase(D), LinearSurvival()], ids=repr)
def test_one_stage_is_the_absorbing_process(survival) -> None:
    one, plain = UpscaleProcess(K, survival, branching=K), AbsorbingProcess(K, survival)
    rng = Rng.of(0, len(POINTS))
    one, plain = one.bind(rng, POINTS), plain.bind(rng, POINTS)
    s, t = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
    xt = plain.sample_marginal(POINTS, t, rng)
    assert torch.equal(xt, one.sample_marginal(POINTS, t, rng))
    for ours, theirs in (
        (one.marginal(POINTS, t), plain.marginal(POINTS, t)),
        (one.bridge(POINTS, xt, s, t), plain.bridge(POINTS, xt, s, t)),
        (one.reverse(law(one)(xt, t), xt, s, t), plain.reverse(law(plain)(xt, t), xt, s, t)),
    ):
        assert torch.allclose(ours.log_probabilities.exp(), theirs.log_probabilities.exp(), atol=1e-12)


def test_oracle_conditionals_cost_the_entropy_over_the_stages() -> None:
    """Truth: the chain rule over digits is the chain rule over levels, whatever the order."""
    model = law()
    for order in ORDERS:
        exact = order_log_prob(model, POINTS, order)
        assert torch.allclose(exact, model.log_weights, atol=1e-9)
        crossing = order_log_prob(model, POINTS, order, torch.tensor([1.0, 4 / 9], dtype=torch.float64))
        assert float(crossing.exp().sum()) == pytest.approx(1, abs=1e-9)  # several at once, across stages
        loss = -(model.log_weights.exp() * crossing).sum()
        assert float(loss) > entropy(model) + 1e-3


@pytest.mark.parametrize("prediction", [Softmax(), LogisticMixture(2)], ids=repr)
def test_chains_of_a_network_normalise_in_every_order(prediction) -> None:
    net = Conditionals(PROCESS, prediction.outputs(K))
    model = CategoricalDenoiser(net, PROCESS, Index(3 * D), prediction=prediction)
    exact = torch.stack([order_log_prob(model, POINTS, order) for order in ORDERS])
    assert torch.allclose(exact.exp().sum(1), torch.ones(6, dtype=torch.float64), atol=1e-6)
    rows = POINTS[17:18].expand(640, -1).clone()
    bound = variational_bound(model, rows, STEPS, Rng.of(1, len(rows)), Decoder(None)).total
    wanted, spread = -float(exact[:, 17].mean()), float(bound.std()) / math.sqrt(len(rows))
    assert float(bound.mean()) == pytest.approx(wanted, abs=4 * spread)
    assert wanted >= -math.log(float(exact[:, 17].exp().mean()))  # Jensen: the bound over orders


@pytest.mark.parametrize("survival", [LinearSurvival(), CosineSurvival()], ids=repr)
def test_smooth_survival_costs_no_less_than_the_entropy(survival) -> None:
    """Independent elements, all levels alike: every grid costs the entropy, and so does the limit."""
    process = UpscaleProcess(4, survival, branching=2)
    points = torch.tensor(list(itertools.product(range(4), repeat=2)), dtype=torch.float64)
    model, x0 = JointLaw(points, torch.ones(16), process), points[:1].expand(4000, -1).clone()
    for n in (1, 2, 5):
        nats = variational_bound(model, x0, Uniform()(process, n), Rng.of(0, len(x0)), Decoder(None)).total
        assert float(nats.mean()) == pytest.approx(math.log(16), abs=4 * float(nats.std()) / 60 + 1e-9)
    nats = continuous_bound(model, x0, Rng.of(0, len(x0)), 8, Decoder(None)).total
    assert float(nats.mean()) == pytest.approx(math.log(16), abs=4 * float(nats.std()) / 60)


def test_objective_is_the_bound() -> None:
    """Both are unbiased for the average over orders, and of a law for its entropy."""
    prediction = Softmax()
    model = CategoricalDenoiser(Conditionals(PROCESS, K), PROCESS, Index(3 * D), prediction=prediction)
    x0 = POINTS[31:32].expand(4000, -1).clone()
    loss = OrderAgnostic()(model, x0, Rng.of(5, len(x0))) * D
    wanted = -float(torch.stack([order_log_prob(model, x0[:1], order) for order in ORDERS]).mean())
    assert float(loss.mean()) == pytest.approx(wanted, abs=4 * float(loss.std()) / math.sqrt(len(x0)))
    with pytest.raises(InputError, match="3 stages"):
        MaskedCrossEntropy().check(UpscaleProcess(K, LinearSurvival(), branching=2))


@pytest.mark.parametrize("prediction", [Softmax(), LogisticMixture(3)], ids=repr)
def test_what_is_trained_is_what_is_drawn(prediction) -> None:
    """log_next, which knows intervals alone, and the step, which adds up levels, say the same."""
    levels, process = 17, UpscaleProcess(17, Staircase(6), branching=4)
    x0 = torch.tensor([[0.0, 3.0, 7.0, 15.0, 16.0, 11.0]], dtype=torch.float64)
    outputs = 2 * Rng.of(2, 1).normal((6, prediction.outputs(levels)), torch.float64)
    process = process.with_order(torch.arange(6)[None])
    for drawn in range(18):
        xt, open_, left = process.drawn_state(x0, torch.tensor([float(drawn)]), torch.arange(6)[None])
        t = torch.tensor((18 - drawn) / 18, dtype=torch.float64)
        assert torch.equal(xt, process.sample_marginal(x0, t, Rng.of(0, 1)))
        posterior = carry_over(prediction.logits(outputs, levels), xt, process)
        step = process.reverse(posterior, xt, t - 1 / 18, t)
        place = int((open_[0]).nonzero()[0])
        finer = process.tree.node(x0, (process.tree.depth(xt) + 1).clamp_max(3))[0, place]
        ours = float(process.log_next(prediction, outputs, x0, xt)[0, place])
        assert float(step.log_probabilities[0, place, int(finer)]) == pytest.approx(ours, abs=1e-9)
        assert int(left) == int(open_.sum()) and int((step.logits > -torch.inf).sum(-1).gt(1).sum()) <= 1


def test_chain_draws_from_the_joint_law() -> None:
    points = torch.tensor(list(itertools.product(range(3), repeat=2)), dtype=torch.float64)
    process, n = UpscaleProcess(3, Staircase(2), branching=2), 6000
    model = JointLaw(points, torch.arange(1.0, 10.0), process)
    x = draw(model, Ancestral(), Native()(process, 4), Rng.of(0, n), (2,))
    counts = torch.bincount((x.double() @ torch.tensor([3.0, 1.0], dtype=torch.float64)).long(), minlength=9)
    expected = n * model.log_weights.exp()
    assert float(((counts - expected) ** 2 / expected).sum()) < 8 + 4 * math.sqrt(16)


def test_denoisers_conform() -> None:
    check_denoiser(law(), data=POINTS.float())


def test_what_it_cannot_do_says_so() -> None:
    x = torch.zeros(1, D)
    with pytest.raises(InputError, match="coarse values"):
        PROCESS.given(x == 0, x)
    with pytest.raises(InputError, match="in stages"):
        element_nats(law(), POINTS, Rng.of(0, len(POINTS)))
    smooth = law(UpscaleProcess(K, LinearSurvival(), branching=2))
    state = State(torch.full((1, D), float(K)), torch.ones((), dtype=torch.float64))
    with pytest.raises(InputError, match="one stage"):
        FirstHitting().step(smooth, state, torch.tensor(0.5, dtype=torch.float64), Rng.of(0, 1))
    for branching in (1, 2**17, 2.0):
        with pytest.raises(ValueError, match="branching"):
            UpscaleProcess(K, Staircase(D), branching=branching)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="s < t"):
        PROCESS.bind(Rng.of(0, 1), x).bridge(x, torch.full_like(x, K), 0.9, 0.5)


def test_an_order_goes_on_where_a_chain_stands() -> None:
    x0 = torch.tensor([[0.0, 4.0, 2.0]] * 20, dtype=torch.float64)
    fine = torch.tensor([False, True, False])
    xt = PROCESS.tree.node(x0, 1 + fine.long())  # one element of the second stage is drawn
    begun = PROCESS.begin(Rng.of(0, len(xt)), xt)
    assert begun.order is not None and bool((begun.order[:, 1] == 0).all()) and len(begun.order[:, 0].unique()) == 2
    t = torch.tensor(5 / 9, dtype=torch.float64)
    assert torch.equal(begun.sample_marginal(x0, t, Rng.of(1, len(xt))), xt)
