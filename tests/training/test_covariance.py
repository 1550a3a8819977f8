"""The three targets against exact posteriors: given x_t by exact quadrature over x_0, on average by Monte Carlo."""

import itertools

import pytest
import torch
from torch import Tensor
from truth.models import gaussian_data, mixture_data, mixture_moments, tensor
from truth.quadrature import plane
from truth.statistics import z_scores

from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData, MixtureData, TwoPoint
from diffprob.process.linear import LinearProcess, VarianceExploding
from diffprob.process.schedule import VPSDE, LogLinear
from diffprob.training.covariance import (
    KINDS,
    Draw,
    covariance_matching,
    draw,
    likelihood_loss,
    noise_residual,
    noisiest,
    squared_noise,
    targets,
)

DDPM = LinearProcess()
PROCESSES = {"ddpm": DDPM, "ve": LinearProcess(LogLinear(), VarianceExploding())}
TIMES = (0.001, 0.05, 0.3, 0.7, 1.0)


def unit(process: LinearProcess, t: Tensor) -> Tensor:
    alpha, sigma = process.coefficients(t)
    return sigma**2 / (alpha**2 + sigma**2)


def sigma_points(model: MixtureData | GaussianData, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Points x_0 (J, B, d) and weights (J, B) with the first two moments of p(x_0 | x_t): exact for quadratics."""
    law = model(xt, t)
    parts = law.components if isinstance(model, MixtureData) else (law,)
    shares = law.weights.reshape(len(parts), -1) if isinstance(model, MixtureData) else torch.ones(1, len(xt)).double()
    points, weights, d = [], [], xt.shape[-1]
    for part, share in zip(parts, shares, strict=True):
        root = torch.linalg.cholesky(part.cov).expand(len(xt), d, d)
        for i, sign in itertools.product(range(d), (-1, 1)):
            points.append(part.mean + sign * d**0.5 * root[:, :, i])
            weights.append((share / (2 * d)).expand(len(xt)))
    return torch.stack(points), torch.stack(weights)


def conditional(process: LinearProcess, mean_of, xt: Tensor, t: Tensor, points: Tensor, weights: Tensor):
    """E[target | x_t] of each kind: over x_0 by the points, over the signs by all of their patterns, (B, d)."""
    alpha, sigma = process.coefficients(t)
    at = t.expand(len(xt))
    total = {kind: torch.zeros_like(xt) for kind in KINDS}
    patterns = [tensor(p) for p in itertools.product((-1.0, 1.0), repeat=xt.shape[-1])]
    source = lambda x, t: (mean_of(x, t), x)  # noqa: E731
    for x0, weight in zip(points, weights, strict=True):
        case = Draw(x0, (xt - alpha * x0) / sigma, xt, at, torch.ones_like(xt))
        for kind, value in targets(process, source, case, ("npr", "sn", "nll"))[0].items():
            total[kind] += weight[:, None] * value
    for signs in patterns:
        case = Draw(xt, xt, xt, at, signs.expand_as(xt))
        total["ocm"] += targets(process, source, case, ("ocm",))[0]["ocm"] / len(patterns)
    return total


@pytest.mark.parametrize("data", ["gaussian", "diagonal", "mixture"])
@pytest.mark.parametrize("name", PROCESSES)
def test_conditional_mean_of_every_target_is_the_exact_variance(name: str, data: str) -> None:
    process = PROCESSES[name]
    diagonal = GaussianData(tensor([0.3, -0.5]), torch.diag(tensor([0.7, 0.05])), process)
    model = {"gaussian": gaussian_data(process), "diagonal": diagonal, "mixture": mixture_data(process)}[data]
    for t in map(tensor, TIMES):
        alpha, sigma = process.coefficients(t)
        d = 3 if data == "gaussian" else 2
        xt = alpha * 0.7 * Rng.of(1, 12).normal((d,), torch.float64) + sigma * Rng.of(2, 12).normal((d,), torch.float64)
        exact = model(xt, t).variance.expand_as(xt) / unit(process, t)
        average = conditional(process, lambda x, t: model(x, t).mean, xt, t, *sigma_points(model, xt, t))
        for kind in KINDS:
            torch.testing.assert_close(average[kind], exact, rtol=1e-8, atol=1e-9)


def test_targets_on_two_points_match_the_closed_form() -> None:
    """x_0 = -1 or 1: Var = 1 - tanh^2 from every kind, and OCM's targets do not scatter at all."""
    model = TwoPoint(DDPM)
    for t in map(tensor, TIMES[1:]):
        alpha, sigma = DDPM.coefficients(t)
        xt = torch.linspace(-2, 2, 21, dtype=torch.float64)[:, None]
        tanh = torch.tanh(alpha * xt / sigma**2)
        points = torch.stack([-torch.ones_like(xt), torch.ones_like(xt)])
        weights = torch.stack([(1 - tanh) / 2, (1 + tanh) / 2])[:, :, 0]
        average = conditional(DDPM, lambda x, t: model(x, t).mean, xt, t, points, weights)
        exact = (1 - tanh**2) / unit(DDPM, t)
        for kind in KINDS:
            torch.testing.assert_close(average[kind], exact, rtol=1e-8, atol=1e-9)
        wide = xt.expand(-1, 6)
        signs = 1 - 2 * (Rng.of(4, 21).bits((6,)) & 1).double()
        case = Draw(wide, wide, wide, t.expand(21), signs)
        one = targets(DDPM, lambda x, t: (model(x, t).mean, x), case, ("ocm",))[0]["ocm"]
        torch.testing.assert_close(one, exact.expand(-1, 6), rtol=1e-8, atol=1e-9)


def test_covariance_matching_targets_have_the_expected_spread() -> None:
    """Over the signs: mean J_ii and variance sum over j != i of J_ji^2, also for a J that is not symmetric."""
    t, matrix = tensor(0.4), tensor([[0.5, 0.3, -0.2], [0.1, 0.4, 0.6], [-0.7, 0.2, 0.3]])
    alpha, sigma = DDPM.coefficients(t)
    scale = (alpha**2 + sigma**2) / alpha
    signs = tensor(list(itertools.product((-1.0, 1.0), repeat=3)))
    case = Draw(signs, signs, signs, t.expand(8), signs)
    estimates = targets(DDPM, lambda x, t: (x @ matrix.T, x), case, ("ocm",))[0]["ocm"]
    torch.testing.assert_close(estimates, covariance_matching(DDPM, signs, signs @ matrix, t))
    torch.testing.assert_close(estimates.mean(0), scale * matrix.diagonal())
    others = (matrix**2).sum(0) - matrix.diagonal() ** 2
    torch.testing.assert_close(estimates.var(0, correction=0), scale**2 * others)


def pairs(model: MixtureData, t: Tensor, n: int) -> Draw:
    """n points of the data, each with a noise and its opposite: the mean over a pair scatters less."""
    k = torch.multinomial(model.weights, n, replacement=True, generator=torch.Generator().manual_seed(0))
    roots = torch.stack([torch.linalg.cholesky(c.cov) for c in model.components])[k]
    x0 = torch.stack([c.mean for c in model.components])[k]
    x0 = x0 + (roots @ Rng.of(5, n).normal((2, 1), torch.float64))[..., 0]
    x0, noise = x0.repeat(2, 1), Rng.of(6 + n, n).normal((2,), torch.float64)
    noise = torch.cat([noise, -noise])
    alpha, sigma = model.process.coefficients(t)
    signs = 1 - 2 * (Rng.of(7, 2 * n).bits((2,)) >> 31).double()
    return Draw(x0, noise, alpha * x0 + sigma * noise, t.expand(2 * n), signs)


def expectation(model: MixtureData, t: Tensor, value, half: float = 6.0) -> Tensor:
    """E over q(x_t) of value(x_t) (N, 2) by quadrature on the plane."""
    at, weight = plane(-half, half, 121)
    return (model.log_prob(at, t).exp()[:, None] * value(at)).sum(0) * weight


def paired(values: Tensor) -> Tensor:
    """Means over a noise and its opposite."""
    return values.reshape(2, -1, values.shape[-1]).mean(0)


def controlled(values: Tensor, case: Draw, model: MixtureData) -> Tensor:
    """The pairs' values less what quadratic functions of (x_0, eps), whose means are known, explain of them: the same
    mean, less scatter."""
    mean, cov = mixture_moments(model)
    x, e = case.x0 - mean, case.noise
    columns = [x[:, 0], x[:, 1], *((e * e - 1).T), e[:, 0] * e[:, 1]]
    columns += [x[:, i] * x[:, j] - cov[i, j] for i, j in ((0, 0), (0, 1), (1, 1))]
    controls, values = paired(torch.stack(columns, 1)), paired(values)
    return values - controls @ torch.linalg.lstsq(controls - controls.mean(0), values - values.mean(0)).solution


STEPS = [(0.1, 0.2), (0.3, 0.6), (0.1, 0.9)]


@pytest.mark.parametrize(("s", "t"), STEPS)
def test_step_variances_agree_with_monte_carlo(s: float, t: float) -> None:
    """Averages over x_t of all three, the exact one and E(x_s - mu)^2: within 4 standard errors, and within 0.5%."""
    model = mixture_data()
    s, t = tensor(s), tensor(t)
    case = pairs(model, t, 40_000)
    mean = model(case.xt, t).mean
    estimates, _ = targets(DDPM, lambda x, t: (model(x, t[0]).mean, x), case, KINDS)
    exact = expectation(model, t, lambda x: model(x, t).variance)
    z = Rng.of(8, len(mean)).normal((2,), torch.float64)
    for eta in (0.0, 0.5, 1.0):
        bridge = DDPM.bridge_coefficients(s, t, eta)
        right = bridge.ell**2 + bridge.c0**2 * exact
        step = bridge.c0 * case.x0 + bridge.ct * case.xt + bridge.ell * z
        # z^2 - 1 has the mean 0: a control variate.
        values = {"mc": (step - (bridge.c0 * mean + bridge.ct * case.xt)) ** 2 - bridge.ell**2 * (z * z - 1)}
        values |= {kind: bridge.ell**2 + bridge.c0**2 * unit(DDPM, t) * estimates[kind] for kind in KINDS}
        for kind, value in values.items():
            value = controlled(value, case, model)
            assert z_scores(value, right).abs().max() < 4, (kind, eta)
            both = value.mean(1) / right.mean()
            error = float(both.std() / len(both) ** 0.5)
            assert error < 0.003, f"{kind}: standard error {error:.2%}"
            assert abs(float(both.mean()) - 1) < 0.005, f"{kind}, eta {eta}: {float(both.mean()) - 1:.3%}"


def test_only_the_residual_target_is_right_for_an_imperfect_mean() -> None:
    """eh = E[eps|x_t] + b, b = 0.3 sin x + 0.1: NPR is E(x_s - mu)^2 for the mean mu of that eh; SN is not, and falls
    below zero."""
    model, s, t = mixture_data(), tensor(0.2), tensor(0.3)
    alpha, sigma = DDPM.coefficients(t)

    def bias(x: Tensor) -> Tensor:
        return 0.3 * x.sin() + 0.1

    def mean_of(x: Tensor, at: Tensor) -> Tensor:
        return model(x, t).mean - sigma / alpha * bias(x)

    def noise_of(x: Tensor) -> Tensor:
        return (x - alpha * model(x, t).mean) / sigma

    case = pairs(model, t, 40_000)
    estimates, _ = targets(DDPM, lambda x, at: (mean_of(x, at), x), case, ("npr", "sn"))
    bridge = DDPM.bridge_coefficients(s, t, 0.0)
    error = bridge.c0 * (case.x0 - mean_of(case.xt, t))
    scale = (sigma / alpha) ** 2
    right = expectation(model, t, lambda x: model(x, t).variance + scale * bias(x) ** 2)
    wrong = expectation(model, t, lambda x: model(x, t).variance - scale * bias(x) * (2 * noise_of(x) + bias(x)))
    npr, sn = (bridge.c0**2 * unit(DDPM, t) * estimates[kind] for kind in ("npr", "sn"))
    for value, expected in ((error**2, right), (npr, right), (sn, wrong)):
        assert z_scores(paired(value), bridge.c0**2 * expected).abs().max() < 4
    assert abs(float(npr.mean() / (bridge.c0**2 * right.mean())) - 1) < 0.005
    assert float(sn.mean()) < 0 < float(npr.mean())


@pytest.mark.parametrize("t", [0.001, 0.5, 1.0])
def test_targets_are_accurate_in_float32(t: float) -> None:
    """Nothing cancels: float32 targets are those of float64 within rounding of their inputs."""
    t = tensor(t)
    sigma = DDPM.sigma(t)
    x0, noise = Rng.of(1, 500).normal((3,), torch.float64), Rng.of(2, 500).normal((3,), torch.float64)
    mean = x0 + sigma * Rng.of(3, 500).normal((3,), torch.float64)
    for function, inputs in ((noise_residual, (x0, mean)), (squared_noise, (x0, noise, mean))):
        single = function(DDPM, *(v.float() for v in inputs), t)
        double = function(DDPM, *inputs, t)
        assert single.dtype == torch.float32
        assert (single - double).abs().max() < 1e-4 * double.abs().max()


def test_squared_noise_target_matches_the_formula() -> None:
    t = tensor(0.3)
    alpha, sigma = DDPM.coefficients(t)
    x0, noise, mean = (Rng.of(i, 50).normal((3,), torch.float64) for i in (1, 2, 3))
    eh = (alpha * x0 + sigma * noise - alpha * mean) / sigma
    ratio = (alpha**2 + sigma**2) / alpha**2
    torch.testing.assert_close(squared_noise(DDPM, x0, noise, mean, t), (noise**2 - eh**2) * ratio)
    torch.testing.assert_close(noise_residual(DDPM, x0, mean, t), (noise - eh) ** 2 * ratio)


def test_times_are_evenly_spread_and_depend_only_on_seed_and_step() -> None:
    most = round(noisiest(DDPM) * 1000)
    assert DDPM.logsnr(most / 1000) >= -7 > DDPM.logsnr((most + 1) / 1000)
    for step in range(3):
        case = draw(DDPM, torch.zeros(most, 2), Rng.of(9, most).at(step))
        assert (case.t * 1000).round().long().sort().values.tolist() == list(range(1, most + 1))
        assert not torch.equal(case.t, case.t.sort().values)
    x0 = torch.zeros(1000, 2)
    case = draw(DDPM, x0, Rng.of(9, 1000).at(2))
    assert torch.equal(draw(DDPM, x0, Rng.of(9, 1000).at(2)).t, case.t)
    continuous = LinearProcess(VPSDE())
    t = draw(continuous, x0, Rng.of(9, 1000)).t
    strata = ((t - 1e-3) / (noisiest(continuous) - 1e-3) * 1000).floor().long()
    assert strata.sort().values.tolist() == list(range(1000))
    assert case.signs.unique().tolist() == [-1, 1]
    assert abs(float(case.signs.mean())) < 4 / 2000**0.5
    alpha, sigma = DDPM.coefficients(case.t)
    x0 = torch.ones(1000, 2)
    again = draw(DDPM, x0, Rng.of(9, 1000).at(2))
    torch.testing.assert_close(again.xt, (alpha[:, None] * x0 + sigma[:, None] * case.noise).float())


def test_all_targets_share_one_evaluation() -> None:
    calls = []

    def source(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(torch.is_grad_enabled())
        return x * x, x + 1

    case = draw(DDPM, torch.ones(4, 2), Rng.of(0, 4))
    estimates, features = targets(DDPM, source, case, KINDS)
    assert calls == [True]
    assert not features.requires_grad
    assert not any(value.requires_grad for value in estimates.values())
    assert list(targets(DDPM, source, case, ("sn",))[0]) == ["sn"]
    assert calls == [True, False]


def test_the_likelihood_has_its_least_value_at_the_mean_square_for_any_noise_of_a_step() -> None:
    t, r = tensor([0.05, 0.4, 0.9]), tensor([[0.0, 0.3, 2.0]] * 3)
    mean = r.mean(1, keepdim=True)

    def loss(o: Tensor) -> Tensor:
        return likelihood_loss(DDPM, o.expand_as(r), r, t).mean(1)

    least = loss(mean)
    for factor in (0.8, 0.97, 1.03, 1.25):
        assert bool((loss(mean * factor) > least).all())
    o = mean.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(o).sum(), o)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-14)


def test_the_likelihood_speaks_of_the_clipped_mean_where_one_is_used() -> None:
    x0 = tensor([[1.0, -1.0, 0.2]])
    case = Draw(x0, x0, x0, tensor([0.3]), x0)
    source = lambda x, t: (x0 + tensor([[0.5, -0.1, 0.1]]), x)  # noqa: E731
    clipped, plain = (targets(DDPM, source, case, ("nll",), clip)[0]["nll"] for clip in (True, False))
    assert torch.equal(clipped[0, :2], torch.zeros(2, dtype=torch.float64)) and clipped[0, 2] == plain[0, 2] > 0
    assert torch.equal(plain, targets(DDPM, source, case, ("npr",))[0]["npr"])
