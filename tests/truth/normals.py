"""Words, uniform and normal numbers of a stream, a tensor at a time: the first version of `diffprob.base.rng`, kept.

Every number that was ever drawn from a seed came from these lines; nothing that is faster may change a bit of them.
The one difference: the square root was torch's, by MKL, which is not rounded correctly on CPUs. That moved the last
bit of 0.07% of the float64 normals, and of no float32 one: all words of one tail were tried, the other is its mirror.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffprob.base.rng import Rng

MASK = 0xFFFFFFFF
CENTRE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
MIDDLE = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip


def philox(counter: Sequence[Tensor | int], key: Sequence[Tensor]) -> list[Tensor]:
    """Philox4x32-10 on int64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = ((p1 >> 32) & MASK) ^ c1 ^ k0, p1 & MASK, ((p0 >> 32) & MASK) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1, c2, c3]  # pyright: ignore[reportReturnType]


def words(rng: Rng, shape: Sequence[int]) -> Tensor:
    """(B, *shape) uint32 words, held in int64."""
    count = math.prod(shape)
    blocks, seeds = torch.arange(-(-count // 4)), rng.seeds[:, None]
    integers = philox((blocks, rng.step, rng.stream & MASK, rng.stream >> 32), (seeds & MASK, (seeds >> 32) & MASK))
    return torch.stack(integers, -1).reshape(len(rng), 4 * len(blocks))[:, :count].reshape(len(rng), *shape)


def _ratio(x: Tensor, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    above, below = (torch.full_like(x, row[-1]) for row in coefficients)
    for upper, lower in zip(coefficients[0][-2::-1], coefficients[1][-2::-1], strict=True):
        above.mul_(x).add_(upper)
        below.mul_(x).add_(lower)
    return above.div_(below)


def _log(p: Tensor) -> Tensor:
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


def quantile(integers: Tensor) -> Tensor:
    """Standard normal float64 numbers from uint32 words."""
    p = (integers.double() + 0.5) * 2.0**-32
    q = p - 0.5
    value = q * _ratio(0.180625 - q * q, CENTRE)
    outer = (q.abs() > 0.425).nonzero(as_tuple=True)
    p, q = p[outer], q[outer]
    r = torch.from_numpy(np.sqrt(-_log(torch.minimum(p, 1 - p)).numpy()))
    tail = _ratio(r - 1.6, MIDDLE)
    value[outer] = torch.where(q < 0, -tail, tail)
    return value


def uniform(integers: Tensor, dtype: torch.dtype) -> Tensor:
    """Uniform numbers from uint32 words."""
    if dtype == torch.float64:
        return (integers.double() + 0.5) * 2.0**-32
    return (((integers >> 9).double() + 0.5) * 2.0**-23).to(dtype)
