"""Grids of parallel draws against all subsets, and isotonic regression against its definition."""

import itertools

import pytest
import torch

from diffprob.base.rng import Rng
from diffprob.process.absorbing import AbsorbingProcess
from diffprob.process.parallel import non_increasing, parallel_costs, parallel_grid
from diffprob.process.survival import Staircase

D = 7
NATS = torch.tensor([2.0, 1.4, 1.5, 0.6, 0.5, 0.5, 0.1], dtype=torch.float64)


def by_hand(drawn: tuple[int, ...]) -> float:
    """The cost of drawing what lies between two numbers of drawn elements at once, METHOD 11."""
    each = [2.0, 1.45, 1.45, 0.6, 0.5, 0.5, 0.1]
    return sum((b - a) * each[a] for a, b in itertools.pairwise((*drawn, D)))


@pytest.mark.parametrize("budget", range(1, D + 1))
def test_grid_is_the_best_of_all_subsets(budget: int) -> None:
    best = min(by_hand((0, *rest)) for rest in itertools.combinations(range(1, D), budget - 1))
    times = parallel_grid(NATS, D)(AbsorbingProcess(2, Staircase(D)), budget)
    assert times.shape == (budget,) and float(times[0]) == 1
    drawn = tuple((D - (times * D).round()).long().tolist())
    assert by_hand(drawn) == pytest.approx(best, abs=1e-12)
    even = tuple(k * D // budget for k in range(budget))
    assert best <= by_hand(even) + 1e-12


def test_noise_of_a_measurement_makes_no_step_look_free() -> None:
    """An element that seems nearly free where one is drawn costs what its neighbours do on average."""
    noisy = torch.tensor([2.0, 0.2, 1.8, 0.6, 0.5, 0.5, 0.1], dtype=torch.float64)
    smooth = torch.tensor([2.0, 1.0, 1.0, 0.6, 0.5, 0.5, 0.1], dtype=torch.float64)
    assert torch.allclose(non_increasing(noisy), smooth)
    assert torch.equal(parallel_costs(noisy), parallel_costs(smooth))


def test_costs_refuse_steps_up_and_wrong_numbers() -> None:
    costs = parallel_costs(NATS)
    assert float(costs[0, D]) == pytest.approx(D * 2.0) and float(costs[0, 1]) == pytest.approx(0.1)
    assert bool(costs.tril().isinf().sum() == (D + 1) * (D + 2) // 2)
    for nats, budget in ((NATS, 0), (NATS, D + 1), (NATS * float("nan"), 2), (NATS[None], 1)):
        with pytest.raises(ValueError):
            parallel_grid(nats, budget)


def test_isotonic_regression_is_the_nearest_in_squares() -> None:
    for seed in range(5):
        values = Rng.of(seed, 1).normal((6,), torch.float64)[0]
        fit = non_increasing(values)
        assert bool((fit.diff() <= 1e-12).all())
        # The projection on a cone: the rest is orthogonal to the fit and makes no acute angle with the cone's edges.
        rest = values - fit
        assert abs(float((rest * fit).sum())) < 1e-12
        edges = torch.tril(torch.ones(6, 6, dtype=torch.float64))
        assert bool((edges @ rest <= 1e-12).all()) and abs(float(rest.sum())) < 1e-12
    assert torch.equal(non_increasing(NATS[3:]), NATS[3:])
