"""The multinomial process of discrete data: an element keeps its value, or is drawn anew from a fixed law of values.

States hold whole numbers 0..K-1 in a floating type, (B, *event). With two values it is the binomial diffusion of
Sohl-Dickstein et al. 2015, the first of discrete data; Hoogeboom et al. 2021 and Austin et al. 2021 have any number.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from diffprob.base.checks import able, real, several, whole
from diffprob.base.distributions import Categorical, Distribution
from diffprob.base.errors import FieldError, InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum, is_one_time
from diffprob.process.of_levels import MOST_VALUES, OfLevels, only_markov, point_logits
from diffprob.process.process import Direct
from diffprob.process.schedule import ConstantErasure, Schedule
from diffprob.process.survival import times_like
from diffprob.process.times import as_time


@dataclass(frozen=True, eq=False)
class StepLaw(Categorical):
    """What a network says of the step itself: the law of x_s at s = t - 1/T, and not of x_0, (B, *event, K).

    `MultinomialProcess.reverse` takes it for this very step. At t = 1/T that is x_0, which can be drawn from it then.

    Args:
        logits, dtype: as in `diffprob.base.distributions.Categorical`.
        t: the time of x_t, () or (B,) float64.
        steps: T.

    Reference: Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium thermodynamics" (2015), table
    app. 1: f_b(x_t, t).
    """

    t: Tensor | float = 0.0
    steps: int = 1000

    def check(self, s: Tensor | float) -> None:
        """Refuse another step than that of 1/T.

        Raises:
            InputError: it is longer or shorter.
        """
        s, t = (torch.as_tensor(time, dtype=torch.float64, device=self.logits.device) for time in (s, self.t))
        width = t - s
        if not bool(((width * self.steps - 1).abs() < 1e-6).all()):
            raise InputError(
                f"the network knows the steps of 1/{self.steps} alone, got one of {float(width.max()):g}: take every "
                "time of the schedule, or a network that predicts x_0"
            )

    def sample(self, rng: Rng) -> Tensor:
        """Draws of x_0, (B, *event).

        Raises:
            InputError: t is another time than 1/T.
        """
        self.check(0.0)
        return super().sample(rng)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log probability of x_0 (B, *event), in nats, (B,).

        Raises:
            InputError: t is another time than 1/T.
            ValueError: what is none of 0..K-1.
        """
        self.check(0.0)
        return super().log_prob(x)


@dataclass(frozen=True)
class MultinomialProcess(Direct, OfLevels):
    """Each element is itself with probability abar(t), and otherwise a draw from the stationary law pi.

    q(x_t = k | x_0) = abar_t [k = x_0] + (1 - abar_t) pi_k with abar = 1/(1 + exp(-logsnr)), which for a table of beta
    is prod (1 - beta_i): a step is x_t = x_(t-1) with probability 1 - beta_t, and a draw from pi otherwise. By Bayes'
    rule q(x_s = k | x_t, x_0) is proportional to q(x_t | x_s = k) q(x_s = k | x_0). Two values and pi = (1/2, 1/2):
    q(x_t = 1 | x_(t-1)) = x_(t-1) (1 - beta_t) + beta_t/2.

    Times are as in `diffprob.process.linear.LinearProcess`: float64 in [0, 1], () or (B,), s < t. Laws are computed in
    float64 and cast to the state's dtype.

    Args:
        levels: K values of an element.
        schedule: abar(t): a table of beta, any log-SNR curve, or a survival of `diffprob.process.survival`.
        stationary: pi, K positive numbers that add up to 1, such as the frequencies of the data; None: 1/K each.

    Exact when: always; `reverse` where the elements of p(x_0|x_t) are independent.

    Reference: Sohl-Dickstein et al. 2015, sec. 2 and table app. 1; Hoogeboom et al., "Argmax flows and multinomial
    diffusion" (2021), eqs. 11 to 13; Austin et al., "Structured denoising diffusion models in discrete state-spaces"
    (2021), app. A.2.1, "uniform".
    """

    levels: int = 2
    schedule: Schedule = field(default_factory=ConstantErasure)
    stationary: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        whole("levels", self.levels, 2, MOST_VALUES)
        able("schedule", self.schedule, "logsnr", "ConstantErasure()")
        if self.stationary is not None:
            several("stationary", self.stationary, lambda name, p: real(name, p, "(0, 1)"), 2, MOST_VALUES)
            if len(self.stationary) != self.levels or abs(sum(self.stationary) - 1) > 1e-6:
                got = f"{len(self.stationary)} that add up to {sum(self.stationary):g}"
                raise FieldError("stationary", f"must be {self.levels} numbers that add up to 1, got {got}")

    @property
    def states(self) -> int:
        """Values that x_t may have: the levels."""
        return self.levels

    does = "draws levels anew"

    def logsnr(self, t: Tensor | float) -> Tensor:
        """log(abar/(1 - abar)), float64."""
        return self.schedule.logsnr(as_time(t, self.schedule.steps))

    def prior(self, like: Tensor) -> Categorical:
        """Every element from pi, independently."""
        return Categorical(self._log_pi(like).to(like.dtype).expand(*like.shape, self.levels), like.dtype)

    def marginal(self, x0: Tensor, t: Tensor | float) -> Categorical:
        """q(x_t | x_0)."""
        return Categorical(self._moved(point_logits(x0, self.levels).double(), t, x0).to(x0.dtype), x0.dtype)

    def reverse(
        self, posterior: Distribution, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float = 1.0
    ) -> Categorical:
        """p(x_s | x_t), as `OfLevels.reverse`; a `StepLaw` says it itself.

        Raises:
            NoClosedForm: another posterior.
            InputError: a `StepLaw`, and another step than that of 1/T.
        """
        if not isinstance(posterior, StepLaw):
            return super().reverse(posterior, xt, s, t, eta)
        self.check_posterior(posterior, xt)
        posterior.check(s)
        return Categorical(posterior.log_probabilities, xt.dtype)

    def _log_pi(self, like: Tensor) -> Tensor:
        """log pi, float64 (K,)."""
        weights = (1 / self.levels,) * self.levels if self.stationary is None else self.stationary
        pi = torch.tensor(weights, dtype=torch.float64, device=like.device)
        return torch.log(pi / pi.sum())

    def _log_kept(self, t: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
        """(log abar, log(1 - abar)) at t, float64, broadcastable to the logits of ``like``."""
        t = torch.as_tensor(t, dtype=torch.float64)
        logsnr = self.schedule.logsnr(as_time(t, self.schedule.steps) if t.is_cpu else t)
        logsnr = times_like(logsnr, like)[..., None]
        return logsigmoid(logsnr), logsigmoid(-logsnr)

    def _moved(self, logits: Tensor, t: Tensor | float, like: Tensor) -> Tensor:
        """Log probabilities of x_t where x_0 has the law ``logits``, not normalised, float64 (B, *event, K)."""
        kept, lost = self._log_kept(t, like)
        return torch.logaddexp(kept + logits, lost + self._log_pi(like) + logits.logsumexp(-1, keepdim=True))

    def likelihood(self, xt: Tensor, t: Tensor | float, s: Tensor | float | None = None) -> Tensor:
        """log q(x_t | x_s = k) for each value k of x_s, float64 (B, *event, K); of x_0 by default, which is not x_s at
        s = 0 where the schedule has noise there.

        Raises:
            ValueError: s is above t.
        """
        if s is not None and is_one_time(s) and is_one_time(t) and float(s) > float(t):
            raise ValueError(f"expected s < t, got s={float(s):g}, t={float(t):g}")
        log_t = self._log_kept(t, xt)[0]
        log_s = torch.zeros_like(log_t) if s is None else self._log_kept(s, xt)[0]
        if not bool((log_t <= log_s).all()):
            raise ValueError("expected s < t for every sample")
        # Where nothing is left at s, nothing is lost between s and t.
        between = torch.where(log_s == -torch.inf, 0.0, log_t - log_s)
        here = point_logits(xt, self.levels).double()
        drawn = self._log_pi(xt)[xt.long()][..., None]  # log pi of the value of x_t
        return torch.logaddexp(between + here, torch.log(-torch.expm1(between)) + drawn)

    def rate_nats(self, posterior: Distribution, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """What infinitely short steps at t cost, nats by unit of t, (B,).

        The chain leaves x_t for a value y at the rate beta pi(x_t) q(y)/q(x_t) with beta = -d log abar/dt and q the law
        of x_t given x_0, or its average over p(x_0|x_t); of two such rates a and b the cost is a log(a/b) - a + b.

        Args:
            posterior: p(x_0 | x_t), a `Categorical`.
            x0, xt: levels and state, (B, *event).
            t: () or (B,).

        Raises:
            NoClosedForm: another posterior.
            InputError: the law of a step of 1/T alone is known.

        Exact when: always; the limit of T KL(q(x_s|x_t,x_0) || p(x_s|x_t)) in steps of 1/T, which a test compares.

        Reference: Campbell et al., "A continuous time framework for discrete denoising models" (2022), prop. 3.
        """
        law = self.check_posterior(posterior, xt)
        if isinstance(law, StepLaw):
            law.check(t)
        with torch.enable_grad():
            moving = torch.as_tensor(t, dtype=torch.float64).detach().clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(logsigmoid(self.schedule.logsnr(moving)).sum(), moving)
        back = self.likelihood(xt, t)
        ours, theirs = (
            self._moved(logits.double() - back, t, xt)
            for logits in (point_logits(x0, self.levels), law.log_probabilities)
        )
        each = ours.exp() * (ours - theirs) - ours.exp() + theirs.exp()
        each = torch.where(point_logits(xt, self.levels) == 0, 0.0, each).sum(-1)  # to stay costs nothing
        each = each * self._log_pi(xt).exp()[xt.long()]
        return -times_like(slope, each).reshape(-1) * flat_sum(each)

    def _step(self, logits: Tensor, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float) -> Categorical:
        """The law of x_s given x_t, for normalised log probabilities of x_0, (B, *event, K).

        p(x_s = k | x_t) = q(x_t | x_s = k) sum_j r_j q(x_s = k | x_0 = j) with r_j = p(x_0 = j | x_t)/q(x_t | x_0 = j);
        of a point it is Bayes' rule (Hoogeboom et al. 2021, eq. 13).
        """
        only_markov(self, eta)
        ratios = logits.double() - self.likelihood(xt, t)
        law = self.likelihood(xt, t, s) + self._moved(ratios, s, xt)
        return Categorical(law.log_softmax(-1).to(logits.dtype), xt.dtype)
