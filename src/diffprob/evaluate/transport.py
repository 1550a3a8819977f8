"""Wasserstein distances between two sets of points: exact in one dimension, sliced in many."""

import math

import numpy as np
import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, derive

Points = Tensor | np.ndarray

_BLOCK = 1 << 22  # numbers converted to float64 at a time (32 MiB)


def wasserstein_1d(x: Points, y: Points, p: float = 1.0) -> float:
    """Exact W_p between the empirical distributions of x (n,) and y (m,), in the units of the data.

    W_p^p = integral over u in (0, 1) of |F_x^-1(u) - F_y^-1(u)|^p. The sizes may differ: the quantile functions are
    step functions and the integral is a finite sum over their common refinement.

    Raises:
        ValueError: p below 1 or not finite.
        InputError: an empty set, a wrong shape, or a value that is not finite.

    Exact when: always; for p = 1 it equals ``scipy.stats.wasserstein_distance``.
    """
    if not (math.isfinite(p) and p >= 1):
        raise ValueError(f"p must be a finite number >= 1, got {p}")
    if x.ndim != 1 or y.ndim != 1:
        raise InputError(f"wasserstein_1d compares sets of shape (n,), got {tuple(x.shape)} and {tuple(y.shape)}")
    columns = [_rows(points, name).double() for points, name in ((x, "x"), (y, "y"))]
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
    if directions < 1:
        raise ValueError(f"directions must be at least 1, got {directions}")
    if x.shape[1:] != y.shape[1:]:
        raise InputError(f"x and y must hold points of one shape, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])}")
    a, b = _rows(x, "x"), _rows(y, "y")
    width = max(1, min(directions, _BLOCK // max(a.shape[1], len(a), len(b))))
    total = 0.0
    for first in range(0, directions, width):
        unit = unit_directions(a.shape[1], min(width, directions - first), seed, first)
        total += float(_costs(_project(a, unit), _project(b, unit), 2.0).sum())
    return math.sqrt(total / directions)


def unit_directions(dimension: int, count: int, seed: int = 0, first: int = 0) -> Tensor:
    """Directions first, ..., first + count - 1 of the seed, uniform on the unit sphere: float64 (dimension, count)."""
    # A derived seed: the streams of a small seed would be shared by its neighbours (sample i has the seed seed + i).
    rng = Rng.of(derive(seed, "directions") >> 1, count, first)
    normal = rng.normal((dimension,), dtype=torch.float64).T
    return normal / normal.norm(dim=0)


def _rows(points: Points, name: str) -> Tensor:
    """(n, *event) -> (n, d) on the CPU, in its own dtype; refuses what has no distance."""
    if isinstance(points, np.ndarray) and not points.flags.writeable:
        points = np.array(points)  # torch warns on views of read-only memory, such as a memory-mapped data set
    rows = torch.as_tensor(points).detach().cpu()
    if rows.ndim == 0 or rows.numel() == 0:
        raise InputError(f"{name} holds no points: shape {tuple(rows.shape)}")
    if rows.is_complex() or rows.dtype == torch.bool:
        raise InputError(f"{name} must hold real numbers, got {rows.dtype}")
    if rows.is_floating_point() and not torch.isfinite(rows).all():
        raise InputError(f"{name} holds values that are not finite")
    return rows.reshape(len(rows), -1)


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
