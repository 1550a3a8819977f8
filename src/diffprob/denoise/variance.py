"""The variance of x_0 given x_t: what makes a posterior of the mean that a network predicts.

The variance of a reverse step follows from it: ell^2 + c0^2 Var[x_0|x_t] (`LinearProcess.reverse`). Which one to use:
for likelihood and codes the variance that is right for the network's own mean (`GaussianNLL`,
`Analytic`, `NoiseResidual`, `OptimalCovariance`), for samples an estimate of the data's own (`SquaredNoise`).
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from diffprob.base.checks import instance, one_of, real
from diffprob.base.distributions import LocationScale
from diffprob.base.shapes import per_sample
from diffprob.denoise.moments import NoiseMoments
from diffprob.process.linear import LinearProcess, Stepwise


class Variance(Protocol):
    """A choice of Var[x_0 | x_t] (frozen dataclass: its repr is its configuration)."""

    def posterior(self, process: LinearProcess, t: Tensor, mean: Tensor, extra: Tensor | None) -> LocationScale:
        """p(x_0 | x_t) around ``mean`` (B, *event), t () or (B,); ``extra`` is what the network returned besides."""
        ...


@dataclass(frozen=True)
class Zero:
    """Var[x_0|x_t] = 0: steps get the posterior variance beta-tilde, "fixed small" (Ho et al. 2020, sec. 3.2).

    Exact when: the data is a single point.
    """

    def __call__(self, process: LinearProcess, t: Tensor) -> Tensor:
        """0, float64, shaped like t."""
        return torch.zeros_like(torch.as_tensor(t, dtype=torch.float64))

    def posterior(self, process: LinearProcess, t: Tensor, mean: Tensor, extra: Tensor | None) -> LocationScale:
        """The mean without spread."""
        return LocationScale(mean, mean.new_zeros(t.shape + (1,) * (mean.ndim - 1) if t.ndim else ()))


@dataclass(frozen=True)
class UnitData:
    """Var[x_0|x_t] = sigma^2/(alpha^2 + sigma^2): steps get the forward variance beta, "fixed large" (Ho et al. 2020,
    sec. 3.2).

    The reconstruction of a bound has the variance of beta-tilde, as published: btil(t_1, t_2), not beta_1 (`Decoder`).

    Exact when: the data is N(0, I), for the steps.
    """

    def __call__(self, process: LinearProcess, t: Tensor) -> Tensor:
        """sigma^2/(alpha^2 + sigma^2), float64, shaped like t."""
        alpha, sigma = process.coefficients(t)
        return sigma * sigma / (alpha * alpha + sigma * sigma)

    def posterior(self, process: LinearProcess, t: Tensor, mean: Tensor, extra: Tensor | None) -> LocationScale:
        """The same spread in every element; it does not decode."""
        return Stepwise(mean, per_sample(self(process, t).sqrt(), mean), decodes=False)


@dataclass(frozen=True)
class QuietLanding:
    """The step that lands on the last noisy time has E|noise| <= ``last``: variance at most last^2 pi/2.

    What is drawn there stays in the image. Reference: Bao et al. 2022, appendix F.2 ("clip_sigma_idx").
    """

    last: float

    def __call__(self, process: LinearProcess, s: Tensor, t: Tensor, eta: float, default: Tensor) -> Tensor:
        """``default``, bounded where s is the last noisy time."""
        landed = s.to(default.device) <= process.schedule.start * (1 + 1e-9)
        limit = torch.full(landed.shape, math.inf, dtype=torch.float64, device=default.device)
        limit = limit.masked_fill(landed, self.last**2 * math.pi / 2)
        return torch.minimum(default, per_sample(limit, default))


@dataclass(frozen=True)
class Fitted:
    """What the fitted variances share: two of the three bounds of Bao et al. 2022; the third is the clipped mean.

    Args:
        bound: largest Var[x_0|x_t], 1 for data in [-1, 1] (their Theorem 2); inf for no bound.
        last: largest mean absolute noise in the step that lands on the last noisy time, 2/255 for half a grey level on
            either side; inf for no bound, which likelihoods need.
    """

    bound: float = 1.0
    last: float = 2 / 255

    def __post_init__(self) -> None:
        for name in ("bound", "last"):
            real(name, getattr(self, name), "(0, inf]")

    def bounded(self, mean: Tensor, variance: Tensor) -> LocationScale:
        """The posterior around ``mean`` with the variance clamped to [0, bound]."""
        # Bounds of 1e18 bound nothing; whole numbers are taken, and may be longer than 64 bits.
        most, last = (float(limit) if limit < 1e18 else math.inf for limit in (self.bound, self.last))
        rule = None if math.isinf(last) else QuietLanding(last)
        return Stepwise(mean, variance.clamp(0, most).sqrt(), rule=rule)


@dataclass(frozen=True)
class Analytic(Fitted):
    """The best variance that is one number per time: E Var[x_0|x_t]/d = sigma^2/alpha^2 (1 - sigma^2 Gamma).

    Fitted once per run by Monte Carlo, without training: `diffprob fit RUN analytic`.

    Args:
        moment: "residual" takes E|x_0 - x0h|^2/d, "norm" Gamma = E|score|^2/d, as published. For a perfect mean they
            are the same number. For an imperfect one the first is the variance that the bound wants, and the second
            fails near the noise, where it divides the error of the mean by alpha: there only its bounds remain.
        moments: the fitted table; a run fills it in.

    Exact when: the data is isotropic and Gaussian, for any number of steps and any eta; otherwise it is the average of
    the exact variances over elements and x_t.

    Reference: Bao et al., "Analytic-DPM" (2022), theorem 1, eqs. 7-8.
    """

    moment: str = "residual"
    moments: NoiseMoments | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("moment", self.moment, ("residual", "norm"))
        instance("moments", self.moments, NoiseMoments, "a fitted table", none=True)

    def __call__(self, process: LinearProcess, t: Tensor) -> Tensor:
        """E Var[x_0|x_t]/d as fitted, without bounds, float64, shaped like t.

        Raises:
            ValueError: never fitted.
        """
        if self.moments is None:
            raise ValueError(f"{self!r} was never fitted to this model: diffprob fit RUN analytic")
        return UnitData()(process, t) * self.moments.relative(self.moment, process, t)

    def posterior(self, process: LinearProcess, t: Tensor, mean: Tensor, extra: Tensor | None) -> LocationScale:
        """The same spread in every element."""
        return self.bounded(mean, per_sample(self(process, t), mean))


@dataclass(frozen=True)
class Headed(Fitted):
    """What the variances of a trained head share: ``extra`` is Var[x_0|x_t] in units of unit data's, elementwise."""

    def posterior(self, process: LinearProcess, t: Tensor, mean: Tensor, extra: Tensor | None) -> LocationScale:
        """A spread for every element, sigma^2/(alpha^2 + sigma^2) times the head's output.

        Raises:
            ValueError: the network has no head.
        """
        if extra is None:
            raise ValueError(f"{self!r} needs a fitted head: diffprob fit RUN {HEADS[type(self)]}")
        return self.bounded(mean, per_sample(UnitData()(process, t), mean) * extra)


@dataclass(frozen=True)
class NoiseResidual(Headed):
    """NPR: a head predicts E[(eps - eh)^2 | x_t]: the full diagonal that is right for the mean really predicted.

    Exact when: the head is; with an imperfect mean it is E[(x_0 - x0h)^2 | x_t], what the bound wants.

    Reference: Bao et al., "Estimating the optimal covariance with imperfect mean" (2022), eq. 13.
    """


@dataclass(frozen=True)
class SquaredNoise(Headed):
    """SN: a head predicts E[eps^2 | x_t] - eh^2, the diagonal of the data's own posterior covariance.

    Exact when: head and mean are; with eh = E[eps|x_t] + b it is off by -b (2 E[eps|x_t] + b) in units of eps, and may
    be negative before the clamp.

    Reference: Bao et al., "Estimating the optimal covariance with imperfect mean" (2022), eq. 11.
    """


@dataclass(frozen=True)
class OptimalCovariance(Headed):
    """OCM: a head predicts the diagonal of sigma^2/alpha d x0h/d x_t, from products with random signs.

    Exact when: head and mean are; then it is Cov[x_0|x_t] by Tweedie's second-order formula.

    Reference: Ou et al., "Improving probabilistic diffusion models with optimal diagonal covariance matching" (2025).
    """


@dataclass(frozen=True)
class GaussianNLL(Headed):
    """A head that maximises the likelihood of x_0 around the mean that is really used, clipped where a run clips.

    As NPR it is E[(x_0 - x0h)^2 | x_t] where it could be learned perfectly. But relative errors count here, not
    absolute ones, so that small variances are learned too: of images with an empty background these are most, and
    squares leave them too large (`docs/variances.md` has the numbers).

    Exact when: the head is.

    Reference: Nix & Weigend, "Estimating the mean and variance of the target probability distribution" (1994).
    """


HEADS: dict[type, str] = {
    NoiseResidual: "npr",
    SquaredNoise: "sn",
    OptimalCovariance: "ocm",
    GaussianNLL: "nll",
}
