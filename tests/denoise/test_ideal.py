"""The exact denoisers against closed forms, autograd and each other: what everything else is measured with."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from truth.models import COV, MEAN, exact_models, gaussian_data, mixture_data, tensor
from truth.quadrature import integrates_to_one, line
from truth.statistics import assert_mean

from diffprob.base.distributions import Gaussian, Mixture
from diffprob.base.errors import NumericalError
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import FiniteData, GaussianData, MixtureData, TwoPoint, tweedie_score
from diffprob.process.linear import LinearProcess, StraightScaling, SubVariancePreserving, VarianceExploding
from diffprob.process.schedule import VPSDE, LogLinear, Straight, SubVP

DDPM = LinearProcess()
PROCESSES = {
    "ddpm": DDPM,
    "vpsde": LinearProcess(VPSDE()),
    "ve": LinearProcess(LogLinear(), VarianceExploding()),
    "sub-vp": LinearProcess(SubVP(), SubVariancePreserving()),
    "straight": LinearProcess(Straight(), StraightScaling()),
}
KINDS = list(exact_models())
TIMES = [0.02, 0.3, 0.7, 0.999]


def full_cov(law: Gaussian | Mixture, i: int = 0) -> Tensor:
    """Covariance (d, d) of sample i of a normal or of a mixture over events."""
    if isinstance(law, Gaussian):
        return law.cov[i if len(law.cov) > 1 else 0]
    total = torch.zeros(law.mean.shape[1], law.mean.shape[1], dtype=torch.float64)
    for w, c in zip(law.weights, law.components, strict=True):
        offset = (c.mean - law.mean)[i]
        cov = full_cov(c, i) if isinstance(c, Gaussian) else torch.zeros_like(total)
        total = total + w[i] * (cov + offset[:, None] * offset)
    return total


def states(process: LinearProcess, t: float, n: int = 5) -> Tensor:
    """Points where q(x_t) has its mass, (n, 2)."""
    alpha, sigma = process.coefficients(t)
    return alpha * Rng.of(7, n).uniform((2,), torch.float64) + sigma * Rng.of(8, n).normal((2,), torch.float64)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("kind", KINDS)
def test_score_is_the_gradient_of_log_prob(kind: str, process: str, t: float) -> None:
    model = exact_models(PROCESSES[process])[kind]
    x = states(PROCESSES[process], t).requires_grad_()
    gradient = torch.autograd.grad(model.log_prob(x, tensor(t)).sum(), x)[0]
    score = model.score(x.detach(), tensor(t))
    # Tweedie's formula divides alpha E - x by sigma^2: eps |x|/sigma^2 of rounding.
    torch.testing.assert_close(score, gradient, rtol=1e-10, atol=1e-11 / float(PROCESSES[process].sigma(t)) ** 2)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("kind", ["gaussian", "mixture", "finite"])
def test_covariance_matches_the_hessian_of_log_prob(kind: str, process: str, t: float) -> None:
    """Cov[x_0|x_t] = sigma^2/alpha^2 (I + sigma^2 Hess log q(x_t))."""
    model = exact_models(PROCESSES[process])[kind]
    alpha, sigma = PROCESSES[process].coefficients(t)
    for x in states(PROCESSES[process], t, 2):
        hessian = torch.autograd.functional.hessian(lambda y: model.log_prob(y[None], tensor(t)).sum(), x)
        scale = (sigma / alpha) ** 2
        expected = scale * (torch.eye(2, dtype=torch.float64) + sigma**2 * hessian)
        torch.testing.assert_close(
            full_cov(model(x[None], tensor(t))), expected, rtol=1e-10, atol=float(1e-13 * (1 + scale))
        )


@pytest.mark.parametrize("t", TIMES)
def test_covariance_of_two_points_matches_the_hessian(t: float) -> None:
    model = TwoPoint()
    alpha, sigma = DDPM.coefficients(t)
    x = states(DDPM, t, 1)[0]
    hessian = torch.autograd.functional.hessian(lambda y: model.log_prob(y[None], tensor(t)).sum(), x)
    scale = (sigma / alpha) ** 2
    expected = scale * (1 + sigma**2 * torch.diagonal(hessian))
    torch.testing.assert_close(
        model(x[None], tensor(t)).variance[0], expected, rtol=1e-10, atol=float(1e-13 * (1 + scale))
    )


@pytest.mark.parametrize("t", [0.001, 0.02, 0.3, 0.7, 1.0])
def test_gaussian_data_matches_the_matrix_formulas(t: float) -> None:
    model, n = gaussian_data(), 4
    alpha, sigma = (float(c) for c in DDPM.coefficients(t))
    x = alpha * MEAN + sigma * Rng.of(0, n).normal((3,), torch.float64)
    c, m, y = COV.numpy(), MEAN.numpy(), x.numpy()
    marginal = alpha**2 * c + sigma**2 * np.eye(3)
    inverse = np.linalg.inv(marginal)
    posterior = model(x, tensor(t))
    np.testing.assert_allclose(posterior.mean, m + alpha * (y - alpha * m) @ inverse @ c, rtol=0, atol=1e-12)
    np.testing.assert_allclose(posterior.cov[0], c - alpha**2 * c @ inverse @ c, rtol=0, atol=1e-12)
    np.testing.assert_allclose(posterior.cov[0], sigma**2 * c @ inverse, rtol=0, atol=1e-13)
    np.testing.assert_allclose(model.marginal_cov(tensor(t))[0], marginal, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(model.score(x, tensor(t)), -(y - alpha * m) @ inverse, rtol=1e-8, atol=1e-9)
    expected = torch.distributions.MultivariateNormal(alpha * MEAN, torch.from_numpy(marginal)).log_prob(x)
    torch.testing.assert_close(model.log_prob(x, tensor(t)), expected, rtol=1e-11, atol=1e-11)


def test_reverse_covariance_of_gaussian_data_is_the_optimal_ddpm_covariance() -> None:
    """Optimal DDPM covariance beta/alpha (I - beta S_t^-1), which is what `reverse` gives for the exact posterior."""
    model = gaussian_data()
    for i in (2, 100, 700, 1000):
        s, t = (i - 1) / 1000, i / 1000
        law = DDPM.reverse(model(torch.zeros(1, 3, dtype=torch.float64), tensor(t)), torch.zeros(1, 3).double(), s, t)
        ratio = (DDPM.alpha(t) / DDPM.alpha(s)) ** 2
        beta = 1 - ratio
        inverse = torch.linalg.inv(model.marginal_cov(tensor(t))[0])
        expected = beta / ratio * (torch.eye(3, dtype=torch.float64) - beta * inverse)
        torch.testing.assert_close(law.cov[0], expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_times_may_differ_between_samples(kind: str) -> None:
    model = exact_models()[kind]
    t = tensor([0.01, 0.3, 0.6, 0.9])
    x = Rng.of(0, 4).normal((2,), torch.float64)
    batch = model(x, t)
    for i in range(4):
        one = model(x[i : i + 1], t[i])
        torch.testing.assert_close(batch.mean[i], one.mean[0], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close((batch.variance + 0 * batch.mean)[i], one.variance[0], rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(
            model.log_prob(x, t)[i], model.log_prob(x[i : i + 1], t[i])[0], rtol=1e-12, atol=1e-12
        )
        torch.testing.assert_close(model.score(x, t)[i], model.score(x[i : i + 1], t[i])[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("t", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_noisy_density_integrates_to_one(kind: str, t: float) -> None:
    model = exact_models()[kind]
    integrates_to_one(lambda x: model.log_prob(x, tensor(t)), 2, low=-8, high=8, n=641)


@pytest.mark.parametrize("t", TIMES)
def test_two_point_per_coordinate_matches_finite_data_of_the_corners(t: float) -> None:
    corners = FiniteData(torch.cartesian_prod(tensor([-1.0, 1.0]), tensor([-1.0, 1.0])))
    x = states(DDPM, t)
    pair, finite = TwoPoint()(x, tensor(t)), corners(x, tensor(t))
    torch.testing.assert_close(pair.mean, finite.mean, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(pair.variance, finite.variance, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(
        TwoPoint().log_prob(x, tensor(t)), corners.log_prob(x, tensor(t)), rtol=1e-12, atol=1e-13
    )
    alpha, sigma = DDPM.coefficients(t)
    torch.testing.assert_close(pair.mean, torch.tanh(alpha * x / sigma**2), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(pair.variance, 1 - torch.tanh(alpha * x / sigma**2) ** 2, rtol=1e-10, atol=1e-15)


def test_special_cases_match_the_simpler_models() -> None:
    """A mixture of one normal is that normal; without covariance it is a finite data set; one point is a point."""
    x, t = states(DDPM, 0.4), tensor(0.4)
    gaussian = exact_models()["gaussian"]
    single = MixtureData(tensor([3.0]), (gaussian,))
    torch.testing.assert_close(single(x, t).mean, gaussian(x, t).mean, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(single.log_prob(x, t), gaussian.log_prob(x, t), rtol=1e-13, atol=0)
    points = exact_models()["finite"].points
    narrow = MixtureData.of(torch.ones(4, dtype=torch.float64), points, torch.zeros(4, 2, 2, dtype=torch.float64), DDPM)
    finite = FiniteData(points)
    torch.testing.assert_close(narrow(x, t).mean, finite(x, t).mean, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(narrow(x, t).variance, finite(x, t).variance, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(narrow.log_prob(x, t), finite.log_prob(x, t), rtol=1e-12, atol=1e-13)
    assert torch.equal(FiniteData(points[:1])(x, t).mean, points[:1].expand(5, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_mean_matches_forward_samples(kind: str) -> None:
    """E[x_0|x_t] and the mean over forward pairs: E[x_0 - E[x_0|x_t]] = 0 against any function of x_t, here 1 and
    x_t."""
    model, n, t = exact_models()[kind], 40_000, tensor(0.4)
    if kind == "gaussian":
        x0 = Gaussian(model.mean.expand(n, 2), model.cov[None]).sample(Rng.of(0, n))
    elif kind == "mixture":
        parts = tuple(Gaussian(c.mean.expand(n, 2), c.cov[None]) for c in model.components)
        x0 = Mixture(model.weights.log().expand(n, 3), parts).sample(Rng.of(0, n))
    elif kind == "finite":
        x0 = model.points[Rng.of(0, n).integers((), len(model.points))]
    else:
        x0 = 2.0 * Rng.of(0, n).integers((2,), 2).double() - 1
    xt = DDPM.marginal(x0, t).sample(Rng.of(1, n))
    posterior = model(xt, t)
    error = x0 - posterior.mean
    assert_mean(error, 0.0)
    assert_mean(error * xt, 0.0)
    assert_mean(error**2 - posterior.variance, 0.0)
    assert_mean(posterior.sample(Rng.of(2, n)) - x0, 0.0)
    assert_mean(posterior.sample(Rng.of(2, n)) ** 2 - x0**2, 0.0)


@pytest.mark.parametrize(
    ("i", "nats", "digits"), [(1, 0.693147, 6), (100, 0.688647, 6), (500, 0.040920, 6), (1000, 2.0e-5, 6)]
)
def test_information_of_two_points_matches_published(i: int, nats: float, digits: int) -> None:
    """I(x_0; x_t) = E log q(x_t|x_0)/q(x_t) per dimension, the figures of the reference."""
    t = i / 1000
    alpha, sigma = DDPM.coefficients(t)
    z, dz = line(-10, 10, 4001)
    mass = torch.exp(-z * z / 2) * dz / math.sqrt(2 * math.pi)
    xt = (alpha + sigma * z)[:, None]
    gap = DDPM.marginal(torch.ones_like(xt), t).log_prob(xt) - TwoPoint().log_prob(xt, tensor(t))
    assert round(float((mass * gap).sum()), digits) == pytest.approx(nats, abs=10.0**-digits)


def test_information_derivative_is_half_the_mmse() -> None:
    """dI/dSNR = mmse/2 = 0.46056 at t = 500/1000 (Guo, Shamai & Verdu 2005)."""
    z, dz = line(-10, 10, 4001)
    mass = torch.exp(-z * z / 2) * dz / math.sqrt(2 * math.pi)
    alpha, sigma = DDPM.coefficients(0.5)
    xt = (alpha + sigma * z)[:, None]
    mmse = float((mass * TwoPoint()(xt, tensor(0.5)).variance[:, 0]).sum())
    assert mmse / 2 == pytest.approx(0.46056, abs=5e-6)


def test_float32_states_give_float32_posteriors() -> None:
    x = torch.zeros(2, 2)
    for model in exact_models().values():
        posterior = model(x, tensor(0.5))
        assert posterior.mean.dtype == posterior.variance.dtype == torch.float32
        assert posterior.sample(Rng.of(0, 2)).dtype == torch.float32
        assert model.log_prob(x, tensor(0.5)).dtype == model.score(x, tensor(0.5)).dtype == torch.float32


def test_image_events_match_flattened_events() -> None:
    """(B, C, H, W) states: the same numbers as for the flattened event."""
    x = Rng.of(0, 3).normal((1, 1, 3), torch.float64)
    flat = gaussian_data()(x.reshape(3, 3), tensor(0.5))
    model = GaussianData(MEAN.reshape(1, 1, 3), COV)
    torch.testing.assert_close(model(x, tensor(0.5)).mean.reshape(3, 3), flat.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(model.log_prob(x, tensor(0.5)), gaussian_data().log_prob(x.reshape(3, 3), tensor(0.5)))
    finite = FiniteData(Rng.of(1, 4).normal((1, 1, 3), torch.float64))
    assert finite(x, tensor(0.5)).mean.shape == finite.score(x, tensor(0.5)).shape == x.shape


def test_tweedie_score_matches_the_formula() -> None:
    alpha, sigma = DDPM.coefficients(0.5)
    score = tweedie_score(DDPM, tensor([[2.0]]), tensor([[3.0]]), tensor(0.5))
    assert float(score) == pytest.approx(float((alpha * 2 - 3) / sigma**2), rel=1e-14)


def test_invalid_mixtures_are_errors() -> None:
    part = gaussian_data()
    with pytest.raises(ValueError, match="2 weights for 1"):
        MixtureData(tensor([0.5, 0.5]), (part,))
    with pytest.raises(ValueError, match="0 weights"):
        MixtureData(tensor([]), ())
    with pytest.raises(ValueError, match="same process"):
        MixtureData(tensor([0.5, 0.5]), (part, gaussian_data(LinearProcess(VPSDE()))))
    assert mixture_data().process == DDPM


ONE, TWO, NAN = tensor([0.0]), torch.eye(2, dtype=torch.float64), math.nan
NO_DATA = {
    "negative variance": lambda: GaussianData(ONE, tensor([[-1.0]])),
    "indefinite covariance": lambda: GaussianData(tensor([0.0, 0.0]), tensor([[1.0, 2.0], [2.0, 1.0]])),
    "asymmetric covariance": lambda: GaussianData(tensor([0.0, 0.0]), tensor([[1.0, 0.5], [0.0, 1.0]])),
    "NaN covariance": lambda: GaussianData(ONE, tensor([[NAN]])),
    "NaN mean": lambda: GaussianData(ONE * NAN, tensor([[1.0]])),
    "integer mean": lambda: GaussianData(torch.zeros(2, dtype=torch.uint8), TWO),
    "covariance of another size": lambda: GaussianData(ONE, TWO),
    "negative weight": lambda: MixtureData.of(tensor([-1.0, 2.0]), tensor([[0.0], [1.0]]), TWO[:, :1, None], DDPM),
    "NaN weight": lambda: MixtureData(tensor([NAN]), (gaussian_data(),)),
    "infinite weight": lambda: MixtureData(tensor([math.inf]), (gaussian_data(),)),
    "zero weights": lambda: MixtureData(tensor([0.0]), (gaussian_data(),)),
    "components of two sizes": lambda: MixtureData(
        tensor([1.0, 1.0]), (gaussian_data(), GaussianData(ONE, TWO[:1, :1]))
    ),
    "no points": lambda: FiniteData(torch.zeros(0, 2)),
    "NaN point": lambda: FiniteData(tensor([[NAN]])),
    "integer points": lambda: FiniteData(torch.zeros(1, 2, dtype=torch.uint8)),
    "state that would be broadcast": lambda: FiniteData(tensor([[0.0]]))(torch.zeros(3, 2), tensor(0.5)),
    "state of another size": lambda: gaussian_data()(torch.zeros(3, 2), tensor(0.5)),
    "sample with a negative variance": lambda: Gaussian(ONE[None], tensor([[[-1.0]]])).sample(Rng.of(0, 1)),
}


@pytest.mark.parametrize("what", NO_DATA)
def test_invalid_data_is_an_error(what: str) -> None:
    with pytest.raises((ValueError, NumericalError)) as caught:
        NO_DATA[what]()
    assert len(str(caught.value)) < 300


def test_negative_eigenvalues_from_rounding_are_accepted() -> None:
    """A singular covariance whose null direction came out as -1e-7."""
    flat = GaussianData(tensor([0.0, 0.0]), tensor([[1.0, 1.0], [1.0, 1.0]]) - 1e-7 * TWO)
    assert bool(torch.isfinite(flat(torch.zeros(1, 2), tensor(0.5)).sample(Rng.of(0, 1))).all())


def test_arrays_and_lists_of_numbers_are_taken() -> None:
    x, t = torch.tensor([[0.3, -0.2]]), torch.tensor(0.4, dtype=torch.float64)
    mean, cov = [0.5, -1], [[0.5, 0.25], [0.25, 0.5]]
    wanted = GaussianData(torch.tensor(mean), torch.tensor(cov)).log_prob(x, t)
    for kind in (list, np.array, lambda value: np.array(value, np.float32)):
        one = GaussianData(kind(mean), kind(cov))
        points = FiniteData(kind([mean, [0.0, 1.0]]))
        assert torch.equal(one.log_prob(x, t), wanted)
        assert torch.equal(MixtureData(kind([1.0]), [one]).log_prob(x, t), wanted)  # pyright: ignore[reportArgumentType]
        assert MixtureData.of(kind([1.0]), kind([mean]), kind([cov]), DDPM).log_prob(x, t).shape == (1,)
        assert points(x, t).mean.shape == (1, 2)


@pytest.mark.parametrize("wrong", [None, "ab", [[1.0], [1.0, 2.0]], object()], ids=lambda value: type(value).__name__)
def test_what_is_no_tensor_is_refused_by_name(wrong) -> None:
    one = GaussianData(MEAN, COV)
    with pytest.raises(ValueError, match=r"^mean must be a tensor"):
        GaussianData(wrong, COV)
    with pytest.raises(ValueError, match=r"^cov must be a tensor"):
        GaussianData(MEAN, wrong)
    with pytest.raises(ValueError, match=r"^weights must be a tensor"):
        MixtureData(wrong, (one,))
    with pytest.raises(ValueError, match=r"^components(\[0\])? must be a"):
        MixtureData(torch.ones(1), wrong)
    with pytest.raises(ValueError, match=r"^points must be a tensor"):
        FiniteData(wrong)
    for make in (lambda p: GaussianData(MEAN, COV, p), lambda p: FiniteData(MEAN[None], p), TwoPoint):
        with pytest.raises(ValueError, match=r"^process must be a LinearProcess"):
            make(wrong)
