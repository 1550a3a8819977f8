"""Grids against the published spacings."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from diffprob.process.grids import GrainGrid, Karras, Leading, LogSNR, Native, QuadraticTimes, Trailing, Uniform
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import VPSDE, Cosine, LinearBetas, LogLinear, OrnsteinUhlenbeck, Straight

DDPM = LinearProcess()
SDE = LinearProcess(VPSDE())


GRIDS = (
    *(Uniform(), QuadraticTimes(), LogSNR(), GrainGrid(), Karras()),
    *(Trailing(), Trailing(bend=-0.6), Trailing(bend=0.5), Leading()),
)
over_grids = pytest.mark.parametrize("grid", [*GRIDS, Native()], ids=repr)


def indices(times: torch.Tensor, steps: int = 1000) -> list[int]:
    """Ascending paper indices 1..T; fails where a time is not i/T to the last bit."""
    index = (times * steps).round()
    assert torch.equal(times, index / steps)
    return index.long().flip(0).tolist()


def test_uniform_matches_the_published_list() -> None:
    assert indices(Uniform()(DDPM, 10)) == [1, 112, 223, 334, 445, 556, 667, 778, 889, 1000]


def test_uniform_matches_the_formula() -> None:
    """round(1 + k (T-1)/(n-1)), ties to the even index."""
    for n in [*range(2, 60), 80, 100, 112, 200, 223, 250, 334, 500, 667, 999, 1000]:
        assert indices(Uniform()(DDPM, n)) == [round(1 + Fraction(k * 999, n - 1)) for k in range(n)], n


def test_trailing_matches_the_formula() -> None:
    """round(T - k T/n), ties to the even index: np.round(np.arange(T, 0, -T/n)) of the reference."""
    for n in [*range(1, 60), 80, 100, 160, 200, 250, 400, 500, 800, 1000]:
        expected = [round(1000 - Fraction(k * 1000, n)) for k in range(n)][::-1]
        assert indices(Trailing()(DDPM, n)) == expected, n
    # 1 - (v - 0.6 v (1 - v)) at v = k/5, by hand.
    assert indices(Trailing(bend=-0.6)(DDPM, 5)) == [296, 544, 744, 896, 1000]
    assert indices(Trailing()(DDPM, 80)) == np.round(np.arange(1000, 0, -12.5)).astype(int)[::-1].tolist()


def test_leading_matches_the_formula() -> None:
    """1, 1 + T//n, 1 + 2 (T//n), ...; the last lies below T."""
    for n in (1, 2, 3, 10, 30, 300, 999, 1000):
        assert indices(Leading()(DDPM, n)) == [1 + k * (1000 // n) for k in range(n)]


@pytest.mark.parametrize("grid", [Native(), Uniform(), Trailing(), Leading()], ids=repr)
def test_grid_of_all_times_is_the_whole_schedule(grid: Native) -> None:
    for steps in (10, 1000):
        process = LinearProcess(LinearBetas(steps, 1e-4, 0.02))
        assert indices(grid(process, steps), steps) == list(range(1, steps + 1))


def test_quadratic_is_denser_near_the_data() -> None:
    root = 0.001**0.5
    expected = (root + (1 - root) * np.linspace(0, 1, 10)) ** 2 * 1000
    assert indices(QuadraticTimes()(DDPM, 10)) == np.round(expected).astype(int).tolist()


def test_logsnr_grid_is_evenly_spaced() -> None:
    for process in (SDE, LinearProcess(OrnsteinUhlenbeck()), LinearProcess(LogLinear(), VarianceExploding())):
        logsnr = process.logsnr(LogSNR()(process, 17))
        ends = process.logsnr(torch.tensor([1.0, process.schedule.start], dtype=torch.float64))
        torch.testing.assert_close(
            logsnr, torch.linspace(float(ends[0]), float(ends[1]), 17).double(), rtol=1e-6, atol=1e-6
        )
        torch.testing.assert_close(logsnr.diff(), logsnr.diff().mean().expand(16), rtol=1e-10, atol=0)


def test_karras_matches_edm() -> None:
    process = LinearProcess(LogLinear(0.002, 80.0), VarianceExploding())
    sigma = process.sigma(Karras()(process, 18))
    expected = (80 ** (1 / 7) + np.arange(18) / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(sigma.numpy(), expected, rtol=1e-11)
    assert sigma[:3].tolist() == pytest.approx([80, 57.586, 40.786], abs=5e-4)
    assert sigma[-3:].tolist() == pytest.approx([0.02293, 0.00753, 0.002], rel=5e-4)
    ratio = torch.exp(-0.5 * SDE.logsnr(Karras(3.0)(SDE, 9))) ** (1 / 3)
    torch.testing.assert_close(ratio.diff(), ratio.diff().mean().expand(8), rtol=1e-9, atol=0)


def test_duplicate_times_are_separated() -> None:
    """Ten noise levels of an eleven-step schedule: Karras puts many of them between two knots."""
    process = LinearProcess(LinearBetas(11, 1e-3, 0.6))
    for grid in (
        GrainGrid(),
        Karras(),
        Karras(40.0),
        LogSNR(),
        QuadraticTimes(),
        Uniform(),
        Trailing(),
        Trailing(bend=-0.6),
    ):
        for n in range(1, 12):
            times = indices(grid(process, n), 11)
            assert len(set(times)) == n
            assert times == sorted(times)
            assert times[-1] == 11
            assert times[0] >= 1
    assert indices(Karras()(process, 11), 11) == list(range(1, 12))
    crowded = indices(QuadraticTimes()(DDPM, 300))
    rounded = np.round((0.001**0.5 + (1 - 0.001**0.5) * np.linspace(0, 1, 300)) ** 2 * 1000).astype(int).tolist()
    assert rounded[:6] == [1, 1, 1, 2, 2, 2]
    assert crowded[:6] == [1, 2, 3, 4, 5, 6]
    assert crowded[-150:] == rounded[-150:], "moved where nothing met"


def test_continuous_grids_decrease_for_any_length() -> None:
    for grid in GRIDS:
        for n in (1, 2, 999, 1000, 1001, 5000):
            times = grid(SDE, n)
            assert len(times) == n
            assert (times.diff() < 0).all(), (grid, n)
            assert times[0] <= 1
            assert times[-1] > 0


def test_grids_of_straight_paths_start_at_pure_noise() -> None:
    process = LinearProcess(Straight(), StraightScaling())
    for grid in (LogSNR(), Karras()):
        times = grid(process, 10)
        assert times[0] == 1
        assert (times.diff() < 0).all()


@over_grids
@pytest.mark.parametrize("n", [0, -1])
def test_grid_of_no_times_is_an_error(grid: Uniform, n: int) -> None:
    for process in (DDPM, SDE):
        with pytest.raises(ValueError):
            grid(process, n)


@over_grids
def test_more_times_than_the_schedule_has_is_an_error(grid: Uniform) -> None:
    with pytest.raises(ValueError, match=r"1001|20"):
        grid(DDPM, 1001)
    with pytest.raises(ValueError, match="20"):
        grid(LinearProcess(Cosine(10)), 20)


def test_native_needs_a_table_and_all_its_times() -> None:
    with pytest.raises(ValueError, match="continuous"):
        Native()(SDE, 10)
    with pytest.raises(ValueError, match="not 999"):
        Native()(DDPM, 999)
    with pytest.raises(ValueError, match="-1"):
        Karras(-1.0)
