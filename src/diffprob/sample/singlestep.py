"""Solvers of the probability flow that evaluate inside a step: DPM-Solver, DPM-Solver++(2S) and Heun's method."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.distributions import Distribution
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.process.linear import LinearProcess
from diffprob.sample.exponential import Stretch, from_pure_noise
from diffprob.sample.simulate import State


def between(process: LinearProcess, s: Tensor, t: Tensor, share: float) -> Tensor:
    """The time at lambda_t + share (lambda_s - lambda_t)."""
    return process.schedule.time(process.logsnr(t) + share * (process.logsnr(s) - process.logsnr(t)))


@dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver of order k in the predicted noise, single-step: k evaluations a step.

    With E = e^h - 1 the first order is x_s = (alpha_s/alpha_t) x - sigma_s E eps_t (DDIM); orders 2 and 3 evaluate eps
    at lambda_t + h/2, and at h/3 and 2h/3, as well.

    Exact when: eps is constant.

    Reference: Lu et al., "DPM-Solver" (2022), algorithms 1 and 2.
    """

    order: int = 2

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, got {self.order!r}")

    @property
    def evaluations(self) -> int:
        """As many as the order."""
        return self.order

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        process, t, x = model.process, state.t, state.x
        posterior = model(x, t)
        if from_pure_noise(process, t):
            return State(Stretch.of(process, s, t)(x, posterior.mean), s, state.index + 1, posterior)
        noise = predicted_noise(process, posterior, x, t)
        share = {1: 1.0, 2: 1 / 2, 3: 1 / 3}[self.order]
        moved, h = self._first(process, x, noise, between(process, s, t, share) if share < 1 else s, t)
        if self.order > 1:
            m = between(process, s, t, share)
            change = predicted_noise(process, model(moved, m), moved, m) - noise
            if self.order == 2:
                moved, h = self._first(process, x, noise, s, t)
                moved = moved - self._scaled(process, s, torch.expm1(h), change)
            else:
                m2 = between(process, s, t, 2 / 3)
                moved, h = self._first(process, x, noise, m2, t)
                moved = moved - self._scaled(process, m2, 2 * (torch.expm1(h) / h - 1), change)
                change = predicted_noise(process, model(moved, m2), moved, m2) - noise
                moved, h = self._first(process, x, noise, s, t)
                moved = moved - self._scaled(process, s, 1.5 * (torch.expm1(h) / h - 1), change)
        return State(moved, s, state.index + 1, posterior)

    @staticmethod
    def _first(process: LinearProcess, x: Tensor, noise: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The first-order step to s, and its h."""
        (alpha_s, sigma_s), alpha_t = process.coefficients(s), process.alpha(t)
        h = (process.logsnr(s) - process.logsnr(t)) / 2
        return per_sample(alpha_s / alpha_t, x) * x - per_sample(sigma_s * torch.expm1(h), x) * noise, h

    @staticmethod
    def _scaled(process: LinearProcess, s: Tensor, factor: Tensor, change: Tensor) -> Tensor:
        return per_sample(process.sigma(s) * factor, change) * change


def predicted_noise(process: LinearProcess, posterior: Distribution, x: Tensor, t: Tensor) -> Tensor:
    """eps = (x_t - alpha E[x_0|x_t]) / sigma."""
    alpha, sigma = process.coefficients(t)
    return (x - per_sample(alpha, x) * posterior.mean) / per_sample(sigma, x)


@dataclass(frozen=True)
class DPMpp2S:
    """DPM-Solver++(2S): second order in the predicted image, with one evaluation at lambda_t + h/2; two a step.

    Exact when: D is constant.

    Reference: Lu et al., "DPM-Solver++" (2022), algorithm 1.
    """

    order = 2
    evaluations = 2

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        process, t, x = model.process, state.t, state.x
        posterior = model(x, t)
        stretch = Stretch.of(process, s, t)
        if from_pure_noise(process, t):
            return State(stretch(x, posterior.mean), s, state.index + 1, posterior)
        m = between(process, s, t, 1 / 2)
        middle = model(Stretch.of(process, m, t)(x, posterior.mean), m)
        return State(stretch(x, middle.mean), s, state.index + 1, posterior)


@dataclass(frozen=True)
class Heun:
    """Heun's method for the flow of y = x/alpha in the noise level sigma/alpha, dy/dsigma = (y - D)/sigma; two a step.

    With ``churn`` noise is added before every step (the level rises by the factor 1 + churn, at most sqrt 2) and
    removed by it: a stochastic sampler.

    A step multiplies the change of D by (level_t/level_s - 1)/2: it needs a grid whose noise level falls by small
    factors, such as `diffprob.process.grids.Karras`, and fails on few steps from nearly pure noise.

    Args:
        churn: S_churn/N of the paper; 0 is deterministic.
        lowest, highest: noise levels sigma/alpha between which noise is added.
        noise: S_noise, by which the added noise is scaled.

    Exact when: D is constant.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models" (2022), algorithms 1
    and 2.
    """

    churn: float = 0.0
    lowest: float = 0.0
    highest: float = math.inf
    noise: float = 1.0

    evaluations = 2

    def __post_init__(self) -> None:
        if not 0 <= self.churn < math.inf:
            raise ValueError(f"churn must be at least 0, got {self.churn}")
        if not 0 <= self.lowest <= self.highest:
            raise ValueError(f"lowest must lie between 0 and highest, got {self.lowest} and {self.highest}")
        if not 0 < self.noise < math.inf:
            raise ValueError(f"noise must be above 0, got {self.noise}")

    @property
    def order(self) -> int | None:
        """2 without churn, None with it."""
        return None if self.churn else 2

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        process = model.process
        if from_pure_noise(process, state.t):
            posterior = model(state.x, state.t)
            return State(Stretch.of(process, s, state.t)(state.x, posterior.mean), s, state.index + 1, posterior)
        x, t = self._noisier(process, state, rng)
        posterior = model(x, t)
        stretch = Stretch.of(process, s, t)
        predicted = stretch(x, posterior.mean)
        # The mean of both slopes: half of the first image, half of the second, each with its own slope.
        alpha_s, sigma_s = process.coefficients(s)
        alpha_t, sigma_t = process.coefficients(t)
        level_s, level_t = sigma_s / alpha_s, sigma_t / alpha_t
        y, ahead = x / per_sample(alpha_t, x), predicted / per_sample(alpha_s, x)
        slope = (y - posterior.mean) / per_sample(level_t, x)
        slope = (slope + (ahead - model(predicted, s).mean) / per_sample(level_s, x)) / 2
        moved = per_sample(alpha_s, x) * (y + per_sample(level_s - level_t, x) * slope)
        return State(moved, s, state.index + 1, posterior)

    def _noisier(self, process: LinearProcess, state: State, rng: Rng) -> tuple[Tensor, Tensor]:
        """x at a noise level (1 + churn) times the state's, where churn applies and the schedule has such a time."""
        alpha, sigma = process.coefficients(state.t)
        level = float(sigma / alpha)
        if not self.churn or not self.lowest <= level <= self.highest:
            return state.x, state.t
        raised = 1 + min(self.churn, math.sqrt(2) - 1)
        wanted = process.logsnr(state.t) - 2 * math.log(raised)
        if wanted < process.logsnr(torch.ones((), dtype=torch.float64)):
            return state.x, state.t
        t = process.schedule.time(wanted)
        above, there = process.coefficients(t)
        extra = ((there / above) ** 2 - level**2).clamp_min(0).sqrt() * self.noise
        z = process.law.sample(rng.fold("churn").at(state.index), state.x.shape[1:], state.x.dtype)
        return per_sample(above, z) * (state.x / per_sample(alpha, z) + per_sample(extra, z) * z), t
