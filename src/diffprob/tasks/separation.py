"""What scores say: how sets separate, how proxies go together, how single images rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from diffprob.base.errors import InputError
from diffprob.evaluation.correlation import partial, pearson, spearman
from diffprob.evaluation.detection import auroc, average_precision, fpr_at_tpr
from diffprob.evaluation.estimate import Estimate
from diffprob.tasks.scoring import ImageSet, Scores

LOW = 0.05  # of the images that belong, so many are flagged
ENDS = 8  # images at either end of a ranking


@dataclass(frozen=True, eq=False)
class Separation:
    """How well a proxy tells one set from the images inside; nothing is turned round.

    Args:
        proxy, outside: their names.
        auroc, aupr_inside, aupr_outside, fpr95: with 95% intervals.
        mean_inside, std_inside, mean_outside, std_outside: of the scores.
    """

    proxy: str
    outside: str
    auroc: Estimate
    aupr_inside: Estimate
    aupr_outside: Estimate
    fpr95: Estimate
    mean_inside: float
    std_inside: float
    mean_outside: float
    std_outside: float

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return {name: _ends(value) if isinstance(value, Estimate) else value for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class Correlation:
    """How two proxies go together on the images inside.

    Args:
        one, two: their names.
        pearson, spearman: correlations.
        partial: the rank correlation given the images' complexity; None of real numbers.
    """

    one: str
    two: str
    pearson: Estimate
    spearman: Estimate
    partial: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        estimates = {"pearson": self.pearson, "spearman": self.spearman, "partial": self.partial}
        known = {name: estimate for name, estimate in estimates.items() if estimate is not None}
        numbers = {name: {**_ends(estimate), "p": estimate.details["p"]} for name, estimate in known.items()}
        return {"one": self.one, "two": self.two, **numbers}


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where images stand among those inside, by one proxy.

    Args:
        proxy: its name.
        index: where each image stands in its data, int64 (n,).
        scores: higher is denser, float64 (n,).
        quantiles: share of the images inside that score no higher, float64 (n,).
        p_values: conformal, float64 (n,); see `rank`.
        order: places, the least typical image first, int64 (n,).
        false_alarms: up to which p-value images are flagged.
    """

    proxy: str
    index: np.ndarray
    scores: np.ndarray
    quantiles: np.ndarray
    p_values: np.ndarray
    order: np.ndarray
    false_alarms: float

    @property
    def flagged(self) -> np.ndarray:
        """Places of the images that are flagged, the least typical first."""
        return self.order[self.p_values[self.order] <= self.false_alarms]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name; images by their places in their data."""
        return {
            "proxy": self.proxy,
            "scores": self.scores.tolist(),
            "quantiles": self.quantiles.tolist(),
            "p_values": self.p_values.tolist(),
            "flagged": self.index[self.flagged].tolist(),
            "least": self.index[self.order[:ENDS]].tolist(),
            "most": self.index[self.order[::-1][:ENDS]].tolist(),
        }


def separate(scores: Scores, inside: ImageSet, outside: Sequence[ImageSet]) -> tuple[Separation, ...]:
    """How each proxy tells the sets apart.

    Raises:
        InputError: a score is not finite.
    """
    return tuple(
        Separation(
            proxy=name,
            outside=part.name,
            auroc=auroc(own, other),
            aupr_inside=average_precision(own, other, "inside"),
            aupr_outside=average_precision(own, other, "outside"),
            fpr95=fpr_at_tpr(own, other),
            mean_inside=float(np.mean(own)),
            std_inside=float(np.std(own, ddof=1)),
            mean_outside=float(np.mean(other)),
            std_outside=float(np.std(other, ddof=1)),
        )
        for name, sets in scores.items()
        for part in outside
        for own, other in [(sets[inside.name], sets[part.name])]
    )


def correlate(scores: Scores, inside: ImageSet) -> tuple[Correlation, ...]:
    """Every pair of proxies on the images inside; pairs with a constant one are left out."""
    pairs = []
    for one, two in combinations(scores, 2):
        a, b = scores[one][inside.name], scores[two][inside.name]
        try:
            bits = inside.complexity
            given = None if bits is None else partial(a, b, bits)
            pairs.append(Correlation(one, two, pearson(a, b), spearman(a, b), given))
        except InputError:  # a constant column correlates with nothing
            continue
    return tuple(pairs)


def rank(scores: Scores, inside: ImageSet, judged: ImageSet, false_alarms: float = LOW) -> tuple[Ranking, ...]:
    """Where every judged image stands among the ones inside, by each proxy.

    The conformal p-value of an image is (k + 1) / (n + 1), where k of the n inside images score no higher. If it is
    exchangeable with them, p <= a has a probability of at most a (Vovk, Gammerman & Shafer 2005, proposition 4.1): the
    rate of false alarms.
    """
    rankings = []
    for name, sets in scores.items():
        ordered, own = np.sort(sets[inside.name]), sets[judged.name]
        below = np.searchsorted(ordered, own, "right")
        p, order = (below + 1) / (len(ordered) + 1), np.argsort(own, kind="stable")
        rankings.append(Ranking(name, judged.index, own, below / len(ordered), p, order, false_alarms))
    return tuple(rankings)


def _ends(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
