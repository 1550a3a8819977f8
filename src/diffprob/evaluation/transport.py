"""Wasserstein distances between two sets of points: exact in one dimension and for small sets, sliced in many."""

import math

import torch
from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.errors import InputError, NumericalError
from diffprob.base.rng import Rng, derive
from diffprob.evaluation.estimate import Points, flat_rows

_BLOCK = 1 << 22  # numbers converted to float64 at a time (32 MiB)
_EXACT = 2000  # points a side of exact optimal transport: a 32 MiB cost matrix and seconds
_PIVOTS = 10_000_000  # of the network simplex; 2000 points take some hundred thousand


def wasserstein_1d(x: Points, y: Points, p: float = 1.0) -> float:
    """Exact W_p between the empirical distributions of x (n,) and y (m,), in the units of the data.

    W_p^p = integral over u in (0, 1) of |F_x^-1(u) - F_y^-1(u)|^p. The sizes may differ: the quantile functions are
    step functions and the integral is a finite sum over their common refinement.

    Raises:
        ValueError: p outside [1, 20].
        InputError: an empty set, a wrong shape, or a value that is not finite.

    Exact when: always; for p = 1 it equals ``scipy.stats.wasserstein_distance``.
    """
    real("p", p, "[1, 20]")  # beyond, the powers of large differences are infinite
    if x.ndim != 1 or y.ndim != 1:
        raise InputError(f"wasserstein_1d compares sets of shape (n,), got {tuple(x.shape)} and {tuple(y.shape)}")
    columns = [flat_rows(points, name).double() for points, name in ((x, "x"), (y, "y"))]
    return float(_costs(columns[0], columns[1], p)[0]) ** (1 / p)


def sliced_wasserstein2(x: Points, y: Points, directions: int = 500, seed: int = 0) -> float:
    """Sliced W_2 between the sets x (n, *event) and y (m, *event), in the units of the data.

    SW_2^2 = mean over random unit directions v of W_2^2(x.v, y.v); the square root is taken at the end. Direction i is
    a function of (seed, i) alone: more directions extend fewer, and two comparisons with one seed share theirs.
    Computed in float64; memory beyond the data: one block of it and the projections.

    Args:
        x: (n, *event) of any real dtype; uint8 pixels give grey levels.
        y: (m, *event); the sizes may differ.
        directions: number of directions, >= 1.
        seed: of the directions.

    Raises:
        ValueError: no directions.
        InputError: an empty set, unequal event shapes, or a value that is not finite.

    Exact when: x and y differ by a shift m: SW_2^2 = mean (m.v)^2, with expectation |m|^2 / d.

    Reference: Bonneel, Rabin, Peyre & Pfister, "Sliced and Radon Wasserstein barycenters of measures" (2015), eq. 6.
    """
    whole("directions", directions, 1)
    a, b = _pair(x, y)
    width = max(1, min(directions, _BLOCK // max(a.shape[1], len(a), len(b))))
    total = 0.0
    for first in range(0, directions, width):
        unit = unit_directions(a.shape[1], min(width, directions - first), seed, first)
        total += float(_costs(_project(a, unit), _project(b, unit), 2.0).sum())
    return math.sqrt(total / directions)


def wasserstein2_exact(x: Points, y: Points) -> float:
    """Exact W_2 between the empirical distributions of x (n, *event) and y (m, *event), in the units of the data.

    W_2^2 = minimum over the couplings P (n, m) with row sums 1/n and column sums 1/m of sum_ij P_ij |x_i - y_j|^2; the
    square root is taken at the end. Solved by the network simplex of POT, in float64. Between two sets of n points of
    one d-dimensional law it falls only as n^(-1/d): compare it with the same number for two sets of real images.

    Raises:
        InputError: more than 2000 points a side, an empty set, unequal event shapes, a value that is not finite, or POT
            is not installed.
        NumericalError: the simplex did not finish.

    Exact when: always; in one dimension it equals ``wasserstein_1d(x, y, p=2)``.

    Reference: Bonneel, van de Panne, Paris & Heidrich, "Displacement interpolation using Lagrangian mass transport"
    (2011).
    """
    a, b = _pair(x, y)
    if max(len(a), len(b)) > _EXACT:
        raise InputError(
            f"exact optimal transport takes at most {_EXACT} points a side, got {len(a)} and {len(b)}: "
            "take random subsets, or sliced_wasserstein2"
        )
    try:
        import ot
    except ImportError as error:
        raise InputError("exact optimal transport needs the package POT: pip install 'diffprob[transport]'") from error
    a, b = a.double(), b.double()
    # Differences, not inner products: equal points cost exactly nothing.
    cost = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    square, log = ot.emd2([], [], cost.numpy(), numItermax=_PIVOTS, log=True)
    if log["warning"] is not None:
        raise NumericalError(f"optimal transport of {len(a)} and {len(b)} points: {log['warning']}")
    return math.sqrt(max(0.0, float(square)))


def unit_directions(dimension: int, count: int, seed: int = 0, first: int = 0) -> Tensor:
    """Directions first, ..., first + count - 1 of the seed, uniform on the unit sphere: float64 (dimension, count)."""
    whole("dimension", dimension, 1)
    whole("count", count)
    # A derived seed: the streams of a small seed would be shared by its neighbours (sample i has the seed seed + i).
    rng = Rng.of(derive(seed, "directions") >> 1, count, first)
    normal = rng.normal((dimension,), dtype=torch.float64).T
    return normal / normal.norm(dim=0)


def _pair(x: Points, y: Points) -> tuple[Tensor, Tensor]:
    """(n, d) and (m, d) of sets whose points have one shape."""
    if x.shape[1:] != y.shape[1:]:
        raise InputError(f"x and y must hold points of one shape, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])}")
    return flat_rows(x, "x"), flat_rows(y, "y")


def _project(rows: Tensor, unit: Tensor) -> Tensor:
    """(n, d) times (d, k) in float64, converting a block of rows at a time."""
    return torch.cat([block.double() @ unit for block in rows.split(max(1, _BLOCK // rows.shape[1]))])


def _costs(x: Tensor, y: Tensor, p: float) -> Tensor:
    """W_p^p of each column of x (n, k) and y (m, k) -> (k,)."""
    n, m = len(x), len(y)
    x, y = x.sort(dim=0).values, y.sort(dim=0).values
    if n == m:
        return (x - y).abs().pow(p).mean(0)
    # Quantile levels in units of 1 / (n m): x steps at the multiples of m, y at those of n, all exact integers.
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    weight = (ends - starts).double() / (n * m)
    return weight @ (x[starts // m] - y[starts // n]).abs().pow(p)
