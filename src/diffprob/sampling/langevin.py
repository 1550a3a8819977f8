"""Annealed Langevin dynamics: a short chain at every noise level, from the highest to the lowest."""

from dataclasses import dataclass

from torch import Tensor

from diffprob.base.checks import one_of, real, whole
from diffprob.base.distributions import LocationScale
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
        size: the step in units of the level's variance.
        convention: "code" or "paper".

    When: noise-conditional score networks, with about a thousand evaluations.

    Exact when: in the limit of many small steps at every level.

    Reference: Song & Ermon, "Generative modeling by estimating gradients of the data distribution" (2019), algorithm 1;
    "Improved techniques for training score-based generative models" (2020), algorithm 1.
    """

    steps: int = 5
    size: float = 0.2
    convention: str = "code"

    order = None

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, 10000)
        one_of("convention", self.convention, _SHARE)
        # Beyond 2 a step overshoots by more than it corrects, and the chain runs away.
        real("size", self.size, f"(0, {2 / _SHARE[self.convention]:g})")

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
        streams = rng.fold("langevin").at(state.index)
        for k in range(self.steps):
            posterior = model(x, s)
            first = first or posterior
            x = self.kernel(process, posterior.mean, x, s).sample(streams.fold(str(k)))
        return State(x, s, state.index + 1, first)

    def kernel(self, process: LinearProcess, image: Tensor, x: Tensor, t: Tensor) -> LocationScale:
        """The law of x after one Langevin step at t, (B, *event), for the predicted image."""
        (alpha, sigma), a = process.coefficients(t), self.size * _SHARE[self.convention]
        mean = x + a * (per_sample(alpha, x) * image - x)
        return LocationScale(mean, per_sample((2 * a) ** 0.5 * sigma, x), process.law)
