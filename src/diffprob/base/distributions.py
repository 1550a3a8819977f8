"""Distributions of a batch: one distribution per sample, log densities in nats of shape (B,)."""

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.errors import NoClosedForm, NumericalError
from diffprob.base.finite import check_tensors
from diffprob.base.laws import Law, Normal
from diffprob.base.rng import Rng, one_for_each
from diffprob.base.shapes import flat_sum

FLAW = 1e-5  # asymmetry and negative eigenvalues of a covariance in float32, as shares of its largest eigenvalue


@runtime_checkable
class Distribution(Protocol):
    """What every distribution over a batch (B, *event) offers."""

    @property
    def mean(self) -> Tensor:
        """Expectation, (B, *event)."""
        ...

    @property
    def variance(self) -> Tensor:
        """Elementwise variance, broadcastable to (B, *event)."""
        ...

    def sample(self, rng: Rng) -> Tensor:
        """One draw for every sample, (B, *event); a pure function of ``rng``."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density or log probability in nats, (B,)."""
        ...


@dataclass(frozen=True, eq=False)
class Dirac:
    """All mass at ``mean`` (B, *event)."""

    mean: Tensor

    @property
    def variance(self) -> Tensor:
        """Zero."""
        return self.mean.new_zeros(())

    def sample(self, rng: Rng) -> Tensor:
        """The point itself."""
        return self.mean

    def log_prob(self, x: Tensor) -> Tensor:
        """A point mass has no density.

        Raises:
            NoClosedForm: always.
        """
        raise NoClosedForm("a Dirac distribution has no density")


@dataclass(frozen=True, eq=False)
class LocationScale:
    """x = mean + std z with independent z ~ law: density prod_i law((x_i - mean_i)/std_i)/std_i.

    Args:
        mean: (B, *event).
        std: broadcastable to ``mean``, non-negative.
        law: noise law of mean 0 and variance 1.
    """

    mean: Tensor
    std: Tensor
    law: Law = field(default_factory=Normal)

    @property
    def variance(self) -> Tensor:
        """std^2."""
        return self.std * self.std

    def sample(self, rng: Rng) -> Tensor:
        """mean + std z."""
        z = self.law.sample(rng, self.mean.shape[1:], self.mean.dtype).to(self.mean.device)
        return self.mean + self.std * z

    def log_density(self, x: Tensor) -> Tensor:
        """Elementwise log density in nats, (B, *event)."""
        return self.law.log_density((x - self.mean) / self.std) - torch.log(self.std)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, (B,)."""
        return flat_sum(self.log_density(x))


def spectrum(cov: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, rising, and eigenvectors of covariances (..., d, d); what rounding left below 0 becomes 0.

    Raises:
        NumericalError: a value that is not finite.
        ValueError: not symmetric or not positive semi-definite, beyond the rounding of float32.
    """
    check_tensors({"a covariance": cov}, "the moments are")
    values, vectors = torch.linalg.eigh(cov)
    slack = FLAW * values.abs().amax(-1, keepdim=True)
    if bool((values < -slack).any()):
        raise ValueError(f"a covariance has no negative eigenvalue, got {float(values.min()):.3g}")
    if bool(((cov - cov.mT).abs() > slack[..., None]).any()):
        raise ValueError("a covariance is symmetric, got a matrix that is not")
    return values.clamp_min(0), vectors


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, cov) with a full covariance over the flattened event.

    Args:
        mean: (B, *event) with d elements per event.
        cov: (B or 1, d, d), symmetric and positive semi-definite; positive definite where a density is computed.
    """

    mean: Tensor
    cov: Tensor

    @property
    def variance(self) -> Tensor:
        """The diagonal, (B, *event)."""
        return torch.diagonal(self.cov, dim1=-2, dim2=-1).expand(self.mean.shape[0], -1).reshape(self.mean.shape)

    def sample(self, rng: Rng) -> Tensor:
        """mean + R z with R the symmetric square root (it exists for singular covariances too).

        Raises:
            ValueError, NumericalError: no covariance, see `spectrum`.
        """
        values, vectors = spectrum(self.cov)
        root = (vectors * values.sqrt()[..., None, :]) @ vectors.mT
        z = rng.normal(self.mean.shape[1:], self.mean.dtype).to(self.mean.device)
        return self.mean + (root @ z.flatten(1)[..., None]).reshape(self.mean.shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, (B,)."""
        factor = torch.linalg.cholesky(self.cov)
        offset = (x - self.mean).flatten(1)[..., None]
        z = torch.linalg.solve_triangular(factor, offset, upper=False)
        log_det = torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * flat_sum(z * z) - log_det - 0.5 * offset.shape[1] * math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Categorical:
    """Independent categorical variables with K values 0..K-1.

    Args:
        logits: (B, *event, K), unnormalised log probabilities.
        dtype: of the indices that are drawn: int64, or the floating type in which a discrete process holds its states.
    """

    logits: Tensor
    dtype: torch.dtype = torch.int64

    @property
    def log_probabilities(self) -> Tensor:
        """Normalised log probabilities, (B, *event, K)."""
        return self.logits.log_softmax(-1)

    @property
    def mean(self) -> Tensor:
        """Expectation of the index, (B, *event)."""
        values = torch.arange(self.logits.shape[-1], device=self.logits.device, dtype=self.logits.dtype)
        return (self.log_probabilities.exp() * values).sum(-1)

    @property
    def variance(self) -> Tensor:
        """Variance of the index, (B, *event)."""
        values = torch.arange(self.logits.shape[-1], device=self.logits.device, dtype=self.logits.dtype)
        return (self.log_probabilities.exp() * (values - self.mean[..., None]) ** 2).sum(-1)

    def sample(self, rng: Rng) -> Tensor:
        """Indices (B, *event), by inversion of the distribution function in float64.

        In float32 the last value of 256 would be drawn once in 10^7 times though its weight is 0, which is the mask of
        an absorbing process, and rare values would have other frequencies (Zheng et al. 2025, sec. 4).

        Raises:
            ValueError: another number of streams than of samples.
            NumericalError: weights that are not numbers, of which the first would be taken.
        """
        one_for_each(rng, self.logits)
        most = self.logits.amax(-1, keepdim=True)
        if not bool(most.isfinite().all()):
            raise NumericalError("the weights of a choice are no numbers, or all 0")
        u = rng.uniform(self.logits.shape[1:-1], torch.float64).to(self.logits.device)
        below = (self.logits.double() - most).exp_().cumsum(-1)
        chosen = torch.searchsorted(below, u[..., None] * below[..., -1:], right=True)
        return chosen[..., 0].to(self.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log probability of the indices (B, *event), in nats, (B,).

        Raises:
            ValueError: what is none of 0..K-1.
        """
        k = self.logits.shape[-1]
        if not bool(((x == x.long()) & (x >= 0) & (x < k)).all()):
            raise ValueError(f"indices must be whole numbers in 0..{k - 1}")
        chosen = self.log_probabilities.gather(-1, x.long()[..., None])[..., 0]
        return flat_sum(chosen) if chosen.ndim > 1 else chosen


@dataclass(frozen=True, eq=False)
class Mixture:
    """sum_k w_k p_k, over whole events or independently in every element.

    Args:
        log_weights: (B, K) for a mixture over events, or (B, *event, K) for independent mixtures in every element;
            unnormalised log weights.
        components: K distributions over (B, *event); for the elementwise form each is a `LocationScale` or `Dirac`.

    Raises:
        ValueError: another number of weights than of components, or none.
    """

    log_weights: Tensor
    components: tuple[Distribution, ...]

    def __post_init__(self) -> None:
        if not self.components or self.log_weights.shape[-1] != len(self.components):
            raise ValueError(f"{self.log_weights.shape[-1]} weights for {len(self.components)} components")

    @property
    def elementwise(self) -> bool:
        """Whether every element of the event chooses its own component."""
        return self.log_weights.ndim > 2

    @property
    def weights(self) -> Tensor:
        """Normalised weights (K, B, 1, ...) or (K, B, *event): component first, ready to multiply ``components``."""
        weights = self.log_weights.softmax(-1).movedim(-1, 0)
        if self.elementwise:
            return weights
        return weights.reshape(*weights.shape, *(1,) * (self.components[0].mean.ndim - 1))

    @property
    def mean(self) -> Tensor:
        """sum_k w_k E_k."""
        return sum((w * c.mean for w, c in zip(self.weights, self.components, strict=True)), torch.zeros(()))

    @property
    def variance(self) -> Tensor:
        """sum_k w_k (Var_k + E_k^2) - (sum_k w_k E_k)^2, computed around the mean."""
        mean = self.mean
        terms = (w * (c.variance + (c.mean - mean) ** 2) for w, c in zip(self.weights, self.components, strict=True))
        return sum(terms, torch.zeros(()))

    def sample(self, rng: Rng) -> Tensor:
        """Choose a component, then draw from it."""
        choice = Categorical(self.log_weights).sample(rng.fold("component"))
        draws = torch.stack([c.sample(rng.fold("value")) for c in self.components])
        if not self.elementwise:
            choice = choice.reshape(-1, *(1,) * (draws.ndim - 2))
        return draws.gather(0, choice.expand(draws.shape[1:])[None])[0]

    def log_prob(self, x: Tensor) -> Tensor:
        """logsumexp_k(log w_k + log p_k(x)) in nats, (B,)."""
        log_weights = self.log_weights.log_softmax(-1)
        if not self.elementwise:
            return torch.logsumexp(log_weights + torch.stack([c.log_prob(x) for c in self.components], -1), -1)
        densities = [c.log_density(x) for c in self.components if isinstance(c, LocationScale)]
        if len(densities) < len(self.components):
            raise NoClosedForm("an elementwise mixture has a density only if every component is a LocationScale")
        return flat_sum(torch.logsumexp(log_weights + torch.stack(densities, -1), -1))


def bin_width(levels: int) -> float:
    """Width of the bin of each of K grey levels on [-1, 1], 2/(K-1)."""
    return 2 / (levels - 1)


@dataclass(frozen=True, eq=False)
class Discretised:
    """K grey levels x_k = 2k/(K-1) - 1 with the mass of a continuous law in their bins (Ho et al. 2020, eq. 13).

    P(k) = F((x_k + h - mean)/std) - F((x_k - h - mean)/std) with h = 1/(K-1), the outer bins open to infinity.
    Differences of distribution functions are taken in the log domain on the side where they are accurate, without a
    clamp; their derivatives are those of the exact function, however far out.

    Exact when: always; the K probabilities sum to one, also 20 standard deviations away.
    """

    base: LocationScale
    levels: int

    def __post_init__(self) -> None:
        whole("levels", self.levels, 2)

    @property
    def mean(self) -> Tensor:
        """Mean of the underlying continuous law, (B, *event)."""
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        """Variance of the underlying continuous law."""
        return self.base.variance

    def sample(self, rng: Rng) -> Tensor:
        """A draw of the continuous law, moved to the nearest level."""
        k = ((self.base.sample(rng) + 1) * (self.levels - 1) / 2).round().clamp(0, self.levels - 1)
        return 2 * k / (self.levels - 1) - 1

    def log_prob(self, x: Tensor) -> Tensor:
        """Log probability of the levels x in [-1, 1], in nats, (B,)."""
        if not self.base.law.symmetric:
            raise NoClosedForm("the bins of grey levels are computed for a symmetric law, such as Normal()")
        half = bin_width(self.levels) / 2
        std = self.base.std.clamp_min(torch.finfo(self.base.std.dtype).tiny)  # a point lies in one bin
        centre = (x - self.base.mean) / std
        # F is symmetric, so P(a < Z < b) = P(-b < Z < -a): mirror the bins right of the mean into the accurate left
        # tail.
        sign = torch.where(centre > 0, -1.0, 1.0).to(centre.dtype)
        width = half / std
        upper, lower = sign * centre + width, sign * centre - width
        inf = torch.full_like(centre, math.inf)
        top, bottom = x > 1 - half, x < half - 1
        upper = torch.where((top & (sign > 0)) | (bottom & (sign < 0)), inf, upper)
        lower = torch.where((bottom & (sign > 0)) | (top & (sign < 0)), -inf, lower)
        return flat_sum(self.base.law.log_mass(lower, upper))
