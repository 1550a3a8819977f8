"""Score matching against closed forms on normal data, and energies that learn the score of what is known."""

import math

import pytest
import torch
from torch import nn
from truth.densities import Normal
from truth.statistics import assert_mean

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.density.baselines import DensityModel
from diffprob.net.energy import EnergySpec
from diffprob.space.pixels import Pixels
from diffprob.training.matching import DenoisingMatching, SlicedMatching, denoising, hyvarinen, score_of, sliced

MEAN = torch.tensor([0.5, -1.0, 0.0], dtype=torch.float64)
COV = torch.tensor([[1.0, 0.6, 0.1], [0.6, 0.8, -0.2], [0.1, -0.2, 0.5]], dtype=torch.float64)
PRECISION = COV.inverse()


def samples(n):
    return MEAN + Rng.of(0, n).fold("data").normal((3,), torch.float64) @ torch.linalg.cholesky(COV).T


def linear(matrix, offset=MEAN):
    """s(x) = -(x - offset) A^T."""
    return lambda x: -(x - offset) @ matrix.T


@pytest.mark.parametrize("spoilt", [False, True])
def test_loss_of_linear_scores_matches_the_closed_form(spoilt):
    """J of s = -A(x - m) is tr(A C A^T)/2 - tr A; the true score has -tr(C^-1)/2, -1/2 E|score|^2, and no s less."""
    matrix = PRECISION + (torch.tensor([[0.3, 0.5, 0], [-0.4, 0.2, 0], [0, 0.7, -0.1]]).double() if spoilt else 0)
    x = samples(20_000)
    expected = (matrix @ COV @ matrix.T).trace() / 2 - matrix.trace()
    best = -PRECISION.trace() / 2
    torch.testing.assert_close(best, expected) if not spoilt else None
    assert expected >= best - 1e-12
    exact = hyvarinen(linear(matrix), x)
    assert exact.shape == (20_000,)
    assert_mean(exact, expected)
    for reduced in (True, False):
        loss = sliced(linear(matrix), x, Rng.of(1, 20_000), 2, reduced)
        assert_mean(loss, expected)
        assert_mean(loss - exact, 0.0)  # paired: far less noise
    sigma = 0.4  # E|s(x + sigma z) + z/sigma|^2/2 = J of the noised data + E|z/sigma|^2/2
    noised = (matrix @ (COV + sigma**2 * torch.eye(3)) @ matrix.T).trace() / 2 - matrix.trace()
    assert_mean(denoising(linear(matrix), x, sigma, Rng.of(2, 20_000)), noised + 1.5 / sigma**2)


def curved(x):
    """A score that is no gradient, with a Jacobian that depends on x."""
    a, b, c = x.unbind(-1)
    return torch.stack([a * b + c.sin(), b**2 - a, torch.exp(0.3 * a) * c], -1)


def test_exact_loss_matches_the_jacobian_trace():
    x = samples(6)
    s = curved(x)
    jacobians = torch.stack([torch.autograd.functional.jacobian(curved, one) for one in x])
    torch.testing.assert_close(hyvarinen(curved, x), s.square().sum(1) / 2 + jacobians.diagonal(0, 1, 2).sum(1))


@pytest.mark.parametrize("reduced", [True, False])
def test_sliced_loss_averages_to_the_trace(reduced):
    """Each draw is v^T J v + |s|^2/2 or (v^T s)^2/2 of one of the 2^3 sign vectors; over all of them it is exact."""
    x = samples(1).expand(4000, -1)
    loss = sliced(curved, x, Rng.of(0, 4000), 1, reduced)
    jacobian, s = torch.autograd.functional.jacobian(curved, x[0]), curved(x[0])
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    square = s.square().sum() if reduced else (signs @ s).square()
    every = (signs @ jacobian * signs).sum(1) + square / 2
    nearest = (loss[:, None] - every).abs().min(1)
    assert nearest.values.max() < 1e-12
    assert len(nearest.indices.unique()) == 4  # v and -v are the same
    torch.testing.assert_close(every.mean(), hyvarinen(curved, x[:1])[0])
    assert_mean(loss, float(every.mean()))


def test_sliced_loss_is_exact_for_diagonal_jacobians():
    """And without the reduction they are not: (v^T s)^2 varies."""
    x = samples(50)
    torch.testing.assert_close(sliced(lambda y: -y - y**3, x, Rng.of(0, 50)), hyvarinen(lambda y: -y - y**3, x))
    assert (sliced(lambda y: -y, x, Rng.of(0, 50), 1, False) - hyvarinen(lambda y: -y, x)).abs().max() > 0.1


def test_loss_of_a_sample_does_not_depend_on_its_batch():
    x, rng = samples(6), Rng.of(5, 6)
    for loss in (
        lambda y, r: hyvarinen(curved, y),
        lambda y, r: sliced(curved, y, r, 3),
        lambda y, r: denoising(curved, y, 0.3, r),
    ):
        torch.testing.assert_close(loss(x[2:4], rng.select(slice(2, 4))), loss(x, rng)[2:4])
    assert (sliced(linear(PRECISION), x, rng.at(1)) != sliced(linear(PRECISION), x, rng)).any()
    torch.testing.assert_close(hyvarinen(torch.ones_like, x), torch.full((6,), 1.5, dtype=torch.float64))
    torch.testing.assert_close(sliced(torch.ones_like, x, rng), torch.full((6,), 1.5, dtype=torch.float64))


def test_loss_does_not_depend_on_the_event_shape():
    """The same numbers whatever the shape of a sample."""
    x = samples(5)

    def shaped(y):
        return curved(y.flatten(1)).view_as(y)

    rng = Rng.of(0, 5)
    torch.testing.assert_close(hyvarinen(shaped, x.view(5, 1, 1, 3)), hyvarinen(curved, x))
    torch.testing.assert_close(sliced(shaped, x.view(5, 1, 1, 3), rng), sliced(curved, x, rng))
    torch.testing.assert_close(denoising(shaped, x.view(5, 1, 1, 3), 0.2, rng), denoising(curved, x, 0.2, rng))


@pytest.mark.parametrize("name", ["hyvarinen", "sliced", "plain", "denoising"])
def test_parameter_gradients_match_the_closed_form(name):
    """The gradient by the precision a of s = -a x, through the energy, in closed form for each sample."""
    x, rng, a = samples(7), Rng.of(3, 7), 1.3
    net = Normal(1 / a)
    score = score_of(lambda y: -net(y))
    loss = {
        "hyvarinen": lambda: hyvarinen(score, x),
        "sliced": lambda: sliced(score, x, rng),
        "plain": lambda: sliced(score, x, rng, 1, False),
        "denoising": lambda: denoising(score, x, 0.5, rng),
    }[name]
    gradient = torch.autograd.grad(loss().sum(), net.v)[0] * -(net.v.detach() ** 2)  # by a = 1/v
    if name == "denoising":
        z = rng.fold("noise").normal((3,), torch.float64)
        xt = x + 0.5 * z
        expected = ((a * xt - z / 0.5) * xt).sum()
    elif name == "plain":
        v = 1 - 2 * (rng.fold("slices").fold("0").bits((3,)) >> 31)
        expected = (a * (v * x).sum(1) ** 2 - 3).sum()
    else:
        expected = (a * x.square().sum(1) - 3).sum()
    torch.testing.assert_close(gradient, expected.detach())
    with torch.no_grad():
        quiet = loss()
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, loss().detach())


def test_score_of_is_differentiable_in_x():
    x = samples(4).requires_grad_(True)
    s = score_of(lambda y: -(y**4).sum(1) / 4)(x)
    torch.testing.assert_close(s, -(x**3))
    torch.testing.assert_close(torch.autograd.grad(s.sum(), x)[0], -3 * x.detach() ** 2)
    with torch.no_grad():
        assert not score_of(lambda y: -(y**4).sum(1) / 4)(x).requires_grad


def test_denoising_loss_is_minimal_at_the_noised_precision():
    """Least squares over the precision a: E[x_t z]/(sigma E[x_t^2]) = 1/(v + sigma^2), not 1/v."""
    n, v, sigma = 200_000, 0.5, 0.3
    x = v**0.5 * Rng.of(0, n).fold("data").normal((1,), torch.float64)
    a = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(denoising(lambda y: -a * y, x, sigma, Rng.of(0, n)).mean(), a, create_graph=True)[0]
    curvature = torch.autograd.grad(slope, a)[0]
    minimum = float((a - slope / curvature).detach())  # the loss is quadratic in a: one Newton step is its minimum
    assert minimum == pytest.approx(1 / (v + sigma**2), rel=0.015)  # 4 standard errors of 0.4%
    assert abs(minimum - 1 / v) > 0.2


def mixture(x, extra=0.0):
    """log density of 0.6 N((-0.5, 0.5), 0.49 I) + 0.4 N((1, -0.5), 0.64 I) with extra noise, up to a constant."""
    terms = [
        math.log(weight / (v + extra)) - 0.5 * (x - torch.tensor(mean, dtype=x.dtype)).square().sum(1) / (v + extra)
        for weight, mean, v in ((0.6, (-0.5, 0.5), 0.49), (0.4, (1.0, -0.5), 0.64))
    ]
    return torch.logsumexp(torch.stack(terms), 0)


def draw(rng):
    first = (rng.fold("which").uniform((), torch.float64) < 0.6)[:, None]
    z = rng.fold("points").normal((2,), torch.float64)
    ends = torch.tensor([[-0.5, 0.5], [1.0, -0.5]], dtype=torch.float64)
    return torch.where(first, ends[0] + 0.7 * z, ends[1] + 0.8 * z)


@pytest.mark.parametrize("kind", ["hyvarinen", "sliced", "denoising"])
def test_energy_network_learns_the_score(kind):
    """A small softplus network on a mixture of two normals: E|s - score|^2 falls below 8% of E|score|^2.

    A normal, which the network begins near, has more than 20%; 3 to 5% are reached here, and less with more steps.

    Noise of sigma = 0.3 is a part of the mixture that denoising learns.
    """
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.Softplus(), nn.Linear(16, 16), nn.Softplus(), nn.Linear(16, 1)).double()
    sigma = 0.3 if kind == "denoising" else 0.0

    def log_prob(x):
        return net(x)[:, 0] - 0.5 * x.square().sum(1)

    score, data, n = score_of(log_prob), draw(Rng.of(0, 8192)), 256
    losses = {
        "hyvarinen": lambda x, rng: hyvarinen(score, x),
        "sliced": lambda x, rng: sliced(score, x, rng),
        "denoising": lambda x, rng: denoising(score, x, sigma, rng),
    }
    adam = torch.optim.Adam(net.parameters(), lr=0.02)
    for step in range(150):
        adam.param_groups[0]["lr"] = 0.02 * (1 - step / 150)
        first = step * n % len(data)
        adam.zero_grad()
        losses[kind](data[first : first + n], Rng.of(0, n).at(step)).mean().backward()
        adam.step()
    fresh = draw(Rng.of(10_000, 4000)) + sigma * Rng.of(0, 4000).normal((2,), torch.float64)
    with torch.no_grad():
        truth = score_of(lambda x: mixture(x, sigma**2))(fresh)
        size = truth.square().sum(1).mean()
        learned, normal = ((s - truth).square().sum(1).mean() / size for s in (score(fresh), -fresh))
    assert learned < 0.08
    assert normal > 0.2


@pytest.mark.parametrize("objective", [DenoisingMatching(0.3), SlicedMatching(0.3, 2), SlicedMatching(0.3, 1, False)])
def test_objectives_match_their_losses(objective):
    """The losses with their weight sigma^2/d on noised images, for the gradient of an energy."""
    n, v, space = 8000, 0.5, Pixels((1, 1, 3), 256)
    model, x0 = DensityModel(Normal(v)), Rng.of(0, n).fold("x").normal((1, 1, 3), torch.float64)
    loss = objective.bind(model, space)(model, x0, Rng.of(0, n))
    second = 1 + 0.3**2  # of each of 3 pixels; the score is -x/v
    j = 3 * second / v**2 / 2 - 3 / v + (1.5 / 0.3**2 if isinstance(objective, DenoisingMatching) else 0)
    assert_mean(loss.detach(), j * 0.3**2 / 3)
    assert torch.autograd.grad(loss.sum(), model.net.v)[0].abs() > 0
    with pytest.raises(InputError, match="trains a DensityModel"):
        objective.bind(nn.Linear(1, 1), space)


def test_objectives_give_gradients_to_convolutions():
    """Second derivatives through the energy network: every weight gets a gradient, but the last bias has none."""
    torch.manual_seed(0)
    x0 = Rng.of(0, 4).normal((1, 8, 8))
    for objective in (DenoisingMatching(0.2), SlicedMatching(0.2)):
        model = DensityModel(EnergySpec(1, (4, 8), spectral=True).build())
        objective(model, x0, Rng.of(0, 4)).mean().backward()
        empty = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
        assert empty == ["net.conv_out.bias"]


def test_invalid_settings_are_errors():
    for make in (DenoisingMatching, SlicedMatching, lambda sigma: denoising(curved, samples(2), sigma, Rng.of(0, 2))):
        with pytest.raises(ValueError, match=r"sigma must lie in \(0, 1000\], got 0\.0"):
            make(0.0)
    with pytest.raises(ValueError, match="projections must be at least 1, got 0"):
        SlicedMatching(0.1, 0)
    with pytest.raises(ValueError, match="projections must be at least 1, got 0"):
        sliced(curved, samples(2), Rng.of(0, 2), 0)
