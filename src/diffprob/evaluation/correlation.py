"""How two numbers measured on the same images go together: straight, by ranks, and with a third thing held fixed."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch

from diffprob.base.errors import InputError
from diffprob.evaluation.estimate import NORMAL_95, Estimate, Points

_LEFT = 1e-10  # share of a column's length below which nothing but rounding is left of it


def pearson(a: Points, b: Points) -> Estimate:
    """Pearson's r = sum (a - mean)(b - mean) / (|a - mean| |b - mean|) of numbers (n,) and (n,).

    The interval is tanh(artanh r -+ 1.96/sqrt(n - 3)); details' ``p`` is the two-sided p-value of no correlation, by
    Student's t with n - 2 degrees of freedom. An exact r of -1 or 1 has a point for an interval.

    Exact when: a and b are jointly normal: p always, the interval as n grows.

    Raises:
        InputError: unequal numbers of values, fewer than 4, values that are not finite, or all the same.

    Reference: Fisher, "On the probable error of a coefficient of correlation deduced from a small sample" (1921).
    """
    return _correlation({"a": a, "b": b}, {}, ranks=False)


def spearman(a: Points, b: Points) -> Estimate:
    """Spearman's r_s: Pearson's r of the ranks, equal values having the mean of theirs; infinite values may be ranked.

    The interval is tanh(artanh r_s -+ 1.96 sqrt((1 + r_s^2/2)/(n - 3))), where a perfect order counts as the next best,
    1 - 12/(n^3 - n); details' ``p`` is that of `pearson` for the ranks.

    Exact when: n grows and a and b are jointly normal; simulated at n = 40 and |r_s| up to 0.8.

    Raises:
        InputError: as `pearson`, except that only NaN is refused.

    Reference: Bonett & Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations"
    (2000).
    """
    return _correlation({"a": a, "b": b}, {}, ranks=True)


def partial(a: Points, b: Points, covariates: Points | Sequence[Points], ranks: bool = False) -> Estimate:
    """The correlation of what is left of a and of b after a least-squares fit on k covariates, and a constant.

    The interval is that of `pearson` (with ``ranks`` of `spearman`) with n - 3 - k in the place of n - 3, and the
    p-value has n - 2 - k degrees of freedom; k is the rank of the covariates, details' ``covariates``.

    Args:
        covariates: one (n,), or several of them.
        ranks: rank a, b and the covariates first.

    Exact when: all of them are jointly normal: p always, the interval as n grows.

    Raises:
        InputError: as `pearson`, with at least 4 + k values; no covariates, or a or b is a linear function of them.

    Reference: Fisher, "The distribution of the partial correlation coefficient" (1924).
    """
    columns = [covariates] if isinstance(covariates, torch.Tensor | np.ndarray) else list(covariates)
    if not columns:
        raise InputError("a partial correlation needs at least one covariate")
    names = ["the covariate"] if len(columns) == 1 else [f"covariate {k}" for k in range(1, len(columns) + 1)]
    return _correlation({"a": a, "b": b}, dict(zip(names, columns, strict=True)), ranks)


def matrix(columns: Mapping[str, Points], ranks: bool = False) -> dict[tuple[str, str], Estimate]:
    """`pearson`, or with ``ranks`` `spearman`, of every pair of columns (n,), by their names in the order given.

    Raises:
        InputError: fewer than two columns; else as `pearson`, with the column's name.
    """
    if len(columns) < 2:
        raise InputError(f"correlations need at least 2 columns, got {len(columns)}")
    pairs = combinations(columns, 2)
    return {(one, two): _correlation({one: columns[one], two: columns[two]}, {}, ranks) for one, two in pairs}


def _correlation(pair: Mapping[str, Points], covariates: Mapping[str, Points], ranks: bool) -> Estimate:
    values = {name: _column(column, name, ranks) for name, column in {**pair, **covariates}.items()}
    lengths = {name: len(column) for name, column in values.items()}
    n = next(iter(lengths.values()))
    for name, length in lengths.items():
        if length != n:
            raise InputError(f"{name} has {length} values, {next(iter(lengths))} has {n}")
    offsets = {name: _centred(column, name) for name, column in values.items()}
    (a, b), k = (offsets[name] for name in pair), 0
    if covariates:
        basis, singular, _ = np.linalg.svd(np.stack([offsets[name] for name in covariates], 1), full_matrices=False)
        basis = basis[:, singular > _LEFT * singular[0]]
        k = basis.shape[1]
        a, b = (_remainder(offsets[name], basis, name) for name in pair)
    if n < 4 + k:
        raise InputError(
            f"a correlation{f' given k = {k} covariates' * (k > 0)} needs at least {4 + k} values, got {n}"
        )
    r = float(np.clip(a @ b, -1.0, 1.0))
    low, high = _interval(r, n, k, ranks)
    details = {"method": "spearman" if ranks else "pearson", "p": _p_value(r, n - 2 - k), "covariates": k}
    return Estimate(r, n, None, low, high, details)


def _interval(r: float, n: int, k: int, ranks: bool) -> tuple[float, float]:
    if not ranks and abs(r) == 1:
        return r, r
    most = 1 - 12 / (n**3 - n) if ranks else 1.0
    inner = min(max(r, -most), most)
    half = NORMAL_95 * math.sqrt((1 + inner * inner / 2 if ranks else 1) / (n - 3 - k))
    low, high = (math.tanh(math.atanh(inner) + side * half) for side in (-1, 1))
    return min(low, r), max(high, r)


def _p_value(r: float, freedom: int) -> float:
    from scipy.special import stdtr

    t = abs(r) * math.sqrt(freedom / (1 - r * r)) if abs(r) < 1 else math.inf
    return float(2 * stdtr(freedom, -t))


def _column(column: Points, name: str, ranks: bool) -> np.ndarray:
    """float64 (n,), ranked where asked for."""
    values = column.detach().cpu().double().numpy() if isinstance(column, torch.Tensor) else np.asarray(column)
    if values.ndim != 1:
        raise InputError(f"{name} must have shape (n,), got {tuple(values.shape)}")
    if values.dtype.kind not in "fiu":
        raise InputError(f"{name} must hold real numbers, got {values.dtype}")
    values = values.astype(np.float64)
    if not (~np.isnan(values) if ranks else np.isfinite(values)).all():
        raise InputError(f"{name} holds {'NaN' if ranks else 'values that are not finite'}")
    if not ranks:
        return values
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


def _centred(values: np.ndarray, name: str) -> np.ndarray:
    """values - mean, of length 1."""
    if len(values) == 0 or values.min() == values.max():
        raise InputError(f"{name} is constant, so that nothing can go with it" if len(values) else f"{name} is empty")
    # Divided first: squares of large numbers would overflow.
    offset = (values - values.mean()) / np.abs(values).max()
    return offset / np.linalg.norm(offset)


def _remainder(offset: np.ndarray, basis: np.ndarray, name: str) -> np.ndarray:
    """What the orthonormal columns of the basis do not explain, of length 1."""
    left = offset - basis @ (basis.T @ offset)
    size = np.linalg.norm(left)
    if size < _LEFT:
        raise InputError(f"{name} is a linear function of the covariates: nothing of it is left to correlate")
    return left / size
