"""Solvers of the reverse stochastic differential equation dx = (f x - g^2 score) dt + g dw, backwards in time."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.distributions import Dirac, Distribution, LocationScale
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.denoise.ideal import tweedie_score
from diffprob.process.calculus import drift_and_diffusion, increments
from diffprob.process.linear import LinearProcess
from diffprob.sampling.exponential import from_pure_noise
from diffprob.sampling.simulate import State, check_step


def _from_noise(process: LinearProcess, posterior: Distribution, x: Tensor, s: Tensor, t: Tensor) -> Distribution:
    """The bridge at the posterior's mean: where alpha_t = 0 the equation's f is infinite, and E[x_0|x_t] constant."""
    return process.reverse(Dirac(posterior.mean), x, s, t)


class OfKernel(ABC):
    """A stochastic sampler that draws x_s from a law given x_t and the posterior, with one evaluation a step."""

    order = None
    evaluations = 1

    @abstractmethod
    def kernel(self, process: LinearProcess, posterior: Distribution, x: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """The law of x_s given x_t = x, (B, *event)."""

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        check_step(state, s, rng)
        posterior = model(state.x, state.t)
        law = self.kernel(model.process, posterior, state.x, s, state.t)
        return State(law.sample(rng.fold("step").at(state.index)), s, state.index + 1, posterior)


@dataclass(frozen=True)
class EulerMaruyama(OfKernel):
    """x_s = x - (f x - g^2 score) (t - s) + g (t - s)^(1/2) z: first order in distribution.

    On a table f (t - s) and g^2 (t - s) are those of the step as a whole, log(alpha_t/alpha_s) and the variance that
    the forward process adds between s and t: the slope of a single interval of the table would leave an error of 1/T
    that no number of steps removes. From alpha_t = 0 the step is that of `Ancestral` without posterior variance.

    When: a baseline of the literature; it needs hundreds of steps.

    Exact when: in the limit of small steps.

    Reference: Song et al., "Score-based generative modeling through stochastic differential equations" (2021), eq. 6
    and appendix D.1.
    """

    def kernel(self, process: LinearProcess, posterior: Distribution, x: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """The law of x_s given x_t = x, (B, *event)."""
        if from_pure_noise(process, t):
            return _from_noise(process, posterior, x, s, t)
        if process.schedule.steps is None:
            f, g2 = (slope * (t - s) for slope in drift_and_diffusion(process, t))
        else:
            f, g2 = increments(process, s, t)
        mean = per_sample(1 - f, x) * x + per_sample(g2, x) * tweedie_score(process, posterior.mean, x, t)
        return LocationScale(mean, per_sample(g2.sqrt(), x), process.noise_between(s, t))


@dataclass(frozen=True)
class ReverseDiffusion(OfKernel):
    """The discretisation that mirrors the forward steps: x_s = (2 - r) x + b score + b^(1/2) z.

    r = alpha_t/alpha_s and b = sigma_t^2 - r^2 sigma_s^2, beta for neighbours of a DDPM; first order in distribution.
    From alpha_t = 0 the step is that of `Ancestral` without posterior variance.

    When: to repeat results of the score-SDE paper; needs hundreds of steps.

    Exact when: in the limit of small steps.

    Reference: Song et al., "Score-based generative modeling through stochastic differential equations" (2021),
    appendix E, eq. 46.
    """

    def kernel(self, process: LinearProcess, posterior: Distribution, x: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """The law of x_s given x_t = x, (B, *event)."""
        if from_pure_noise(process, t):
            return _from_noise(process, posterior, x, s, t)
        log_ratio, b = increments(process, s, t)
        score = tweedie_score(process, posterior.mean, x, t)
        mean = per_sample(2 - log_ratio.exp(), x) * x + per_sample(b, x) * score
        return LocationScale(mean, per_sample(b.sqrt(), x), process.noise_between(s, t))


@dataclass(frozen=True)
class PredictorCorrector:
    """``corrections`` steps of Langevin dynamics at the present time, then a step of `ReverseDiffusion`.

    x <- x + e score + (2 e)^(1/2) z with e = 2 A (snr ||z||/||score||)^2 and A = (alpha_t/alpha_s)^2, which is 1 for
    variance exploding. The norms are each sample's own; the published code takes their mean over the batch, which would
    make a sample depend on its neighbours. In a few dimensions a score near 0 makes e arbitrarily large: the method is
    made for images, whose norms hardly vary.

    Args:
        snr: the signal-to-noise ratio r of the correction; the paper has 0.16 for VE, 0.17 and 0.01 for VP networks.
        corrections: Langevin steps before each step down.

    When: score networks of variance-exploding processes with about a thousand steps.

    Exact when: in the limit of small steps and small snr.

    Reference: Song et al., "Score-based generative modeling through stochastic differential equations" (2021),
    appendix G, algorithms 2 to 5.
    """

    snr: float = 0.16
    corrections: int = 1

    order = None

    def __post_init__(self) -> None:
        real("snr", self.snr, "(0, 1)")
        whole("corrections", self.corrections, 1, 1000)

    @property
    def evaluations(self) -> int:
        """One for each correction, one for the step down."""
        return self.corrections + 1

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """Correct x_t, then one step from state.t to s."""
        check_step(state, s, rng)
        process, t, x = model.process, state.t, state.x
        gain = (process.alpha(t) / process.alpha(s)) ** 2
        streams = rng.fold("correct").at(state.index)
        for k in range(self.corrections):
            score = tweedie_score(process, model(x, t).mean, x, t)
            z = process.law.sample(streams.fold(str(k)), x.shape[1:], x.dtype).to(x.device)
            noise, slope = (norms(v) for v in (z, score))
            # A score of exactly 0 is a mode: there is nothing to correct.
            ratio = (noise / slope).nan_to_num(posinf=0.0)
            size = 2 * gain.to(x.device) * (self.snr * ratio) ** 2
            x = x + per_sample(size, x) * score + per_sample((2 * size).sqrt(), x) * z
        return ReverseDiffusion().step(model, State(x, t, state.index), s, rng)


def norms(x: Tensor) -> Tensor:
    """Each sample's Euclidean norm, float64 (B,)."""
    return x.double().flatten(1).norm(dim=1)
