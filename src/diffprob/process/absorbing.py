"""The absorbing process of discrete data: an element keeps its value or loses it to the mask, which it never leaves.

States hold whole numbers in a floating type, (B, *event): 0..K-1 are levels, and K is the mask. Autoregressive
diffusion is this process with the survival `Staircase` (Hoogeboom et al. 2022, sec. 3), masked diffusion the one with a
smooth survival (Austin et al. 2021, sec. 3.1, "absorbing state").
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import able, whole
from diffprob.base.distributions import Categorical, Distribution
from diffprob.base.rng import Rng, one_for_each
from diffprob.base.shapes import is_one_time
from diffprob.process.of_levels import MOST_VALUES, OfLevels, only_markov, point_logits
from diffprob.process.survival import LinearSurvival, Survival, times_like
from diffprob.process.times import as_time


def random_order(rng: Rng, like: Tensor) -> Tensor:
    """A uniformly random order for each sample: the rank 0..d-1 of every element, int64 shaped like ``like``.

    Raises:
        ValueError: another number of streams than of samples.
    """
    one_for_each(rng, like)
    event = like.shape[1:]
    rng = rng.fold("order")
    high, low = (rng.fold(name).bits((math.prod(event),)) for name in ("high", "low"))
    places = torch.argsort(high * 2**31 + (low >> 1), dim=1, stable=True)
    return torch.argsort(places, dim=1).reshape(len(like), *event).to(like.device)


@dataclass(frozen=True)
class AbsorbingProcess(OfLevels):
    """Each element is itself with probability alpha(t), or masked.

    q(x_t = x_0) = alpha_t, q(x_t = K) = 1 - alpha_t. Of a masked element q(x_s = K | x_t = K, x_0) = (1 - alpha_s)/(1 -
    alpha_t), and otherwise x_s = x_0; one that is not masked stays (Austin et al. 2021, app. A.2.1).

    Times are as in `diffprob.process.linear.LinearProcess`: float64 in [0, 1], () or (B,), s < t.

    Args:
        levels: K values of an element; K itself is the mask.
        survival: alpha(t), which serves grids as the schedule.
        order: the rank of each element in the order of drawing, int64 (B or 1, *event): a part of no configuration, see
            `bind`.

    Exact when: always; `reverse` where the elements of p(x_0|x_t) are independent, or one of them is drawn in a step.
    """

    levels: int
    survival: Survival = LinearSurvival()
    order: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        whole("levels", self.levels, 2, MOST_VALUES)
        able("survival", self.survival, "masked_elements", "LinearSurvival()")
        if self.order is not None and not isinstance(self.order, Tensor):
            raise ValueError(f"order must be a tensor of ranks or None, got {type(self.order).__name__}")

    @property
    def mask(self) -> int:
        """The state that stands for no value, K."""
        return self.levels

    @property
    def states(self) -> int:
        """Values that x_t may have: the levels and the mask."""
        return self.levels + 1

    @property
    def schedule(self) -> Survival:
        """What grids and laws of times read: the steps, the last noisy time, and the log odds of survival."""
        return self.survival

    does = "masks its levels"
    stages = 1  # in which an element is drawn

    def logsnr(self, t: Tensor | float) -> Tensor:
        """log(alpha/(1 - alpha)), the log odds of survival, float64."""
        return self.survival.logsnr(as_time(t, self.survival.steps))

    @property
    def averaged(self) -> "AbsorbingProcess":
        """With an order this one; without, that of each element alone.

        Of a random order the step from k masked elements to j draws k - j of them, any alike. Its KL on average is
        (k - j)/k of what all k cost, which is that of independent elements.

        Reference: Hoogeboom et al. 2022, eq. 7.
        """
        return self if self.order is not None else replace(self, survival=self.survival.alone)

    def begin(self, rng: Rng, x: Tensor) -> "AbsorbingProcess":
        """The process for chains that begin in the states x (B, *event): where it needs an order and has none, with a
        random one in which what is shown comes first.

        The order of a resumed chain is that of the whole one: what is shown then came first.

        Raises:
            ValueError: another number of streams than of samples.
        """
        if self.order is not None or self.survival.alone == self.survival:
            return self
        ranks = random_order(rng, x).flatten(1)
        later = (x == self.mask).flatten(1).long() * ranks.shape[1]
        return self.with_order(torch.argsort(torch.argsort(ranks + later, dim=1), dim=1).reshape(x.shape))

    def given(self, shown: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """The state in which some elements of x_0 are shown and all others masked, and its time: the one at which so
        many are masked.

        A chain from there draws what is not shown given what is, exactly as far as the model is.

        Args:
            shown: bool, broadcastable to x_0; as many elements of each sample.
            x0: levels (B, *event); anything where it is not shown.

        Returns:
            x_t (B, *event) and t, float64 ().

        Raises:
            ValueError: another number of them in another sample, or all of them.
        """
        x = torch.where(shown, x0, float(self.mask))
        missing = (x == self.mask).flatten(1).sum(1)
        if int(missing.min()) != int(missing.max()) or not int(missing[0]):
            counts = f"{int(missing.min())} to {int(missing.max())}"
            raise ValueError(f"as many elements of each sample must be missing, and some, got {counts}")
        count, d = missing[0].double().cpu(), x[0].numel()
        return x, self.survival.time(torch.log((d - count) / count))

    def drawn_state(self, x0: Tensor, drawn: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The state after some steps of one element each, and what the next one may draw.

        Args:
            x0: levels (B, *event).
            drawn: steps taken, whole numbers below those of all stages, () or (B,) in a floating type.
            ranks: the order of the elements, int64 (B or 1, *event).

        Returns:
            x_t (B, *event); which elements the next step may draw, bool (B, *event); their number, shaped like
            ``drawn``.
        """
        open_ = ranks >= times_like(drawn, x0)
        return torch.where(open_, float(self.mask), x0), open_, x0[0].numel() - drawn

    def log_next(self, law: Any, outputs: Tensor, x0: Tensor, xt: Tensor) -> Tensor:
        """log of the probability of what a step draws of each element that x_t leaves open, (B, *event).

        Args:
            law: what a network says of an element, a `diffprob.denoise.level_law.LevelLaw`.
            outputs: of the network, (B, *event, n).
            x0, xt: levels and state, (B, *event).
        """
        return law.log_prob(outputs, x0, self.levels)

    def restrict(self, logits: Tensor, xt: Tensor) -> Tensor:
        """Logits (B, *event, K) of x_0 where x_t (B, *event) is masked; the others are x_t for certain."""
        known = point_logits(xt, self.states)[..., : self.levels].to(logits.dtype)
        return torch.where((xt == self.mask)[..., None], logits, known)

    def agree(self, xt: Tensor, x0: Tensor) -> Tensor:
        """Whether elements of x_0 may have led to those of x_t, bool; the shapes broadcast."""
        return (xt == x0) | (xt == self.mask)

    def visible(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """x_t with the middle level in the place of the mask."""
        return torch.where(xt == self.mask, 0.5 * (self.levels - 1), xt)

    def sample_marginal(self, x0: Tensor, t: Tensor | float, rng: Rng) -> Tensor:
        """A draw of q(x_t | x_0), (B, *event), one stream for each sample: of a random order where none is bound."""
        return self.begin(rng, x0).marginal(x0, t).sample(rng.fold("noise"))

    def rate_nats(self, posterior: Distribution, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """What infinitely short steps at t cost: -alpha'(t)/(1 - alpha(t)) sum over masked elements of -log p, (B,).

        Args:
            posterior: p(x_0 | x_t), a `Categorical`.
            x0, xt: levels and state, (B, *event).
            t: () or (B,).

        Raises:
            ValueError: the survival has no derivative.

        Reference: Sahoo et al., "Simple and effective masked diffusion language models" (2024), eq. 10.
        """
        return self.survival.rate(t).to(x0) * -posterior.log_prob(x0)

    def bind(self, rng: Rng, like: Tensor) -> "AbsorbingProcess":
        """The process with a random order for each of the samples ``like`` (B, *event), from their streams.

        Raises:
            ValueError: another number of streams than of samples.
        """
        return self.with_order(random_order(rng, like))

    def with_order(self, order: Tensor) -> "AbsorbingProcess":
        """The process with the ranks ``order``, int64 (B or 1, *event), of which each event has 0..d-1 once.

        Raises:
            ValueError: no such ranks.
        """
        flat = order.flatten(1)
        if order.is_floating_point() or not bool(
            (flat.sort(1).values == torch.arange(flat.shape[1], device=flat.device)).all()
        ):
            raise ValueError("an order has each of the ranks 0..d-1 once, as whole numbers (B, *event)")
        return replace(self, order=order)

    def prior(self, like: Tensor) -> Categorical:
        """All elements are masked."""
        return Categorical(point_logits(torch.full_like(like, self.mask), self.levels + 1), like.dtype)

    def marginal(self, x0: Tensor, t: Tensor | float) -> Categorical:
        """q(x_t | x_0), over the K levels and the mask."""
        masked = self._masked(t, x0)
        kept, lost = (value.to(x0.dtype).expand(x0.shape) for value in (torch.log1p(-masked), torch.log(masked)))
        logits = point_logits(x0, self.levels)
        return Categorical(torch.cat([logits + kept[..., None], lost[..., None]], -1), x0.dtype)

    def _masked(self, t: Tensor | float, like: Tensor) -> Tensor:
        """The probability of each element to be masked, float64, broadcastable to ``like``."""
        return self.survival.masked_elements(torch.as_tensor(t, dtype=torch.float64), self.order, like)

    def _step(self, logits: Tensor, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float) -> Categorical:
        """The law of x_s: of an element that is masked in x_t, by normalised ``logits`` of its value.

        It gets that with probability (alpha_s - alpha_t)/(1 - alpha_t).
        """
        only_markov(self, eta)
        if is_one_time(s) and is_one_time(t) and float(s) > float(t):
            raise ValueError(f"expected s < t, got s={float(s):g}, t={float(t):g}")
        before, now = self._masked(s, xt), self._masked(t, xt)
        if not bool((before <= now).all()):
            raise ValueError("expected s < t for every sample")
        # A masked element that the time does not allow, as of an order that another began, gets its value now.
        stays = torch.where(now > 0, before / now, 0.0)
        stay, leave = (value.to(logits.dtype).expand(xt.shape) for value in (torch.log(stays), torch.log1p(-stays)))
        drawn = torch.cat([logits + leave[..., None], stay[..., None]], -1)
        known = point_logits(xt, self.levels + 1).to(drawn.dtype)
        return Categorical(torch.where((xt == self.mask)[..., None], drawn, known), xt.dtype)
