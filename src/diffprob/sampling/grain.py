"""A solver of the probability flow for few evaluations: the finest detail of the data counts as noise.

Take the data for x_0 = c + grain w with w ~ N(0, I); about the centres c nothing is assumed. At every time x_t is then
alpha c plus noise of the standard deviation s = (sigma^2 + grain^2 alpha^2)^(1/2), and Tweedie's formula for that noise
gives the predicted centre from the predicted image D = E[x_0|x_t]:

    C = E[c|x_t] = (x_t + s^2 score)/alpha = D - grain^2 (alpha/sigma^2) (x_t - alpha D).

Along the probability flow d(x/s) = C d(alpha/s). There is nothing singular in it: alpha/s is 0 at pure noise and
1/grain at the data, which is reached by a step of the solver like any other; other solvers end with D, which after few
steps lacks the finest detail. C is replaced by a polynomial in

    u = asinh(extent alpha/s)

through its values at the times visited, because it changes evenly in u: for noise above the extent of the data it
changes with alpha/s, below with log(alpha/s). The integral over a step from t to s is then

    s_s/extent int_(u_t)^(u_s) C(u) cosh(u) du.

grain -> 0 with log(alpha/s) for u would be DPM-Solver++, with its D.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import one_of, real
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.process.linear import LinearProcess
from diffprob.sampling.exponential import from_pure_noise
from diffprob.sampling.simulate import State, check_step

# Nodes of Gauss and Legendre on [-1, 1]: exact to rounding for a polynomial times cosh over any step.
_NODES, _WEIGHTS = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(16))


@dataclass(frozen=True)
class GrainSolver:
    """Predictor and corrector in the predicted centre of data with grain; the last evaluation is a step to t = 0.

    Every evaluation first corrects the step that led to it (Adams and Moulton, p + 1 points), then predicts the next
    (Adams and Bashforth, p points), both in u = asinh(extent alpha/s).

    Args:
        p: points of the predictor, 1, 2 or 3.
        grain: standard deviation of the finest detail, in the units of the data (which lie in [-1, 1]: 2/255 is a grey
            level). Where the data has no such detail, few evaluations leave faint noise.
        extent: of the data in the same units.

    When: 5 to 20 deterministic evaluations, with `diffprob.process.grids.GrainGrid`.

    Exact when: the data is normal with the covariance grain^2 I, in one step.

    Reference: this library. The linear part that is solved exactly comes from a Gaussian model, one number instead of
    the statistics of Zheng et al., "DPM-Solver-v3" (2023); the corrector without a further evaluation is that of Zhao
    et al., "UniPC" (2023).
    """

    p: int = 2
    grain: float = 0.06
    extent: float = 1.2

    evaluations = 1

    def __post_init__(self) -> None:
        one_of("p", self.p, (1, 2, 3))
        real("grain", self.grain, "[1e-6, 1000]")
        real("extent", self.extent, "[1e-6, 1000]")

    @property
    def order(self) -> int:
        """p + 1, through the corrector; 3 for p = 3, whose first steps have lower orders."""
        return min(self.p + 1, 3)

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """Correct x_t, then predict x_s."""
        check_step(state, s, rng)
        process, t, x = model.process, state.t, state.x
        # Two times of nothing but noise are one point of the polynomial: u is 0 at both.
        kept = () if from_pure_noise(process, t) else state.memory
        posterior = model(x, t)
        centre = self._centre(process, posterior.mean, x, t)
        # The memory is (x before the last step, t, C, t, C, ...), newest first.
        times, centres = [t, *kept[1::2]], [centre, *kept[2::2]]
        if kept:
            x = self._advance(process, kept[0], times[1], t, times[: self.p + 1], centres[: self.p + 1])
        times, centres = times[: self.p], centres[: self.p]
        x_s = self._advance(process, x, t, s, times, centres)
        memory = (x, *(item for pair in zip(times, centres, strict=True) for item in pair))
        return State(x_s, s, state.index + 1, posterior, memory)

    def finish(self, model: Denoiser, state: State, rng: Rng) -> State:
        """The step to t = 0; where a process has noise at t = 0, the predicted image."""
        zero = torch.zeros_like(state.t)
        if bool(torch.isfinite(model.process.logsnr(zero)).all()):
            posterior = model(state.x, state.t)
            return State(posterior.mean, zero, state.index + 1, posterior)
        return self.step(model, state, zero, rng)

    def _scales(self, process: LinearProcess, t: Tensor) -> tuple[Tensor, Tensor]:
        """s and u at t, float64."""
        alpha, sigma = process.coefficients(t)
        s = (sigma * sigma + (self.grain * alpha) ** 2).sqrt()
        return s, torch.asinh(self.extent * alpha / s)

    def _centre(self, process: LinearProcess, image: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """C from D."""
        alpha, sigma = process.coefficients(t)
        weight = self.grain**2 * alpha / (sigma * sigma)
        return image - per_sample(weight, x) * (x - per_sample(alpha, x) * image)

    def _advance(
        self, process: LinearProcess, x: Tensor, t: Tensor, s: Tensor, times: list[Tensor], centres: list[Tensor]
    ) -> Tensor:
        """From x at t to s with the polynomial through the centres at ``times``."""
        (before, first), (after, last) = self._scales(process, t), self._scales(process, s)
        half = (last - first) / 2
        at = (last + first) / 2 + half * _NODES.to(half.device).reshape(-1, *[1] * half.ndim)
        measure = half * _WEIGHTS.to(half.device).reshape(-1, *[1] * half.ndim) * torch.cosh(at)
        known = [self._scales(process, time)[1] for time in times]
        x_s = per_sample(after / before, x) * x
        for k, centre in enumerate(centres):
            basis = torch.ones_like(at)
            for j, other in enumerate(known):
                if j != k:
                    basis = basis * (at - other) / (known[k] - other)
            x_s = x_s + per_sample(after / self.extent * (measure * basis).sum(0), x) * centre
        return x_s
