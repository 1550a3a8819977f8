"""Order of convergence by regression."""

from collections.abc import Sequence

import numpy as np


def slopes(steps: Sequence[int], errors: Sequence[float]) -> np.ndarray:
    """Local orders log(e_i/e_{i+1}) / log(n_{i+1}/n_i)."""
    return -np.diff(np.log(errors)) / np.diff(np.log(steps))


def assert_order(order: float, steps: Sequence[int], errors: Sequence[float], slack: float = 0.25) -> None:
    """Errors fall, and between the two finest step counts the slope is at least ``order - slack``."""
    assert all(np.isfinite(errors)), errors
    assert all(np.diff(errors) < 0), f"errors do not fall: {errors}"
    finest = slopes(steps, errors)[-1]
    assert finest >= order - slack, f"slope {finest:.3f}, declared order {order}; errors {errors}"
