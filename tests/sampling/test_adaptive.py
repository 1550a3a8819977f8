"""Solvers to a tolerance: against scipy, per-sample steps, and what they cost."""

import pytest
import torch
from truth.models import IsotropicData, net_denoiser, tensor

from diffprob.base.distributions import LocationScale
from diffprob.base.errors import NumericalError
from diffprob.base.rng import Rng
from diffprob.conform.sampler import MIXTURE, SDE, Counting, MixtureMean, before_reconstruction
from diffprob.process.grids import LogSNR
from diffprob.process.linear import LinearProcess, StraightScaling, VarianceExploding
from diffprob.process.schedule import Cosine, LogLinear, Straight
from diffprob.sampling.adaptive import AdaptiveODE, DPMAdaptive
from diffprob.sampling.simulate import State, draw, simulate, start

X = torch.linspace(-1.7, 1.6, 7, dtype=torch.float64)[:, None]
ENDS = LogSNR()(SDE, 2)


def flow_by_scipy(x0: float) -> float:
    """The probability flow in t, dx/dt = f x - g^2 score/2 with the paper's f and g, by an eighth-order method."""
    from scipy.integrate import solve_ivp

    def velocity(t, x):
        alpha, sigma = (float(c) for c in SDE.coefficients(t))
        beta = 0.1 + 19.9 * t
        return -beta / 2 * x + beta / 2 * MIXTURE.noise(x, alpha, sigma) / sigma

    return float(solve_ivp(velocity, [float(t) for t in ENDS], [x0], "DOP853", rtol=1e-10, atol=1e-10).y[0, -1])


@pytest.fixture(scope="module")
def exact():
    return tensor([[flow_by_scipy(float(x))] for x in X])


@pytest.mark.parametrize(
    ("make", "tolerances"),
    [
        (lambda tol: AdaptiveODE(tol, tol), (1e-3, 1e-5, 1e-7)),
        (lambda tol: DPMAdaptive(2, tol, tol), (1e-2, 1e-4)),
        (lambda tol: DPMAdaptive(3, tol, tol), (1e-3, 1e-5)),
    ],
    ids=["ode", "dpm-12", "dpm-23"],
)
def test_error_is_bounded_by_the_tolerance(make, tolerances, exact) -> None:
    """Errors of single steps add up and are stretched where trajectories part: within 20 times the tolerance."""
    spent = []
    for tolerance in tolerances:
        model = Counting()
        end = before_reconstruction(model, make(tolerance), X, ENDS, Rng.of(0, 7)).x
        assert float((end - exact).abs().max()) < 20 * tolerance
        spent.append(model.samples / len(X))
    assert spent == sorted(spent)
    # The number of steps grows like tolerance^(-1/order) of the error estimate, and so no faster than this.
    order = make(0.5).order
    ratio = (tolerances[0] / tolerances[-1]) ** (1 / order)
    assert spent[-1] < 1.6 * ratio * spent[0]


@pytest.mark.parametrize("sampler", [AdaptiveODE(), DPMAdaptive(2), DPMAdaptive(3)], ids=repr)
def test_sample_has_the_same_bits_in_any_batch(sampler) -> None:
    """One, three and nine samples, and any order, in float32 through a network in chunks."""
    model = net_denoiser(SDE, chunk=4)
    everything = draw(model, sampler, ENDS, Rng.of(5, 9), (1, 8, 8))
    assert torch.equal(draw(model, sampler, ENDS, Rng.of(5, 1), (1, 8, 8)), everything[:1])
    assert torch.equal(draw(model, sampler, ENDS, Rng.of(5, 3, first=6), (1, 8, 8)), everything[6:])
    backwards = Rng.of(5, 9).select(torch.arange(8, -1, -1))
    assert torch.equal(draw(model, sampler, ENDS, backwards, (1, 8, 8)), everything.flip(0))


def test_number_of_steps_adapts_to_each_sample() -> None:
    counts = []
    for x in (0.002, 1.0):
        model = Counting()
        before_reconstruction(model, AdaptiveODE(1e-5, 1e-5), tensor([[x]]), ENDS, Rng.of(0, 1))
        counts.append(model.samples)
    together = Counting()
    before_reconstruction(together, AdaptiveODE(1e-5, 1e-5), tensor([[0.002], [1.0]]), ENDS, Rng.of(0, 2))
    assert counts[0] != counts[1]
    assert together.samples == sum(counts), "no sample is evaluated on behalf of another"
    assert together.calls == max(counts)


def test_result_does_not_depend_on_the_grid_beyond_the_tolerance(exact) -> None:
    """Ends of intervals are hit exactly, and the step found in one is where the next begins."""
    times = LogSNR()(SDE, 6)
    states = list(simulate(MixtureMean(), AdaptiveODE(1e-5, 1e-5), X, times, Rng.of(0, 7)))
    assert [float(state.t) for state in states[:-1]] == [float(t) for t in times[1:]]
    assert float((states[-2].x - exact).abs().max()) < 2e-4
    (steps,) = states[-2].memory
    assert steps.shape == (7,)
    assert (steps > 0).all()


PROCESSES = {
    "ve": LinearProcess(LogLinear(), VarianceExploding()),
    "straight": LinearProcess(Straight(), StraightScaling()),
    "cosine": LinearProcess(Cosine()),
}


@pytest.mark.parametrize("sampler", [AdaptiveODE(1e-6, 1e-6), DPMAdaptive(3, 1e-5, 1e-5)], ids=repr)
@pytest.mark.parametrize("kind", PROCESSES)
def test_flow_of_normal_data_matches_the_closed_form_on_every_process(kind: str, sampler) -> None:
    """x -> alpha_s m + (S_s/S_t)^(1/2) (x - alpha_t m), from pure noise too."""
    process = PROCESSES[kind]
    t, s = tensor(1.0), tensor(process.schedule.start or 1e-3)
    (a0, s0), (a1, s1) = process.coefficients(t), process.coefficients(s)
    x = s0 * X
    exact = a1 * 0.4 + ((a1**2 * 0.05 + s1**2) / (a0**2 * 0.05 + s0**2)).sqrt() * (x - a0 * 0.4)
    end = sampler.step(IsotropicData(0.4, 0.05, process), State(x, t), s, Rng.of(0, 7)).x
    torch.testing.assert_close(end, exact, rtol=0, atol=1e-4)


def test_model_output_that_is_not_finite_is_an_error() -> None:
    class Broken:
        process = SDE

        def __call__(self, xt, t):
            return LocationScale(torch.full_like(xt, torch.nan), torch.zeros(()))

    rng = Rng.of(0, 2)
    with pytest.raises(NumericalError, match="no step keeps the tolerance"):
        draw(Broken(), AdaptiveODE(), ENDS, rng, (3,))
    assert start(Broken(), rng, (3,)).shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdaptiveODE(rtol=0.0), "rtol must lie in .*got 0.0"),
        (lambda: AdaptiveODE(atol=2.0), "atol must lie in .*got 2.0"),
        (lambda: DPMAdaptive(order=1), "order must be 2 or 3, got 1"),
        (lambda: DPMAdaptive(rtol=-1.0), "rtol must lie in .*got -1.0"),
    ],
)
def test_invalid_settings_are_errors(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
