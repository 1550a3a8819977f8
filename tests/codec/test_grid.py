"""The path of a coder: the shortest that pays, and no other costs less."""

from itertools import combinations, pairwise

import pytest
import torch

from diffprob.codec.coders import Ideal
from diffprob.codec.grid import coding_times
from diffprob.codec.poisson import PoissonFunctional
from diffprob.process.linear import LinearProcess
from diffprob.process.path import reconstruction_costs, step_costs

PROCESS = LinearProcess()
TIMES = torch.tensor([0.001, 0.01, 0.05, 0.2, 0.5, 1.0], dtype=torch.float64)
ALPHA, SIGMA = PROCESS.coefficients(TIMES)
VARIANCE = 0.1 * SIGMA**2 / (0.1 * ALPHA**2 + SIGMA**2)


@pytest.mark.parametrize("coder", [Ideal(), PoissonFunctional(), PoissonFunctional(bits=3.0)], ids=repr)
@pytest.mark.parametrize("d", [2, 50, 1000])
def test_no_other_path_costs_less(coder: PoissonFunctional, d: int) -> None:
    per_bit = d / torch.log(torch.tensor(2.0, dtype=torch.float64))
    costs = coder.cost(per_bit * step_costs(PROCESS, TIMES, VARIANCE), d)
    ends = per_bit * reconstruction_costs(VARIANCE, 33)

    def total(nodes: tuple[int, ...]) -> float:
        return float(sum(costs[i, j] for i, j in pairwise(nodes)) + ends[nodes[0]])

    every = {n: [(*path, 5) for path in combinations(range(5), n - 1)] for n in range(1, 7)}
    cheapest = {n: min(map(total, paths)) for n, paths in every.items()}
    for n, cost in cheapest.items():
        chosen = coding_times(PROCESS, TIMES, VARIANCE, d, 33, coder, n)
        assert total(tuple(TIMES.tolist().index(t) for t in chosen.flip(0).tolist())) == pytest.approx(cost)
    best = coding_times(PROCESS, TIMES, VARIANCE, d, 33, coder)
    assert len(best) == min(cheapest, key=cheapest.__getitem__)


def test_a_coder_that_costs_more_takes_fewer_steps() -> None:
    """Two points, of which a normal step knows the mean and variance alone: the more steps, the better the bound."""
    times = torch.arange(1, 201, dtype=torch.float64) / 200
    alpha, sigma = PROCESS.coefficients(times)
    z = torch.linspace(-6, 6, 4001, dtype=torch.float64)[:, None]
    weight = torch.exp(-0.5 * z * z) / torch.exp(-0.5 * z * z).sum()
    variance = (weight * (1 - torch.tanh(alpha / sigma**2 * (alpha + sigma * z)) ** 2)).sum(0)
    lengths = [len(coding_times(PROCESS, times, variance, 64, 17, coder)) for coder in (Ideal(), PoissonFunctional())]
    assert lengths[0] == 64 > lengths[1] > 2
