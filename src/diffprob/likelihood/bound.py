"""The variational bound on -log p(x_0), in nats for each sample: what the chain of reverse kernels costs.

-log p(x_0) <= KL(q(x_1|x_0) || p(x_1)) + sum over steps KL(q(x_s|x_t,x_0) || p(x_s|x_t)) - log p(x_0|x_t1), with one
draw of x_t for every term (Ho et al. 2020, eq. 5). Any decreasing grid of times is a chain, so 1000 steps, 50 and a
least-cost path are the same function; the variance is whatever the posterior of the model says.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.distributions import Discretised, Distribution, LocationScale
from diffprob.base.divergence import kl
from diffprob.base.rng import Rng, one_for_each
from diffprob.base.shapes import check_points, flat_sum, per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.denoise.subset import for_samples
from diffprob.process.calculus import logsnr_decay
from diffprob.process.chain import noisy_times
from diffprob.process.linear import LinearProcess, Stepwise
from diffprob.process.process import Process
from diffprob.space.pixels import off_levels

LANES = 16  # batches have a multiple of so many samples


class Bound(NamedTuple):
    """The three parts of a bound on -log p(x_0), nats, each (B,)."""

    prior: Tensor
    steps: Tensor
    reconstruction: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum, (B,)."""
        return self.prior + self.steps + self.reconstruction


class Term(NamedTuple):
    """One evaluation of the model: a step's KL, or the reconstruction at the last noisy time.

    Args:
        t: where the model was evaluated, () or (B,).
        nats: of this step, (B,).
        weight: how many steps it stands for, () or (B,); 1 unless steps are drawn at random.
        error: |x_0 - E[x_0|x_t]|^2, (B,).
    """

    t: Tensor
    nats: Tensor
    weight: Tensor
    error: Tensor

    @property
    def share(self) -> Tensor:
        """What it adds to the bound, weight times nats, (B,)."""
        return self.weight.to(self.nats) * self.nats


@dataclass(frozen=True)
class Decoder:
    """p(x_0 | x_t1): from the last noisy time to the data.

    Its standard deviation is that of the posterior. Where that is 0 (beta-tilde: a posterior without spread) or says
    nothing about x_0 (beta, `UnitData`), it is the one of the step before, btil(t_1, t_2)^(1/2) (Ho et al. 2020,
    released code; Nichol & Dhariwal 2021), and without such a step that of the noise, sigma/alpha (Kingma et al. 2021).

    Args:
        levels: K grey levels of the images, whose bins the law is summed over (Ho et al. 2020, eq. 13), the
            ``space.levels`` of a run; None for a density. No number would do for all images, so it has no default.
        std: a standard deviation instead, in model space.

    Exact when: always; the probabilities of the K levels sum to one.
    """

    levels: int | None
    std: float | None = None

    def __post_init__(self) -> None:
        whole("levels", self.levels, 2, none=True)  # None: a density
        real("std", self.std, "(0, inf)", none=True)

    def check(self, x0: Tensor) -> None:
        """Refuse images that are not made of these levels: their bits would be those of other images.

        Raises:
            ValueError: a value between two levels, or outside of them; whole numbers.
            NumericalError: a value that is not finite.
        """
        check_points(x0, "x0")
        if self.levels is None:
            return
        if (wrong := off_levels(x0, self.levels)) is not None:
            raise ValueError(
                f"x0 has the value {wrong:g}, none of {self.levels} levels on [-1, 1]: take Decoder(levels) with the "
                "levels of the images (a run's space.levels), or Decoder(None) for a density"
            )

    def law(self, process: LinearProcess, posterior: Distribution, t: Tensor, before: Tensor | None) -> Distribution:
        """The law of x_0 given x_t, from p(x_0|x_t); ``before`` is the time before t in the chain, None if there is
        none.

        Raises:
            ValueError: bins or a standard deviation for a law without independent elements.
        """
        if not isinstance(posterior, LocationScale):
            if self.std is not None or self.levels is not None:
                raise ValueError(f"levels and std need independent elements, got a {type(posterior).__name__}")
            return posterior
        spread = not isinstance(posterior, Stepwise) or posterior.decodes
        own = posterior.std if spread else torch.zeros_like(posterior.std)
        law = LocationScale(posterior.mean, self._std(process, own, t, before), posterior.law)
        return law if self.levels is None else Discretised(law, self.levels)

    def _std(self, process: LinearProcess, own: Tensor, t: Tensor, before: Tensor | None) -> Tensor:
        if self.std is not None:
            return torch.full_like(own, self.std)
        if bool((own > 0).all()):
            return own
        alpha, sigma = process.coefficients(t)
        least = sigma / alpha if before is None else process.bridge_coefficients(t, before).ell
        return torch.where(own > 0, own, per_sample(least, own.reshape(own.shape or (1,))))


def step_nats(
    process: Process, posterior: Distribution, x0: Tensor, xt: Tensor, s: Tensor, t: Tensor, eta: float = 1.0
) -> Tensor:
    """KL(q(x_s|x_t,x_0) || p(x_s|x_t)) in nats, (B,), for s and t () or (B,) (Ho et al. 2020, eq. 5).

    Exact when: both are normal, or both categorical; with eta = 1, on Gaussian data with the exact posterior, it adds
    up to the entropy.

    Raises:
        ValueError: the step has no noise (eta = 0): p(x_s|x_t) has no density and there is no bound.
    """
    process = process.averaged
    q = process.bridge(x0, xt, s, t, eta)
    if isinstance(q, LocationScale) and not bool((q.std > 0).all()):
        raise ValueError(f"a step without noise (eta = {eta:g}) has no density, so the chain has no bound")
    return kl(q, process.reverse(posterior, xt, s, t, eta))


def prior_nats(process: Process, x0: Tensor, t: Tensor) -> Tensor:
    """KL(q(x_t|x_0) || prior) at the first time of a chain, nats, (B,).

    Raises:
        InputError: noise of a law for which there is no bound.
    """
    process.check_law("a variational bound")
    return kl(process.marginal(x0, t), process.prior(x0))


@torch.no_grad()
def bound_terms(
    model: Denoiser,
    x0: Tensor,
    times: Tensor,
    rng: Rng,
    decoder: Decoder,
    terms: int | None = None,
    eta: float = 1.0,
) -> Iterator[Term]:
    """Every term but the prior's, from noise to data; the last one is the reconstruction.

    A sample's terms depend on the sample and its stream alone.

    Args:
        model: the denoiser.
        x0: images in model space, (B, *event); float64 keeps the differences of means to rounding.
        times: decreasing noisy times, float64 (n,).
        rng: one stream per sample.
        decoder: p(x_0|x_t1).
        terms: so many of the n - 1 steps, drawn at random for each sample, one from each of as many equal strata, with
            weights that keep the sum unbiased; None for all.
        eta: of the family of kernels q(x_s|x_t,x_0), see `LinearProcess.bridge_coefficients`.

    Raises:
        ValueError: times that do not decrease within [0, 1] or end where there is no noise, images that are not made of
            the decoder's levels, no terms, another number of streams than of images, or eta = 0.
    """
    model.process.check_law("a variational bound")
    times = noisy_times(model.process, times)
    decoder.check(x0)
    process, steps = model.process, list(pairwise(times))
    whole("terms", terms, 1, none=True)
    one_for_each(rng, x0)
    every = terms is None or terms >= len(steps)
    n, (model, x0, rng) = len(x0), _aligned(model, x0, rng)
    for k in range(len(steps) if every else terms or 0):
        t, s, weight = (*steps[k], times.new_ones(())) if every else _drawn(times, rng, k, terms or 1)
        xt = process.sample_marginal(x0, t, rng.at(k))
        posterior = model(xt, t)
        yield _term(t, step_nats(process, posterior, x0, xt, s, t, eta), weight, posterior, x0, n)
    yield _reconstruction(model, x0, times[-1], times[-2] if steps else None, rng, decoder, n)


def variational_bound(
    model: Denoiser,
    x0: Tensor,
    times: Tensor,
    rng: Rng,
    decoder: Decoder,
    terms: int | None = None,
    eta: float = 1.0,
) -> Bound:
    """-log p(x_0) <= prior + steps + reconstruction, nats, for each sample; the arguments are those of `bound_terms`.

    Times and variance decide the number as much as the network does: few steps with beta-tilde (`Zero`) cost many times
    what they do with a fitted variance on the least-cost path (docs/likelihood.md has the lines), which is what
    ``diffprob likelihood`` measures.

    Exact when: eta = 1 and the posterior is exact with its full covariance: the average over the data is then the
    entropy of the data plus KL(q(x_1) || p(x_1)), on every grid. With eta below 1 it is a bound too, and a looser one:
    x_s then depends on x_0 beyond x_t, for which no p(x_s|x_t) makes up.

    Reference: Ho et al. 2020, eqs. 5 and 13; Kingma et al., "Variational diffusion models" (2021), eq. 11.
    """
    times = noisy_times(model.process, times)
    parts = bound_terms(model, x0, times, rng, decoder, terms, eta)
    return _added(prior_nats(model.process, x0, times[0]), parts)


@torch.no_grad()
def continuous_terms(model: Denoiser, x0: Tensor, rng: Rng, terms: int, decoder: Decoder) -> Iterator[Term]:
    """The terms of the bound of infinitely many steps: 1/2 int g^2/sigma^2 |eps - E[eps|x_t]|^2 dt between the last
    noisy time and 1, one random time for each sample in each of ``terms`` equal parts; the last is the reconstruction.

    With |eps - eh|^2 = SNR |x_0 - x0h|^2 this is 1/2 int |x_0 - x0h|^2 d(-SNR); no variance of the steps enters.

    Exact when: terms grow, and unbiased before that: the limit of the bound on ever finer grids.

    Reference: Kingma et al., "Variational diffusion models" (2021), eq. 18; Song et al., "Maximum likelihood training
    of score-based diffusion models" (2021), theorem 3.
    """
    whole("terms", terms, 1)
    one_for_each(rng, x0)
    decoder.check(x0)
    process, start = model.process, model.process.schedule.start
    width = torch.tensor((1 - start) / terms, dtype=torch.float64)
    n, (model, x0, rng) = len(x0), _aligned(model, x0, rng)
    for k in range(terms):
        t = 1 - width * (k + rng.fold("time").at(k).uniform((), torch.float64))
        xt = process.sample_marginal(x0, t, rng.at(k))
        posterior = model(xt, t)
        yield _term(t, _rate_nats(process, posterior, x0, xt, t), width, posterior, x0, n)
    yield _reconstruction(model, x0, torch.tensor(start, dtype=torch.float64), None, rng, decoder, n)


def continuous_bound(model: Denoiser, x0: Tensor, rng: Rng, terms: int, decoder: Decoder) -> Bound:
    """-log p(x_0) of infinitely many steps, estimated at ``terms`` random times; see `continuous_terms`."""
    return _added(prior_nats(model.process, x0, torch.ones(())), continuous_terms(model, x0, rng, terms, decoder))


def _added(prior: Tensor, terms: Iterable[Term]) -> Bound:
    *inner, last = terms
    return Bound(prior, sum((term.share for term in inner), torch.zeros_like(prior)), last.share)


def _drawn(times: Tensor, rng: Rng, k: int, terms: int) -> tuple[Tensor, Tensor, Tensor]:
    """(t, s, weight) of the step that every sample draws from part k of ``terms``, each float64 (B,)."""
    steps = len(times) - 1
    low, high = k * steps // terms, (k + 1) * steps // terms
    index = low + rng.fold("term").at(k).integers((), high - low)
    at = times.to(index.device)
    return at[index], at[index + 1], torch.full((len(index),), float(high - low), dtype=torch.float64)


def aligned(n: int) -> int:
    """Samples that the network sees where a bound is of n: the next multiple of `LANES`."""
    return n + -n % LANES


def _aligned(model: Denoiser, x0: Tensor, rng: Rng) -> tuple[Denoiser, Tensor, Rng]:
    """Repeat the last sample up to a multiple of `LANES`: vector instructions and what is left over for scalar ones
    round exp and log differently, and a sample's bits must not depend on where in the batch it stands."""
    if aligned(len(x0)) == len(x0):
        return model, x0, rng
    index = torch.arange(aligned(len(x0)), device=x0.device).clamp_max(len(x0) - 1)
    return for_samples(model, index), x0[index], rng.select(index.to(rng.seeds.device))


def _term(t: Tensor, nats: Tensor, weight: Tensor, posterior: Distribution, x0: Tensor, n: int) -> Term:
    """The term of the first n samples."""
    t, weight = (value[:n] if value.ndim else value for value in (t, weight))
    return Term(t, nats[:n], weight, _error(posterior, x0)[:n])


def _reconstruction(
    model: Denoiser, x0: Tensor, t: Tensor, before: Tensor | None, rng: Rng, decoder: Decoder, n: int
) -> Term:
    xt = model.process.sample_marginal(x0, t, rng.fold("reconstruction"))
    posterior = model(xt, t)
    law = decoder.law(model.process, posterior, t, before)
    return _term(t, -law.log_prob(x0), torch.ones_like(t), posterior, x0, n)


def _rate_nats(process: Process, posterior: Distribution, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
    """What infinitely short steps at t cost, (B,): of signal and noise g^2/(2 sigma^2) |eps - E[eps|x_t]|^2."""
    if isinstance(process, LinearProcess):
        alpha, sigma = process.coefficients(t)
        rate = 0.5 * logsnr_decay(process, t) * (alpha / sigma) ** 2
        return rate.to(x0) * _error(posterior, x0)
    own: Any = process
    return own.rate_nats(posterior, x0, xt, t)


def _error(posterior: Distribution, x0: Tensor) -> Tensor:
    return flat_sum((x0 - posterior.mean) ** 2)
