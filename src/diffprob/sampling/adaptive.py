"""Solvers of the probability flow that choose their steps by a tolerance, each sample its own.

The flow is followed in lambda = log(alpha/sigma) and in the variance-preserving state x/(alpha^2 + sigma^2)^(1/2),
which turns every linear process into the same equation

    dx/dlambda = a (D - a x),   a^2 = sigmoid(2 lambda),   D = E[x_0|x_t],

whose terms are of the size of the data at every noise level. Samples that have arrived are not evaluated any more.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.checks import one_of, real
from diffprob.base.errors import NumericalError
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.denoise.subset import for_samples
from diffprob.process.linear import LinearProcess, VariancePreserving, predicted_noise
from diffprob.sampling.simulate import State, check_step

Image = Callable[[Tensor, Tensor], Tensor]  # D of the state and lambda, (B, *event) and (B,)
Images = Callable[[Tensor], Image]  # the image of the samples that these numbers name
# Of image, x, lambda, h and D(x): the better solution, the worse one, and D at the better one if that is known.
Attempt = Callable[[Image, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor | None]]

FARTHEST = -10.0  # lambda at which a chain from pure noise begins: D differs from E[x_0] by e^-10 there
SMALLEST = 1e-7  # step in lambda at which a tolerance is given up


@dataclass(frozen=True)
class Control:
    """How steps are accepted and chosen (Lu et al. 2022, appendix C).

    E = rms((better - worse)/max(atol, rtol max(|worse|, |previous|))) over a sample's elements; a step is accepted when
    E <= 1, and the next one is ``safety`` h E^(-1/order), at most 5 and at least 0.2 times the last.

    Args:
        rtol, atol: tolerances.
        order: of the local error of the worse solution.
        first: the first step in lambda.
        safety: what the predicted step is multiplied by.
    """

    rtol: float
    atol: float
    order: int
    first: float
    safety: float = 0.9

    def error(self, better: Tensor, worse: Tensor, previous: Tensor) -> Tensor:
        """E, float64 (B,) on the CPU."""
        scale = (self.rtol * torch.maximum(worse.abs(), previous.abs())).clamp_min(self.atol)
        return ((better - worse) / scale).double().flatten(1).square().mean(1).sqrt().cpu()

    def factor(self, error: Tensor) -> Tensor:
        """By how much the step changes, in multiples of 1/32: rounding errors of E must not reach a sample's bits."""
        wanted = self.safety * error.clamp_min(1e-30) ** (-1 / self.order)
        return (wanted.nan_to_num(nan=0.0).clamp(0.2, 5) * 32).floor() / 32


def march(images: Images, attempt: Attempt, control: Control, x: Tensor, d: Tensor, span: Tensor, h: Tensor) -> Tensor:
    """Every sample from span[0] to span[1] in lambda by its own steps, (B, *event); ``h`` (B,) is updated in place.

    Either end may be the higher one: steps have the sign of the way.

    Args:
        images: D of states and lambdas, for the samples of int64 positions in the batch.
        attempt: one step with an embedded worse one.
        control: tolerances.
        x: the states at span[0].
        d: D of these.
        span: both ends, float64 (2,).
        h: the sizes of the steps to begin with, float64 (B,) on the CPU.

    Raises:
        NumericalError: a step fell below 1e-7: the model's output is not finite, or not smooth.
        ValueError: an end of the span is infinite, pure noise or the data itself: no number of steps leads there.
    """
    if not bool(torch.isfinite(span).all()):
        raise ValueError(f"lambda must be finite at both ends, got {float(span[0]):g} and {float(span[1]):g}")
    x, d, previous = x.clone(), d.clone(), x.clone()
    at, known = span[0].expand(len(x)).clone(), torch.ones(len(x), dtype=torch.bool)
    sign = 1.0 if span[0] < span[1] else -1.0
    while bool((at != span[1]).any()):
        (active,) = torch.nonzero(at != span[1], as_tuple=True)
        lost = active[~known[active]]
        if len(lost):
            d[lost] = images(lost)(x[lost], at[lost])
            known[lost] = True
        left, wanted = sign * (span[1] - at[active]), h[active]
        # A last piece that would be tiny is taken along.
        step = torch.where(left <= wanted * 1.01, left, wanted)
        better, worse, ahead = attempt(images(active), x[active], at[active], sign * step, d[active])
        error = control.error(better, worse, previous[active])
        passed, change = error <= 1, control.factor(error)
        good, accepted = active[passed], passed.to(x.device)
        x[good], previous[good] = better[accepted], worse[accepted]
        at[good] = torch.where(step == left, span[1], at[active] + sign * step)[passed]
        known[good] = ahead is not None
        if ahead is not None:
            d[good] = ahead[accepted]
        # A step that only the end cut short says nothing against a longer one.
        h[active] = torch.where(passed & (step < wanted), torch.maximum(wanted, step * change), step * change)
        if bool((h < SMALLEST).any()):
            raise NumericalError(f"no step keeps the tolerance at lambda = {float(at[active].min()):.4g}")
    return x


def _curve(lam: Tensor) -> tuple[Tensor, Tensor]:
    """Variance-preserving (alpha, sigma) at lambda, float64."""
    return VariancePreserving().coefficients(2 * lam)


def bogacki_shampine(image: Image, x: Tensor, lam: Tensor, h: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Third order with an embedded second, three evaluations (Bogacki & Shampine 1989, "A 3(2) pair")."""

    def slope(x: Tensor, lam: Tensor, d: Tensor) -> Tensor:
        alpha = per_sample(_curve(lam)[0], x)
        return alpha * (d - alpha * x)

    size = per_sample(h, x)
    k1 = slope(x, lam, d)
    y = x + size / 2 * k1
    k2 = slope(y, lam + h / 2, image(y, lam + h / 2))
    y = x + size * 3 / 4 * k2
    k3 = slope(y, lam + h * 3 / 4, image(y, lam + h * 3 / 4))
    better = x + size * (2 / 9 * k1 + 1 / 3 * k2 + 4 / 9 * k3)
    ahead = image(better, lam + h)
    k4 = slope(better, lam + h, ahead)
    worse = x + size * (7 / 24 * k1 + 1 / 4 * k2 + 1 / 3 * k3 + 1 / 8 * k4)
    return better, worse, ahead


def _eps(x: Tensor, lam: Tensor, d: Tensor) -> Tensor:
    return predicted_noise(d, x, *_curve(lam))


def _first(x: Tensor, lam: Tensor, h: Tensor, noise: Tensor) -> Tensor:
    """The first-order step of DPM-Solver: (alpha_s/alpha_t) x - sigma_s (e^h - 1) eps."""
    alpha_s, sigma_s = _curve(lam + h)
    keep = alpha_s / _curve(lam)[0]
    return per_sample(keep, x) * x - per_sample(sigma_s * torch.expm1(h), x) * noise


def dpm_12(image: Image, x: Tensor, lam: Tensor, h: Tensor, d: Tensor) -> tuple[Tensor, Tensor, None]:
    """DPM-Solver-2 with the first order inside, one evaluation besides D(x)."""
    noise, half = _eps(x, lam, d), lam + h / 2
    y = _first(x, lam, h / 2, noise)
    change = _eps(y, half, image(y, half)) - noise
    worse = _first(x, lam, h, noise)
    return worse - per_sample(_curve(lam + h)[1] * torch.expm1(h), x) * change, worse, None


def dpm_23(image: Image, x: Tensor, lam: Tensor, h: Tensor, d: Tensor) -> tuple[Tensor, Tensor, None]:
    """DPM-Solver-3 with a second order inside that shares its stage at h/3, two evaluations besides D(x)."""
    noise, third, more = _eps(x, lam, d), lam + h / 3, lam + h * 2 / 3
    y = _first(x, lam, h / 3, noise)
    change = _eps(y, third, image(y, third)) - noise
    sigma, plain = _curve(lam + h)[1], _first(x, lam, h, noise)
    worse = plain - per_sample(sigma * torch.expm1(h) * 1.5, x) * change
    bend = _curve(more)[1] * 2 * (torch.expm1(h * 2 / 3) / (h * 2 / 3) - 1)
    y = _first(x, lam, h * 2 / 3, noise) - per_sample(bend, x) * change
    change = _eps(y, more, image(y, more)) - noise
    return plain - per_sample(sigma * 1.5 * (torch.expm1(h) / h - 1), x) * change, worse, None


def _step(attempt: Attempt, control: Control, model: Denoiser, state: State, s: Tensor) -> State:
    """Integrate from state.t to s; the state's memory holds every sample's step in lambda."""
    process = model.process
    posterior = model(state.x, state.t)
    image, x, d = posterior.mean, state.x, posterior.mean
    start, end = process.logsnr(state.t) / 2, process.logsnr(s) / 2
    x = x / per_sample(magnitude(process, state.t), x)

    def predicted(index: Tensor) -> Image:
        conditioned = for_samples(model, index)

        def image(y: Tensor, lam: Tensor) -> Tensor:
            t = process.schedule.time(2 * lam).clamp(max=1)
            return conditioned(per_sample(magnitude(process, t), y) * y, t).mean

        return image

    if not bool(torch.isfinite(start)):
        # D is constant at pure noise; from there on a step of DDIM, whose error is of the order e^-20.
        start = end.clamp(max=FARTHEST)
        alpha, sigma = _curve(start)
        x = per_sample(sigma, x) * x + per_sample(alpha, x) * image
        d = predicted(torch.arange(len(x)))(x, start.expand(len(x))) if bool(start < end) else image
    h = state.memory[0].clone() if state.memory else torch.full((len(x),), control.first, dtype=torch.float64)
    x = march(predicted, attempt, control, x, d, torch.stack([start, end]), h)
    return State(per_sample(magnitude(process, s), x) * x, s, state.index + 1, posterior, (h,))


def magnitude(process: LinearProcess, t: Tensor) -> Tensor:
    """(alpha^2 + sigma^2)^(1/2) at t, float64: what a state is of its variance-preserving one."""
    alpha, sigma = process.coefficients(t)
    return (alpha * alpha + sigma * sigma).sqrt()


def check_tolerances(rtol: float, atol: float) -> None:
    """Both lie in [1e-12, 1), or a ValueError says which does not."""
    real("rtol", rtol, "[1e-12, 1)")
    real("atol", atol, "[1e-12, 1)")


@dataclass(frozen=True)
class AdaptiveODE:
    """The probability flow by the Bogacki-Shampine pair of orders 3 and 2 to a tolerance, each sample by its own steps.

    The steps in lambda depend on a sample alone, so its float32 bits do not depend on its companions. Ends of a step of
    the chain are hit exactly; a grid of two times is all it needs. `Control` says what the tolerances mean.

    Args:
        rtol, atol: relative and absolute tolerance of a step, root mean square over a sample's elements.

    When: the exact flow to a known accuracy, for latents, likelihoods and as a reference; 20 to 150 evaluations.

    Exact when: in the limit of small tolerances.

    Reference: Bogacki & Shampine, "A 3(2) pair of Runge-Kutta formulas" (1989); Song et al., "Score-based generative
    modeling through stochastic differential equations" (2021), appendix D.4.
    """

    rtol: float = 1e-3
    atol: float = 1e-3

    order = 3
    evaluations = None

    def __post_init__(self) -> None:
        check_tolerances(self.rtol, self.atol)

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """Integrate from state.t to s."""
        check_step(state, s, rng)
        return _step(bogacki_shampine, Control(self.rtol, self.atol, 3, 0.25), model, state, s)


@dataclass(frozen=True)
class DPMAdaptive:
    """DPM-Solver to a tolerance: order 2 with the first inside ("12"), or 3 with the second ("23"), per sample.

    The published code accepts a step for the whole batch; here every sample has its own. The evaluation at the
    beginning of a rejected step is kept, which the published code repeats.

    Args:
        order: 2 or 3.
        rtol, atol: relative and absolute tolerance of a step, see `Control`.

    When: loose tolerances, 10 to 60 evaluations, without choosing their number.

    Exact when: in the limit of small tolerances.

    Reference: Lu et al., "DPM-Solver" (2022), appendix C.
    """

    order: int = 3
    rtol: float = 0.05
    atol: float = 0.0078

    evaluations = None

    def __post_init__(self) -> None:
        one_of("order", self.order, (2, 3))
        check_tolerances(self.rtol, self.atol)

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """Integrate from state.t to s."""
        check_step(state, s, rng)
        control = Control(self.rtol, self.atol, self.order, 0.05)
        return _step(dpm_12 if self.order == 2 else dpm_23, control, model, state, s)
