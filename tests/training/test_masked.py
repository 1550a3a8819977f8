"""The two objectives of discrete data: sums over all masks, their equality, the entropy; even times."""

import itertools
import math

import pytest
import torch
from torch import nn

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.denoise.categorical import CategoricalDenoiser, JointLaw
from diffprob.denoise.denoiser import Index, NetDenoiser
from diffprob.net.layers import Output
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.linear import LinearProcess
from diffprob.process.survival import CosineSurvival, LinearSurvival, Staircase
from diffprob.training.masked import MaskedCrossEntropy, OrderAgnostic, spread_uniform

K, D = 3, 3
POINTS = torch.tensor(list(itertools.product(range(K), repeat=D)), dtype=torch.float64)
WEIGHTS = Rng.of(3, 1).normal((27,), torch.float64)[0].softmax(0)
PROCESSES = [AbsorbingProcess(K, survival) for survival in (Staircase(D), LinearSurvival(), CosineSurvival())]


class Exact(nn.Module):
    """The exact conditionals as a network, or, with ``off``, others."""

    def __init__(self, off: float = 0.0) -> None:
        super().__init__()
        self.law, self.off = JointLaw(POINTS, WEIGHTS, AbsorbingProcess(K)), nn.Parameter(torch.tensor(off).double())

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> Output:
        self.times = t
        tilt = self.off * torch.sin(torch.arange(D * K).reshape(D, K) + x.sum(1)[:, None, None])
        return Output(self.law(x.double(), torch.tensor(0.5)).logits.clamp_min(-30) + tilt)


def by_subsets(net: nn.Module, x0: torch.Tensor) -> dict[tuple[bool, ...], float]:
    """The cross-entropy of all masked elements for every mask, of one point (1, d)."""
    nats = {}
    for mask in itertools.product((False, True), repeat=D):
        masked = torch.tensor([mask])
        logs = net(torch.where(masked, float(K), x0), torch.ones(1)).main.log_softmax(-1)
        own = logs.gather(-1, x0.long()[..., None])[..., 0]
        nats[mask] = -float(own[masked].sum())
    return nats


def order_agnostic(nats: dict[tuple[bool, ...], float]) -> float:
    """1/d sum_k of the mean over masks of d - k elements of nats/(d - k)."""
    total = 0.0
    for n in range(1, D + 1):
        of_size = [value for mask, value in nats.items() if sum(mask) == n]
        total += sum(of_size) / len(of_size) / n
    return total / D


def masked_cross_entropy(nats: dict[tuple[bool, ...], float], survival) -> float:
    """Quadrature over t of rate(t) sum over masks, by the trapezoidal rule on a smooth function of (0, 1)."""
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    m, rate = survival.masked(t), survival.rate(t)
    inner = sum(value * m ** sum(mask) * (1 - m) ** (D - sum(mask)) for mask, value in nats.items())
    return float((rate * inner).mean()) / D


def test_expectations_of_both_objectives_are_equal() -> None:
    nats = by_subsets(Exact(0.7), POINTS[11:12])
    for survival in (LinearSurvival(), CosineSurvival()):
        assert masked_cross_entropy(nats, survival) == pytest.approx(order_agnostic(nats), abs=1e-6)


def test_exact_conditionals_cost_the_entropy() -> None:
    """METHOD 11: -sum_t L_t = H(x)."""
    net = Exact()
    entropy = -float((WEIGHTS * WEIGHTS.log()).sum())
    ours = sum(float(w) * order_agnostic(by_subsets(net, x0[None])) for w, x0 in zip(WEIGHTS, POINTS, strict=True))
    assert D * ours == pytest.approx(entropy, abs=1e-9)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: repr(process.survival))
def test_objectives_are_unbiased(process) -> None:
    n, net = 4000, Exact(0.7)
    model, x0 = CategoricalDenoiser(net, process, Index(D)), POINTS[11:12].expand(4000, D)
    expected = order_agnostic(by_subsets(net, POINTS[11:12]))
    smooth = not isinstance(process.survival, Staircase)
    for objective in (OrderAgnostic(), *([MaskedCrossEntropy()] if smooth else [])):
        with torch.no_grad():
            loss = objective(model, x0, Rng.of(2, n).at(5))
        assert loss.shape == (n,)
        assert abs(float(loss.mean()) - expected) < 4 * float(loss.std()) / n**0.5
        with torch.no_grad():
            assert torch.allclose(objective(model, x0[:3], Rng.of(2, 3).at(5)), loss[:3], atol=1e-12)
    if not smooth:
        with pytest.raises(InputError, match="smooth"):
            MaskedCrossEntropy()(model, x0[:2], Rng.of(0, 2))


def test_time_of_a_staircase_is_its_masked_share() -> None:
    net = Exact()
    model = CategoricalDenoiser(net, PROCESSES[0], Index(D))
    OrderAgnostic()(model, POINTS, Rng.of(0, 27)).sum().backward()
    assert set(net.times.tolist()) == {0.0, 1.0, 2.0}  # the labels t d - 1 of t = 1/3, 2/3, 1
    assert net.off.grad is not None and bool(net.off.grad.isfinite())


def test_times_are_uniform_and_even() -> None:
    n = 64
    gaps = []
    for step in range(50):
        u = spread_uniform(Rng.of(1000, n).at(step)).sort().values
        assert bool(((u > 0) & (u < 1)).all())
        gaps.append(float(torch.cat([u.diff(), u[:1] + 1 - u[-1:]]).max()))
        assert torch.equal(spread_uniform(Rng.of(1003, 1).at(step)), spread_uniform(Rng.of(1000, n).at(step))[3:4])
    assert max(gaps) < 2.7 / n  # independent ones would have ln(64)/64 on average
    means = torch.stack([spread_uniform(Rng.of(7, 1).at(step)) for step in range(2000)])
    assert abs(float(means.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / 2000)


def test_linear_processes_are_refused() -> None:
    model = NetDenoiser(Exact(), LinearProcess())
    for objective in (OrderAgnostic(), MaskedCrossEntropy()):
        with pytest.raises(InputError, match="AbsorbingProcess"):
            objective(model, POINTS, Rng.of(0, 27))
