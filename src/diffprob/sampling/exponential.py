"""Exponential integrators of the probability flow, multistep in the predicted image: DPM-Solver++ and UniPC.

With lambda = log(alpha/sigma) and the predicted image D(lambda) = E[x_0|x_t] the flow has the exact solution

    x_s = (sigma_s/sigma_t) x_t + sigma_s int_(lambda_t)^(lambda_s) e^lambda D(lambda) dlambda,

and D is replaced by a polynomial in lambda through its values at the times visited before. One evaluation a step.
Near the ends the polynomial has fewer points: at the beginning because there are no more (pure noise, where lambda is
infinite, is none), at the end because few steps are long in lambda there and carry a polynomial far beyond its points:
a step uses as many as there are steps left, the reconstruction counted (the "lower_order_final" of both published
algorithms; DPM-Solver++ does so in chains of fewer than 15 times).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffprob.base.checks import one_of
from diffprob.base.distributions import LocationScale
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.process.linear import LinearProcess
from diffprob.sampling.simulate import State, check_step

NOTHING = -48 * math.log(2)  # log-SNR at which alpha/sigma is 2^-24
FEW = 15  # times of a chain below which DPM-Solver++ lowers the order at the end


class Stretch(NamedTuple):
    """One step from t to s: the coefficients of x_t and of the predicted image, and h, float64."""

    keep: Tensor
    take: Tensor
    h: Tensor

    @classmethod
    def of(cls, process: LinearProcess, s: Tensor, t: Tensor) -> "Stretch":
        """x_s = keep x_t + take D for a constant D: keep = sigma_s/sigma_t, take = alpha_s (1 - e^-h), h = lambda_s -
        lambda_t."""
        (alpha, sigma), (_, before) = process.coefficients(s), process.coefficients(t)
        h = (process.logsnr(s) - process.logsnr(t)) / 2
        return cls(sigma / before, -alpha * torch.expm1(-h), h)

    def __call__(self, x: Tensor, image: Tensor) -> Tensor:
        """x_s for the constant predicted image."""
        return per_sample(self.keep, x) * x + per_sample(self.take, x) * image


def from_pure_noise(process: LinearProcess, t: Tensor) -> bool:
    """Whether alpha_t is 0, where lambda is infinite, or so small that float32 shows nothing but the noise: a step of
    DDIM, in which D is constant, is all there is to do."""
    return not bool((process.logsnr(t) > NOTHING).all())


def past(state: State, points: int) -> tuple[list[Tensor], list[Tensor]]:
    """Times and predicted images of the steps before, newest first, from the state's memory (t, D, t, D, ...): so many
    that with the one of this step they are ``points``."""
    most = 2 * (points - 1)
    return list(state.memory[0:most:2]), list(state.memory[1:most:2])


def fewer(state: State, points: int) -> int:
    """The order of the next step: ``points``, or the number of steps left where that is smaller."""
    return points if state.left is None else max(1, min(points, state.left))


def remember(process: LinearProcess, state: State, image: Tensor, length: int) -> tuple[Tensor, ...]:
    """The memory with (t, D) of this step in front, at most ``length`` steps long; pure noise is not remembered."""
    return () if from_pure_noise(process, state.t) else (state.t, image, *state.memory)[: 2 * length]


def spans(process: LinearProcess, times: list[Tensor], t: Tensor) -> list[Tensor]:
    """lambda_t - lambda_(t_k) for earlier times t_k > t."""
    return [(process.logsnr(t) - process.logsnr(before)) / 2 for before in times]


@dataclass(frozen=True)
class DPMpp:
    """DPM-Solver++ multistep through the last ``points`` predicted images: 1 is DDIM, 2 is "2M", 3 is "3M".

    With r = (lambda_t - lambda_(t-1))/h two points use D + (D - D_(t-1))/(2r) in the place of D; three add the bend.
    The first step knows one point only: its error, of second order, is why three points converge no faster than two in
    the end, however much smaller their error is in between. In chains of fewer than 15 times the last step has two
    points at most; in longer ones three to the end, as published, which errs where that step is long in log-SNR, as on
    `Uniform`: there two points do better, or `UniPC`.

    When: 10 to 50 deterministic evaluations.

    Exact when: D is constant.

    Reference: Lu et al., "DPM-Solver++" (2022), algorithm 2 and appendix B.
    """

    points: int = 2

    evaluations = 1

    def __post_init__(self) -> None:
        one_of("points", self.points, (1, 2, 3))

    @property
    def order(self) -> int:
        """1, 2, and 2 for three points."""
        return min(self.points, 2)

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        check_step(state, s, rng)
        posterior = model(state.x, state.t)
        image, stretch = posterior.mean, Stretch.of(model.process, s, state.t)
        few = state.left is not None and state.index + state.left < FEW
        times, images = past(state, fewer(state, self.points) if few else self.points)
        x = stretch(state.x, image)
        back = spans(model.process, times, state.t)
        if images:
            # phi_1 = (e^-h - 1), phi_2 = phi_1/h + 1, phi_3 = phi_2/h - 1/2, all times alpha_s.
            slope = (image - images[0]) / per_sample(back[0] / stretch.h, image)
            if len(images) == 1:
                x = x + per_sample(stretch.take / 2, x) * slope
            else:
                alpha, phi1 = model.process.alpha(s), torch.expm1(-stretch.h)
                phi2 = phi1 / stretch.h + 1
                phi3 = phi2 / stretch.h - 0.5
                r0, r1 = back[0] / stretch.h, (back[1] - back[0]) / stretch.h
                older = (images[0] - images[1]) / per_sample(r1, image)
                bend = (slope - older) / per_sample(r0 + r1, image)
                first = slope + per_sample(r0, image) * bend
                x = x + per_sample(alpha * phi2, x) * first - per_sample(alpha * phi3, x) * bend
        memory = remember(model.process, state, image, self.points - 1)
        return State(x, s, state.index + 1, posterior, memory)


@dataclass(frozen=True)
class DPMppSDE:
    """SDE-DPM-Solver++: the reverse SDE with the image extrapolated from ``history`` evaluations, 1 or 2 ("SDE-2M").

    x_s = (sigma_s/sigma_t) e^-h x_t + alpha_s (1 - e^-2h) D + sigma_s (1 - e^-2h)^(1/2) z; history 1 is the ancestral
    sampler with beta-tilde.

    When: 20 to 100 evaluations with fresh noise, which forgives errors of the network.

    Exact when: D is constant.

    Reference: Lu et al., "DPM-Solver++" (2022), section 5 and appendix B.
    """

    history: int = 2

    order = None
    evaluations = 1

    def __post_init__(self) -> None:
        one_of("history", self.history, (1, 2))

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        check_step(state, s, rng)
        posterior, process = model(state.x, state.t), model.process
        image, stretch = posterior.mean, Stretch.of(process, s, state.t)
        times, images = past(state, self.history)
        used = image
        if images:
            ratio = spans(process, times, state.t)[0] / stretch.h
            used = image + (image - images[0]) / per_sample(2 * ratio, image)
        alpha, sigma = process.coefficients(s)
        fresh = -torch.expm1(-2 * stretch.h)
        mean = per_sample(stretch.keep * torch.exp(-stretch.h), image) * state.x
        mean = mean + per_sample(alpha * fresh, image) * used
        law = LocationScale(mean, per_sample(sigma * fresh.sqrt(), image), process.noise_between(s, state.t))
        x = law.sample(rng.fold("step").at(state.index))
        memory = remember(process, state, image, self.history - 1)
        return State(x, s, state.index + 1, posterior, memory)


@dataclass(frozen=True)
class UniPC:
    """UniPC of order ``p``: every evaluation first corrects the step that led to it, then predicts the next.

    The predictor has order p, the corrector p + 1 without a further evaluation, and so has the chain. Its last step has
    order 2 at most.

    Args:
        p: 1, 2 or 3.
        variant: "bh1", B(h) = h, or "bh2", B(h) = e^h - 1.

    When: 5 to 20 deterministic evaluations.

    Exact when: D is constant; without corrector UniPC(2, "bh2") would be DPMpp(2).

    Reference: Zhao et al., "UniPC" (2023), section 3 and appendix.
    """

    p: int = 2
    variant: str = "bh2"

    evaluations = 1

    def __post_init__(self) -> None:
        one_of("p", self.p, (1, 2, 3))
        one_of("variant", self.variant, ("bh1", "bh2"))

    @property
    def order(self) -> int:
        """p + 1, through the corrector; 3 for p = 3, whose first steps have lower orders."""
        return min(self.p + 1, 3)

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """Correct x_t, then predict x_s."""
        check_step(state, s, rng)
        posterior, process = model(state.x, state.t), model.process
        image, x, kept = posterior.mean, state.x, state.memory
        # The memory is (x before the last step, t, D, t, D, ...), the points of that step: the corrector has its order.
        times, images = list(kept[1::2]), list(kept[2::2])
        if kept:
            x = self._advance(process, kept[0], state.t, times, images, image)
        count = fewer(state, self.p)
        times, images = [state.t, *times][:count], [image, *images][:count]
        x_s = self._advance(process, x, s, times, images)
        # A step from pure noise was exact: it is neither corrected nor a point of the next one.
        pairs = [] if from_pure_noise(process, state.t) else list(zip(times, images, strict=True))
        memory = (x, *(item for pair in pairs for item in pair)) if pairs else ()
        return State(x_s, s, state.index + 1, posterior, memory)

    def _advance(
        self,
        process: LinearProcess,
        x: Tensor,
        s: Tensor,
        times: list[Tensor],
        images: list[Tensor],
        ahead: Tensor | None = None,
    ) -> Tensor:
        """From x at times[0] to s through the images at ``times``; with the image at s ahead, the corrected value."""
        stretch, t, image = Stretch.of(process, s, times[0]), times[0], images[0]
        ratios = [-span / stretch.h for span in spans(process, times[1:], t)]
        differences = [(other - image) / per_sample(r, image) for other, r in zip(images[1:], ratios, strict=True)]
        if ahead is not None:
            ratios, differences = [*ratios, torch.ones_like(stretch.h)], [*differences, ahead - image]
        result = stretch(x, image)
        if not differences:
            return result
        weights = self._weights(stretch.h, torch.stack(ratios))
        scale = per_sample(process.alpha(s) * self._b(stretch.h), x)
        for weight, difference in zip(weights, differences, strict=True):
            result = result - scale * per_sample(weight, x) * difference
        return result

    def _b(self, h: Tensor) -> Tensor:
        return -h if self.variant == "bh1" else torch.expm1(-h)

    def _weights(self, h: Tensor, ratios: Tensor) -> Tensor:
        """rho with sum_k rho_k r_k^(q-1) = b_q: the conditions of order 1, ..., K for K differences, (K,).

        One difference alone uses 1/2 (the simplification of the published method, of the same order).
        """
        count = len(ratios)
        if count == 1:
            return torch.full_like(ratios, 0.5)
        hh = -h
        phi, factorial, b = torch.expm1(hh) / hh - 1, 1.0, []
        for q in range(1, count + 1):
            b.append(phi * factorial / self._b(h))
            factorial *= q + 1
            phi = phi / hh - 1 / factorial
        rows = torch.stack([ratios**q for q in range(count)])
        return torch.linalg.solve(rows, torch.stack(b))
