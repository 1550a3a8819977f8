"""Solvers of the probability flow that evaluate inside a step: DPM-Solver, DPM-Solver++(2S) and Heun's method."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffprob.base.checks import MOST_STEPS, one_of, real, whole
from diffprob.base.errors import FieldError
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.process.linear import LinearProcess
from diffprob.sampling.exponential import Stretch, from_pure_noise
from diffprob.sampling.simulate import State, check_step


def between(process: LinearProcess, s: Tensor, t: Tensor, share: float) -> Tensor:
    """The time at lambda_t + share (lambda_s - lambda_t)."""
    return process.schedule.time(process.logsnr(t) + share * (process.logsnr(s) - process.logsnr(t)))


def _noisy(process: LinearProcess, s: Tensor) -> None:
    """Refuse a step to the data itself, of which these solvers would make 0/0; the reconstruction leads there."""
    if float(process.sigma(s)) == 0:
        raise ValueError(f"a step of this solver ends where there is noise, got s = {float(s):g}")


@dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver of order k in the predicted noise, single-step: k evaluations a step.

    With E = e^h - 1 the first order is x_s = (alpha_s/alpha_t) x - sigma_s E eps_t (DDIM); orders 2 and 3 evaluate eps
    at lambda_t + h/2, and at h/3 and 2h/3, as well.

    When: 30 evaluations and more without memory between steps; below that multistep solvers do better.

    Exact when: eps is constant.

    Reference: Lu et al., "DPM-Solver" (2022), algorithms 1 and 2.
    """

    order: int = 2

    def __post_init__(self) -> None:
        one_of("order", self.order, (1, 2, 3))

    @property
    def evaluations(self) -> int:
        """As many as the order."""
        return self.order

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        check_step(state, s, rng)
        return _dpm_solver(model, state, s, self.order)


def _dpm_solver(model: Denoiser, state: State, s: Tensor, order: int) -> State:
    """One step of DPM-Solver of any order."""
    process, t, x = model.process, state.t, state.x
    posterior = model(x, t)
    if from_pure_noise(process, t):
        return State(Stretch.of(process, s, t)(x, posterior.mean), s, state.index + 1, posterior)
    noise = process.predicted_noise(posterior.mean, x, t)

    _noisy(process, s)

    def first(end: Tensor) -> tuple[Tensor, Tensor]:
        """The first-order step, and its h."""
        (alpha, sigma), h = process.coefficients(end), (process.logsnr(end) - process.logsnr(t)) / 2
        return per_sample(alpha / process.alpha(t), x) * x - per_sample(sigma * torch.expm1(h), x) * noise, h

    def less(estimate: Tensor, end: Tensor, factor: Tensor, change: Tensor) -> Tensor:
        return estimate - per_sample(process.sigma(end) * factor, x) * change

    x_s, h = first(s)
    if order == 1:
        return State(x_s, s, state.index + 1, posterior)
    m = between(process, s, t, {2: 1 / 2, 3: 1 / 3}[order])
    y, _ = first(m)
    change = process.predicted_noise(model(y, m).mean, y, m) - noise
    if order == 2:
        return State(less(x_s, s, torch.expm1(h), change), s, state.index + 1, posterior)
    m = between(process, s, t, 2 / 3)
    y, part = first(m)
    y = less(y, m, 2 * (torch.expm1(part) / part - 1), change)
    change = process.predicted_noise(model(y, m).mean, y, m) - noise
    x_s = less(x_s, s, 1.5 * (torch.expm1(h) / h - 1), change)
    return State(x_s, s, state.index + 1, posterior)


@dataclass(frozen=True)
class DPMFast:
    """DPM-Solver for a given number of evaluations: steps of order 3, the last ones of lower order ("fast").

    K = 3 m evaluations are m - 1 steps of order 3, one of order 2 and one of order 1; 3 m + 1 are m steps of order 3
    and one of order 1; 3 m + 2 are m steps of order 3 and one of order 2. ``diffprob sample --steps`` sets K itself.
    A longer chain goes on with order 3.

    Args:
        total: K, the evaluations of all steps together; the reconstruction is one more.

    When: DPM-Solver with 10 to 50 evaluations.

    Exact when: eps is constant.

    Reference: Lu et al., "DPM-Solver" (2022), section 3.4 and appendix D.3.
    """

    total: int = 19

    order = 2  # the step of order 1 at the end has an error of h^2
    evaluations = 3  # the most

    def __post_init__(self) -> None:
        whole("total", self.total, 1, MOST_STEPS)

    def costs(self, steps: int) -> tuple[int, ...]:
        """Evaluations of each step of a chain, which are their orders."""
        whole, rest = divmod(self.total, 3)
        planned = {0: (*(3,) * (whole - 1), 2, 1), 1: (*(3,) * whole, 1), 2: (*(3,) * whole, 2)}[rest]
        return (*planned, *(3,) * steps)[:steps]

    def within(self, evaluations: int) -> tuple["DPMFast", int]:
        """The sampler for so many evaluations in its steps, and the number of these."""
        return replace(self, total=evaluations), evaluations // 3 + 1

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        check_step(state, s, rng)
        return _dpm_solver(model, state, s, self.costs(state.index + 1)[-1])


@dataclass(frozen=True)
class DPMpp2S:
    """DPM-Solver++(2S): second order in the predicted image, with one evaluation at lambda_t + h/2; two a step.

    When: 20 to 50 evaluations without memory between steps.

    Exact when: D is constant.

    Reference: Lu et al., "DPM-Solver++" (2022), algorithm 1.
    """

    order = 2
    evaluations = 2

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        check_step(state, s, rng)
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

    When: variance-exploding and EDM networks with Karras() and 35 evaluations or more.

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
        real("churn", self.churn, "[0, 1e6]")
        real("lowest", self.lowest, "[0, inf]")
        real("highest", self.highest, "[0, inf]")
        if self.lowest > self.highest:
            raise FieldError("lowest", f"must lie between 0 and highest, got {self.lowest} and {self.highest}")
        real("noise", self.noise, "(0, 1000]")

    @property
    def order(self) -> int | None:
        """2 without churn, None with it."""
        return None if self.churn else 2

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        check_step(state, s, rng)
        process = model.process
        if from_pure_noise(process, state.t):
            posterior = model(state.x, state.t)
            return State(Stretch.of(process, s, state.t)(state.x, posterior.mean), s, state.index + 1, posterior)
        _noisy(process, s)
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
        x_s = per_sample(alpha_s, x) * (y + per_sample(level_s - level_t, x) * slope)
        return State(x_s, s, state.index + 1, posterior)

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
        alpha_t, sigma_t = process.coefficients(t)
        extra = ((sigma_t / alpha_t) ** 2 - level**2).clamp_min(0).sqrt() * self.noise
        z = process.law.sample(rng.fold("churn").at(state.index), state.x.shape[1:], state.x.dtype)
        return per_sample(alpha_t, z) * (state.x / per_sample(alpha, z) + per_sample(extra, z) * z), t
