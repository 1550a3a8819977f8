"""Independent implementations in numpy and mpmath, from the papers' formulas in the papers' indices."""

import mpmath
import numpy as np

from diffprob.conform.references import LineMixture

__all__ = ["LineMixture", "cumulative", "ddpm_betas", "vpsde_log_alpha"]


def cumulative(betas: np.ndarray) -> np.ndarray:
    """abar_0..abar_T by a product in 40 digits, rounded once."""
    with mpmath.workdps(40):
        total, out = mpmath.mpf(1), [1.0]
        for beta in betas:
            total *= 1 - mpmath.mpf(float(beta))
            out.append(float(total))
    return np.array(out)


def ddpm_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> np.ndarray:
    """beta_1..beta_T of Ho et al. 2020."""
    return np.linspace(first, last, steps)


def vpsde_log_alpha(t: float, low: float = 0.1, high: float = 20.0) -> mpmath.mpf:
    """-(integral of beta from 0 to t)/2 for beta(t) = low + t (high - low)."""
    t, low, high = mpmath.mpf(t), mpmath.mpf(low), mpmath.mpf(high)
    return -(low * t + (high - low) * t**2 / 2) / 2
