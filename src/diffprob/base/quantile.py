"""The standard normal quantile function of 32-bit words in float64, by + - * / sqrt only.

Wichura 1988, algorithm AS 241. The vectorised log, sin and cos of different processors differ in the last bit; these
five operations do not. `normal_quantile` is written in torch's operations, for any device; `fill_quantiles` has the
same operations in the same order in numpy's, into memory that is there already, which is faster on a CPU.
"""

import math

import numpy as np
import torch
from torch import Tensor

# Coefficients of AS 241 (PPND16), relative accuracy about 1e-16.
_CENTRE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
_MIDDLE = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip


def _ratio(x: Tensor, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    above, below = (torch.full_like(x, row[-1]) for row in coefficients)
    for upper, lower in zip(coefficients[0][-2::-1], coefficients[1][-2::-1], strict=True):
        above.mul_(x).add_(upper)
        below.mul_(x).add_(lower)
    return above.div_(below)


def _log(p: Tensor) -> Tensor:
    """Natural logarithm of positive float64 numbers by + - * / only: log(m 2^e) with an atanh series in (m-1)/(m+1)."""
    mantissa, exponent = torch.frexp(p)
    low = mantissa < math.sqrt(0.5)
    mantissa = torch.where(low, mantissa * 2, mantissa)
    exponent = exponent.to(p.dtype) - low.to(p.dtype)
    z = (mantissa - 1) / (mantissa + 1)
    z2 = z * z
    series = torch.full_like(z, 1 / 23)
    for n in range(21, 0, -2):
        series.mul_(z2).add_(1 / n)
    return exponent * math.log(2) + 2 * z * series


def _root(x: Tensor) -> Tensor:
    """The square root, rounded correctly; torch's on a CPU is that of MKL, which is not (torch 2.13: 0.8% of them)."""
    return torch.from_numpy(np.sqrt(x.numpy())) if x.is_cpu else torch.sqrt(x)


def normal_quantile(words: Tensor) -> Tensor:
    """Standard normal float64 numbers from uint32 words: the quantile function at p = (word + 1/2) / 2^32 (AS 241)."""
    p = (words.double() + 0.5) * 2.0**-32
    q = p - 0.5
    value = q * _ratio(0.180625 - q * q, _CENTRE)
    outer = (q.abs() > 0.425).nonzero(as_tuple=True)
    p, q = p[outer], q[outer]
    # p >= 2^-33 keeps r below 4.79, inside the middle range of AS 241 (r <= 5): its far tail is never reached.
    r = _root(-_log(torch.minimum(p, 1 - p)))
    tail = _ratio(r - 1.6, _MIDDLE)
    value[outer] = torch.where(q < 0, -tail, tail)
    return value


def _columns(coefficients: tuple[tuple[float, ...], ...]) -> np.ndarray:
    return np.array(coefficients).T[::-1, :, None].copy()


_CENTRE_COLUMNS, _MIDDLE_COLUMNS = _columns(_CENTRE), _columns(_MIDDLE)


def _ratio_into(x: np.ndarray, columns: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """`_ratio` by (8, 2, 1) coefficients, from the last to the first, in the first of two rows of memory (2, n)."""
    np.multiply(x, columns[0], out=parts)
    for column in columns[1:-1]:
        parts += column
        parts *= x
    parts += columns[-1]
    return np.divide(parts[0], parts[1], out=parts[0])


def _log_of(p: np.ndarray) -> np.ndarray:
    """`_log`."""
    mantissa, exponent = np.frexp(p)
    low = mantissa < math.sqrt(0.5)
    mantissa *= low + 1.0
    z = mantissa - 1
    mantissa += 1
    z /= mantissa
    z2 = z * z
    series = z2 * (1 / 23)
    for n in range(21, 1, -2):
        series += 1 / n
        series *= z2
    series += 1.0
    z *= 2
    z *= series
    result = (exponent - low) * math.log(2)
    result += z
    return result


def fill_quantiles(words: np.ndarray, values: np.ndarray, memory: np.ndarray) -> None:
    """The same bits as `normal_quantile`, into ``values``.

    Args:
        words: uint64 (n,), below 2^32.
        values: float64 (n,).
        memory: float64 (3, n), overwritten.
    """
    np.copyto(values, words.view(np.int64))  # numpy converts signed numbers in fewer instructions
    values -= 2.0**31 - 0.5  # p - 1/2 = (word + 1/2)/2^32 - 1/2 without any rounding, as below
    values *= 2.0**-32
    x, parts = memory[0], memory[1:]
    np.multiply(values, values, out=x)
    np.subtract(0.180625, x, out=x)
    # |q| > 0.425: no word has a square so near to 0.425^2 that rounding would decide.
    outer = np.flatnonzero(x < 0)
    q = values[outer]
    values *= _ratio_into(x, _CENTRE_COLUMNS, parts)
    r = np.sqrt(-_log_of(0.5 - np.abs(q)))  # min(p, 1 - p) = 1/2 - |q|
    r -= 1.6
    values[outer] = np.copysign(_ratio_into(r, _MIDDLE_COLUMNS, parts[:, : len(r)]), q)
