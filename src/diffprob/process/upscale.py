"""The upscaling process of grey levels: coarse values are drawn first, and finer ones given these, stage by stage."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Never

import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.distributions import Categorical, Distribution
from diffprob.base.errors import InputError
from diffprob.base.level_tree import MOST_BRANCHES, LevelTree
from diffprob.base.rng import Rng
from diffprob.base.shapes import flat_sum, is_one_time, sigmoid
from diffprob.process.absorbing import AbsorbingProcess, random_order
from diffprob.process.of_levels import only_markov, point_logits
from diffprob.process.schedule import Discrete
from diffprob.process.survival import Survival, times_like
from diffprob.process.times import as_time


@dataclass(frozen=True)
class StagedSchedule:
    """A survival once for each of S stages, the last stage of a chain's way to the data at t in (0, 1/S].

    Args:
        survival: of one stage.
        stages: S.
    """

    survival: Survival
    stages: int

    @property
    def steps(self) -> int | None:
        """S times those of a stage; None for a continuous survival."""
        return None if self.survival.steps is None else self.stages * self.survival.steps

    @property
    def start(self) -> float:
        """The last noisy time, that of the last stage."""
        return self.survival.start / self.stages

    def within(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """How many stages are still to come after that of t, and the time within it, in (0, 1]; float64, shaped like t.

        t = 0 is the end of the last stage. Within 1e-11 of a stage's end it is meant.
        """
        place = torch.as_tensor(t, dtype=torch.float64) * self.stages
        ahead = ((place - 1e-11).ceil() - 1).clamp_min(0)
        return ahead, (place - ahead).clamp(0, 1)

    def masked(self, t: Tensor) -> Tensor:
        """The share of what is to be drawn that is not, float64 shaped like t."""
        ahead, inner = self.within(t)
        return (ahead + self.survival.masked(inner)) / self.stages

    def logsnr(self, t: Tensor) -> Tensor:
        """The log odds of what is drawn."""
        share = self.masked(t)
        return torch.log1p(-share) - torch.log(share)

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`."""
        place = sigmoid(-torch.as_tensor(logsnr, dtype=torch.float64)) * self.stages
        ahead = ((place - 1e-11).ceil() - 1).clamp_min(0)
        share = (place - ahead).clamp(0, 1)
        inner = self.survival.time(torch.log1p(-share) - torch.log(share))
        return (ahead + inner) / self.stages

    def snap(self, t: Tensor) -> Tensor:
        """The nearest times of the stages where those of one are counted; the identity otherwise."""
        if self.steps is None:
            return t
        counted = Discrete()
        counted.steps = self.steps
        return counted.snap(t)


@dataclass(frozen=True)
class UpscaleProcess(AbsorbingProcess):
    """Each element is known more and more finely: not at all, then in which of b intervals it lies, and so on.

    A state is a node of `diffprob.base.level_tree.LevelTree`, an interval of levels. From the data on the last stage
    forgets the finest digit to the base b of one element after the other (or of each by itself, with a smooth
    survival), the next one the digit before, until nothing is known. So every stage is an absorbing process given the
    coarser values, and one stage, b = K, is the `AbsorbingProcess`. With p(x_0 | x_t) a step to an interval has the
    probability of its levels.

    Args:
        levels: K values of an element; K itself says nothing of one.
        survival: of a stage, `Staircase(d)` for autoregression.
        order: the rank of each element in the order of drawing, the same in all stages.
        branching: b; 2 draws bits, the most significant first.

    Exact when: as in `AbsorbingProcess`.

    Reference: Hoogeboom et al., "Autoregressive diffusion models" (2022), sec. 3.3 (depth upscaling), whose stages have
    an order each: the average over orders, and so the bound, is the same.
    """

    branching: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("branching", self.branching, 2, MOST_BRANCHES)

    does = "draws levels from coarse to fine"

    @cached_property
    def tree(self) -> LevelTree:
        """The intervals of levels."""
        return LevelTree(self.levels, self.branching)

    @property
    def stages(self) -> int:
        """S, the least with b^S >= K."""
        return self.tree.stages

    @property
    def states(self) -> int:
        """Nodes of the tree."""
        return self.tree.states

    @property
    def schedule(self) -> Any:
        """S stages of the survival."""
        return StagedSchedule(self.survival, self.stages)

    def logsnr(self, t: Tensor | float) -> Tensor:
        """The log odds of what is drawn, float64."""
        return self.schedule.logsnr(as_time(t, self.schedule.steps))

    def begin(self, rng: Rng, x: Tensor) -> "AbsorbingProcess":
        """As in `AbsorbingProcess`: in a random order in which what is known more finely comes first."""
        if self.order is not None or self.survival.alone == self.survival:
            return self
        ranks = random_order(rng, x).flatten(1)
        coarse = self.stages - self.tree.depth(x).flatten(1)
        key = coarse * ranks.shape[1] + ranks
        return self.with_order(torch.argsort(torch.argsort(key, dim=1), dim=1).reshape(x.shape))

    def given(self, shown: Tensor, x0: Tensor) -> Never:
        """Refuse to draw some elements given others: the coarse values of those would be drawn given coarse ones alone.

        Raises:
            InputError: always.
        """
        raise InputError(
            "this model draws all coarse values before the fine ones, so that no chain of it is given some pixels "
            "whole: a run of an AbsorbingProcess(...) would be right"
        )

    def visible(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """The middle of the interval."""
        low, high = self.tree.interval(xt)
        return 0.5 * (low + high)

    def rate_nats(self, posterior: Distribution, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """What infinitely short steps at t cost: S times the rate of the stage, times the sum over elements whose digit
        it has not drawn of -log p of that digit, (B,).

        Raises:
            ValueError: the survival has no derivative.
        """
        ahead, inner = self.schedule.within(torch.as_tensor(t, dtype=torch.float64))
        depth = self.tree.depth(xt)
        open_ = depth == times_like((self.stages - 1 - ahead).to(x0), x0)
        logs = self.tree.log_mass(self.check_posterior(posterior, xt).log_probabilities)
        finer = self.tree.node(x0, (depth + 1).clamp_max(self.stages)).long()
        each = torch.where(open_, -logs.gather(-1, finer[..., None])[..., 0], 0.0)
        return self.stages * self.survival.rate(inner).to(x0) * flat_sum(each)

    def prior(self, like: Tensor) -> Categorical:
        """Nothing is known."""
        return Categorical(point_logits(torch.full_like(like, self.mask), self.states), like.dtype)

    def marginal(self, x0: Tensor, t: Tensor | float) -> Categorical:
        """q(x_t | x_0), over the nodes: those of x_0 at two neighbouring depths."""
        point_logits(x0, self.levels)
        depth, drawn = self._drawn(t, x0)
        coarse, fine = (point_logits(self.tree.node(x0, depth + more), self.states) for more in (0, 1))
        return Categorical(_mixed(coarse, fine, drawn).to(x0.dtype), x0.dtype)

    def _drawn(self, t: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
        """The depth that all elements have at least, int64, and the probability of each to have one more, float64; both
        broadcastable to ``like``."""
        t = torch.as_tensor(t, dtype=torch.float64)
        ahead, inner = self.schedule.within(as_time(t, self.schedule.steps) if t.is_cpu else t)
        depth = times_like(self.stages - 1 - ahead, like).long()
        return depth, 1 - self.survival.masked_elements(inner, self.order, like)

    def _step(self, logits: Tensor, xt: Tensor, s: Tensor | float, t: Tensor | float, eta: float) -> Categorical:
        """The law of x_s, over the nodes, for normalised ``logits`` of x_0.

        An element is early or late in the order, at a place u of its own: at t those with u < a have one digit more, at
        s those with u < b, which by Bayes' rule is a probability of min(a, b)/a or max(b - a, 0)/(1 - a).
        """
        only_markov(self, eta)
        if is_one_time(s) and is_one_time(t) and float(s) > float(t):
            raise ValueError(f"expected s < t, got s={float(s):g}, t={float(t):g}")
        (target, later), (now, before) = self._drawn(s, xt), self._drawn(t, xt)
        if not bool(((target > now) | ((target == now) & (later >= before))).all()):
            raise ValueError("expected s < t for every sample")
        own = self.tree.depth(xt)
        early = own > now
        more = torch.where(early, torch.minimum(before, later) / before, (later - before).clamp_min(0) / (1 - before))
        # An element that the time does not allow, as of an order that another began, is taken where it should be.
        more = torch.where(more.isfinite(), more, later)
        mass, depths = self.tree.log_mass(logits), self.tree.depth(torch.arange(self.states, device=xt.device))
        at = [torch.maximum(own, target + step) for step in (0, 1)]
        coarse, fine = (torch.where(depths == depth[..., None], mass, -math.inf) for depth in at)
        law = _mixed(coarse, fine, more)
        stays = (at[0] == own) & ((at[1] == own) | (more == 0))
        known = point_logits(xt, self.states).to(law.dtype)
        return Categorical(torch.where(stays[..., None], known, law).to(logits.dtype), xt.dtype)

    def restrict(self, logits: Tensor, xt: Tensor) -> Tensor:
        """Logits (B, *event, K) of x_0 where x_t (B, *event) leaves it open: within its interval; certain elsewhere."""
        low, high = (end[..., None] for end in self.tree.interval(xt))
        x = torch.arange(self.levels, device=logits.device, dtype=xt.dtype)
        inside = torch.where((x >= low) & (x <= high), logits, -math.inf)
        known = point_logits(xt, self.states)[..., : self.levels].to(logits.dtype)
        return torch.where((xt < self.levels)[..., None], known, inside)

    def agree(self, xt: Tensor, x0: Tensor) -> Tensor:
        """Whether elements of x_0 may have led to those of x_t, bool; the shapes broadcast."""
        low, high = self.tree.interval(xt)
        return (x0 >= low) & (x0 <= high)

    def drawn_state(self, x0: Tensor, drawn: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `AbsorbingProcess.drawn_state`: after ``drawn`` of S d steps."""
        d = x0[0].numel()
        depth, rest = times_like(drawn // d, x0).long(), drawn % d
        open_ = ranks >= times_like(rest, x0)
        return self.tree.node(x0, depth + (~open_).long()), open_, d - rest

    def log_next(self, law: Any, outputs: Tensor, x0: Tensor, xt: Tensor) -> Tensor:
        """log of the probability of the interval of x_0 one stage finer than x_t's, given that, (B, *event)."""
        finer = self.tree.node(x0, (self.tree.depth(xt) + 1).clamp_max(self.stages))
        inner, outer = (law.log_mass(outputs, *self.tree.interval(node), self.levels) for node in (finer, xt))
        return inner - outer

    @property
    def averaged(self) -> "AbsorbingProcess":
        """As in `AbsorbingProcess`, with the order of a stage averaged out."""
        return self if self.order is not None else replace(self, survival=self.survival.alone)


def _mixed(coarse: Tensor, fine: Tensor, share: Tensor) -> Tensor:
    """log((1 - p) exp(coarse) + p exp(fine)) for the share p, broadcastable but for the last dimension."""
    stay, leave = (v.to(coarse.dtype).expand(coarse.shape[:-1])[..., None] for v in (torch.log1p(-share), share.log()))
    return torch.logaddexp(coarse + stay, fine + leave)
