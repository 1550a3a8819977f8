"""Independent implementations in numpy and mpmath, from the papers' formulas in the papers' indices."""

import mpmath
import numpy as np


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


class LineMixture:
    """A normal mixture on the line under x = alpha x_0 + sigma z, in numpy: what solvers are compared with."""

    def __init__(self, weights: list[float], means: list[float], variances: list[float]) -> None:
        self.weights, self.means, self.variances = (np.array(v)[:, None] for v in (weights, means, variances))

    def moments(self, alpha: float = 1.0, sigma: float = 0.0) -> tuple[float, float]:
        """Mean and variance of x."""
        mean = (self.weights * self.means).sum()
        variance = (self.weights * (self.variances + self.means**2)).sum() - mean**2
        return alpha * mean, alpha**2 * variance + sigma**2

    def noise(self, x: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
        """E[z | x] = -sigma grad log q(x)."""
        variance = alpha**2 * self.variances + sigma**2
        offset = x - alpha * self.means
        logs = np.log(self.weights) - 0.5 * offset**2 / variance - 0.5 * np.log(variance)
        responsibilities = np.exp(logs - logs.max(0))
        responsibilities /= responsibilities.sum(0)
        return sigma * (responsibilities * offset / variance).sum(0)

    def flow(
        self, x: np.ndarray, start: tuple[float, float], end: tuple[float, float], steps: int = 1000
    ) -> np.ndarray:
        """The probability flow from (alpha, sigma) to (alpha, sigma): dy/dr = E[z|x], y = x/alpha, r = sigma/alpha.

        Fourth-order Runge-Kutta, evenly spaced in log r; variance-preserving coefficients.
        """
        first, last = (np.log(sigma / alpha) for alpha, sigma in (start, end))
        h = (last - first) / steps
        y = x / start[0]

        def velocity(y: np.ndarray, log_r: float) -> np.ndarray:
            r = np.exp(log_r)
            alpha = 1 / np.sqrt(1 + r * r)
            return r * self.noise(alpha * y, alpha, alpha * r)

        for i in range(steps):
            at = first + i * h
            k1 = velocity(y, at)
            k2 = velocity(y + h / 2 * k1, at + h / 2)
            k3 = velocity(y + h / 2 * k2, at + h / 2)
            k4 = velocity(y + h * k3, at + h)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y * end[0]
