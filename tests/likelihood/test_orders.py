"""Exact likelihoods of orders, what elements cost, and the grid of parallel draws that they give."""

import itertools
import math

import pytest
import torch
from torch import nn

from diffprob.base.rng import Rng
from diffprob.denoise.categorical import CategoricalDenoiser, JointLaw
from diffprob.denoise.denoiser import Index
from diffprob.likelihood.orders import element_nats, order_log_prob
from diffprob.net.layers import Output
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.parallel import parallel_grid
from diffprob.process.survival import LinearSurvival, Staircase

K, D = 2, 3
STAIRS = AbsorbingProcess(K, Staircase(D))
POINTS = torch.tensor(list(itertools.product(range(K), repeat=D)), dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.02, 0.05, 0.2, 0.08, 0.1, 0.05, 0.2], dtype=torch.float64)
ORDERS = [torch.tensor([ranks]) for ranks in itertools.permutations(range(D))]


class Conditionals(nn.Module):
    """Logits of any kind for every state."""

    table = 2 * torch.randn((K + 1) ** D, D, K, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> Output:
        return Output(self.table[(x * (K + 1) ** torch.arange(D)).sum(1).long()].to(x.dtype))


def chain_rule(x0: torch.Tensor, order: torch.Tensor) -> float:
    """log p by hand, one element after the other."""
    state, total = torch.full((D,), float(K)), 0.0
    for rank in range(D):
        place = int((order[0] == rank).nonzero())
        code = int((state * (K + 1) ** torch.arange(D)).sum())
        total += float(Conditionals.table[code, place].log_softmax(0)[int(x0[place])])
        state[place] = x0[place]
    return total


def test_order_has_the_likelihood_of_the_chain_rule() -> None:
    model = CategoricalDenoiser(Conditionals().double(), STAIRS, Index(D))
    for order in ORDERS:
        ours = order_log_prob(model, POINTS, order)
        assert torch.allclose(ours, torch.tensor([chain_rule(x, order) for x in POINTS]).double(), atol=1e-6)
        for times in ([1.0], [1.0, 1 / 3], [1.0, 2 / 3]):  # several at once: another model, and one that sums to one
            together = order_log_prob(model, POINTS, order, torch.tensor(times, dtype=torch.float64))
            assert float(together.exp().sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("survival", [Staircase(D), LinearSurvival()], ids=repr)
def test_elements_cost_the_entropy_together(survival) -> None:
    """METHOD 11: the sum of l_k is H(x) with the exact conditionals, averaged over the data and all orders."""
    n = 1000 * WEIGHTS
    x0 = POINTS.repeat_interleave(n.round().long(), 0)
    nats = element_nats(JointLaw(POINTS, WEIGHTS, AbsorbingProcess(K, survival)), x0, Rng.of(0, len(x0)), repeats=4)
    entropy = -float((WEIGHTS * WEIGHTS.log()).sum())
    assert float(nats.sum()) == pytest.approx(entropy, abs=0.02)
    single = sum(_entropy(i) for i in range(D)) / D
    assert float(nats[0]) == pytest.approx(single, abs=1e-9)  # the first element: no order matters
    assert bool((nats.diff() < 0).all())
    assert parallel_grid(nats, D)(STAIRS, 2).shape == (2,)


def _entropy(i: int) -> float:
    share = float(WEIGHTS[POINTS[:, i] == 1].sum())
    return -sum(p * math.log(p) for p in (share, 1 - share))


def test_orders_of_another_shape_are_refused() -> None:
    model = JointLaw(POINTS, WEIGHTS, STAIRS)
    for order in (torch.tensor([[0, 1]]), torch.tensor([[0, 0, 1]]), torch.zeros(1, D)):
        with pytest.raises(ValueError):
            order_log_prob(model, POINTS, order)
