"""Score matching: losses whose minimiser is the score of the data, for any function that stands for a score."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.checks import flag, real, whole
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, normal_like
from diffprob.base.shapes import flat_sum
from diffprob.density.baselines import DensityModel
from diffprob.space.pixels import Pixels

Score = Callable[[Tensor], Tensor]


def score_of(log_prob: Callable[[Tensor], Tensor]) -> Score:
    """x -> grad log p(x), for log p (B, *event) -> (B,) up to a constant.

    Differentiable in x and in parameters wherever gradients are on where it is called.
    """

    def score(x: Tensor) -> Tensor:
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():
            x = _leaf(x)
            (gradient,) = torch.autograd.grad(log_prob(x).sum(), x, create_graph=wanted)
        return gradient

    return score


def hyvarinen(score: Score, x: Tensor) -> Tensor:
    """|s(x)|^2/2 + tr ds/dx of each sample, (B,), the trace by d vector-Jacobian products: for small d.

    Args:
        score: (B, *event) -> (B, *event); entry i depends on sample i alone.
        x: samples of the data, (B, *event).

    Exact when: always; on data with score S the mean is E|s - S|^2/2 - E|S|^2/2, least at s = S.

    Reference: Hyvarinen, "Estimation of non-normalized statistical models by score matching" (2005), eq. 4.
    """
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        x = _leaf(x)
        s = score(x)
        trace = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for k in range(x[0].numel()):
            row = torch.zeros_like(x).flatten(1)
            row[:, k] = 1
            trace = trace + _product(s, x, row.view_as(x), wanted).flatten(1)[:, k]
        return _out(0.5 * flat_sum(s * s) + trace, wanted)


def sliced(score: Score, x: Tensor, rng: Rng, projections: int = 1, reduced: bool = True) -> Tensor:
    """Mean over random signs v of v^T (ds/dx) v + |s|^2/2 (``reduced``) or + (v^T s)^2/2, (B,).

    Args:
        score, x: as for `hyvarinen`.
        rng: one stream per sample.
        projections: signs v for each sample, one vector-Jacobian product each.
        reduced: whether the square is averaged over v beforehand, which makes the loss less noisy.

    Exact when: in expectation it is `hyvarinen`; if reduced always where ds/dx is diagonal.

    Reference: Song, Garg, Shi & Ermon, "Sliced score matching" (2019), eq. 7, and eq. 8 if reduced.
    """
    if projections < 1:
        raise ValueError(f"projections must be at least 1, got {projections}")
    wanted, rng = torch.is_grad_enabled(), rng.fold("slices")
    with torch.enable_grad():
        x = _leaf(x)
        s = score(x)
        total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for k in range(projections):
            # A sign is the uppermost bit of a word.
            v = (1 - 2 * (rng.fold(f"{k}").bits(x.shape[1:]) >> 31)).to(x)
            square = flat_sum(s * s) if reduced else flat_sum(v * s).square()
            total = total + 0.5 * square + flat_sum(_product(s, x, v, wanted) * v)
        return _out(total / projections, wanted)


def denoising(score: Score, x: Tensor, sigma: float, rng: Rng) -> Tensor:
    """|s(x + sigma z) + z/sigma|^2/2 of each sample, z standard normal, (B,).

    Args:
        score, x: as for `hyvarinen`; no derivative of the score is taken.
        sigma: standard deviation of the noise.
        rng: one stream per sample.

    Exact when: in expectation, up to a constant, it is score matching for the data with the noise: the minimiser is the
    score of that, -x/(v + sigma^2) for N(0, v).

    Reference: Vincent, "A connection between score matching and denoising autoencoders" (2011), eq. 10.
    """
    real("sigma", sigma, "(0, 1000]")
    z = normal_like(rng.fold("noise"), x)
    error = score(x + sigma * z) + z / sigma
    return 0.5 * flat_sum(error * error)


@dataclass(frozen=True)
class DenoisingMatching:
    """sigma^2/d times `denoising` for a `DensityModel` with s = grad log p: trains the density of x_0 + sigma z.

    At sigma of a few grey levels and more the steps between levels vanish in the noise.

    Args:
        sigma: standard deviation of the noise, in model space.

    Exact when: the score is 0 everywhere; the expectation is 1/2.

    Reference: Vincent (2011), eq. 10; the weight of Song & Ermon (2019), eq. 6.
    """

    sigma: float

    def __post_init__(self) -> None:
        real("sigma", self.sigma, "(0, 1000]")

    def bind(self, model: DensityModel, space: Pixels) -> "DenoisingMatching":
        """Itself.

        Raises:
            InputError: the model is no `DensityModel`.
        """
        _checked(self, model)
        return self

    def __call__(self, model: DensityModel, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each image (B, *event), (B,)."""
        return denoising(score_of(model.raw), x0, self.sigma, rng) * (self.sigma**2 / x0[0].numel())


@dataclass(frozen=True)
class SlicedMatching:
    """sigma^2/d times `sliced` at x_0 + sigma z, for a `DensityModel` with s = grad log p.

    The minimiser is that of `DenoisingMatching`; grey levels themselves have no score to match, hence the noise.

    Args:
        sigma: standard deviation of the noise, in model space.
        projections, reduced: as for `sliced`.

    Exact when: the score is 0 everywhere; the loss is 0.

    Reference: Song, Garg, Shi & Ermon, "Sliced score matching" (2019), eq. 7 and 8.
    """

    sigma: float
    projections: int = 1
    reduced: bool = True

    def __post_init__(self) -> None:
        real("sigma", self.sigma, "(0, 1000]")
        whole("projections", self.projections, 1, 10000)
        flag("reduced", self.reduced)

    def bind(self, model: DensityModel, space: Pixels) -> "SlicedMatching":
        """Itself.

        Raises:
            InputError: the model is no `DensityModel`.
        """
        _checked(self, model)
        return self

    def __call__(self, model: DensityModel, x0: Tensor, rng: Rng) -> Tensor:
        """Loss of each image (B, *event), (B,)."""
        x = x0 + self.sigma * normal_like(rng.fold("noise"), x0)
        loss = sliced(score_of(model.raw), x, rng, self.projections, self.reduced)
        return loss * (self.sigma**2 / x0[0].numel())


def _checked(objective: object, model: object) -> None:
    if not isinstance(model, DensityModel):
        raise InputError(f"{objective!r} trains a DensityModel such as an EnergyNet's, got a {type(model).__name__}")


def _leaf(x: Tensor) -> Tensor:
    """x, as something to take derivatives by: itself where the caller already does."""
    return x if x.requires_grad else x.detach().requires_grad_(True)


def _product(s: Tensor, x: Tensor, v: Tensor, create_graph: bool) -> Tensor:
    """v^T ds/dx, (B, *event); 0 where s does not depend on x."""
    if not s.requires_grad:
        return torch.zeros_like(x)
    (product,) = torch.autograd.grad(
        s, x, v, create_graph=create_graph, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return product


def _out(loss: Tensor, wanted: bool) -> Tensor:
    return loss if wanted else loss.detach()
