"""The density of the probability flow: against closed forms on every process, and its parts one by one."""

import pytest
import torch
from torch import Tensor
from truth.models import COV, MEAN, gaussian_data, mixture_data, net_denoiser, tensor
from truth.statistics import assert_mean

from diffprob.base.distributions import Dirac, Gaussian, LocationScale, Mixture
from diffprob.base.errors import NumericalError
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.conform.sampler import Counting
from diffprob.denoise.ideal import TwoPoint
from diffprob.likelihood.flow import Exact, Hutchinson, flow_log_prob
from diffprob.process.linear import (
    LinearProcess,
    StraightScaling,
    SubVariancePreserving,
    VarianceExploding,
)
from diffprob.process.schedule import VPSDE, Cosine, LinearBetas, LogLinear, Straight, SubVP
from diffprob.sampling.adaptive import AdaptiveODE
from diffprob.sampling.simulate import State

PROCESSES = {
    "linear": LinearProcess(),
    "cosine": LinearProcess(Cosine()),
    "vp-sde": LinearProcess(VPSDE()),
    "ve": LinearProcess(LogLinear(), VarianceExploding()),
    "sub-vp": LinearProcess(SubVP(), SubVariancePreserving()),
    "straight": LinearProcess(Straight(), StraightScaling()),
}
over_processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
B = 4


def ends(process: LinearProcess) -> tuple[Tensor, Tensor]:
    """The last noisy time, and 1."""
    return tensor(process.schedule.start), tensor(1.0)


def normal_marginal(process: LinearProcess, t: Tensor, n: int = B) -> Gaussian:
    """q(x_t) of `gaussian_data`."""
    return Gaussian((process.alpha(t) * MEAN).expand(n, 3), gaussian_data(process).marginal_cov(t))


def root(matrix: Tensor, power: float = 0.5) -> Tensor:
    """A power of a symmetric matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values**power) @ vectors.T


@over_processes
def test_flow_density_is_exact_on_normal_data(process: LinearProcess) -> None:
    """The parts, too: x_1 = alpha_1 m + (S_1/S_0)^(1/2) (x - alpha_0 m), and the volume grows by det(S_1/S_0)^(1/2)."""
    model, (t0, one), rng = gaussian_data(process), ends(process), Rng.of(0, B)
    data, prior = normal_marginal(process, t0), normal_marginal(process, one)
    x = data.sample(rng)
    flow = flow_log_prob(model, x, rng, Exact(), 1e-8, 1e-8, prior)
    stretch = root(prior.cov[0]) @ root(data.cov[0], -0.5)
    latent = prior.mean + (x - data.mean) @ stretch.T
    scale = float(prior.cov.diagonal(dim1=1, dim2=2).max()) ** 0.5
    torch.testing.assert_close(flow.log_prob, model.log_prob(x, t0), rtol=0, atol=1e-6)
    torch.testing.assert_close(flow.latent, latent, rtol=0, atol=1e-6 * scale)
    torch.testing.assert_close(flow.prior, prior.log_prob(latent), rtol=0, atol=1e-6)
    torch.testing.assert_close(flow.divergence, torch.logdet(stretch).expand(B), rtol=0, atol=1e-6)
    usual = flow_log_prob(model, x, rng, Exact(), 1e-2, 1e-2)
    torch.testing.assert_close(usual.prior, process.prior(usual.latent).log_prob(usual.latent), rtol=1e-14, atol=0)
    assert torch.equal(usual.log_prob, usual.prior + usual.divergence)


def test_standard_normal_prior_is_accurate_for_the_cosine_schedule() -> None:
    """The cosine table ends at alpha = 5e-5: N(0, I) is good to 1e-3 nats."""
    model, (t0, _), rng = gaussian_data(PROCESSES["cosine"]), ends(PROCESSES["cosine"]), Rng.of(1, B)
    x = normal_marginal(model.process, t0).sample(rng)
    flow = flow_log_prob(model, x, rng, Exact())
    torch.testing.assert_close(flow.log_prob, model.log_prob(x, t0), rtol=0, atol=1e-3)


def test_flow_density_matches_an_exact_mixture() -> None:
    process = PROCESSES["ve"]
    model, (t0, one) = mixture_data(process), ends(process)
    x = tensor([[-0.8, 0.3], [0.1, 0.1], [0.75, 0.6], [0.0, -1.1], [-2.0, 1.0]])
    parts = tuple(
        Gaussian((process.alpha(one) * part.mean).expand(len(x), 2), part.marginal_cov(one))
        for part in model.components
    )
    prior = Mixture(model.weights.log().expand(len(x), 3), parts)
    flow = flow_log_prob(model, x, Rng.of(0, len(x)), Exact(), 1e-7, 1e-7, prior)
    torch.testing.assert_close(flow.log_prob, model.log_prob(x, t0), rtol=0, atol=2e-6)
    assert len(flow.evaluations.unique()) > 1, "samples share steps"


def test_one_rademacher_probe_is_exact_for_a_diagonal_jacobian() -> None:
    """Independent coordinates: one Rademacher probe gives the trace itself, on events of any shape, in float32 too."""
    model = TwoPoint(LinearProcess(LogLinear(0.3, 500.0), VarianceExploding()))
    rng = Rng.of(0, 5)
    x = 1.3 * rng.fold("x").normal((1, 2, 3), torch.float64)
    exact = model.log_prob(x, tensor(0.0))
    torch.testing.assert_close(flow_log_prob(model, x, rng).log_prob, exact, rtol=0, atol=2e-3)
    single = flow_log_prob(model, x.float(), rng, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(single.log_prob, exact, rtol=0, atol=4e-4)
    assert single.latent.dtype == torch.float32
    assert single.log_prob.dtype == torch.float64
    assert single.latent.shape == x.shape


class Wrong:
    """A denoiser that belongs to no data: any smooth field has a flow, and its density must integrate to one."""

    def __init__(self, process: LinearProcess) -> None:
        self.process = process

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
        alpha, sigma = (per_sample(c, xt) for c in self.process.coefficients(t))
        size = (alpha**2 + sigma**2).sqrt()
        mean = alpha * xt / size**2 + (sigma / size) ** 2 * torch.tanh(2 * xt / size + 0.3)
        return LocationScale(mean, torch.zeros((), dtype=xt.dtype))


@over_processes
def test_flow_density_of_any_field_integrates_to_one(process: LinearProcess) -> None:
    x = torch.linspace(-6, 6, 241, dtype=torch.float64)[:, None]
    density = flow_log_prob(Wrong(process), x, Rng.of(0, len(x)), Exact(), 1e-5, 1e-5).log_prob.exp()
    assert float(density.max()) > 0.2
    assert float(torch.trapezoid(density, x[:, 0])) == pytest.approx(1, abs=5e-4)


@pytest.mark.parametrize("kind", ["vp-sde", "straight"])
def test_flow_latent_recovers_the_noise_of_the_sampler(kind: str) -> None:
    """Down by the sampler, up by the likelihood."""
    process = PROCESSES[kind]
    model, (t0, one), rng = mixture_data(process), ends(process), Rng.of(3, B)
    z = process.prior(torch.empty(B, 2, dtype=torch.float64)).sample(rng)
    x = AdaptiveODE(1e-4, 1e-4).step(model, State(z, one), t0, rng).x
    torch.testing.assert_close(flow_log_prob(model, x, rng, rtol=1e-5, atol=1e-5).latent, z, rtol=0, atol=5e-3)


def volume(process: LinearProcess) -> Tensor:
    """B, the integral of the flow's Jacobian A(t) on `gaussian_data`: all A(t) commute, so it is log(S_1/S_0)/2."""
    t0, one = ends(process)
    values, vectors = torch.linalg.eigh(COV)
    a0, s0, a1, s1 = (*process.coefficients(t0), *process.coefficients(one))
    return (vectors * ((a1**2 * values + s1**2) / (a0**2 * values + s0**2)).log() / 2) @ vectors.T


@pytest.mark.parametrize("law", ["rademacher", "gaussian"])
@pytest.mark.parametrize("probes", [1, 3])
def test_probes_stay_fixed_during_a_solve(law: str, probes: int) -> None:
    """Then a linear field gives v^T B v, which has a known mean and variance; VE has a determinant of its own."""
    process, rng = PROCESSES["ve"], Rng.of(5, 3000)
    chosen = Hutchinson(probes, law)
    v = chosen.directions(rng, MEAN.expand(3000, 3))
    streams = rng.select(slice(0, 5))
    flow = flow_log_prob(gaussian_data(process), MEAN.expand(5, 3), streams, chosen, 1e-7, 1e-7)
    # d log(size) is no part of what is estimated; B has it as log(size) I.
    sizes = [(c[0] ** 2 + c[1] ** 2).sqrt() for c in map(process.coefficients, ends(process))]
    size = (sizes[1] / sizes[0]).log()
    b = volume(process) - size * torch.eye(3)
    grown = torch.einsum("kbi,ij,kbj->b", v, b, v)
    torch.testing.assert_close(flow.divergence, grown[:5] + 3 * size, rtol=0, atol=1e-5)
    off = b - torch.diag(b.diagonal())
    assert_mean(grown, torch.trace(b))
    assert_mean((grown - torch.trace(b)) ** 2, 2 * (b if law == "gaussian" else off).square().sum() / probes)


def test_only_estimated_divergence_depends_on_the_random_stream() -> None:
    model, x = gaussian_data(), MEAN.expand(2, 3)
    a, b = (flow_log_prob(model, x, Rng.of(seed, 2), Exact(), 1e-2, 1e-2) for seed in (0, 9))
    assert torch.equal(a.log_prob, b.log_prob)
    c, d = (flow_log_prob(model, x, Rng.of(0, 2).at(step), Hutchinson(), 1e-2, 1e-2) for step in (0, 1))
    assert not torch.equal(c.log_prob, d.log_prob), "repetitions must have probes of their own"


@pytest.mark.parametrize("divergence", [Exact(), Hutchinson(2), Hutchinson(1, "gaussian")], ids=repr)
@pytest.mark.parametrize("kind", ["exact", "network"])
def test_sample_has_the_same_bits_in_any_batch(kind: str, divergence) -> None:
    """With an exact model whose arithmetic is elementwise, and with a network in chunks."""
    process = LinearProcess(LogLinear(0.5, 20.0), VarianceExploding())
    model = TwoPoint(process) if kind == "exact" else net_denoiser(process, chunk=4)
    rng = Rng.of(5, 7)
    x = rng.fold("x").normal((1, 1, 3), torch.float64)

    def parts(index: Tensor) -> list[Tensor]:
        flow = flow_log_prob(model, x[index], rng.select(index), divergence, 1e-2, 1e-2)
        return [flow.log_prob, flow.prior, flow.divergence, flow.latent, flow.evaluations]

    everything = parts(torch.arange(7))
    for index in (torch.tensor([0]), torch.tensor([6, 1, 4, 5, 0])):
        for alone, together in zip(parts(index), everything, strict=True):
            assert torch.equal(alone, together[index])


def test_every_sample_has_its_own_number_of_evaluations() -> None:
    model = Counting()
    mean = model.__call__

    class Smooth:
        """`Counting` with a gradient: its truth is a numpy function."""

        process = model.process

        def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
            value = mean(xt.detach(), t).mean
            return LocationScale(value + 0 * xt, torch.zeros((), dtype=xt.dtype))

    flow = flow_log_prob(Smooth(), tensor([[0.002], [1.0], [3.0]]), Rng.of(0, 3), rtol=1e-4, atol=1e-4)
    assert int(flow.evaluations.sum()) == model.samples
    assert int(flow.evaluations.max()) == model.calls
    assert len(flow.evaluations.unique()) > 1


def test_model_without_a_gradient_is_an_error() -> None:
    class Constant:
        process = LinearProcess()

        def __call__(self, xt: Tensor, t: Tensor) -> Dirac:
            return Dirac(torch.zeros_like(xt))

    with pytest.raises(ValueError, match="no gradient"):
        flow_log_prob(Constant(), torch.zeros(2, 3), Rng.of(0, 2))


def test_model_output_that_is_not_finite_is_an_error() -> None:
    class Broken:
        process = LinearProcess()

        def __call__(self, xt: Tensor, t: Tensor) -> Dirac:
            return Dirac(xt * torch.nan)

    with pytest.raises(NumericalError, match=r"no step keeps the tolerance at lambda = 4\.6"):
        flow_log_prob(Broken(), torch.zeros(2, 3), Rng.of(0, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hutchinson(0), "probes must be at least 1, got 0"),
        (lambda: Hutchinson(law="cauchy"), "law must be .*got 'cauchy'"),
        (lambda: flow_log_prob(gaussian_data(), MEAN.expand(2, 3), Rng.of(0, 3)), "3 random streams for a batch of 2"),
        (lambda: flow_log_prob(gaussian_data(), MEAN.expand(2, 3), Rng.of(0, 2), rtol=0.0), "rtol must .*got 0.0"),
    ],
)
def test_invalid_settings_are_errors(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_repr_shows_the_settings() -> None:
    assert [repr(Exact()), repr(Hutchinson())] == ["Exact()", "Hutchinson(probes=1, law='rademacher')"]
    assert LinearBetas().start == 1 / 1000, "t0 of the tables"
