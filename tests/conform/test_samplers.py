"""Every sampler of the table by the checks of `diffprob.conform.sampler`: declared order, moments, purity, resuming."""

import pytest
import torch
from conform.components import PROCESSES, SAMPLERS, name
from torch import Tensor
from truth.models import exact_models, tensor

from diffprob.conform import sampler as checks
from diffprob.conform.expectations import check_frozen
from diffprob.conform.sampler import MIXTURE, SDE, has_fixed_steps, is_deterministic
from diffprob.process.grids import LogSNR

over_samplers = pytest.mark.parametrize("sampler", SAMPLERS, ids=name)
over_solvers = pytest.mark.parametrize("sampler", [s for s in SAMPLERS if has_fixed_steps(s)], ids=name)


@over_samplers
def test_is_a_frozen_dataclass(sampler) -> None:
    check_frozen(sampler)


@over_samplers
def test_step_is_pure_and_moves_the_clock(sampler) -> None:
    checks.purity(sampler)


@over_samplers
def test_upward_step_or_wrong_number_of_streams_is_an_error(sampler) -> None:
    checks.descent(sampler)


@over_samplers
def test_only_stochastic_samplers_use_noise(sampler) -> None:
    checks.noise(sampler)


@over_samplers
def test_sample_does_not_depend_on_its_batch(sampler) -> None:
    checks.companions(sampler)


@over_samplers
def test_pause_and_resume_change_nothing(sampler) -> None:
    checks.resuming(sampler)


@over_samplers
@pytest.mark.parametrize("kind", exact_models())
def test_works_with_every_kind_of_posterior(sampler, kind: str) -> None:
    checks.posteriors(sampler, [kind])


@over_samplers
@pytest.mark.parametrize("process", PROCESSES, ids=name)
def test_works_on_every_process(sampler, process) -> None:
    checks.processes(sampler, [process])


@over_samplers
@pytest.mark.parametrize("evaluations", [1, 2, 7, 12])
def test_declared_evaluations_match_the_count(sampler, evaluations: int) -> None:
    checks.evaluations(sampler, [evaluations])


@over_solvers
def test_declared_order_on_gaussian_data(sampler) -> None:
    checks.order_on_gaussian_data(sampler)


@over_solvers
def test_declared_order_on_a_mixture(sampler) -> None:
    checks.order_on_a_mixture(sampler)


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if not is_deterministic(s)], ids=name)
def test_stochastic_samplers_have_the_moments_of_the_data(sampler) -> None:
    checks.moments(sampler)


def test_reference_flow_maps_quantiles_of_the_mixture() -> None:
    """The oracle itself: its flow maps quantiles of the noisy law to quantiles of the data's."""
    times = LogSNR()(SDE, 2)
    ends = [tuple(float(c) for c in SDE.coefficients(t)) for t in times]
    normal = torch.distributions.Normal(tensor(0.0), tensor(1.0))

    def cdf(x: Tensor, alpha: float, sigma: float) -> Tensor:
        z = (x - alpha * torch.from_numpy(MIXTURE.means)) / torch.from_numpy(
            alpha**2 * MIXTURE.variances + sigma**2
        ).sqrt()
        return (torch.from_numpy(MIXTURE.weights) * normal.cdf(z)).sum(0)

    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    mapped = torch.from_numpy(MIXTURE.flow(x.numpy(), *ends))
    torch.testing.assert_close(cdf(mapped, *ends[1]), cdf(x, *ends[0]), rtol=0, atol=1e-9)
