"""Fidelity and coverage by balls around nearest neighbours: improved precision and recall, density and coverage."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.errors import InputError
from diffprob.base.rng import subset
from diffprob.evaluation.estimate import NORMAL_95, Estimate, Points, features, same_width, wilson

_BLOCK = 1 << 21  # squared distances held at a time: 16 MiB


def precision_recall(x: Points, y: Points, k: int = 3, density_k: int = 5, seed: int = 0) -> dict[str, Estimate]:
    """Precision, recall, density and coverage of the features x (n, d) against the real ones y (m, d).

    The ball of a point reaches to its k-th nearest neighbour in its own set, itself not counted; "inside" includes the
    border. With N points a side:

    - precision: share of generated points inside any real ball; recall: share of real points inside any generated ball;
    - density: mean number of real balls around a generated point, divided by ``density_k``: 1 on average for a perfect
      model, above 1 where samples crowd in dense regions;
    - coverage: share of real balls with a generated point inside: on average 1 - (N-1)...(N-k) / ((2N-1)...(2N-k)) for
      a perfect model, 0.969 for k = 5.

    All four depend on N; both sides have the same: of the larger set a random subset (seed) is used, and details say of
    how many. Intervals: Wilson's for the shares, the normal one for density, for other points on the side that is
    counted while the balls stay as they are.

    Details of each: k, seed, drawn_from (sizes of the sets given), and for density and coverage ``expected`` of a
    perfect model.

    Raises:
        ValueError: k below 1.
        InputError: no more than k points a side, other shapes, or values that are not finite.

    Exact when: always, in float64; memory beyond float64 copies of the points: some blocks of 16 MiB.

    References: Kynkaanniemi, Karras, Laine, Lehtinen & Aila, "Improved precision and recall metric for assessing
    generative models" (2019), eq. 1-2; Naeem, Oh, Uh, Choi & Yoo, "Reliable fidelity and diversity metrics for
    generative models" (2020), eq. 3-4 and lemma 2.
    """
    whole("k", k, 1)
    whole("density_k", density_k, 1)
    a, b = features(x, "x"), features(y, "y")
    same_width(a, b)
    n = min(len(a), len(b))
    if n <= max(k, density_k):
        raise InputError(f"{max(k, density_k)} neighbours need more points a side, got {len(a)} and {len(b)}")
    details = {"seed": seed, "drawn_from": [len(a), len(b)]}
    a, b = (s[torch.from_numpy(subset(len(s), n, seed, "balls"))] if len(s) > n else s for s in (a, b))
    a, b = a.double(), b.double()
    ball_a, ball_b = _radii(a, (k,)), _radii(b, (k, density_k))
    in_ball = torch.zeros(n, dtype=torch.bool)
    around = torch.zeros(n, dtype=torch.float64)
    reached = torch.zeros(n, dtype=torch.bool)
    nearest = torch.full((n,), math.inf, dtype=torch.float64)
    for first, square in _squares(a, b):
        rows = slice(first, first + len(square))
        in_ball[rows] = (square <= ball_b[0]).any(1)
        around[rows] = (square <= ball_b[1]).sum(1).double()
        reached |= (square <= ball_a[0][rows, None]).any(0)
        nearest = torch.minimum(nearest, square.amin(0))
    density = around / density_k
    middle, half = float(density.mean()), NORMAL_95 * float(density.std()) / math.sqrt(n)
    wide = details | {"k": density_k}
    return {
        "precision": _share(in_ball, details | {"k": k}),
        "recall": _share(reached, details | {"k": k}),
        "density": Estimate(middle, n, n, max(0.0, middle - half), middle + half, wide | {"expected": 1.0}),
        "coverage": _share(nearest <= ball_b[1], wide | {"expected": expected_coverage(n, n, density_k)}),
    }


def expected_coverage(n: int, m: int, k: int = 5) -> float:
    """Mean coverage of m real points by n generated ones of the same law: 1 - prod_{i=1..k} (m - i) / (n + m - i).

    Reference: Naeem, Oh, Uh, Choi & Yoo (2020), lemma 2.
    """
    whole("n", n, 1)
    whole("m", m, 1)
    whole("k", k, 1)
    return 1 - math.prod((m - i) / (n + m - i) for i in range(1, k + 1))


def _share(hits: Tensor, details: dict[str, Any]) -> Estimate:
    count, n = int(hits.sum()), len(hits)
    return Estimate(count / n, n, n, *wilson(count, n), details)


def _radii(points: Tensor, ks: tuple[int, ...]) -> list[Tensor]:
    """Squared distance of every point to its k-th nearest other one, for every k: (n,) each.

    Widened by the rounding error of a distance, so that the border is inside and copies of a point are at distance 0.
    """
    slack = 64 * torch.finfo(points.dtype).eps * float(points.square().sum(1).max())
    distances = []
    for first, square in _squares(points, points):
        rows = torch.arange(len(square))
        square[rows, first + rows] = math.inf
        distances.append(square.topk(max(ks), largest=False).values)
    nearest = torch.cat(distances)
    return [nearest[:, k - 1] + slack for k in ks]


def _squares(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of rows of the squared distances |x_i - y_j|^2 with the number of their first row."""
    norms = y.square().sum(1)
    size = max(1, _BLOCK // len(y))
    for first in range(0, len(x), size):
        block = x[first : first + size]
        square = torch.addmm(norms, block, y.T, alpha=-2).add_(block.square().sum(1)[:, None])
        yield first, square.clamp_min_(0)
