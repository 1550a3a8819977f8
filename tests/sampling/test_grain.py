"""The solver for few evaluations: exact where it says so, of its order down to the data, and what it is chosen for."""

import math

import pytest
import torch
from truth.models import IsotropicData, tensor
from truth.order import assert_order

from diffprob.base.rng import Rng
from diffprob.conform.sampler import MIXTURE, SDE, MixtureMean
from diffprob.process.grids import GrainGrid, LogSNR, Trailing, Uniform
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import Cosine, LinearBetas, LogLinear, Straight
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.defaults import default
from diffprob.sampling.exponential import DPMpp, DPMppSDE, UniPC
from diffprob.sampling.grain import GrainSolver
from diffprob.sampling.simulate import State, simulate

X = torch.linspace(-1.7, 1.6, 7, dtype=torch.float64)[:, None]
RNG = Rng.of(0, 7)
PROCESSES = [LinearProcess(LinearBetas()), LinearProcess(Cosine()), LinearProcess(Straight(), StraightScaling())]


def data(model, sampler, times) -> torch.Tensor:
    """x_0 from X at times[0]."""
    *_, last = simulate(model, sampler, X, times, RNG)
    return last.x


def exact_data(x: torch.Tensor) -> torch.Tensor:
    """x_0 of the exact flow of the mixture from x at t = 1, by Runge and Kutta."""
    alpha, sigma = (float(c) for c in SDE.coefficients(1.0))
    return torch.from_numpy(MIXTURE.flow(x[:, 0].numpy(), (alpha, sigma), (1.0, 1e-5), 800))[:, None]


@pytest.mark.parametrize("process", PROCESSES, ids=str)
@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 6])
def test_one_step_is_exact_on_normal_data_of_the_grain_variance(process, p: int, n: int) -> None:
    """N(m, grain^2): the flow keeps (x - alpha m)/s, and one evaluation at t = 1 is enough."""
    grain, mean = 0.3, 0.4
    model = IsotropicData(mean, grain**2, process)
    alpha, sigma = process.coefficients(1.0)
    expected = mean + grain / (sigma**2 + (grain * alpha) ** 2).sqrt() * (X - alpha * mean)
    end = data(model, GrainSolver(p, grain), GrainGrid(grain)(process, n))
    torch.testing.assert_close(end, expected, rtol=0, atol=1e-11)


def test_first_step_without_grain_equals_ddim() -> None:
    model, state = MixtureMean(), State(X, tensor(0.8))
    result = GrainSolver(1, grain=1e-6).step(model, state, tensor(0.5), RNG)
    torch.testing.assert_close(result.x, DDIM().step(model, state, tensor(0.5), RNG).x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_declared_order_holds_down_to_time_zero(p: int) -> None:
    """On the grid of the solver from t = 1 to t = 0, the last step being `finish`."""
    solver, steps = GrainSolver(p, grain=0.1), (40, 80, 160)
    exact = exact_data(X)
    ends = [data(MixtureMean(), solver, GrainGrid(grain=0.1)(SDE, n)) for n in steps]
    errors = [float((end - exact).abs().max()) for end in ends]
    assert_order(solver.order, steps, errors)


def test_grain_solver_is_most_accurate_with_few_evaluations() -> None:
    """Eight evaluations of a mixture against its exact flow, root mean square over starts."""
    x = torch.special.ndtri(tensor([(k + 0.5) / 64 for k in range(64)]))[:, None]
    exact = exact_data(x)

    def error(sampler, grid) -> float:
        *_, last = simulate(MixtureMean(), sampler, x, grid(SDE, 8), Rng.of(0, 64))
        return float((last.x - exact).square().mean().sqrt())

    others = [(s, g) for s in (DDIM(), DPMpp(2), DPMpp(3), UniPC(2)) for g in (Uniform(), LogSNR())]
    assert error(GrainSolver(), GrainGrid()) < 0.8 * min(error(*other) for other in others)


def test_chain_with_noise_at_time_zero_ends_with_the_mean() -> None:
    """With sigma(0) > 0 there is no step to the data."""
    process = LinearProcess(LogLinear(), VarianceExploding())
    model = IsotropicData(0.4, 0.01, process)
    *_, before, last = simulate(model, GrainSolver(), X, GrainGrid()(process, 6), RNG)
    assert torch.equal(last.x, model(before.x, before.t).mean)
    assert (float(last.t), last.index) == (0.0, before.index + 1)


@pytest.mark.parametrize(("bend", "dwell"), [(0.0, 0.0), (-0.5, 0.0), (-0.4, 0.5)])
def test_grain_grid_is_even_in_its_variable(bend: float, dwell: float) -> None:
    n, v = 9, torch.linspace(0, 1, 10, dtype=torch.float64)
    for process in (SDE, LinearProcess(Straight(), StraightScaling())):
        times = GrainGrid(0.05, 2.0, bend, dwell)(process, n)
        alpha, sigma = process.coefficients(times)
        u = torch.asinh(2.0 * alpha / (sigma**2 + (0.05 * alpha) ** 2).sqrt())
        assert times[0] == 1
        shape = v + bend * v * (1 - v) + dwell * v * (1 - v) * (1 - 2 * v)
        expected = u[0] + (math.asinh(2.0 / 0.05) - u[0]) * shape
        torch.testing.assert_close(u, expected[:-1], rtol=1e-9, atol=1e-12)


def test_grain_grid_decreases_for_extreme_shapes() -> None:
    """The slope is at least 1 - dwell/2 - bend^2/(6 dwell) > 0; the middle steps are the shorter ones."""
    for bend in (-0.99, 0.0, 0.99):
        for dwell in (0.0, 0.33, 0.99):
            assert torch.all(GrainGrid(bend=bend, dwell=dwell)(PROCESSES[2], 50).diff() < 0)

    def middle(dwell: float) -> float:
        alpha, sigma = SDE.coefficients(GrainGrid(dwell=dwell)(SDE, 10))
        u = torch.asinh(1.2 * alpha / (sigma**2 + (0.06 * alpha) ** 2).sqrt())
        return float(u[6] - u[4])

    # The cubic falls from 0.4 0.6 0.2 to -0.6 0.4 0.2 between v = 0.4 and 0.6: 0.2 - 0.096 dwell of the whole.
    whole = math.asinh(1.2 / 0.06) - math.asinh(1.2 / (math.exp(-float(SDE.logsnr(1.0))) + 0.06**2) ** 0.5)
    assert middle(0.5) == pytest.approx(whole * (0.2 - 0.048), rel=1e-6)


def test_long_grain_grid_ends_at_the_last_noisy_time() -> None:
    times = GrainGrid()(SDE, 2000)
    assert times[-1] == SDE.schedule.start
    assert GrainGrid()(SDE, 20)[-1] > SDE.schedule.start


def test_default_sampler_depends_on_evaluations_and_dimensions() -> None:
    process = LinearProcess()
    assert default(1000, process, (1, 8, 8)) == (Ancestral(), Uniform())
    for n in (5, 20):
        assert default(n, process, (2,)) == (GrainSolver(extent=0.5), GrainGrid(extent=0.5))
    assert default(5, process, (8,)) == (GrainSolver(extent=1.0), GrainGrid(extent=1.0))
    assert default(7, process, (8,)) == (GrainSolver(extent=1.0), GrainGrid(extent=1.0, bend=-0.2, dwell=0.25))
    assert default(9, process, (4,)) == (GrainSolver(extent=0.7), GrainGrid(extent=0.7, bend=-0.2, dwell=0.25))
    assert default(10, process, (784,)) == (GrainSolver(extent=4.5), GrainGrid(extent=4.5, bend=-0.4, dwell=0.5))
    assert default(20, process, (1, 28, 28)) == (DPMppSDE(2), Trailing(bend=-0.6))
    assert default(1000, SDE, (2,))[0] == GrainSolver(extent=0.5)
    with pytest.raises(ValueError, match="got 0"):
        default(0, process, (2,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GrainSolver(p=4), "p must be 1, 2 or 3, got 4"),
        (lambda: GrainSolver(grain=0.0), r"grain must lie in \[1e-6, 1000\], got 0.0"),
        (lambda: GrainSolver(extent=math.inf), r"extent must lie in \[1e-6, 1000\], got inf"),
        (lambda: GrainGrid(grain=-1.0), r"grain must lie in \[1e-6, 1000\], got -1.0"),
        (lambda: GrainGrid(extent=0.0), r"extent must lie in \[1e-6, 1000\], got 0.0"),
        (lambda: GrainGrid(bend=-1.0), r"bend must lie in \(-1, 1\), got -1.0"),
        (lambda: GrainGrid(dwell=1.0), r"dwell must lie in \[0, 1\), got 1.0"),
        (lambda: GrainGrid(dwell=-0.1), r"dwell must lie in \[0, 1\), got -0.1"),
    ],
)
def test_invalid_settings_are_errors(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
