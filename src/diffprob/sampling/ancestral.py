"""Ancestral sampling and DDIM: one step of the reverse kernel."""

from dataclasses import dataclass

from torch import Tensor

from diffprob.base.checks import flag, real
from diffprob.base.distributions import Dirac
from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import Denoiser
from diffprob.sampling.simulate import State, check_step


@dataclass(frozen=True)
class Ancestral:
    """x_s ~ p(x_s | x_t), the bridge averaged over the whole posterior p(x_0 | x_t) (Ho et al. 2020, algorithm 2).

    Its variance is ell^2 + c0^2 Var[x_0|x_t]: beta-tilde for a posterior without variance, beta for unit data.

    When: as many steps as in training, or fewer with a fitted variance; the model of likelihoods.

    Exact when: the posterior is; on Gaussian data with the full covariance for any number of steps.

    Reference: Ho et al., "Denoising diffusion probabilistic models" (2020), algorithm 2.
    """

    order = None
    evaluations = 1
    of_levels = True  # it takes models of levels, by the reverse kernel alone

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        check_step(state, s, rng)
        posterior = model(state.x, state.t)
        x = model.process.reverse(posterior, state.x, s, state.t).sample(rng.fold("step").at(state.index))
        return State(x, s, state.index + 1, posterior)


@dataclass(frozen=True)
class DDIM:
    """The generalised family q(x_s|x_t,x_0) with ell^2 = eta^2 btil at the posterior's mean (Song et al. 2021, DDIM,
    eq. 12).

    eta = 0 is deterministic, eta = 1 the DDPM chain with beta-tilde. ``spread=True`` averages over the posterior's
    variance as well (Bao et al. 2022, eq. 6), so that with an exact posterior every eta has the right covariance.

    The "sigma-hat" of the DDIM paper, the mean of eta = 1 with the larger noise of variance 1 - abar_t/abar_s, is
    `Ancestral` (or eta = 1 with ``spread``) on a model with the variance `UnitData`, where the variance is preserved.

    When: 20 to 100 deterministic steps, images that depend smoothly on their noise.

    Exact when: spread is set and the posterior is exact; without it the standard deviation of N(0, I) data is
    multiplied by the product of cos(phi_t - phi_s), phi = arccos alpha, over the steps.

    Reference: Song et al., "Denoising diffusion implicit models" (2021), eq. 12.
    """

    eta: float = 0.0
    spread: bool = False

    evaluations = 1

    def __post_init__(self) -> None:
        real("eta", self.eta, "[0, 1]")
        flag("spread", self.spread)

    @property
    def order(self) -> int | None:
        """1 for the deterministic chain, None for a stochastic one."""
        return 1 if self.eta == 0 and not self.spread else None

    def step(self, model: Denoiser, state: State, s: Tensor, rng: Rng) -> State:
        """One step from state.t to s."""
        check_step(state, s, rng)
        posterior = model(state.x, state.t)
        process, x, t = model.process, state.x, state.t
        if self.order:
            return State(process.reverse_mean(posterior.mean, x, s, t, self.eta), s, state.index + 1, posterior)
        law = process.reverse(posterior if self.spread else Dirac(posterior.mean), x, s, t, self.eta)
        return State(law.sample(rng.fold("step").at(state.index)), s, state.index + 1, posterior)
