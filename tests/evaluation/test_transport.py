"""Wasserstein distances against scipy, POT, a linear program by hand and closed forms."""

import math
import sys

import numpy as np
import pytest
import torch

from diffprob.base.errors import InputError, NumericalError
from diffprob.evaluation.transport import sliced_wasserstein2, unit_directions, wasserstein2_exact, wasserstein_1d

SIZES = [(1, 1), (5, 5), (1, 7), (4, 6), (30, 7), (101, 100)]


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_w1_matches_scipy(n, m):
    from scipy.stats import wasserstein_distance

    rng = np.random.default_rng(n * 1000 + m)
    x, y = rng.normal(size=n), 2 * rng.normal(size=m) + 0.3
    assert wasserstein_1d(x, y, p=1) == pytest.approx(wasserstein_distance(x, y), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_unequal_sizes_match_repeated_points(n, m, p):
    """Repeating each point of x m times and each of y n times leaves both distributions as they are."""
    rng = np.random.default_rng(n * 1000 + m)
    x, y = rng.normal(size=n), rng.normal(size=m)
    long = np.abs(np.sort(np.repeat(x, m)) - np.sort(np.repeat(y, n)))
    assert wasserstein_1d(x, y, p) == pytest.approx(np.mean(long**p) ** (1 / p), rel=1e-12)


def test_w2_matches_a_computation_by_hand():
    # Half of the mass of 0 goes to 0, half to 3; the mass of 4 goes to 3 (1/6) and to 6 (1/3).
    assert wasserstein_1d(np.array([4.0, 0.0]), np.array([6.0, 0.0, 3.0]), p=2) == pytest.approx(
        math.sqrt((1 / 6) * 9 + (1 / 6) * 1 + (1 / 3) * 4), rel=1e-14
    )


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 25)])
def test_sliced_distance_matches_pot_on_the_same_directions(n, m):
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(n, 6)), rng.exponential(size=(m, 6))
    theirs = ot.sliced_wasserstein_distance(x, y, projections=unit_directions(6, 80, seed=5).numpy(), p=2)
    assert sliced_wasserstein2(x, y, directions=80, seed=5) == pytest.approx(float(theirs), rel=1e-10)


def test_shift_and_scale_follow_the_closed_form():
    """x -> c x + m transports every projection monotonically: SW_2^2 = mean_v mean_x ((c - 1) x.v + m.v)^2 exactly."""
    rng = np.random.default_rng(0)
    x, m = rng.normal(size=(50, 12)), rng.normal(size=12)
    unit = unit_directions(12, 300, seed=1).numpy()
    expected = math.sqrt(np.mean((0.7 * x @ unit + m @ unit) ** 2))
    assert sliced_wasserstein2(x, 1.7 * x + m, directions=300, seed=1) == pytest.approx(expected, rel=1e-12)


def test_sliced_distance_of_gaussians_matches_the_closed_form():
    """N(0, I) against N(m, 4 I): SW_2^2 = |m|^2 / d + (2 - 1)^2.

    Its error: the directions', with Var (m.v)^2 = 2 |m|^4 (d - 1) / (d^2 (d + 2)), and the sets', which is of the order
    of the projected means' error, 2 sqrt(1/n + 4/n) |m| / sqrt(d).
    """
    d, n, directions = 8, 2000, 1000
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, d, generator=generator)
    m = torch.full((d,), 3.0)
    y = 2 * torch.randn(n, d, generator=generator) + m
    square = float(m.square().sum())
    sigma = math.sqrt(2 * square**2 * (d - 1) / (d**2 * (d + 2)) / directions) + 2 * math.sqrt(5 / n * square / d)
    assert sliced_wasserstein2(x, y, directions=directions) ** 2 == pytest.approx(square / d + 1, abs=4 * sigma)


def test_directions_are_uniform_and_extend_each_other():
    unit = unit_directions(3, 2000, seed=9)
    assert torch.allclose(unit.norm(dim=0), torch.ones(2000, dtype=torch.float64), atol=1e-14)
    # E v v^T = I / 3; each entry has a standard deviation below 0.3 / sqrt(2000).
    assert torch.allclose(unit @ unit.T / 2000, torch.eye(3, dtype=torch.float64) / 3, atol=4 * 0.3 / math.sqrt(2000))
    assert torch.equal(unit_directions(3, 7, seed=9, first=5), unit[:, 5:12])
    assert not torch.equal(unit_directions(3, 7, seed=10, first=5), unit[:, 5:12])


def test_value_does_not_depend_on_blocks(monkeypatch):
    from diffprob.evaluation import transport

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8), rng.integers(0, 256, (45, 1, 8, 8)).astype(np.uint8)
    whole = sliced_wasserstein2(x, y, directions=50)
    monkeypatch.setattr(transport, "_BLOCK", 500)
    assert sliced_wasserstein2(x, y, directions=50) == pytest.approx(whole, rel=1e-12)


def test_sliced_distance_is_a_metric_of_sets():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    assert sliced_wasserstein2(x, x[rng.permutation(30)]) == pytest.approx(0, abs=1e-14)
    assert sliced_wasserstein2(x, y, seed=2) == pytest.approx(sliced_wasserstein2(y, x, seed=2), rel=1e-12)


def test_read_only_memory_is_accepted():
    x = np.zeros((3, 2), np.uint8)
    x.setflags(write=False)
    assert sliced_wasserstein2(x, x) == 0


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((0, 3)), np.zeros((4, 3)), "x holds no points"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "one shape"),
        (np.zeros((4, 3)), np.full((4, 3), np.nan), "y holds values that are not finite"),
    ],
)
def test_invalid_sets_are_errors(x, y, message):
    with pytest.raises(InputError, match=message):
        sliced_wasserstein2(x, y)


def test_invalid_settings_are_errors():
    with pytest.raises(ValueError, match="directions must be at least 1, got 0"):
        sliced_wasserstein2(np.zeros((4, 3)), np.zeros((4, 3)), directions=0)
    with pytest.raises(ValueError, match=r"p must lie in .* got 0\.5"):
        wasserstein_1d(np.zeros(2), np.zeros(2), p=0.5)
    with pytest.raises(InputError, match="shape"):
        wasserstein_1d(np.zeros((2, 2)), np.zeros(2))


@pytest.mark.parametrize(("n", "m"), [(30, 30), (25, 40)])
def test_exact_transport_matches_pot(n, m):
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(n, 2, 3)), rng.exponential(size=(m, 2, 3))
    cost = ot.dist(x.reshape(n, 6), y.reshape(m, 6), metric="sqeuclidean")
    theirs = math.sqrt(ot.emd2(np.full(n, 1 / n), np.full(m, 1 / m), cost))
    assert wasserstein2_exact(x, torch.from_numpy(y)) == pytest.approx(theirs, rel=1e-10)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_exact_transport_matches_one_dimensional_distance(n, m):
    pytest.importorskip("ot")
    rng = np.random.default_rng(n * 1000 + m)
    x, y = rng.normal(size=n), 2 * rng.normal(size=m) + 0.3
    assert wasserstein2_exact(x[:, None], y[:, None]) == pytest.approx(wasserstein_1d(x, y, p=2), rel=1e-9)


def test_exact_transport_matches_the_best_assignment():
    """Equal sizes: the best of all couplings is a permutation, which scipy finds by another algorithm."""
    from scipy.optimize import linear_sum_assignment

    pytest.importorskip("ot")
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 17, (50, 1, 4, 4)).astype(np.uint8), rng.integers(0, 17, (50, 1, 4, 4)).astype(np.uint8)
    a, b = x.reshape(50, 16).astype(float), y.reshape(50, 16).astype(float)
    cost = ((a[:, None] - b) ** 2).sum(2)
    assert wasserstein2_exact(x, y) == pytest.approx(math.sqrt(cost[linear_sum_assignment(cost)].mean()), rel=1e-12)
    assert wasserstein2_exact(x, x[::-1].copy()) == 0


def test_invalid_input_of_exact_transport_is_an_error(monkeypatch):
    with pytest.raises(InputError, match=r"at most 2000 points a side, got 2001 and 3: .* sliced_wasserstein2"):
        wasserstein2_exact(np.zeros((2001, 1)), np.zeros((3, 1)))
    with pytest.raises(InputError, match="one shape"):
        wasserstein2_exact(np.zeros((3, 2)), np.zeros((3, 1)))
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(InputError, match=r"pip install 'diffprob\[transport\]'"):
        wasserstein2_exact(np.zeros((3, 1)), np.zeros((3, 1)))


def test_exact_transport_that_does_not_converge_is_an_error(monkeypatch):
    from diffprob.evaluation import transport

    pytest.importorskip("ot")
    monkeypatch.setattr(transport, "_PIVOTS", 3)
    rng = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="numItermax"), pytest.raises(NumericalError, match="100 and 100 points"):
        wasserstein2_exact(rng.normal(size=(100, 3)), rng.normal(size=(100, 3)))
