"""The bound against entropies that are known: averages over normal data are exact by sigma points, not by sampling."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from truth.models import COV, MEAN, IsotropicData, gaussian_data, tensor
from truth.statistics import assert_mean

from diffprob.base.distributions import LocationScale
from diffprob.base.errors import NoClosedForm
from diffprob.base.rng import Rng
from diffprob.data.sources import Digits
from diffprob.denoise.denoiser import Evaluation, NetDenoiser
from diffprob.denoise.ideal import GaussianData, TwoPoint
from diffprob.denoise.learned import LearnedDiagonal, LearnedRange
from diffprob.denoise.variance import UnitData, Zero
from diffprob.likelihood.bound import (
    Bound,
    Decoder,
    bound_terms,
    continuous_bound,
    continuous_terms,
    step_nats,
    variational_bound,
)
from diffprob.net.unet import UNetSpec
from diffprob.process.grids import LogSNR, Native, Trailing, Uniform
from diffprob.process.linear import (
    LinearProcess,
    StraightScaling,
    SubVariancePreserving,
    VarianceExploding,
)
from diffprob.process.schedule import VPSDE, Cosine, LogLinear, Straight, SubVP
from diffprob.runs.folder import Run

CONTINUOUS = Decoder(levels=None)
PROCESSES = [
    LinearProcess(),
    LinearProcess(Cosine()),
    LinearProcess(VPSDE()),
    LinearProcess(SubVP(), SubVariancePreserving()),
    LinearProcess(LogLinear(), VarianceExploding()),
]


@dataclass
class Fixed:
    """Random numbers that the test chose: the same normals (B, d) and uniforms (B,) for every stream and step."""

    normals: Tensor
    uniforms: Tensor | None = None

    def __len__(self) -> int:
        return len(self.normals)

    def fold(self, name: str) -> "Fixed":
        return self

    def at(self, step: int) -> "Fixed":
        return self

    def select(self, index: Tensor) -> "Fixed":
        return Fixed(self.normals[index], None if self.uniforms is None else self.uniforms[index])

    @property
    def seeds(self) -> Tensor:
        return torch.zeros(len(self.normals), dtype=torch.int64)

    def normal(self, shape, dtype=torch.float64) -> Tensor:
        return self.normals.reshape(len(self), *shape).to(dtype)

    def uniform(self, shape=(), dtype=torch.float64) -> Tensor:
        assert self.uniforms is not None
        return self.uniforms


def sigma_points(mean: Tensor, cov: Tensor) -> tuple[Tensor, Fixed]:
    """Points (4d, d) of the data and their noise: averages of quadratic functions over them are exact."""
    d = len(mean)
    z = math.sqrt(2 * d) * torch.cat([torch.eye(2 * d), -torch.eye(2 * d)]).double()
    return mean + z[:, :d] @ torch.linalg.cholesky(cov).T, Fixed(z[:, d:])


def entropy(cov: Tensor) -> float:
    return float(0.5 * torch.logdet(2 * math.pi * math.e * cov))


def prior_gap(process: LinearProcess, mean: Tensor, cov: Tensor) -> float:
    """KL(q(x_1) || p(x_1)), by torch's own normal distributions."""
    alpha, sigma = process.coefficients(1.0)
    eye = torch.eye(len(mean), dtype=torch.float64)
    q = torch.distributions.MultivariateNormal(alpha * mean, alpha**2 * cov + sigma**2 * eye)
    p = torch.distributions.MultivariateNormal(0 * mean, sigma**2 * eye)
    return float(torch.distributions.kl_divergence(q, p))


@dataclass
class Isotropic:
    """The best mean of normal data with one variance for all elements, as published."""

    exact: GaussianData
    rule: str

    @property
    def process(self) -> LinearProcess:
        return self.exact.process

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
        posterior = self.exact(xt, t)
        alpha, sigma = self.process.coefficients(t)
        own = torch.diagonal(posterior.cov, dim1=-2, dim2=-1).mean(-1, keepdim=True)
        std = {"analytic": own.sqrt(), "beta": own * 0 + sigma / (alpha**2 + sigma**2).sqrt(), "btil": own * 0}
        return LocationScale(posterior.mean, std[self.rule])


def average(bound: Bound) -> float:
    return float(bound.total.mean())


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p.schedule).__name__)
@pytest.mark.parametrize(
    "grid", [(Uniform(), 1), (Uniform(), 2), (Trailing(), 7), (LogSNR(), 30), (Uniform(), 200)], ids=str
)
def test_bound_of_the_exact_posterior_is_the_entropy(process: LinearProcess, grid) -> None:
    rule, n = grid
    times, model = rule(process, n), gaussian_data(process)
    x0, rng = sigma_points(MEAN, COV)
    bound = variational_bound(model, x0, times, rng, CONTINUOUS)
    exact = entropy(COV) + prior_gap(process, MEAN, COV)
    assert abs(average(bound) - exact) < 1e-11 * max(1, abs(exact), float(bound.prior.mean()))


def test_bound_of_one_thousand_steps_is_the_entropy() -> None:
    x0, rng = sigma_points(MEAN, COV)
    process = LinearProcess()
    bound = variational_bound(gaussian_data(), x0, Native()(process, 1000), rng, CONTINUOUS)
    assert abs(average(bound) - entropy(COV) - prior_gap(process, MEAN, COV)) < 1e-11
    # The rate of everything but the reconstruction is the information in x_1, I = 1/2 log det(I + SNR C).
    snr = process.logsnr(0.001).exp()
    information = float(0.5 * torch.logdet(torch.eye(3) + snr * COV))
    rate = float((bound.prior + bound.steps).mean())
    assert abs(rate - information - prior_gap(process, MEAN, COV)) < 1e-11


# Nats above the entropy with C of eigenvalues .9, .1, .002 on the linear schedule, to the digits computed for the
# published variances beforehand.
GAPS = [
    (50, "analytic", 0.540, 5e-4),
    (50, "beta", 0.836, 5e-4),
    (50, "btil", 63.5, 5e-2),
    (1000, "analytic", 0.0309, 5e-5),
    (1000, "beta", 0.0546, 5e-5),
    (1000, "btil", 1.207, 5e-4),
]


@pytest.mark.parametrize(("n", "rule", "gap", "half"), GAPS)
def test_gaps_of_fixed_variances_match_published(n: int, rule: str, gap: float, half: float) -> None:
    process = LinearProcess()
    x0, rng = sigma_points(MEAN, COV)
    # Beta-tilde has no spread at the last time: the decoder then has the noise of that time.
    decoder = Decoder(None, float(process.sigma(0.001)) if rule == "btil" else None)
    bound = variational_bound(Isotropic(gaussian_data(), rule), x0, Uniform()(process, n), rng, decoder)
    assert average(bound) - entropy(COV) == pytest.approx(gap, abs=half)


def test_isotropic_data_lie_on_shannons_rate_distortion_curve() -> None:
    """R = d/2 log(c/D) for N(0, c I), at every time of a chain with the exact posterior."""
    process, c, d = LinearProcess(Cosine()), 0.4, 3
    x0, rng = sigma_points(torch.zeros(d).double(), c * torch.eye(d).double())
    times = Uniform()(process, 25)
    model = IsotropicData(0.0, c, process)
    rate = float(0.5 * d * torch.log1p(process.logsnr(1.0).exp() * c))
    for term in bound_terms(model, x0, times, rng, CONTINUOUS):
        distortion = float(term.error.mean()) / d
        assert rate == pytest.approx(0.5 * d * math.log(c / distortion), abs=1e-10)
        rate += float(term.nats.mean())


# (times, nats) for one coordinate of two points from x_1000 down to x_100, computed by quadrature beforehand.
TWO_POINTS = [(2, 1.1366), (5, 1.1253), (20, 0.8530), (100, 0.7178), (900, 0.6918)]
INFORMATION = 0.688647  # between x_0 and x_100


def expected_rate(n: int) -> float:
    """Average rate of two-point data down to t = 0.1 with the best isotropic variance, by quadrature over the noise."""
    process, exact = LinearProcess(), TwoPoint()
    indices = torch.linspace(1000, 100, n).round().double()
    z = torch.linspace(-9, 9, 601, dtype=torch.float64)[:, None]
    weight = torch.exp(-0.5 * z[:, 0] ** 2)
    weight = weight / weight.sum()
    total = 0.0
    for t, s in zip(indices[:-1] / 1000, indices[1:] / 1000, strict=True):
        alpha, sigma = process.coefficients(t)
        x0 = torch.ones_like(z)
        xt = alpha * x0 + sigma * z
        posterior = exact(xt, t)
        spread = (weight[:, None] * posterior.variance).sum().sqrt()
        nats = step_nats(process, LocationScale(posterior.mean, spread), x0, xt, s, t)
        total += float((weight * nats).sum())
    return total


def test_rate_of_two_points_decreases_to_the_information() -> None:
    rates = [expected_rate(n) for n, _ in TWO_POINTS]
    for value, (_, known) in zip(rates, TWO_POINTS, strict=True):
        assert value == pytest.approx(known, abs=6e-5)
    assert all(a > b > INFORMATION for a, b in pairwise(rates))


def test_random_terms_are_unbiased() -> None:
    process = LinearProcess()
    times, model = Uniform()(process, 40), gaussian_data(process)
    x0 = MEAN.expand(4000, 3).clone()
    whole = variational_bound(model, x0[:200], times, Rng.of(9000, 200), CONTINUOUS)
    estimate = variational_bound(model, x0, times, Rng.of(0, 4000), CONTINUOUS, terms=5)
    difference = estimate.steps.mean() - whole.steps.mean()
    error = (estimate.steps.var() / 4000 + whole.steps.var() / 200).sqrt()
    assert abs(float(difference / error)) < 4
    weights = [term.weight for term in bound_terms(model, x0[:8], times, Rng.of(0, 8), CONTINUOUS, terms=5)]
    assert all(w.tolist() == [size] * 8 for w, size in zip(weights, [7, 8, 8, 8, 8], strict=False))
    assert torch.equal(
        variational_bound(model, x0[:3], times, Rng.of(0, 3), CONTINUOUS, terms=39).steps,
        variational_bound(model, x0[:3], times, Rng.of(0, 3), CONTINUOUS).steps,
    )


@pytest.mark.parametrize("process", PROCESSES[1:], ids=lambda p: type(p.schedule).__name__)
def test_continuous_bound_integrand_is_exact_and_midpoint_rule_has_order_two(process: LinearProcess) -> None:
    """At the middle of every part the integrand is exact; the midpoint rule has the order 2."""
    model = IsotropicData(0.2, 0.3, process)
    x0, rng = sigma_points(tensor([0.2, 0.2]), 0.3 * torch.eye(2).double())
    rng.uniforms = torch.full((len(x0),), 0.5, dtype=torch.float64)

    parts = list(continuous_terms(model, x0, rng, 400, CONTINUOUS))[:-1]
    inner = [term for term in parts if float(term.t[0]) > 0.05]
    total = sum(float((term.weight * term.nats).mean()) for term in inner)
    # int mmse d(SNR)/2 = d/2 log(1 + c SNR): the information of every part, exactly.
    ends = (float(inner[-1].t[0] - inner[-1].weight / 2), 1.0)
    low, high = (float(torch.log1p(0.3 * process.logsnr(t).exp())) for t in ends)
    assert total == pytest.approx(low - high, rel=1e-3)


def test_continuous_bound_is_the_entropy_on_the_exact_model() -> None:
    """On the exact model: the entropy and the KL of the prior, and what the decoder's own spread costs nothing."""
    process = LinearProcess(VPSDE())
    model = IsotropicData(0.0, 0.3, process)
    x0 = math.sqrt(0.3) * Rng.of(5, 4000).fold("data").normal((2,), torch.float64)
    bound = continuous_bound(model, x0, Rng.of(0, 4000), 20, CONTINUOUS).total
    exact = entropy(0.3 * torch.eye(2).double()) + prior_gap(
        process, torch.zeros(2).double(), 0.3 * torch.eye(2).double()
    )
    assert_mean(bound, exact)


class UniformLaw:
    """Uniform on [-3^(1/2), 3^(1/2)]: mean 0, variance 1."""

    stable, symmetric = False, True

    def log_density(self, z: Tensor) -> Tensor:
        return torch.where(z.abs() <= math.sqrt(3), -math.log(2 * math.sqrt(3)), -math.inf)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        below, above = (((z / math.sqrt(3) + 1) / 2).clamp(0, 1) for z in (lower, upper))
        return (above - below).log()

    def sample(self, rng, shape, dtype) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_uniform_model_costs_the_logarithm_of_the_levels(levels: int) -> None:
    """From pure noise, where nothing is known (alpha = 0), straight to the levels."""
    process = LinearProcess(Straight(), StraightScaling())

    class Uniformly:
        def __init__(self) -> None:
            self.process = process

        def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
            std = (1 + 1 / (levels - 1)) / math.sqrt(3)
            return LocationScale(torch.zeros_like(xt), torch.full_like(xt, std), UniformLaw())

    x0 = 2 * torch.arange(levels, dtype=torch.float64)[:, None] / (levels - 1) - 1
    bound = variational_bound(Uniformly(), x0, tensor([1.0]), Rng.of(0, levels), Decoder(levels))
    assert torch.allclose(bound.total / math.log(2), tensor([math.log2(levels)] * levels), rtol=0, atol=1e-12)


@dataclass
class Spread:
    """A denoiser with the mean of normal data and a given choice of variance."""

    rule: object
    extra: float = 0.0
    process: LinearProcess = LinearProcess()

    def __call__(self, xt: Tensor, t: Tensor):
        mean = IsotropicData(0.0, 0.5, self.process)(xt, t).mean
        return self.rule.posterior(self.process, t, mean, torch.full_like(mean, self.extra))


def beta(i: int) -> float:
    return 1e-4 + (i - 1) / 999 * (0.02 - 1e-4)


# Standard deviations of the decoder: btil_2^(1/2) for both fixed variances (improved-diffusion: "for a better decoder
# likelihood"), and what a network with learned variances says.
ABAR_1, ABAR_2 = 1 - beta(1), (1 - beta(1)) * (1 - beta(2))
BTIL_2 = beta(2) * (1 - ABAR_1) / (1 - ABAR_2)
DECODERS = [
    (Zero(), 0.0, BTIL_2),
    (UnitData(), 0.0, BTIL_2),
    (LearnedDiagonal(), math.log(3e-4), 3e-4),
    (LearnedRange(), -1.0, BTIL_2),
    (LearnedRange(), 1.0, beta(1)),
    (LearnedRange(), 0.0, math.sqrt(BTIL_2 * beta(1))),
]


@pytest.mark.parametrize(("rule", "extra", "variance"), DECODERS, ids=str)
def test_decoder_standard_deviation_by_rule(rule, extra: float, variance: float) -> None:
    model = Spread(rule, extra)
    t, before = tensor(0.001), tensor(0.002)
    xt = tensor([[0.3, -0.2]])
    law = Decoder(None).law(model.process, model(xt, t), t, before)
    assert isinstance(law, LocationScale)
    assert torch.allclose(law.variance, tensor(variance), rtol=1e-12, atol=0)
    assert torch.allclose(law.mean, model(xt, t).mean)
    if isinstance(rule, Zero | UnitData):
        alone = Decoder(None).law(model.process, model(xt, t), t, None)
        assert torch.allclose(alone.variance, tensor(beta(1) / (1 - beta(1))), rtol=1e-12, atol=0)


def test_decoder_bits_of_uniform_pixels_match_ddpm() -> None:
    """Bits/dim of a flat prior over 256 levels seen through the noise of x_1: 2.504 for btil_2, 2.393 for beta_1."""
    process = LinearProcess()
    k = torch.arange(20, 236, dtype=torch.float64).repeat_interleave(400)[:, None]
    x0 = 2 * k / 255 - 1
    alpha, sigma = process.coefficients(0.001)
    noise = Rng.of(0, len(x0)).normal((1,), torch.float64)
    xt = alpha * x0 + sigma * noise
    for std, bits in ((math.sqrt(BTIL_2), 2.504), (math.sqrt(beta(1)), 2.393), (0.0125, 2.465)):
        law = Decoder(256, std).law(process, LocationScale(xt / alpha, tensor(0.0)), tensor(0.001), None)
        nats = -law.log_prob(x0) / math.log(2)
        error = float(nats.std() / math.sqrt(len(nats)))
        assert abs(float(nats.mean()) - bits) < 4 * error + 5e-4  # known to three digits


def test_decoder_bits_of_the_published_chain_match_ddpm() -> None:
    """Beta ("fixed large") at the error that Ho et al. 2020 report, .95 of 255: L_0 = 1.97 bits/dim; beta_1: 2.09."""
    z = torch.linspace(-8, 8, 816, dtype=torch.float64)[:, None]
    weight, level, error = torch.exp(-0.5 * z * z)[:, 0], tensor([[2 * 128 / 255 - 1]]), 0.95 * 2 / 255

    @dataclass
    class Erring:
        process = LinearProcess()

        def __call__(self, xt: Tensor, t: Tensor):
            return UnitData().posterior(self.process, t, level + error * z, None)

    def bits(decoder: Decoder) -> float:
        *_, last = bound_terms(Erring(), level.expand(z.shape), tensor([0.002, 0.001]), Rng.of(0, len(z)), decoder)
        return float((weight * last.nats).sum() / weight.sum()) / math.log(2)

    assert bits(Decoder(256)) == pytest.approx(1.975, abs=5e-4)
    assert bits(Decoder(256, math.sqrt(beta(1)))) == pytest.approx(2.093, abs=5e-4)


def test_decoder_levels_are_required_and_checked_against_the_images() -> None:
    """Packaged digits have 17 levels: the 256 that were the default cost 19 bits/dim without a word."""
    run = Run.open("digits")
    model, x0 = run.load(), run.space.to_model(torch.from_numpy(Digits("test").load().take(range(2))))
    times, rng = Uniform()(model.process, 2), Rng.of(0, 2)
    with pytest.raises(TypeError, match="decoder"):
        variational_bound(model, x0, times, rng)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="levels"):
        Decoder()  # type: ignore[call-arg]
    for bound in (
        lambda decoder: variational_bound(model, x0, times, rng, decoder),
        lambda decoder: continuous_bound(model, x0, rng, 1, decoder),
    ):
        with pytest.raises(ValueError, match=r"none of 256 levels on \[-1, 1\]: take Decoder\(levels\)"):
            bound(Decoder(256))
        assert bool(torch.isfinite(bound(Decoder(run.space.levels)).total).all())
        assert bool(torch.isfinite(bound(Decoder(None)).total).all())


def tiny() -> NetDenoiser:
    torch.manual_seed(0)
    net = UNetSpec(1, 1, (16, 16), 1, (False, True), groups=8).build()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model = NetDenoiser(net, LinearProcess(Cosine()), variance=UnitData(), evaluation=Evaluation(4))
    return model.eval().requires_grad_(False)


def test_bound_has_the_same_bits_in_any_batch() -> None:
    model = tiny()
    x0 = 2 * Rng.of(1, 41).fold("data").uniform((1, 8, 8), torch.float64) - 1
    x0 = ((x0 + 1) * 8).round() / 8 - 1
    times, rng = Uniform()(model.process, 50), Rng.of(3, 41)
    whole = variational_bound(model, x0, times, rng, Decoder(17), terms=3)
    order = torch.tensor([5, 2, 40, 0, 39, 33, 12])
    subset = variational_bound(model, x0[order], times, rng.select(order), Decoder(17), terms=3)
    for a, b in zip(whole, subset, strict=True):
        assert torch.equal(a[order], b)
    alone = variational_bound(model, x0[2:3], times, rng.select(slice(2, 3)), Decoder(17), terms=3)
    assert all(torch.equal(a[2:3], b) for a, b in zip(whole, alone, strict=True))


def test_bound_grows_as_eta_falls() -> None:
    """With eta < 1 the kernels of an exact posterior are not those of one chain: a bound, but not a tight one."""
    x0, rng = sigma_points(MEAN, COV)
    times = Uniform()(LinearProcess(), 20)
    costs = [average(variational_bound(gaussian_data(), x0, times, rng, CONTINUOUS, eta=eta)) for eta in (1, 0.7, 0.3)]
    assert costs[0] < costs[1] < costs[2]


def test_models_without_a_bound_are_errors() -> None:
    x0, model = MEAN[None], gaussian_data()
    rng, times = Rng.of(0, 1), Uniform()(LinearProcess(), 5)
    with pytest.raises(ValueError, match="without noise"):
        variational_bound(model, x0, times, rng, CONTINUOUS, eta=0)
    with pytest.raises(ValueError, match=r"times must|a time in \[0, 1\]"):
        variational_bound(model, x0, times.flip(0), rng, CONTINUOUS)
    with pytest.raises(ValueError, match="terms"):
        variational_bound(model, x0, times, rng, CONTINUOUS, terms=0)
    with pytest.raises(ValueError, match="terms"):
        continuous_bound(model, x0, rng, 0, CONTINUOUS)
    with pytest.raises(ValueError, match="independent elements"):
        variational_bound(model, torch.ones_like(x0), times, rng, Decoder(256))
    with pytest.raises(ValueError, match="std"):
        Decoder(256, 0.0)
    with pytest.raises(ValueError, match="levels"):
        Decoder(1)
    with pytest.raises(NoClosedForm):
        variational_bound(TwoPoint(), x0, times, rng, CONTINUOUS)
