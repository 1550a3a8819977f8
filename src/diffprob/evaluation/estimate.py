"""A measured number with its interval and what it rests on, and the checks that every metric shares."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.errors import InputError

Points = Tensor | np.ndarray

_MOST = 1e15  # squares of 10^8 such numbers still fit into float32, their sixth powers into float64
NORMAL_95 = 1.959963984540054  # the 97.5% point of the standard normal


@dataclass(frozen=True)
class Estimate:
    """A number measured on samples, with a 95% interval where one is known.

    Args:
        value: the number.
        n: how many generated samples it rests on (for detection: how many points inside).
        m: how many reference images it was compared with (for detection: how many points outside).
        low, high: ends of the 95% interval, both or neither; the function that made it says what it covers.
        details: everything else (estimated bias, subsets, splits, k, ...), JSON literals by name.

    Raises:
        ValueError: a number that is not finite, an empty interval, counts below 1, or details that JSON can not hold.
    """

    value: float
    n: int
    m: int | None = None
    low: float | None = None
    high: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"an interval has two ends, got {self.low} to {self.high}")
        numbers = [x for x in (self.value, self.low, self.high) if x is not None]
        if not all(math.isfinite(x) for x in numbers):
            raise ValueError(f"an estimate needs finite numbers, got {numbers}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval is empty: {self.low} to {self.high}")
        whole("n", self.n, 1, 2**63 - 1)
        whole("m", self.m, 1, 2**63 - 1, none=True)
        try:
            json.dumps(self.details, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"details must be JSON literals: {error}") from error


def flat_rows(points: Points, name: str, least: int = 1) -> Tensor:
    """(n, *event) -> (n, d) on the CPU, in its own dtype.

    Raises:
        InputError: fewer than ``least`` points, no elements, complex or boolean numbers, or values that are not finite
            or so large that their squares and cubes would leave the range.
    """
    if isinstance(points, np.ndarray) and not points.flags.writeable:
        points = np.array(points)  # torch warns on views of read-only memory, such as a memory-mapped data set
    rows = torch.as_tensor(points).detach().cpu()
    if rows.ndim == 0 or rows.numel() == 0:
        raise InputError(f"{name} holds no points: shape {tuple(rows.shape)}")
    if rows.is_complex() or rows.dtype == torch.bool:
        raise InputError(f"{name} must hold real numbers, got {rows.dtype}")
    if len(rows) < least:
        raise InputError(f"{name} holds {len(rows)} of the at least {least} points that are needed")
    if rows.is_floating_point() and not torch.isfinite(rows).all():
        raise InputError(f"{name} holds values that are not finite")
    if rows.is_floating_point() and float(rows.abs().max()) > _MOST:
        raise InputError(f"{name} holds values beyond {_MOST:g}, whose distances are lost")
    return rows.reshape(len(rows), -1)


def features(points: Points, name: str, least: int = 2) -> Tensor:
    """A matrix (n, d) of features on the CPU, checked as in `flat_rows`."""
    if points.ndim != 2:
        raise InputError(f"{name} must be features of shape (n, d), got shape {tuple(points.shape)}")
    return flat_rows(points, name, least)


def labels_of(labels: Points, name: str, n: int | None = None) -> Tensor:
    """Integer labels as int64 (n,) on the CPU; refuses another shape or type, or another number than a given ``n``."""
    values = torch.as_tensor(np.array(labels) if isinstance(labels, np.ndarray) else labels).detach().cpu()
    if values.ndim != 1 or values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise InputError(f"labels of {name} must be integers (n,), got {values.dtype} {tuple(values.shape)}")
    if len(values) != (n or len(values)) or len(values) == 0:
        raise InputError(f"{name} needs {n or 'some'} labels, got {len(values)}")
    return values.long()


def same_width(x: Tensor, y: Tensor) -> None:
    """Refuse sets whose points have different dimensions."""
    if x.shape[1] != y.shape[1]:
        raise InputError(f"x and y must hold points of one dimension, got {x.shape[1]} and {y.shape[1]}")


def student_95(freedom: int) -> float:
    """The 97.5% point of Student's t with so many degrees of freedom, at least 1."""
    whole("freedom", freedom, 1)
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def wilson(count: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a proportion of which ``count`` in n were seen; inside [0, 1] and never a point.

    Raises:
        ValueError: more of them than there are, or none at all.

    Reference: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    whole("n", n, 1, 2**63 - 1)
    whole("count", count, 0, n)
    z2 = NORMAL_95**2
    share = count / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
