"""Energies against finite differences and against the densities that they turn a model into."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from truth.models import IsotropicData, net_denoiser, tensor
from truth.statistics import assert_mean

from diffprob.base.distributions import LocationScale
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData, MixtureData, tweedie_score
from diffprob.denoise.learned import RangeRule
from diffprob.guidance.egsde import FaithfulnessEnergy, LowPass, RealismEnergy
from diffprob.guidance.energy import Energies, EnergyGuided, LabelEnergy, ReconstructionGuidance
from diffprob.process.grids import LogSNR
from diffprob.process.linear import LinearProcess, Stepwise, StraightScaling, VarianceExploding
from diffprob.process.schedule import VPSDE, LogLinear, Straight
from diffprob.sampling.ancestral import DDIM, Ancestral
from diffprob.sampling.exponential import DPMpp, UniPC
from diffprob.sampling.simulate import draw, simulate

PROCESS = LinearProcess(VPSDE())
T = tensor(0.4)
SHAPE = (2, 4, 4)
X = Rng.of(0, 3).normal(SHAPE, torch.float64)
SOURCE = Rng.of(8, 3).normal(SHAPE, torch.float64)
MASK = (Rng.of(1, 1).normal(SHAPE) > 0).double()
LABELS = torch.tensor([0, 2, 1])
WEIGHTS = Rng.of(2, 3).normal((32,), torch.float64).T
KERNEL = Rng.of(4, 5).normal((2, 3, 3), torch.float64)


def curved(x: Tensor, t: Tensor) -> Tensor:
    """A smooth classifier of x (B, 2, 4, 4) that knows t: logits (B, 3)."""
    return torch.tanh(x.flatten(1)) @ WEIGHTS * (1 + t).reshape(-1, 1)


def features(x: Tensor, t: Tensor) -> Tensor:
    """Smooth features (B, 5, 4, 4) of x (B, 2, 4, 4)."""
    return torch.tanh(F.conv2d(x, KERNEL, padding=1) + t.reshape(-1, 1, 1, 1))


@dataclass(frozen=True, eq=False)
class Tilt:
    """(x - b)^T L (x - b)/2 of the state, or of the estimate."""

    curvature: Tensor
    centre: Tensor
    of_estimate: bool = False
    scale: float = 1.0

    def __call__(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        offset = (x0 if self.of_estimate else xt) - self.centre
        return 0.5 * self.scale * ((offset @ self.curvature) * offset).sum(-1)


class Matched:
    """The mean of an exact model, with some spread: a posterior that can be moved."""

    def __init__(self, model: MixtureData) -> None:
        self.model, self.process = model, model.process

    def __call__(self, xt: Tensor, t: Tensor) -> LocationScale:
        return LocationScale(self.model(xt, t).mean, tensor(0.1))


def egsde_energies(scale: float = 1.5, repeats: int = 2) -> tuple[RealismEnergy, FaithfulnessEnergy]:
    rng = Rng.of(3, 3)
    return RealismEnergy(features, SOURCE, PROCESS, rng, scale, repeats), FaithfulnessEnergy(
        LowPass(2), SOURCE, PROCESS, rng, scale, repeats
    )


ENERGIES = {
    "label": LabelEnergy(curved, LABELS, 1.5),
    "observed": ReconstructionGuidance(MASK, SOURCE, PROCESS, 1.5, 0.2),
    "distance": ReconstructionGuidance(MASK, SOURCE, PROCESS, 1.5, distance=True),
    "realistic": egsde_energies()[0],
    "faithful": egsde_energies()[1],
    "sum": Energies(
        (*egsde_energies(), ReconstructionGuidance(MASK, SOURCE, PROCESS, 0.7), LabelEnergy(curved, LABELS, 0.0))
    ),
}


def model(process: LinearProcess = PROCESS):
    return net_denoiser(process, channels=2).double()


def numerical(energy: Callable[[Tensor], Tensor], x: Tensor, h: float = 1e-5) -> Tensor:
    """Central differences of a sum of energies, one element of all samples at a time."""
    gradient = torch.zeros_like(x)
    for place in itertools.product(*map(range, x.shape[1:])):
        step = torch.zeros_like(x)
        step[(slice(None), *place)] = h
        gradient[(slice(None), *place)] = (energy(x + step) - energy(x - step)) / (2 * h)
    return gradient


@pytest.mark.parametrize("energy", ENERGIES.values(), ids=ENERGIES)
@pytest.mark.parametrize("t", [T, tensor([0.2, 0.5, 0.9])], ids=["one time", "a time each"])
def test_mean_shifts_by_the_energy_gradient(energy, t: Tensor) -> None:
    """sigma^2/alpha grad E, by central differences: h^2 times a third derivative, and 1e-16/h."""
    plain = model()

    @torch.no_grad()
    def nats(x: Tensor) -> Tensor:
        return energy(plain(x, t).mean, x, t)

    with torch.no_grad():
        shift = EnergyGuided(plain, energy)(X, t).mean - plain(X, t).mean
    alpha, sigma = PROCESS.coefficients(t)
    expected = -(sigma**2 / alpha).reshape(-1, 1, 1, 1) * numerical(nats, X)
    torch.testing.assert_close(shift, expected, rtol=1e-6, atol=1e-7)
    assert float(expected.abs().max()) > 1e-3


def test_network_is_called_once_and_keeps_no_graph() -> None:
    plain = model()
    for name, energy in ENERGIES.items():
        plain.net.calls.clear()
        with torch.no_grad():
            posterior = EnergyGuided(plain, energy)(X, T)
        assert len(plain.net.calls) == 1, name
        assert not posterior.mean.requires_grad
        assert not posterior.std.requires_grad
    assert all(parameter.grad is None for parameter in plain.parameters())


def test_learned_variance_keeps_no_graph() -> None:
    """A variance and a step rule that the network predicts."""

    class Learned:
        process = PROCESS

        def __call__(self, xt: Tensor, t: Tensor) -> Stepwise:
            return Stepwise(xt.sin(), xt.cos().abs(), rule=RangeRule(xt.sigmoid()))

    guided = EnergyGuided(Learned(), ReconstructionGuidance(MASK, SOURCE, PROCESS))
    with torch.no_grad():
        posterior = guided(X, T)
    assert torch.equal(posterior.std, X.cos().abs())
    assert torch.equal(posterior.rule.fraction, X.sigmoid())
    assert not any(tensor.requires_grad for tensor in (posterior.mean, posterior.std, posterior.rule.fraction))


@pytest.mark.parametrize(
    "energy",
    [
        LabelEnergy(curved, LABELS, 0.0),
        ReconstructionGuidance(MASK, SOURCE, PROCESS, 0.0),
        Energies(egsde_energies(0.0)),
    ],
    ids=["label", "observed", "egsde"],
)
def test_scale_zero_gives_the_bits_of_the_model(energy) -> None:
    plain = net_denoiser(PROCESS, channels=2)
    x = X.float()
    assert torch.equal(EnergyGuided(plain, energy)(x, T).mean, plain(x, T).mean)


@pytest.mark.parametrize("of_estimate", [False, True])
def test_quadratic_energy_on_gaussian_data_matches_the_closed_form(of_estimate: bool) -> None:
    """score = -S^-1 (x - alpha m) - J^T L (E - b), with J = 1, or alpha C S^-1 where E is the estimate."""
    mean, cov = tensor([0.3, -0.2]), tensor([[0.5, 0.2], [0.2, 0.3]])
    curvature, centre = tensor([[2.0, 0.3], [0.3, 1.0]]), tensor([0.4, 0.9])
    data = GaussianData(mean, cov, PROCESS)
    guided = EnergyGuided(data, Tilt(curvature, centre, of_estimate))
    x = Rng.of(1, 7).normal((2,), torch.float64)
    alpha, sigma = PROCESS.coefficients(T)
    precision = torch.linalg.inv(alpha**2 * cov + sigma**2 * torch.eye(2).double())
    jacobian = alpha * cov @ precision if of_estimate else torch.eye(2).double()
    read = data(x, T).mean if of_estimate else x
    expected = -(x - alpha * mean) @ precision - (read - centre) @ curvature @ jacobian
    posterior = guided(x, T)
    torch.testing.assert_close(tweedie_score(PROCESS, posterior.mean, x, T), expected, rtol=1e-11, atol=1e-11)
    assert torch.equal(posterior.cov, data(x, T).cov)


def test_gradient_of_the_guided_model_is_exact() -> None:
    """Who differentiates the guided model gets the derivative of all of it: here of an affine map, A."""
    data = GaussianData(tensor([0.3, -0.2]), tensor([[0.5, 0.2], [0.2, 0.3]]), PROCESS)
    for of_estimate in (False, True):
        guided = EnergyGuided(data, Tilt(tensor([[2.0, 0.3], [0.3, 1.0]]), tensor([0.4, 0.9]), of_estimate))
        points = torch.cat([torch.zeros(1, 2), torch.eye(2)]).double()
        values = guided(points, T).mean
        x = points[:1].clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(guided(x, T).mean[0, 0], x)
        torch.testing.assert_close(gradient[0], (values[1:] - values[0])[:, 0], rtol=1e-11, atol=1e-11)


def two_classes() -> tuple[MixtureData, Tensor, Tensor]:
    means, cov = tensor([[0.6, -0.1], [-0.5, 0.4]]), tensor([[0.3, 0.1], [0.1, 0.2]])
    return MixtureData.of(tensor([0.3, 0.7]), means, torch.stack([cov, cov]), PROCESS), means, cov


@pytest.mark.parametrize("y", [0, 1])
def test_exact_classifier_gives_the_class_conditional_model(y: int) -> None:
    """Equal covariances: log p(0|x) - log p(1|x) is linear in x, and the guided model is that of the class alone."""
    mixture, means, cov = two_classes()

    def classifier(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = PROCESS.coefficients(t)
        precision = torch.linalg.inv(alpha**2 * cov + sigma**2 * torch.eye(2).double())
        centre = alpha * means.mean(0)
        odds = (x - centre) @ precision @ (alpha * (means[0] - means[1])) + (tensor(0.3) / 0.7).log()
        return torch.stack([odds, torch.zeros_like(odds)], -1)

    guided = EnergyGuided(Matched(mixture), LabelEnergy(classifier, torch.tensor([y])))
    x = Rng.of(1, 9).normal((2,), torch.float64)
    for t in (0.05, 0.4, 0.99):
        expected = mixture.components[y](x, tensor(t)).mean
        torch.testing.assert_close(guided(x, tensor(t)).mean, expected, rtol=1e-9, atol=1e-9)


def test_classifier_guidance_with_ddim_matches_the_paper() -> None:
    """eps = eps(x) - sigma s grad log p(y|x) (Dhariwal & Nichol, algorithm 2)."""
    plain, scale = model(), 2.5
    alpha, sigma = PROCESS.coefficients(T)
    x = X.clone().requires_grad_(True)
    slope = torch.autograd.grad(curved(x, T).log_softmax(1)[range(3), LABELS].sum(), x)[0]
    with torch.no_grad():
        eps = plain.raw(X, T).main - sigma * scale * slope
        mean = EnergyGuided(plain, LabelEnergy(curved, LABELS, scale))(X, T).mean
    torch.testing.assert_close(mean, (X - sigma * eps) / alpha, rtol=1e-11, atol=1e-11)


@dataclass(frozen=True, eq=False)
class Read:
    """-log p(y|x_t) on normal data of which y = a x_0 + noise z was read: E and Cov of x_0 given x_t say it."""

    data: GaussianData
    a: Tensor
    y: float
    noise: float

    scale, of_estimate = 1.0, True

    def __call__(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        spread = self.noise**2 + self.a @ self.data(xt[:1].detach(), t).cov[0] @ self.a
        return (self.y - x0 @ self.a) ** 2 / (2 * spread)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_reconstruction_guidance_with_exact_variance_gives_the_conditional_model(noise: float) -> None:
    """With the variance of y given x_t in closed form, E[x_0|x_t, y] is exact: that of N(m, C) given y."""
    mean, cov = tensor([0.3, -0.2, 0.5]), tensor([[0.5, 0.2, 0.1], [0.2, 0.3, 0.05], [0.1, 0.05, 0.4]])
    a, y = tensor([1.0, 0.0, -0.5]), 0.7
    gain = cov @ a / (a @ cov @ a + noise**2)
    conditional = GaussianData(mean + gain * (y - a @ mean), cov - torch.outer(gain, a @ cov), PROCESS)
    data = GaussianData(mean, cov, PROCESS)
    guided = EnergyGuided(data, Read(data, a, y, noise))
    x = Rng.of(1, 7).normal((3,), torch.float64)
    for t in (0.05, 0.4, 0.99):
        torch.testing.assert_close(guided(x, tensor(t)).mean, conditional(x, tensor(t)).mean, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_observed_pixels_of_white_data_match_the_conditional_model(noise: float) -> None:
    """N(m, I): the known pixels become those of N(m, I) given y, the others stay, on any scaling of the process."""
    for process in (PROCESS, LinearProcess(LogLinear(), VarianceExploding())):
        data = IsotropicData(0.2, 1.0, process)
        guided = EnergyGuided(data, ReconstructionGuidance(MASK, SOURCE, process, noise=noise))
        known = IsotropicData(0.0, noise**2 / (1 + noise**2), process)
        known.mean = (SOURCE + 0.2 * noise**2) / (1 + noise**2)
        expected = torch.where(MASK > 0, known(X, T).mean, data(X, T).mean)
        torch.testing.assert_close(guided(X, T).mean, expected, rtol=1e-10, atol=1e-10)


def test_distance_gradient_has_length_scale() -> None:
    """Of white data: J = alpha/(alpha^2 + sigma^2), so grad (scale |r|) is as long as scale J, however far."""
    process = LinearProcess(LogLinear(), VarianceExploding())
    data = IsotropicData(0.0, 1.0, process)
    alpha, sigma = process.coefficients(T)
    shift = (
        EnergyGuided(data, ReconstructionGuidance(MASK, SOURCE, process, 0.3, distance=True))(X, T).mean
        - data(X, T).mean
    )
    expected = sigma**2 / alpha * 0.3 * alpha / (alpha**2 + sigma**2)
    torch.testing.assert_close(shift.flatten(1).norm(dim=1), expected.expand(3), rtol=1e-12, atol=0)
    at_target = ReconstructionGuidance(MASK, data(X, T).mean, process, 0.3, distance=True)
    assert torch.equal(EnergyGuided(data, at_target)(X, T).mean, data(X, T).mean), "no direction where all is reached"


SAMPLERS = [Ancestral(), DDIM(), DDIM(eta=0.5), DPMpp(2), UniPC(2)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_every_sampler_works_with_classifier_guidance(sampler) -> None:
    """A chain of the mixture with its exact classifier is the chain of the class; spread aside."""
    mixture, *_ = two_classes()
    label = LabelEnergy(mixture._log_joint, torch.tensor([1]))
    times = torch.linspace(1, 0.05, 8, dtype=torch.float64)
    alone = Matched(MixtureData(torch.ones(1), mixture.components[1:]))
    chains = [
        draw(model, sampler, times, Rng.of(0, 6), (2,), torch.float64)
        for model in (EnergyGuided(Matched(mixture), label), alone)
    ]
    torch.testing.assert_close(*chains, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_every_sampler_works_with_gradients_through_the_network(sampler) -> None:
    """And a sample does not see its companions."""
    plain, times = net_denoiser(PROCESS, chunk=2, channels=2), torch.linspace(1, 0.1, 4, dtype=torch.float64)

    def drawn(part: slice) -> Tensor:
        image = SOURCE.float()[part]
        energy = Energies(
            (ReconstructionGuidance(MASK.float(), image, PROCESS, 0.1), LabelEnergy(curved32, LABELS[part]))
        )
        rng = Rng.of(0, 3).select(part)
        return draw(EnergyGuided(plain, energy), sampler, times, rng, SHAPE)

    whole = drawn(slice(0, 3))
    assert bool(torch.isfinite(whole).all())
    torch.testing.assert_close(drawn(slice(1, 2)), whole[1:2], rtol=1e-4, atol=1e-4)


def curved32(x: Tensor, t: Tensor) -> Tensor:
    return curved(x.double(), t).float()


def test_no_guidance_outside_the_interval() -> None:
    plain = model()
    energy = ENERGIES["sum"]
    guided, everywhere = EnergyGuided(plain, energy, 0.3, 0.6), EnergyGuided(plain, energy)
    for t in (0.2, 0.7):
        assert torch.equal(guided(X, tensor(t)).mean, plain(X, tensor(t)).mean)
    for t in (0.3, 0.4, 0.6):
        assert torch.equal(guided(X, tensor(t)).mean, everywhere(X, tensor(t)).mean)
    mixed = tensor([0.2, 0.4, 0.7])
    mean = guided(X, mixed).mean
    torch.testing.assert_close(mean[1], everywhere(X, mixed).mean[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mean[[0, 2]], plain(X, mixed).mean[[0, 2]], rtol=1e-12, atol=1e-12)


def test_pure_noise_is_not_guided() -> None:
    process = LinearProcess(Straight(), StraightScaling())
    data = IsotropicData(0.2, 0.5, process)
    guided = EnergyGuided(data, LabelEnergy(curved, LABELS))
    assert torch.equal(guided(X, tensor(1.0)).mean, data(X, tensor(1.0)).mean)
    both = guided(X, tensor([1.0, 0.5, 1.0])).mean
    assert bool(torch.isfinite(both).all())


@pytest.mark.parametrize(("factor", "shape"), [(2, (8, 8)), (4, (16, 12)), (3, (8, 9)), (1, (5, 4)), (32, (8, 8))])
def test_low_pass_matches_antialiased_interpolation(factor: int, shape: tuple[int, int]) -> None:
    image, low = Rng.of(0, 2).normal((3, *shape), torch.float64), LowPass(factor)
    few = tuple(max(1, round(size / factor)) for size in shape)
    down = F.interpolate(image, few, mode="bilinear", antialias=True)
    torch.testing.assert_close(low(image), F.interpolate(down, shape, mode="bilinear"), rtol=1e-12, atol=1e-12)
    flat = torch.full((1, 1, *shape), 0.37, dtype=torch.float64)
    torch.testing.assert_close(low(flat), flat, rtol=1e-13, atol=0)
    assert low(image.float()).dtype == torch.float32


def test_egsde_energies_of_the_source_itself() -> None:
    """S_s = 1 and S_i = 0 on x_t itself, which is q(x_t|x) with one noise for all t."""
    realistic, faithful = egsde_energies(2.0, repeats=1)
    noise = realistic.noises[0]
    for t in (0.2, 0.8):
        alpha, sigma = PROCESS.coefficients(t)
        xt = alpha * SOURCE + sigma * noise
        torch.testing.assert_close(realistic(xt, xt, tensor(t)), torch.full((3,), 2.0).double(), rtol=1e-12, atol=0)
        torch.testing.assert_close(faithful(xt, xt, tensor(t)), torch.zeros(3).double(), rtol=0, atol=1e-20)


def test_repeated_noises_average_to_the_expectation() -> None:
    """K = 200 draws: the mean of |LP(y - alpha x - sigma e)|^2 is |LP(y - alpha x)|^2 + sigma^2 |LP|^2."""
    low, k = LowPass(2), 200
    faithful = FaithfulnessEnergy(low, SOURCE[:1], PROCESS, Rng.of(0, 1), 1.0, k)
    alpha, sigma = PROCESS.coefficients(T)
    distances = torch.stack([faithful.compare(X, alpha * SOURCE[:1] + sigma * e, T) for e in faithful.noises])
    frobenius = (low.along(4) ** 2).sum() ** 2 * SHAPE[0]
    expected = low(X - alpha * SOURCE[:1]).flatten(1).square().sum(1) + sigma**2 * frobenius
    assert_mean(distances, expected)
    torch.testing.assert_close(faithful(X, X, T), distances.mean(0))


def recursion(start: Tensor, times: Tensor, data: IsotropicData, faithful: FaithfulnessEnergy, eta: float) -> Tensor:
    """The mean of the guided chain, written out with matrices over the pixels and nothing of the library's samplers."""
    low = faithful.low_pass.along(4)
    gram = low.T @ low
    m, image, noise = start, faithful.source, faithful.noises[0]
    for t, s in itertools.pairwise(times):
        (at, st), (a, sd) = PROCESS.coefficients(t), PROCESS.coefficients(s)
        snr = (at * sd / (st * a)) ** 2
        rest = sd * (1 - eta**2 * (1 - snr)).sqrt()
        eps_scale = rest / st
        d = data.mean + at * data.variance / (at**2 * data.variance + st**2) * (m - at * data.mean)
        slope = 2 * faithful.scale * gram @ (m - at * image - st * noise) @ gram
        d = d - st**2 / at * slope
        m = a * d + eps_scale * (m - at * d)
    at, st = PROCESS.coefficients(times[-1])
    d = data.mean + at * data.variance / (at**2 * data.variance + st**2) * (m - at * data.mean)
    return d - st**2 / at * 2 * faithful.scale * gram @ (m - at * image - st * noise) @ gram


def test_faithfulness_energy_shifts_the_chain_mean_as_predicted() -> None:
    """Two normals, source and target: every step is linear. DDIM to rounding; the ancestral mean within 4 errors."""
    data, times = IsotropicData(-0.4, 0.3, PROCESS), LogSNR()(PROCESS, 12)
    faithful = FaithfulnessEnergy(LowPass(2), SOURCE[:1], PROCESS, Rng.of(5, 1), 0.4)
    guided = EnergyGuided(data, faithful)
    *_, last = simulate(guided, DDIM(), X, times, Rng.of(0, 3))
    expected = recursion(X, times, data, faithful, 0.0)
    torch.testing.assert_close(last.x, expected, rtol=1e-9, atol=1e-9)
    *_, plain = simulate(data, DDIM(), X, times, Rng.of(0, 3))
    assert float((last.x - plain.x).abs().max()) > 0.1

    n = 2000
    *_, last = simulate(guided, Ancestral(), X[:1].expand(n, *SHAPE), times, Rng.of(1, n))
    assert_mean(last.x, recursion(X[:1], times, data, faithful, 1.0)[0])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: EnergyGuided(model(), ENERGIES["label"], 0.7, 0.3), "0 <= low <= high <= 1"),
        (lambda: ReconstructionGuidance(MASK, SOURCE, PROCESS, noise=-1.0), "noise must be at least 0"),
        (lambda: LowPass(0), "factor must be at least 1"),
        (lambda: FaithfulnessEnergy(LowPass(2), SOURCE, PROCESS, Rng.of(0, 2)), "2 random streams for 3 source images"),
        (
            lambda: FaithfulnessEnergy(LowPass(2), SOURCE, PROCESS, Rng.of(0, 3), repeats=0),
            "repeats must be at least 1",
        ),
        (lambda: EnergyGuided(two_classes()[0], Tilt(torch.eye(2), tensor([0, 0])))(X[:, 0, 0, :2], T), "got Mixture"),
    ],
)
def test_invalid_arguments_are_errors(act, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()


def test_energy_of_the_wrong_shape_is_an_error() -> None:
    class Whole:
        scale, of_estimate = 1.0, False

        def __call__(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
            return xt.sum()

    class Blind(Whole):
        def __call__(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
            return x0.flatten(1).sum(1)

    for energy, message in ((Whole(), r"must be \(3,\), .* got \(\)"), (Blind(), "got .*without a gradient")):
        with pytest.raises(ValueError, match=message):
            EnergyGuided(model(), energy)(X, T)
