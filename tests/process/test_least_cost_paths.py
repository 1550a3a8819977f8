"""Least-cost paths: against brute force, against the closed form, and that they are worth something."""

import itertools
import math

import pytest
import torch

from diffprob.base.distributions import Discretised, LocationScale
from diffprob.denoise.ideal import GaussianData
from diffprob.denoise.moments import NoiseMoments
from diffprob.denoise.variance import Analytic
from diffprob.process.grids import Uniform
from diffprob.process.linear import LinearProcess
from diffprob.process.path import LeastCost, cheapest_paths, reconstruction_costs, step_costs
from diffprob.process.schedule import Cosine, LinearBetas

PROCESS = LinearProcess(LinearBetas(40, 1e-4 * 25, 0.02 * 25))
TIMES = torch.arange(1, 41, dtype=torch.float64) / 40


def average_variance(spectrum):
    """E Var[x_0|x_t] per dimension of Gaussian data with this spectrum at every time, (K,)."""
    alpha, sigma = PROCESS.coefficients(TIMES)
    values = torch.as_tensor(spectrum, dtype=torch.float64)
    return (sigma**2 / (alpha**2 * values[:, None] + sigma**2) * values[:, None]).mean(0)


def cost_of(costs, path):
    return float(sum(costs[i, j] for i, j in itertools.pairwise(path)))


def test_cheapest_path_matches_brute_force():
    generator = torch.Generator().manual_seed(0)
    costs = torch.rand((9, 9), generator=generator, dtype=torch.float64)
    for n, path in enumerate(cheapest_paths(costs, 9), start=1):
        assert len(path) == n and path[-1] == 8
        if n > 1:
            inner = itertools.combinations(range(1, 8), n - 2)
            best = min(cost_of(costs, (0, *middle, 8)) for middle in inner)
            assert path[0] == 0 and cost_of(costs, path.tolist()) == pytest.approx(best, abs=1e-12)


def test_cheapest_path_with_end_costs_matches_brute_force():
    generator = torch.Generator().manual_seed(1)
    costs = torch.rand((8, 8), generator=generator, dtype=torch.float64)
    ends = torch.rand(8, generator=generator, dtype=torch.float64)
    for n, path in enumerate(cheapest_paths(costs, 8, ends), start=1):
        cost = ends[path[0]] + cost_of(costs, path.tolist())
        every = ((*nodes, 7) for nodes in itertools.combinations(range(7), n - 1))
        assert float(cost) == pytest.approx(min(float(ends[p[0]]) + cost_of(costs, p) for p in every), abs=1e-12)


def test_expected_level_cost_matches_monte_carlo():
    """Against a draw of errors, and the two limits."""
    error = torch.randn(200_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    level = torch.full_like(error, 2 * 8 / 16 - 1)
    for std in (0.03, 0.1):
        law = LocationScale(level + std * error, torch.tensor(std, dtype=torch.float64))
        nats = -Discretised(law, 17).log_prob(level)
        (cost,) = reconstruction_costs(torch.tensor([std**2], dtype=torch.float64), 17)
        assert abs(float(nats.mean() - cost)) < 4 * float(nats.std()) / 200_000**0.5
    small, large = reconstruction_costs(torch.tensor([1e-8, 1e-2], dtype=torch.float64), 256).tolist()
    assert small < 1e-12
    assert large == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 1e-2 / (2 / 255) ** 2), abs=1e-3)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_path_cost_matches_the_bound_of_the_chain(n):
    """Up to a constant that no path changes it is 1/2 sum log(1 - beta Gamma) (Bao et al. 2022, theorem 3)."""
    variance = average_variance([0.9, 0.1, 0.002])
    costs = step_costs(PROCESS, TIMES, variance)
    alpha, sigma = PROCESS.coefficients(TIMES)
    gamma = (1 - alpha**2 / sigma**2 * variance) / sigma**2
    path = torch.linspace(0, 39, n).round().long().tolist()
    published, rounding = 0.0, 1e-12
    for i, j in itertools.pairwise(path):
        beta = 1 - (alpha[j] / alpha[i]) ** 2
        published += 0.5 * float(torch.log1p(-beta * gamma[j]))
        rounding += 1e-15 / float(1 - beta * gamma[j])  # what the published form loses near the noise
    ends = 0.5 * math.log(float(sigma[-1] ** 2 / sigma[0] ** 2 * alpha[0] ** 2 / alpha[-1] ** 2))
    assert cost_of(costs, path) == pytest.approx(published + ends, abs=rounding)


def test_step_cost_is_the_expected_divergence():
    """Against the Gaussian formula: E KL(bridge || N(mean, v)) per dimension for isotropic and other data."""
    spectrum = torch.tensor([0.9, 0.1, 0.002], dtype=torch.float64)
    variance = average_variance(spectrum)
    costs = step_costs(PROCESS, TIMES, variance)
    for i, j in ((0, 1), (3, 17), (0, 39)):
        s, t = TIMES[i], TIMES[j]
        bridge = PROCESS.bridge_coefficients(s, t)
        cov = GaussianData(torch.zeros(3).double(), torch.diag(spectrum), PROCESS)(torch.zeros(1, 3).double(), t).cov[0]
        small, mismatch = bridge.ell**2, bridge.c0**2 * torch.diagonal(cov)
        v = small + mismatch.mean()
        kl = 0.5 * (torch.log(v / small) + (small + mismatch) / v - 1).mean()
        assert float(costs[i, j]) == pytest.approx(float(kl), rel=1e-11)


def test_step_cost_of_spread_variances_is_the_expected_divergence_of_each_element():
    """Against the Gaussian formula: with its own variance every element costs 1/2 log(1 + c0^2 Var/btil)."""
    spectrum = torch.tensor([0.9, 0.1, 0.002], dtype=torch.float64)
    alpha, sigma = PROCESS.coefficients(TIMES)
    variance = sigma[:, None] ** 2 * spectrum / (alpha[:, None] ** 2 * spectrum + sigma[:, None] ** 2)
    costs = step_costs(PROCESS, TIMES, variance)
    for i, j in ((0, 1), (3, 17), (0, 39)):
        bridge = PROCESS.bridge_coefficients(TIMES[i], TIMES[j])
        small, mismatch = bridge.ell**2, bridge.c0**2 * variance[j]
        v = small + mismatch
        kl = 0.5 * (torch.log(v / small) + (small + mismatch) / v - 1).mean()
        assert float(costs[i, j]) == pytest.approx(float(kl), rel=1e-12)
    mean = step_costs(PROCESS, TIMES, variance.mean(1))
    assert bool((costs <= mean + 1e-15).all()), "knowing the variance of each element costs less (Jensen)"
    one = step_costs(PROCESS, TIMES, variance[:, :1])
    assert bool((one == step_costs(PROCESS, TIMES, variance[:, 0])).all())


def test_level_cost_of_spread_variances_is_the_mean_cost():
    """Interpolated between 512 values of the logarithm, h apart: off by at most h^2/8 max|f''|, here below 1e-4."""
    spread = torch.logspace(-9, 0, 60, dtype=torch.float64).reshape(10, 6)
    each = reconstruction_costs(spread.flatten(), 256).reshape(10, 6)
    assert float((reconstruction_costs(spread, 256) - each.mean(1)).abs().max()) < 1e-2  # 60 values, 60 knots
    dense = torch.logspace(-9, 0, 600, dtype=torch.float64).reshape(100, 6)
    each = reconstruction_costs(dense.flatten(), 256).reshape(100, 6)
    assert float((reconstruction_costs(dense, 256) - each.mean(1)).abs().max()) < 1e-4


def test_isotropic_paths_cost_the_same_and_others_gain_from_the_best_path():
    alike = step_costs(PROCESS, TIMES, average_variance([0.3, 0.3]))
    uneven = step_costs(PROCESS, TIMES, average_variance([0.9, 0.1, 0.002]))
    whole = cost_of(alike, range(40))
    for n in (2, 4, 8, 20):
        uniform = [round(float(t) * 40) - 1 for t in Uniform()(PROCESS, n).flip(0)]
        assert cost_of(alike, uniform) == pytest.approx(whole, rel=1e-10)
        best = cheapest_paths(uneven, n)[-1].tolist()
        gain = cost_of(uneven, uniform) - cost_of(uneven, best)
        assert gain > (0.01 if 2 < n < 20 else -1e-12)


def test_least_cost_grid_returns_its_paths():
    variance = average_variance([0.9, 0.1, 0.002])
    paths = tuple(TIMES[path] for path in cheapest_paths(step_costs(PROCESS, TIMES, variance), 10))
    times = LeastCost(paths=paths)(PROCESS, 10)
    assert len(times) == 10 and times[0] == 1 and times[-1] == 1 / 40 and bool((times.diff() < 0).all())
    assert LeastCost(paths=paths)(PROCESS, 1).tolist() == [1.0]


def test_least_cost_grid_without_fit_is_an_error():
    with pytest.raises(ValueError, match="never fitted"):
        LeastCost()(PROCESS, 10)
    with pytest.raises(ValueError, match="1 to 2 times, 3"):
        LeastCost(paths=(TIMES[-1:], TIMES[[0, -1]]))(PROCESS, 3)
    with pytest.raises(ValueError, match="between 1 and 9"):
        cheapest_paths(torch.zeros(9, 9), 10)
    assert repr(LeastCost(paths=(TIMES,))) == "LeastCost(whole=False)"


@pytest.mark.parametrize("spectrum", [[0.3], [1.0, 0.1, 0.01, 0.001]])
def test_a_variance_known_at_25_times_gives_almost_the_best_path_through_400(spectrum):
    """Gaussian data, whose variance is known at every time: what interpolation in log-SNR costs, in nats/dim."""
    process = LinearProcess(Cosine(400))
    times = Uniform()(process, 400).flip(0)

    def exact(at):
        alpha, sigma = process.coefficients(at)
        values = torch.as_tensor(spectrum, dtype=torch.float64)
        variance = (sigma[:, None] ** 2 * values / (alpha[:, None] ** 2 * values + sigma[:, None] ** 2)).mean(1)
        return variance, variance * (alpha**2 + sigma**2) / sigma**2

    variance, _ = exact(times)
    knots = Uniform()(process, 25).flip(0)
    relative = exact(knots)[1]
    table = NoiseMoments(knots, relative, 0 * relative, relative, 0 * relative, 1)
    near = Analytic(moments=table)(process, times)
    ends = reconstruction_costs(variance, 256)
    costs = step_costs(process, times, variance)

    def whole_cost(path):  # of the exact variance along a path, and of taking the interpolated one there
        bridges = [process.bridge_coefficients(times[s], times[t]) for s, t in itertools.pairwise(path.tolist())]
        ratios = [
            float((bridge.ell**2 + bridge.c0**2 * variance[t]) / (bridge.ell**2 + bridge.c0**2 * near[t]))
            for bridge, t in zip(bridges, path[1:].tolist(), strict=True)
        ]
        return float(ends[path[0]]) + cost_of(costs, path.tolist()), sum(r - 1 - math.log(r) for r in ratios) / 2

    best = cheapest_paths(costs, 50, ends)[-1]
    found = cheapest_paths(step_costs(process, times, near), 50, reconstruction_costs(near, 256))[-1]
    regret, wrong = whole_cost(found)[0] - whole_cost(best)[0], whole_cost(found)[1]
    assert whole_cost(best)[1] >= 0 and 0 <= regret < 0.004 and wrong < 0.002


def test_telling_real_numbers_costs_the_entropy_of_the_normal_law_of_their_variance() -> None:
    spread = torch.tensor([[0.01, 0.2], [1.0, 4.0]], dtype=torch.float64)
    entropy = torch.distributions.Normal(0.0, spread.sqrt()).entropy()
    assert torch.allclose(reconstruction_costs(spread[0], None), entropy[0], rtol=1e-12)
    assert torch.allclose(reconstruction_costs(spread, None), entropy.mean(1), rtol=1e-12)
    # Of many levels a level is a density times the width of its bin.
    (fine,) = reconstruction_costs(spread[:1, :1].flatten(), 60000)
    assert abs(float(fine) - float(entropy[0, 0]) - math.log(59999 / 2)) < 1e-4
