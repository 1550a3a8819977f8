"""Exact denoisers: data whose p(x_0 | x_t) is known in closed form, the ground truth of every test.

All of them return float64-ready torch distributions in the dtype of x_t and offer ``log_prob(xt, t)``, the density of
q(x_t), and ``score(xt, t)``, its gradient.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffprob.base.checks import MOST, instance, several, shown
from diffprob.base.distributions import Dirac, Gaussian, LocationScale, Mixture, spectrum
from diffprob.base.shapes import check_points, flat_sum, per_sample, tensor_of
from diffprob.process.linear import LinearProcess


def tweedie_score(process: LinearProcess, mean: Tensor, xt: Tensor, t: Tensor) -> Tensor:
    """grad log q(x_t) = (alpha E[x_0|x_t] - x_t)/sigma^2 (Efron 2011, eq. 1.4), (B, *event)."""
    alpha, sigma = process.coefficients(t)
    return (per_sample(alpha, xt) * mean - xt) / per_sample(sigma * sigma, xt)


def _same_event(xt: Tensor, event: torch.Size) -> None:
    """Refuse states that would be stretched to the data's shape, or the data to theirs."""
    if xt.shape[1:] != event:
        raise ValueError(f"the data has events of the shape {tuple(event)}, got states {tuple(xt.shape)}")


@dataclass(frozen=True, eq=False)
class GaussianData:
    """x_0 ~ N(mean, cov): p(x_0|x_t) is normal with a covariance that does not depend on x_t.

    With S = alpha^2 C + sigma^2 I: E = m + alpha C S^-1 (x - alpha m), Cov = sigma^2 C S^-1. Computed in the eigenbasis
    of C.

    Args:
        mean: (*event) with d elements; as ``cov`` a tensor, array or lists.
        cov: (d, d), symmetric positive semi-definite.

    Raises:
        ValueError: another shape or type, or no covariance.
        NumericalError: a value that is not finite.
    """

    mean: Tensor
    cov: Tensor
    process: LinearProcess = field(default_factory=LinearProcess)

    def __post_init__(self) -> None:
        for name in ("mean", "cov"):
            object.__setattr__(self, name, tensor_of(name, getattr(self, name)))
        instance("process", self.process, LinearProcess)
        check_points(self.mean, "the mean")
        d = self.mean.numel()
        if self.cov.shape != (d, d):
            raise ValueError(f"a mean of {d} elements needs cov ({d}, {d}), got {tuple(self.cov.shape)}")
        spectrum(self.cov.double())

    def marginal_cov(self, t: Tensor) -> Tensor:
        """S_t = alpha^2 C + sigma^2 I, float64 (B or 1, d, d)."""
        alpha, sigma = (c.reshape(-1, 1, 1) for c in self.process.coefficients(t))
        return alpha**2 * self.cov.double() + sigma**2 * torch.eye(len(self.cov), dtype=torch.float64)

    def __call__(self, xt: Tensor, t: Tensor) -> Gaussian:
        """p(x_0 | x_t), normal with a full covariance."""
        _same_event(xt, self.mean.shape)
        values, vectors = spectrum(self.cov.double())
        alpha, sigma = (c.reshape(-1, 1) for c in self.process.coefficients(t))
        marginal = alpha**2 * values + sigma**2
        offset = (xt.double() - per_sample(alpha[:, 0], xt.double()) * self.mean.double()).flatten(1)
        mean = ((offset @ vectors) * (alpha * values / marginal)) @ vectors.T
        cov = (vectors * (sigma**2 * values / marginal)[:, None, :]) @ vectors.T
        return Gaussian((self.mean.double() + mean.reshape(xt.shape)).to(xt.dtype), cov.to(xt.dtype))

    def log_prob(self, xt: Tensor, t: Tensor) -> Tensor:
        """log q(x_t) in nats, (B,)."""
        _same_event(xt, self.mean.shape)
        alpha = per_sample(self.process.coefficients(t)[0], xt)
        return Gaussian((alpha * self.mean).expand(xt.shape).to(xt.dtype), self.marginal_cov(t).to(xt.dtype)).log_prob(
            xt
        )

    def score(self, xt: Tensor, t: Tensor) -> Tensor:
        """grad log q(x_t), (B, *event)."""
        return tweedie_score(self.process, self(xt, t).mean, xt, t)


@dataclass(frozen=True, eq=False)
class MixtureData:
    """x_0 ~ sum_k w_k N(m_k, C_k): p(x_0|x_t) is a mixture of the components' posteriors with the responsibilities
    r_k(x_t).

    Args:
        weights: (K,), at least 0 and not all 0; normalised here.
        components: K Gaussian data sets under the same process.

    Raises:
        ValueError: other weights, or components that do not go together.
    """

    weights: Tensor
    components: tuple[GaussianData, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tensor_of("weights", self.weights))
        if isinstance(self.components, list):
            object.__setattr__(self, "components", tuple(self.components))
        several("components", self.components, lambda name, one: instance(name, one, GaussianData), 0, MOST)
        if self.weights.ndim != 1:
            raise ValueError(f"weights must be (K,), got {tuple(self.weights.shape)}")
        if len(self.weights) != len(self.components) or not len(self.components):
            raise ValueError(f"{len(self.weights)} weights for {len(self.components)} components")
        if not bool((self.weights >= 0).all() and 0 < self.weights.sum() < math.inf):
            raise ValueError(f"weights must be at least 0, finite and not all 0, got {shown(self.weights.tolist())}")
        if any(c.mean.shape != self.components[0].mean.shape for c in self.components):
            raise ValueError("all components must have events of one shape")
        if any(c.process != self.process for c in self.components):
            raise ValueError("all components must have the same process")

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, covs: Tensor, process: LinearProcess) -> "MixtureData":
        """From weights (K,), means (K, *event) and covariances (K, d, d)."""
        means, covs = tensor_of("means", means), tensor_of("covs", covs)
        parts = tuple(GaussianData(mean, cov, process) for mean, cov in zip(means, covs, strict=True))
        return cls(weights, parts)

    @property
    def process(self) -> LinearProcess:
        """The process of the components."""
        return self.components[0].process

    def _log_joint(self, xt: Tensor, t: Tensor) -> Tensor:
        logs = torch.stack([component.log_prob(xt, t) for component in self.components], -1)
        return logs + (self.weights / self.weights.sum()).log().to(logs.dtype)

    def __call__(self, xt: Tensor, t: Tensor) -> Mixture:
        """p(x_0 | x_t), a mixture of normals."""
        return Mixture(self._log_joint(xt, t), tuple(component(xt, t) for component in self.components))

    def log_prob(self, xt: Tensor, t: Tensor) -> Tensor:
        """log q(x_t) in nats, (B,)."""
        return torch.logsumexp(self._log_joint(xt, t), -1)

    def score(self, xt: Tensor, t: Tensor) -> Tensor:
        """grad log q(x_t), (B, *event)."""
        return tweedie_score(self.process, self(xt, t).mean, xt, t)


@dataclass(frozen=True, eq=False)
class FiniteData:
    """x_0 uniform on N points: p(x_0|x_t) puts softmax_i(-|x_t - alpha x_i|^2 / (2 sigma^2)) on point i.

    Args:
        points: (N, *event), at least one: a tensor, array or lists.

    Raises:
        ValueError: no points, or of another type than a floating one.
        NumericalError: a value that is not finite.
    """

    points: Tensor
    process: LinearProcess = field(default_factory=LinearProcess)

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tensor_of("points", self.points))
        instance("process", self.process, LinearProcess)
        if not self.points.ndim or not len(self.points):
            raise ValueError("at least one point is needed")
        check_points(self.points, "a point")

    def _log_densities(self, xt: Tensor, t: Tensor) -> Tensor:
        _same_event(xt, self.points.shape[1:])
        alpha, sigma = self.process.coefficients(t)
        laws = (
            LocationScale((per_sample(alpha, xt) * point).expand(xt.shape), per_sample(sigma, xt))
            for point in self.points.to(xt.dtype)
        )
        return torch.stack([law.log_prob(xt) for law in laws], -1)

    def __call__(self, xt: Tensor, t: Tensor) -> Mixture:
        """p(x_0 | x_t), a mixture of points."""
        points = tuple(Dirac(point.to(xt.dtype).expand(xt.shape)) for point in self.points)
        return Mixture(self._log_densities(xt, t), points)

    def log_prob(self, xt: Tensor, t: Tensor) -> Tensor:
        """log q(x_t) in nats, (B,)."""
        return torch.logsumexp(self._log_densities(xt, t), -1) - math.log(len(self.points))

    def score(self, xt: Tensor, t: Tensor) -> Tensor:
        """grad log q(x_t), (B, *event)."""
        return tweedie_score(self.process, self(xt, t).mean, xt, t)


@dataclass(frozen=True)
class TwoPoint:
    """Independent coordinates, each -1 or +1 with equal chances: E[x_0|x_t] = tanh(alpha x_t/sigma^2), Var = 1 -
    tanh^2."""

    process: LinearProcess = field(default_factory=LinearProcess)

    def __post_init__(self) -> None:
        instance("process", self.process, LinearProcess)

    def __call__(self, xt: Tensor, t: Tensor) -> Mixture:
        """p(x_0 | x_t), an independent mixture of -1 and +1 in every element."""
        alpha, sigma = self.process.coefficients(t)
        logit = per_sample(alpha / sigma**2, xt) * xt
        one = torch.ones_like(xt)
        return Mixture(torch.stack([-logit, logit], -1), (Dirac(-one), Dirac(one)))

    def log_prob(self, xt: Tensor, t: Tensor) -> Tensor:
        """log q(x_t) = sum_i log[(N(x_i; alpha, sigma^2) + N(x_i; -alpha, sigma^2))/2], (B,)."""
        alpha, sigma = (per_sample(c, xt) for c in self.process.coefficients(t))
        up, down = (LocationScale((sign * alpha).expand(xt.shape), sigma).log_density(xt) for sign in (1, -1))
        return flat_sum(torch.logaddexp(up, down) - math.log(2))

    def score(self, xt: Tensor, t: Tensor) -> Tensor:
        """grad log q(x_t), (B, *event)."""
        return tweedie_score(self.process, self(xt, t).mean, xt, t)
