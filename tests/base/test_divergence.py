"""Closed-form divergences against torch's and against numerical integration."""

import math

import pytest
import torch
from truth.models import tensor
from truth.quadrature import line, plane

from diffprob.base.distributions import Categorical, Dirac, Discretised, Distribution, Gaussian, LocationScale, Mixture
from diffprob.base.divergence import kl
from diffprob.base.errors import NoClosedForm
from diffprob.base.rng import Rng

Q_COV = tensor([[0.5, 0.3], [0.3, 0.4]])
P_COV = tensor([[1.1, -0.2], [-0.2, 0.6]])


def numerical(q: Distribution, p: Distribution, d: int) -> float:
    """Integral of q log(q/p) for laws that broadcast over their one sample."""
    points, weight = plane(-12, 12, 301) if d == 2 else line(-12, 12, 4001)
    points = points.reshape(-1, d)
    log_q, log_p = q.log_prob(points), p.log_prob(points)
    return float((log_q.exp() * (log_q - log_p)).sum() * weight)


DIAGONAL_Q = LocationScale(tensor([[0.3, -0.2]]), tensor([0.7, 1.1]))
DIAGONAL_P = LocationScale(tensor([[-0.5, 0.1]]), tensor([[1.2]]))
FULL_Q = Gaussian(tensor([[0.3, -0.2]]), Q_COV[None])
FULL_P = Gaussian(tensor([[-0.5, 0.1]]), P_COV[None])


@pytest.mark.parametrize("q", [DIAGONAL_Q, FULL_Q], ids=["diagonal", "full"])
@pytest.mark.parametrize("p", [DIAGONAL_P, FULL_P], ids=["diagonal", "full"])
def test_kl_of_normals_matches_integration(q: Distribution, p: Distribution) -> None:
    assert abs(float(kl(q, p)) - numerical(q, p, 2)) < 1e-10
    assert float(kl(q, q)) == pytest.approx(0, abs=1e-14)


def test_kl_of_normals_matches_torch() -> None:
    n = 6
    mean_q, mean_p = (Rng.of(i, n).normal((3,), torch.float64) for i in (0, 1))
    roots = [Rng.of(i, n).normal((3, 3), torch.float64) for i in (2, 3)]
    cov_q, cov_p = (root @ root.mT + 0.1 * torch.eye(3) for root in roots)
    oracle = torch.distributions.kl_divergence(
        torch.distributions.MultivariateNormal(mean_q, cov_q), torch.distributions.MultivariateNormal(mean_p, cov_p)
    )
    torch.testing.assert_close(kl(Gaussian(mean_q, cov_q), Gaussian(mean_p, cov_p)), oracle, rtol=1e-11, atol=1e-12)
    shared = torch.distributions.kl_divergence(
        torch.distributions.MultivariateNormal(mean_q, cov_q[0]),
        torch.distributions.MultivariateNormal(mean_p, cov_p[1]),
    )
    ours = kl(Gaussian(mean_q, cov_q[:1]), Gaussian(mean_p, cov_p[1:2]))
    torch.testing.assert_close(ours, shared, rtol=1e-11, atol=1e-12)
    std_q, std_p = (Rng.of(i, n).uniform((3,), torch.float64) + 0.1 for i in (4, 5))
    diagonal = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean_q, std_q), torch.distributions.Normal(mean_p, std_p)
    ).sum(-1)
    q, p = LocationScale(mean_q, std_q), LocationScale(mean_p, std_p)
    torch.testing.assert_close(kl(q, p), diagonal, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(kl(Gaussian(mean_q, torch.diag_embed(std_q**2)), p), diagonal, rtol=1e-11, atol=1e-12)


def test_kl_of_images_with_broadcast_scales_matches_torch() -> None:
    n, shape = 3, (2, 4, 4)
    mean_q, mean_p = (Rng.of(i, n).normal(shape, torch.float64) for i in (0, 1))
    std_q, std_p = tensor([0.5, 1.0, 2.0]).reshape(-1, 1, 1, 1), tensor(0.8)
    oracle = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean_q, std_q.expand_as(mean_q)), torch.distributions.Normal(mean_p, std_p)
    )
    q, p = LocationScale(mean_q, std_q), LocationScale(mean_p, std_p)
    torch.testing.assert_close(kl(q, p), oracle.flatten(1).sum(1), rtol=1e-13, atol=0)


def test_kl_of_nearly_equal_normals_is_accurate() -> None:
    """KL of N(0, (1+h)^2) from N(0, 1) is h^2 to first order; it must not drown in rounding at h = 1e-6."""
    q = LocationScale(torch.zeros(1, 1, dtype=torch.float64), tensor(1 + 1e-6))
    p = LocationScale(torch.zeros(1, 1, dtype=torch.float64), tensor(1.0))
    assert abs(float(kl(q, p)) - 1e-12) < 2e-16


def test_kl_of_categoricals_matches_torch() -> None:
    logits_q, logits_p = (Rng.of(i, 4).normal((3, 5), torch.float64) for i in (0, 1))
    oracle = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=logits_q), torch.distributions.Categorical(logits=logits_p)
    )
    torch.testing.assert_close(kl(Categorical(logits_q), Categorical(logits_p)), oracle.sum(-1), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        kl(Categorical(logits_q[:, 0]), Categorical(logits_p[:, 0])), oracle[:, 0], rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize(
    ("q", "p"),
    [
        (Dirac(tensor([[0.0, 0.0]])), DIAGONAL_P),
        (DIAGONAL_Q, Mixture(torch.zeros(1, 1), (DIAGONAL_P,))),
        (Discretised(DIAGONAL_Q, 5), Discretised(DIAGONAL_P, 5)),
        (Categorical(torch.zeros(1, 2)), DIAGONAL_P),
    ],
)
def test_pair_without_closed_form_is_an_error(q: Distribution, p: Distribution) -> None:
    with pytest.raises(NoClosedForm, match=rf"{type(q).__name__} \|\| {type(p).__name__}"):
        kl(q, p)


def test_kl_of_categoricals_with_probability_zero() -> None:
    """0 log 0 = 0; infinity where p cannot do what q does; gradients stay finite."""
    never = -math.inf
    q = tensor([[[0.0, 0.0, never]], [[0.0, never, never]], [[0.0, 0.0, 0.0]]]).requires_grad_(True)
    p = tensor([[[0.0, 0.0, 0.0]], [[0.0, 0.0, never]], [[0.0, 0.0, never]]])
    divergence = kl(Categorical(q), Categorical(p))
    assert torch.allclose(divergence, tensor([math.log(1.5), math.log(2), math.inf]), rtol=1e-12, atol=0)
    kl(Categorical(q[:2]), Categorical(p[:2])).sum().backward()
    assert q.grad is not None
    assert bool(torch.isfinite(q.grad).all())


def test_kl_of_normals_without_spread() -> None:
    x, zero, one = tensor([[0.3], [0.3]]), tensor(0.0), tensor(1.0)
    assert kl(LocationScale(x, one), LocationScale(x, zero)).tolist() == [math.inf] * 2
    assert kl(LocationScale(x, zero), LocationScale(x, one)).tolist() == [math.inf] * 2
    other = tensor([[0.3], [0.4]])
    assert kl(LocationScale(x, zero), LocationScale(other, zero)).tolist() == [0, math.inf]
