"""The linear noising process x_t = alpha(t) x_0 + sigma(t) z, and with `bridge` and `reverse` its whole reverse
theory."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from diffprob.base.checks import able, shown
from diffprob.base.distributions import Dirac, Distribution, Gaussian, LocationScale, Mixture
from diffprob.base.errors import InputError, NoClosedForm
from diffprob.base.laws import Law, NoiseLaw, Normal
from diffprob.base.rng import Rng, one_for_each
from diffprob.base.shapes import is_one_time, per_sample, scaled, sigmoid
from diffprob.process.process import Direct
from diffprob.process.schedule import LinearBetas, Schedule
from diffprob.process.times import as_time


class Scaling(Protocol):
    """How alpha and sigma follow from their ratio."""

    def coefficients(self, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) with alpha^2/sigma^2 = exp(logsnr), float64."""
        ...


@dataclass(frozen=True)
class VariancePreserving:
    """alpha^2 + sigma^2 = 1 (Ho et al. 2020, eq. 4)."""

    def coefficients(self, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        """Roots of sigmoid(logsnr) and sigmoid(-logsnr)."""
        return sigmoid(logsnr).sqrt(), sigmoid(-logsnr).sqrt()


@dataclass(frozen=True)
class VarianceExploding:
    """alpha = 1 (Song et al. 2021, eq. 30)."""

    def coefficients(self, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        """1 and exp(-logsnr/2)."""
        return torch.ones_like(logsnr), torch.exp(-0.5 * logsnr)


@dataclass(frozen=True)
class SubVariancePreserving:
    """sigma = 1 - alpha^2 (Song et al. 2021, eq. 29)."""

    def coefficients(self, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        """alpha = exp(-asinh(exp(-logsnr/2)/2)), sigma = 1 - alpha^2 by expm1."""
        log_alpha = -torch.asinh(0.5 * torch.exp(-0.5 * logsnr))
        return torch.exp(log_alpha), -torch.expm1(2 * log_alpha)


@dataclass(frozen=True)
class StraightScaling:
    """alpha + sigma = 1 (Lipman et al. 2023, eq. 20 with sigma_min = 0)."""

    def coefficients(self, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        """sigmoid(logsnr/2) and sigmoid(-logsnr/2)."""
        return sigmoid(0.5 * logsnr), sigmoid(-0.5 * logsnr)


@dataclass(frozen=True)
class BridgeCoefficients:
    """q(x_s | x_t, x_0) = N(c0 x_0 + ct x_t, ell^2 I), all float64 and shaped like the times."""

    c0: Tensor
    ct: Tensor
    ell: Tensor


class StepRule(Protocol):
    """How a posterior decides the variance of a step (frozen dataclass)."""

    def __call__(self, process: "LinearProcess", s: Tensor, t: Tensor, eta: float, default: Tensor) -> Tensor:
        """Variance of p(x_s | x_t), broadcastable to x, where ``default`` = ell^2 + c0^2 Var[x_0|x_t]."""
        ...


@dataclass(frozen=True, eq=False)
class Stepwise(LocationScale):
    """A posterior that also knows its steps: a variance learned for the step, or bounded where the step lands.

    Args:
        rule: the last word on the variance of a step.
        decodes: whether its spread is also that of the reconstruction p(x_0|x_t1) in a bound. A variance that was
            chosen for steps says nothing about it: then the decoder's rule does (`diffprob.likelihood.bound.Decoder`).
    """

    rule: StepRule | None = None
    decodes: bool = True


@dataclass(frozen=True)
class LinearProcess(Direct):
    """x_t = alpha(t) x_0 + sigma(t) z with z ~ law, elementwise.

    Times are float64 in [0, 1], shape () or (B,), with s < t; others raise a ValueError, but on a device other than the
    CPU, where they are not looked at. Coefficients are computed in float64 and cast to the state's dtype.

    Exact when: the law is normal. With another law, that of a time or a step (`NoiseLaw`), `marginal` and `bridge`
    agree in two moments, and what asks for more is refused (`check_law`).
    """

    schedule: Schedule = field(default_factory=LinearBetas)
    scaling: Scaling = field(default_factory=VariancePreserving)
    law: NoiseLaw = field(default_factory=Normal)

    def __post_init__(self) -> None:
        able("schedule", self.schedule, "logsnr", "LinearBetas()")
        able("scaling", self.scaling, "coefficients", "VariancePreserving()")
        able("law", self.law, "between", "Normal()")

    def logsnr(self, t: Tensor | float) -> Tensor:
        """log(alpha^2/sigma^2), float64."""
        if is_one_time(t):
            return _at(self, _one(t))[0]
        if isinstance(t, Tensor) and not t.is_cpu:
            return self.schedule.logsnr(torch.as_tensor(t, dtype=torch.float64))
        return self.schedule.logsnr(as_time(t, self.schedule.steps))

    def coefficients(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at t, float64, shaped like t."""
        return _at(self, _one(t))[1:] if is_one_time(t) else self.scaling.coefficients(self.logsnr(t))

    def alpha(self, t: Tensor | float) -> Tensor:
        """Signal coefficient, float64."""
        return self.coefficients(t)[0]

    def sigma(self, t: Tensor | float) -> Tensor:
        """Noise coefficient, float64."""
        return self.coefficients(t)[1]

    def change(self, s: Tensor | float, t: Tensor | float) -> Tensor:
        """logsnr(t) - logsnr(s), which no step of the forward process makes positive, float64.

        Raises:
            ValueError: t is below s, or both are an end at which the log-SNR is infinite.
        """
        change = self.logsnr(t) - self.logsnr(s)
        if not torch.all(change <= 0):
            raise ValueError(f"expected s < t, got s={_some(s)}, t={_some(t)}")
        return change

    def noise_at(self, t: Tensor | float) -> Law:
        """The law of the noise in x_t."""
        return self.law.at(self.schedule, t)

    def noise_between(self, s: Tensor | float, t: Tensor | float) -> Law:
        """The law of the noise that a step from t down to s draws."""
        return self.law.between(self.schedule, s, t)

    def noise_like(self, rng: Rng, like: Tensor, t: Tensor | float) -> Tensor:
        """Noise of x_t with the shape, dtype and device of ``like`` (B, *event), one stream for each sample.

        Raises:
            ValueError: another number of streams than of samples.
        """
        one_for_each(rng, like)
        return self.noise_at(t).sample(rng, like.shape[1:], like.dtype).to(like.device)

    is_linear = True

    def visible(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """x_t/(alpha^2 + sigma^2)^(1/2), which is x_t where variance is preserved."""
        alpha, sigma = self.coefficients(t)
        return xt / float((alpha**2 + sigma**2) ** 0.5)

    def require_linear(self, what: str) -> None:
        """Nothing: x_t is a signal with noise added."""

    def check_law(self, what: str) -> None:
        """Refuse what needs more of x_t than its mean and variance.

        Raises:
            InputError: the law is not stable.
        """
        if not self.law.stable:
            raise InputError(
                f"{what} needs the law of x_s given x_t, and with law={shown(self.law)} only its mean and variance are "
                "known: law=Normal() has one"
            )

    def most_noise(self) -> Tensor:
        """sigma(1), the noise that a chain begins with, float64 ().

        Raises:
            ValueError: it is infinite, so there is nothing to begin with.
        """
        most = self.sigma(1.0)
        if not bool(torch.isfinite(most)):
            raise ValueError(
                f"{self.scaling!r} with {self.schedule!r} has infinite noise at t = 1, where every chain begins: "
                "VariancePreserving() or StraightScaling() would be right"
            )
        return most

    def prior(self, like: Tensor) -> LocationScale:
        """The noise at t = 1 without the signal: sigma(1) z.

        Raises:
            ValueError: see `most_noise`.
        """
        return LocationScale(torch.zeros_like(like), per_sample(self.most_noise(), like), self.noise_at(1.0))

    def marginal(self, x0: Tensor, t: Tensor | float) -> LocationScale:
        """q(x_t | x_0): location alpha x_0, scale sigma (Ho et al. 2020, eq. 4)."""
        alpha, sigma = self.coefficients(t)
        return LocationScale(per_sample(alpha, x0) * x0, per_sample(sigma, x0), self.noise_at(t))

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
        """x_t = alpha x_0 + sigma z for the noise z, (B, *event) both (Ho et al. 2020, eq. 4)."""
        law = self.marginal(x0, t)
        return law.mean + law.std * noise

    def predicted_noise(self, x0: Tensor, xt: Tensor, t: Tensor | float) -> Tensor:
        """eps = (x_t - alpha x_0)/sigma, (B, *event): the noise that x_0, such as E[x_0|x_t], leaves in x_t.

        Raises:
            ValueError: a time without noise, where it is 0/0.
        """
        alpha, sigma = self.coefficients(t)
        if bool((sigma == 0).any()):
            raise ValueError(f"there is no noise to predict at t = {shown(torch.as_tensor(t).tolist())}")
        return predicted_noise(x0, xt, alpha, sigma)

    def bridge_coefficients(self, s: Tensor | float, t: Tensor | float, eta: float = 1.0) -> BridgeCoefficients:
        """Coefficients of q(x_s | x_t, x_0) in the family with ell^2 = eta^2 btil(s, t) (Bao et al. 2022, eq. 1).

        btil = sigma_s^2 (1 - SNR_t/SNR_s); rest = sqrt(sigma_s^2 - ell^2); c0 = alpha_s - rest alpha_t/sigma_t; ct =
        rest/sigma_t. eta = 1 is the Markov chain of Ho et al. 2020, eqs. 6-7; eta = 0 is DDIM (Song et al. 2021, eq.
        7).
        """
        if is_one_time(s) and is_one_time(t):
            return _bridge(self, _one(s), _one(t), eta)
        return self._bridge_coefficients(s, t, eta)

    def _bridge_coefficients(self, s: Tensor | float, t: Tensor | float, eta: float) -> BridgeCoefficients:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {eta}")
        (alpha_s, sigma_s), (alpha_t, sigma_t) = self.coefficients(s), self.coefficients(t)
        change = self.change(s, t)
        ell = eta * sigma_s * (-torch.expm1(change)).sqrt()
        # 1 - eta^2 (1 - SNR_t/SNR_s) without the cancellation that a long step with eta = 1 would suffer.
        rest = sigma_s * (1 - eta * eta + eta * eta * torch.exp(change)).sqrt()
        return BridgeCoefficients(alpha_s - rest * alpha_t / sigma_t, rest / sigma_t, ell)

    def bridge(self, x0: Tensor, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float = 1.0) -> LocationScale:
        """q(x_s | x_t, x_0), see `bridge_coefficients`; at sigma(s) = 0 it is x_0 itself."""
        c = self.bridge_coefficients(s, t, eta)
        return LocationScale(_mean(c, x0, xt), per_sample(c.ell, xt), self.noise_between(s, t))

    def reverse_mean(self, x0: Tensor, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float = 1.0) -> Tensor:
        """The mean of `reverse` for a posterior of the mean x0, c0 x_0 + ct x_t, (B, *event)."""
        return _mean(self.bridge_coefficients(s, t, eta), x0, xt)

    def reverse(
        self, posterior: Distribution, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float = 1.0
    ) -> Distribution:
        """p(x_s | x_t): the bridge averaged over x_0 ~ posterior; mean c0 E[x_0] + ct x_t, covariance ell^2 + c0^2
        Cov[x_0].

        A point gives the bridge, a normal with diagonal or full covariance a normal, a mixture the mixture; a
        `Stepwise` posterior has the last word on the variance.

        Exact when: the posterior is one of these (Bao et al. 2022, sec. 3; moments checked on Gaussian data).

        Raises:
            NoClosedForm: for another posterior.
        """
        if isinstance(posterior, Mixture):
            parts = tuple(self.reverse(component, xt, s, t, eta) for component in posterior.components)
            return Mixture(posterior.log_weights, parts)
        c = self.bridge_coefficients(s, t, eta)
        mean = _mean(c, posterior.mean, xt)
        if isinstance(posterior, Dirac):
            return LocationScale(mean, per_sample(c.ell, xt), self.noise_between(s, t))
        if isinstance(posterior, LocationScale):
            variance = per_sample(c.ell**2, xt) + per_sample(c.c0**2, xt) * posterior.variance
            if isinstance(posterior, Stepwise) and posterior.rule is not None:
                variance = posterior.rule(self, torch.as_tensor(s), torch.as_tensor(t), eta, variance)
            return LocationScale(mean, variance.sqrt(), self.noise_between(s, t))
        if isinstance(posterior, Gaussian):
            # A covariance that all samples share stays shared unless every sample has its own time.
            cov = posterior.cov if c.ell.ndim == 0 else posterior.cov.expand(len(xt), -1, -1)
            identity = torch.eye(cov.shape[-1], dtype=xt.dtype, device=xt.device)
            return Gaussian(mean, per_sample(c.c0**2, cov) * cov + per_sample(c.ell**2, cov) * identity)
        raise NoClosedForm(f"no closed form for the reverse kernel of a {type(posterior).__name__} posterior")


def predicted_noise(x0: Tensor, xt: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """eps = (x_t - alpha x_0)/sigma, (B, *event), for coefficients () or (B,)."""
    return (xt - per_sample(alpha, xt) * x0) / per_sample(sigma, xt)


def _mean(c: BridgeCoefficients, x0: Tensor, xt: Tensor) -> Tensor:
    return scaled(x0, c.c0) + scaled(xt, c.ct)


def _one(t: Tensor | float) -> float:
    """One time as a key; whole numbers in a tensor are no times, as `as_time` says."""
    return float(as_time(t, None) if isinstance(t, Tensor) and not t.is_floating_point() else t)


def _some(t: Tensor | float) -> str:
    """One time, or the first and last of a batch."""
    values = torch.as_tensor(t).flatten().tolist()
    return f"{values[0]:g}" if len(set(values)) == 1 else f"{values[0]:g} ... {values[-1]:g}"


@lru_cache(maxsize=8192)
def _at(process: LinearProcess, t: float) -> tuple[Tensor, Tensor, Tensor]:
    """(logsnr, alpha, sigma) at one time: a step asks for them several times, a chain's times are always the same."""
    # What is kept under inference_mode may be wanted where gradients flow.
    with torch.inference_mode(False):
        logsnr = process.schedule.logsnr(as_time(t, process.schedule.steps))
        return (logsnr, *process.scaling.coefficients(logsnr))


@lru_cache(maxsize=8192)
def _bridge(process: LinearProcess, s: float, t: float, eta: float) -> BridgeCoefficients:
    """The coefficients of one step of a chain."""
    with torch.inference_mode(False):
        return process._bridge_coefficients(s, t, eta)
