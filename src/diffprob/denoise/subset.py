"""A model for some of the samples that it was told about: what a solver asks that follows each sample by itself."""

import copy
from typing import Any, TypeVar

from torch import Tensor

M = TypeVar("M")


def for_samples(model: M, index: Tensor) -> M:
    """The same model for the samples ``index`` of its batch.

    A network that was told something about each sample (`NetworkModel.condition_on`) is told it about these, also
    within the wrappers of this library; whatever knows nothing about single samples stays as it is. A wrapper of one's
    own that holds something for each sample has a method ``for_samples(index)`` for it.

    Args:
        model: a denoiser, or a part of one.
        index: int64 (b,), places in the batch.
    """
    own = getattr(model, "for_samples", None)
    if own is not None:
        return own(index)
    rows = getattr(model, "condition_rows", None)
    if rows is None:
        return model
    network: Any = model
    return network.condition_on(rows_for(rows, index))


def rows_for(rows: Tensor, index: Tensor) -> Tensor:
    """Of a row for each sample those of ``index``; of one row (1, ...) for all, that one."""
    return rows if len(rows) == 1 else rows[index.to(rows.device)]


def with_parts(whole: M, **parts: Any) -> M:
    """A copy with other attributes, which shares all else."""
    other = copy.copy(whole)
    vars(other).update(parts)
    return other
