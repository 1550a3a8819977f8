"""The levels of score networks: the papers' numbers, and what they are chosen by."""

import math

import pytest
import torch

from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import Constant, NetDenoiser
from diffprob.denoise.prediction import Epsilon, Score
from diffprob.net.layers import Output
from diffprob.process.geometric import Geometric, largest_distance, overlap, widest_ratio
from diffprob.process.linear import LinearProcess, VarianceExploding
from diffprob.training.denoising import Denoising
from diffprob.training.weights import MinSNR

V1 = LinearProcess(Geometric(10, 0.01, 1.0), VarianceExploding())
V2 = LinearProcess(Geometric(), VarianceExploding())


def test_levels_match_the_papers() -> None:
    """NCSN: 10 levels from 1 to 0.01, 1.668 apart; NCSNv2: 232 from 50 to 0.01, 1.03756 apart; nothing at t = 0."""
    sigma = V1.sigma(torch.arange(1, 11, dtype=torch.float64) / 10)
    expected = torch.logspace(-2, 0, 10, dtype=torch.float64)
    torch.testing.assert_close(sigma, expected, rtol=1e-12, atol=0)
    assert Geometric(10, 0.01, 1.0).ratio == pytest.approx(1.668, abs=5e-4)
    assert Geometric().ratio == pytest.approx(1.03756, abs=5e-6)
    assert float(V2.sigma(1 / 232)) == pytest.approx(0.01, rel=1e-12)
    assert float(V2.sigma(1.0)) == pytest.approx(50, rel=1e-12)
    assert float(V2.sigma(0.0)) == 0
    below = V2.sigma(torch.tensor([0.25, 0.5], dtype=torch.float64) / 232)
    torch.testing.assert_close(below, torch.tensor([0.005, 0.01 / math.sqrt(2)], dtype=torch.float64))


def test_published_levels_overlap_by_more_than_half() -> None:
    """NCSNv2, eq. 4: Phi(.) - Phi(.) is 0.567 at the 232 levels of CIFAR-10; half of it needs 220."""
    assert overlap(Geometric().ratio, 3072) == pytest.approx(0.567, abs=5e-4)
    assert overlap(widest_ratio(3072), 3072) == pytest.approx(0.5, abs=1e-9)
    assert overlap(1.0, 3072) == pytest.approx(0.9973, abs=1e-4)
    assert 1 + math.ceil(math.log(5000) / math.log(widest_ratio(3072))) == 220


def test_levels_for_data_begin_at_the_largest_distance() -> None:
    """Technique 1, across blocks too: against all distances at once, and two images that are known."""
    x = Rng.of(0, 1500).normal((3, 2))
    assert largest_distance(x) == pytest.approx(float(torch.pdist(x.double().flatten(1)).max()), rel=1e-9)
    schedule = Geometric.for_data(torch.tensor([[-1.0] * 64, [1.0] * 64, [0.0] * 64]), 0.02)
    assert schedule.sigma_max == pytest.approx(16.0) and schedule.sigma_min == 0.02
    assert overlap(schedule.ratio, 64) >= 0.5 > overlap(Geometric(schedule.steps - 1, 0.02, 16.0).ratio, 64)
    for wrong, message in ((x[:1], "needs two images"), (torch.zeros(3, 4), "differ by 0 at most")):
        with pytest.raises(ValueError, match=message):
            Geometric.for_data(wrong)


class OneSlope(torch.nn.Module):
    """s(x) = -w x for every level: what a network without a condition may say of N(0, v) at one level."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, x, label):
        assert bool((label == 0).all())
        return Output(self.w * x)


def test_least_loss_of_score_matching_is_at_the_score_of_the_noised_data() -> None:
    """Vincent 2011: on N(0, v) at one level the best slope is that of p_sigma, 1/(v + sigma^2), not 1/v (4 s.e.).

    `Score` weighed by sigma^2 and `Epsilon` without weight have the same minimiser, -sigma times each other.
    """
    v, n, sigma = 0.3, 40_000, 0.55
    process = LinearProcess(Geometric(2, sigma, sigma * (1 + 1e-12)), VarianceExploding())
    x0 = v**0.5 * Rng.of(1, n).normal((1,), torch.float64)
    for prediction, weight, slope in (
        (Epsilon(), None, sigma / (v + sigma**2)),
        (Score(), MinSNR(math.inf), -1 / (v + sigma**2)),
    ):
        model = NetDenoiser(OneSlope(), process, prediction, Constant())
        loss = Denoising(weight=weight)

        def at(w: float, model=model, loss=loss) -> torch.Tensor:
            model.net.w.data.fill_(w)
            return loss(model, x0, Rng.of(2, n)).detach()

        # The loss is quadratic in w: its least is where the parabola through three points has it.
        low, middle, high = (at(slope * f) for f in (0.5, 1.0, 1.5))
        curve, lean = high + low - 2 * middle, (high - low) / 2
        best = float(1 - 0.5 * lean.mean() / curve.mean())
        error = float((lean - (1 - best) * 2 * curve).std() / n**0.5 / (2 * curve.mean()))
        assert abs(best - 1) < 4 * error < 0.05
        assert abs(slope * best) < abs(slope) * 1.05 < abs(slope) * (v + sigma**2) / v  # not the score of the data
