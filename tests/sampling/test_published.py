"""Multistep solvers against an independent implementation at the same times, ends included: the order near both ends
of a chain."""

import pytest
import torch
from conform.components import name
from truth.models import IsotropicData
from truth.order import assert_order

from diffprob.base.rng import Rng
from diffprob.conform.sampler import MIXTURE, SDE, MixtureMean, before_reconstruction
from diffprob.process.grids import LogSNR, Uniform
from diffprob.process.linear import LinearProcess, StraightScaling
from diffprob.process.schedule import Cosine, LinearBetas, Straight
from diffprob.sampling.exponential import DPMpp, DPMppSDE, UniPC
from diffprob.sampling.simulate import simulate

THEIRS = {"linear": LinearProcess(LinearBetas()), "squaredcos_cap_v2": LinearProcess(Cosine())}
SOLVERS = {
    UniPC(3): ("UniPCMultistepScheduler", {"solver_order": 3}),
    UniPC(2): ("UniPCMultistepScheduler", {}),
    DPMpp(3): ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    DPMpp(2): ("DPMSolverMultistepScheduler", {}),
}


@pytest.mark.parametrize("betas", THEIRS)
@pytest.mark.parametrize("solver", SOLVERS, ids=name)
def test_solvers_match_diffusers(solver, betas: str) -> None:
    """Few steps and many; their last sigma is 0, where a step of first order is the reconstruction."""
    diffusers, process = pytest.importorskip("diffusers"), THEIRS[betas]
    model, x = IsotropicData(0.4, 0.01, process), Rng.of(0, 8).normal((2,), torch.float64)
    kind, settings = SOLVERS[solver]
    for n in (8, 10, 20, 50):
        times = Uniform()(process, n)
        *_, last = simulate(model, solver, x, times, Rng.of(0, 8))
        scheduler = getattr(diffusers, kind)(beta_schedule=betas, prediction_type="sample", **settings)
        scheduler.set_timesteps(n)
        scheduler.timesteps = (times * 1000).round().long() - 1
        scheduler.sigmas = torch.cat([torch.exp(-process.logsnr(times) / 2), times.new_zeros(1)])
        scheduler.set_begin_index(0)
        theirs = x
        for t, label in zip(times, scheduler.timesteps, strict=True):
            theirs = scheduler.step(model(theirs, t).mean, label, theirs).prev_sample
        # DPMSolverMultistepScheduler rounds its states to float32, which long steps magnify.
        torch.testing.assert_close(last.x, theirs, rtol=0, atol=1e-10 if isinstance(solver, UniPC) else 1e-4)


@pytest.mark.parametrize("solver", [*SOLVERS, UniPC(3, "bh1"), UniPC(1), DPMpp(1), DPMppSDE()], ids=name)
def test_multistep_solvers_start_from_infinite_log_snr(solver) -> None:
    """alpha = 0 at t = 1, where the log-SNR is infinite: any number of times, and the flow x -> m + v^(1/2) x."""
    process = LinearProcess(Straight(), StraightScaling())
    model, x = IsotropicData(0.4, 0.09, process), torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]

    def end(n: int):
        *_, last = simulate(model, solver, x, Uniform()(process, n), Rng.of(0, 5))
        return last.x

    assert all(bool(torch.isfinite(end(n)).all()) for n in range(1, 13))
    if solver.order is not None:
        near, far = (float((end(n) - (0.4 + 0.3 * x)).abs().max()) for n in (128, 16))
        assert near < min(0.02, far / 4)


def test_lower_order_last_step_keeps_the_order() -> None:
    """UniPC(3) on a mixture: a step of order 2 errs by h^3 once. Between 160 and 320 steps its error changes sign."""
    x, steps = torch.linspace(-1.7, 1.6, 7, dtype=torch.float64)[:, None], (320, 640)
    ends = [tuple(float(c) for c in SDE.coefficients(t)) for t in LogSNR()(SDE, 2)]
    exact = torch.from_numpy(MIXTURE.flow(x[:, 0].numpy(), *ends))[:, None]
    chains = [LogSNR()(SDE, n + 1) for n in steps]
    result = [before_reconstruction(MixtureMean(), UniPC(3), x, times, Rng.of(0, 7)).x for times in chains]
    assert_order(UniPC(3).order, steps, [float((end - exact).abs().max()) for end in result])
