"""How well a score tells points inside a distribution from points outside: higher means denser, that is inside.

Scores are 1-D; infinite ones are allowed (a density may be 0), NaN is not. Ties are counted, not broken.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, derive
from diffprob.evaluation.estimate import NORMAL_95, Estimate, Points

_DRAWS = 200  # of the bootstrap
_CHUNK = 1 << 22  # random integers held at a time


def auroc(inside: Points, outside: Points) -> Estimate:
    """Area under the ROC curve by ranks: P(inside > outside) + P(inside = outside) / 2, for scores (n,) and (m,).

    1/2 for scores that know nothing; below 1/2 the score is higher outside, which is reported as it is. The interval is
    DeLong's, cut at 0 and 1. At a value of exactly 0 or 1, where DeLong's is a point, its inner end is the a with
    a^min(n, m) = 2.5%: so many disjoint pairs were all ordered alike.

    Raises:
        InputError: no scores, another shape, or NaN.

    Reference: DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
    characteristic curves" (1988).
    """
    a, b = _scores(inside, "inside"), _scores(outside, "outside")
    n, m = len(a), len(b)
    below_a, below_b = _below(a, b), _below(b, a)
    value = float(below_a.mean())
    variance = sum(float(v.var(ddof=1)) / len(v) if len(v) > 1 else 0.25 for v in (below_a, below_b))
    half = NORMAL_95 * math.sqrt(variance)
    low, high = max(0.0, value - half), min(1.0, value + half)
    if value in {0.0, 1.0}:
        edge = 0.025 ** (1 / min(n, m))
        low, high = (edge, 1.0) if value == 1 else (0.0, 1 - edge)
    return Estimate(value, n, m, low, high)


def average_precision(inside: Points, outside: Points, positive: str = "inside", seed: int = 0) -> Estimate:
    """Average precision, sum of (recall_t - recall_(t-1)) precision_t over the distinct scores t from the best down.

    With ``positive="inside"`` a high score says positive; with ``positive="outside"`` a low one does. A score that
    knows nothing gets the share of positives, details' ``chance``: unlike the area under the ROC curve it depends on
    the sizes. The interval takes the 2.5% and 97.5% points of 200 bootstrap draws (seed) of both sets.

    Raises:
        ValueError: another positive class.
        InputError: no scores, another shape, or NaN.
    """
    if positive not in {"inside", "outside"}:
        raise ValueError(f"positive must be 'inside' or 'outside', got {positive!r}")
    a, b = _scores(inside, "inside"), _scores(outside, "outside")
    yes, no = (a, b) if positive == "inside" else (-b, -a)
    steps = _Steps(yes, no)
    value = float(steps.average_precision(*steps.ones()))
    low, high = _interval([float(steps.average_precision(*w)) for w in steps.draws(seed)])
    details = {"positive": positive, "chance": len(yes) / (len(yes) + len(no)), "seed": seed}
    return Estimate(value, len(a), len(b), low, high, details)


def fpr_at_tpr(inside: Points, outside: Points, tpr: float = 0.95, seed: int = 0) -> Estimate:
    """Share of outside scores >= t, at the highest threshold t with a share >= ``tpr`` of the inside scores >= t.

    Inside is positive; no interpolation: t is one of the inside scores, details' ``threshold``. The interval takes the
    2.5% and 97.5% points of 200 bootstrap draws (seed) of both sets.

    Raises:
        ValueError: tpr outside (0, 1].
        InputError: no scores, another shape, or NaN.
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must lie in (0, 1], got {tpr}")
    a, b = _scores(inside, "inside"), _scores(outside, "outside")
    steps = _Steps(a, b)
    value, threshold = steps.false_positives(*steps.ones(), tpr)
    low, high = _interval([steps.false_positives(*w, tpr)[0] for w in steps.draws(seed)])
    details = {"tpr": tpr, "threshold": threshold if math.isfinite(threshold) else str(threshold), "seed": seed}
    return Estimate(value, len(a), len(b), low, high, details)


class _Steps:
    """Both sets along the distinct scores, from the highest down."""

    def __init__(self, yes: np.ndarray, no: np.ndarray) -> None:
        self.levels, place = np.unique(-np.concatenate([yes, no]), return_inverse=True)
        self.sizes = len(yes), len(no)
        self.place = place[: len(yes)], place[len(yes) :]

    def ones(self) -> tuple[np.ndarray, np.ndarray]:
        """Cumulative counts (levels,) of either set, every point once."""
        yes, no = (np.bincount(place, minlength=len(self.levels)).cumsum() for place in self.place)
        return yes, no

    def draws(self, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Cumulative counts of bootstrap draws of either set."""
        rows = max(1, _CHUNK // max(self.sizes))
        for first in range(0, _DRAWS, rows):
            rng = Rng.of(derive(seed, "bootstrap") >> 1, min(rows, _DRAWS - first), first)
            picks = [rng.fold(str(i)).integers((size,), size).numpy() for i, size in enumerate(self.sizes)]
            for yes, no in zip(*picks, strict=True):
                chosen = self.place[0][yes], self.place[1][no]
                a, b = (np.bincount(places, minlength=len(self.levels)).cumsum() for places in chosen)
                yield a, b

    def average_precision(self, yes: np.ndarray, no: np.ndarray) -> float:
        precision = yes / np.maximum(yes + no, 1)
        return float((np.diff(yes, prepend=0) * precision).sum() / self.sizes[0])

    def false_positives(self, yes: np.ndarray, no: np.ndarray, tpr: float) -> tuple[float, float]:
        first = int(np.argmax(yes / self.sizes[0] >= tpr))
        return float(no[first] / self.sizes[1]), -float(self.levels[first])


def _scores(scores: Points, name: str) -> np.ndarray:
    values = scores.detach().cpu().double().numpy() if isinstance(scores, torch.Tensor) else np.asarray(scores)
    if values.ndim != 1 or len(values) == 0:
        raise InputError(f"scores {name} must have shape (n,), got {tuple(values.shape)}")
    if values.dtype.kind not in "fiu":
        raise InputError(f"scores {name} must be real numbers, got {values.dtype}")
    if np.isnan(values).any():
        raise InputError(f"scores {name} hold NaN")
    return values.astype(np.float64)


def _below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For every score (n,) the share of the others (m,) that lie below it, ties half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / (2 * len(others))


def _interval(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
