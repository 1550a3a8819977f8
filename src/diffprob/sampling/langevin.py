"""Annealed Langevin dynamics: a short chain at every noise level, from the highest to the lowest."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from diffprob.base.checks import one_of, real, whole
from diffprob.base.distributions import LocationScale
from diffprob.base.errors import FieldError
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.process.linear import LinearProcess
from diffprob.sampling.exponential import from_pure_noise
from diffprob.sampling.simulate import State, check_step

_SHARE = {"code": 1.0, "paper": 0.5}


@dataclass(frozen=True)
class AnnealedLangevin:
    """At every noise level ``steps`` times y <- y + a score(y) + (2 a)^(1/2) z, with a = size level^2.

    It lives in y = x/alpha at the level sigma/alpha, which are x and sigma where variance explodes; in x the update is
    x + size (alpha D - x) + (2 size)^(1/2) sigma z with D = E[x_0|x_t], on every process. The step from t to s keeps y,
    which scales x by alpha_s/alpha_t, and then runs the chain at s: the prior is a draw at the first level, and the
    chain ends at the last one, whose reconstruction is the final denoising step of NCSNv2.

    Two conventions are in use: "paper" is Song & Ermon 2019, algorithm 1, y + a/2 score + a^(1/2) z; "code" is their
    released code and NCSNv2, y + a score + (2 a)^(1/2) z, a step of twice the length. ``size`` is eps/sigma_L^2 of the
    papers, whose step at level i is eps sigma_i^2/sigma_L^2: 0.2 in NCSN (10 levels, 100 steps) and 0.062 in NCSNv2
    (232 levels, 5 steps). With D fixed the chain's variance is level^2/(1 - size/2): 1.032 level^2 at 0.062.

    Args:
        steps: Langevin steps at each level.
        size: the step in units of the level's variance; None: at each level what brings the variance of the level
            before closest to its own (`balanced_size`, NCSNv2's technique 4), also where few levels lie far apart.
        convention: "code" or "paper"; the rule of ``size=None`` is one for "code".

    When: noise-conditional score networks, with about a thousand evaluations.

    Exact when: in the limit of many small steps at every level; ``size=None`` has small steps where they are many, and
    is meant for few and wide levels, where 0.2 is far off: with 20 levels of 5 steps a variance 1.5 for 1.9 times that
    of N(0.4, 0.3), with 232 levels 1.14 for 1.04.

    Reference: Song & Ermon, "Generative modeling by estimating gradients of the data distribution" (2019), algorithm 1;
    "Improved techniques for training score-based generative models" (2020), algorithm 1.
    """

    steps: int = 5
    size: float | None = 0.2
    convention: str = "code"

    order = None

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, 10000)
        one_of("convention", self.convention, _SHARE)
        # Beyond 2 a step overshoots by more than it corrects, and the chain runs away.
        real("size", self.size, f"(0, {2 / _SHARE[self.convention]:g})", none=True)
        if self.size is None and self.convention != "code":
            raise FieldError("size", f"must be a number with convention={self.convention!r}, got None")

    @property
    def evaluations(self) -> int:
        """One for each Langevin step."""
        return self.steps

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """To the level of s, then ``steps`` steps there; the posterior is the first one, at s."""
        check_step(state, s, rng, stay=True)
        process, x, first = model.process, state.x, None
        if from_pure_noise(process, state.t):
            # y is infinite where alpha_t = 0: x is noise, and the noise is scaled instead.
            x = per_sample(process.sigma(s) / process.sigma(state.t), x) * x
        else:
            x = per_sample(process.alpha(s) / process.alpha(state.t), x) * x
        streams, size = rng.fold("langevin").at(state.index), self.size_at(process, s, state.t)
        for k in range(self.steps):
            posterior = model(x, s)
            first = first or posterior
            x = self.kernel(process, posterior.mean, x, s, size).sample(streams.fold(str(k)))
        return State(x, s, state.index + 1, first)

    def size_at(self, process: LinearProcess, s: Tensor, t: Tensor) -> float:
        """The size of the steps at s after the level of t: the one that was set, or that of `balanced_size`."""
        if self.size is not None:
            return self.size
        return balanced_size(float(torch.exp((process.logsnr(s) - process.logsnr(t)) / 2)), self.steps)

    def kernel(self, process: LinearProcess, image: Tensor, x: Tensor, t: Tensor, size: float) -> LocationScale:
        """The law of x after one Langevin step of the size at t, (B, *event), for the predicted image."""
        (alpha, sigma), a = process.coefficients(t), size * _SHARE[self.convention]
        mean = x + a * (per_sample(alpha, x) * image - x)
        return LocationScale(mean, per_sample((2 * a) ** 0.5 * sigma, x), process.law)


@lru_cache(maxsize=4096)
def balanced_size(ratio: float, steps: int) -> float:
    """The size of a Langevin step, in units of the level's variance, for levels in this ratio and so many steps each.

    Data that is a point has the variance v_0 = ratio^2 when the chain comes from the level before, and after n steps
    v_n = v + (1 - size)^(2n) (ratio^2 - v) with v = 1/(1 - size/2): never 1, but least at one size, which is returned,
    between 0.001 and 1. NCSNv2's technique 4, v_n as close to 1 as can be; for its CIFAR-10 levels, 1.0376 apart, 5
    steps have 0.0618, where the paper has 0.062.

    Exact when: the data is a point; then v_n is the variance over the level's.

    Reference: Song & Ermon, "Improved techniques for training score-based generative models" (2020), proposition 2 and
    technique 4.
    """

    def excess(size: float) -> float:
        still = 1 / (1 - size / 2)
        return still - 1 + (1 - size) ** (2 * steps) * (ratio * ratio - still)

    if not math.isfinite(ratio):
        return 1.0
    low, high = 0.001, 1.0
    for _ in range(100):  # it falls and then rises: a third that cannot hold the least is cut off
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (left, high) if excess(left) > excess(right) else (low, right)
    return (low + high) / 2
