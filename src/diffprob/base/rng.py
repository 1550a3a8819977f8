"""Counter-based random streams: one Philox4x32-10 stream per sample, the same bits on every device.

Philox is due to Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). The key is the
sample's seed; the counter is (element block, step, digest of the stream's name). A number therefore depends on nothing
but (seed, name, step, position): not on the batch size, the neighbours, the number of workers or the device. Normals
come from the inverse distribution function in float64 with + - * / sqrt only (Wichura 1988, algorithm AS 241), because
the vectorised log, sin and cos of different processors differ in the last bit.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_FEW = 1 << 15  # blocks up to which numpy's operations, cheaper to call, beat torch's, which use every core


def _digest(*parts: str | int) -> int:
    """64 bits of SHA-256 over the parts; stable across machines and versions, unlike ``hash``."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def derive(seed: int, name: str) -> int:
    """A 63-bit seed that belongs to ``name`` under ``seed``."""
    return _digest("derive", seed, name) >> 1


def philox(counter: Sequence[Any], key: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Philox4x32-10 on int64 arrays that hold uint32 values; torch tensors and numpy arrays give the same integers.

    Args:
        counter: four arrays, broadcastable against each other and the key.
        key: two arrays.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # The 64-bit product wraps in int64; masking after the arithmetic shift recovers the unsigned halves.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


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


def normal_quantile(words: Tensor) -> Tensor:
    """Standard normal float64 numbers from uint32 words: the quantile function at p = (word + 1/2) / 2^32 (AS 241)."""
    p = (words.double() + 0.5) * 2.0**-32
    q = p - 0.5
    value = q * _ratio(0.180625 - q * q, _CENTRE)
    outer = (q.abs() > 0.425).nonzero(as_tuple=True)
    p, q = p[outer], q[outer]
    # p >= 2^-33 keeps r below 4.79, inside the middle range of AS 241 (r <= 5): its far tail is never reached.
    r = torch.sqrt(-_log(torch.minimum(p, 1 - p)))
    tail = _ratio(r - 1.6, _MIDDLE)
    value[outer] = torch.where(q < 0, -tail, tail)
    return value


@dataclass(frozen=True, eq=False)
class Rng:
    """One random stream per sample: a pure function of (seed, stream, step).

    Calling the same method twice on the same ``Rng`` gives the same numbers; new numbers come from `at` (another step)
    or `fold` (another named stream).

    Args:
        seeds: int64 tensor (B,), one seed per sample.
        stream: 64-bit digest of the stream's name.
        step: position in the chain, 0 <= step < 2^32.
    """

    seeds: Tensor
    stream: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        if self.seeds.dtype != torch.int64 or self.seeds.ndim != 1:
            raise ValueError(
                f"seeds must be an int64 tensor of shape (B,), got {self.seeds.dtype} {tuple(self.seeds.shape)}"
            )
        if not 0 <= self.step <= _MASK:
            raise ValueError(f"step must lie in [0, 2^32), got {self.step}")

    @classmethod
    def of(cls, seed: int, n: int, first: int = 0, device: str | torch.device = "cpu") -> "Rng":
        """Streams of the samples first, ..., first + n - 1 of a run: sample i has the seed ``seed + i``."""
        if not 0 <= seed < 2**63 - n - first:
            raise ValueError(f"seed must lie in [0, 2^63 - {n + first}), got {seed}")
        return cls(torch.arange(seed + first, seed + first + n, device=device, dtype=torch.int64))

    def __len__(self) -> int:
        return self.seeds.shape[0]

    def fold(self, name: str) -> "Rng":
        """The stream called ``name`` under this one."""
        return replace(self, stream=_digest(self.stream, name))

    def at(self, step: int) -> "Rng":
        """The same stream at another step."""
        return replace(self, step=int(step))

    def select(self, index: Tensor | slice) -> "Rng":
        """The streams of a subset of the samples."""
        return replace(self, seeds=self.seeds[index])

    def to(self, device: str | torch.device) -> "Rng":
        """The same streams with the seeds on another device."""
        return replace(self, seeds=self.seeds.to(device))

    def _words(self, shape: Sequence[int]) -> Tensor:
        """(B, *shape) uint32 words, held in int64."""
        count = math.prod(shape)
        blocks = -(-count // 4)
        few = self.seeds.device.type == "cpu" and len(self) * blocks <= _FEW
        seeds: Any = self.seeds[:, None].numpy() if few else self.seeds[:, None]
        block = np.arange(blocks) if few else torch.arange(blocks, device=self.seeds.device, dtype=torch.int64)
        key = (seeds & _MASK, (seeds >> 32) & _MASK)
        words = philox((block, self.step, self.stream & _MASK, self.stream >> 32), key)
        together = torch.from_numpy(np.stack(words, -1)) if few else torch.stack(words, -1)
        return together.reshape(len(self), 4 * blocks)[:, :count].reshape(len(self), *shape)

    def bits(self, shape: Sequence[int] = ()) -> Tensor:
        """Uniform integers in [0, 2^32), int64 (B, *shape)."""
        return self._words(shape)

    def uniform(self, shape: Sequence[int] = (), dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform numbers in (0, 1), (B, *shape): (word + 1/2) / 2^32, in float32 from the upper 23 bits."""
        words = self._words(shape)
        if dtype == torch.float64:
            return (words.double() + 0.5) * 2.0**-32
        return (((words >> 9).double() + 0.5) * 2.0**-23).to(dtype)

    def normal(self, shape: Sequence[int] = (), dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers (B, *shape), computed in float64 and rounded once."""
        return normal_quantile(self._words(shape)).to(dtype)

    def integers(self, shape: Sequence[int], high: int) -> Tensor:
        """Integers in [0, high), int64 (B, *shape), by the multiply-shift map (bias below high / 2^32)."""
        if not 0 < high <= 2**31:
            raise ValueError(f"high must lie in (0, 2^31], got {high}")
        return (self._words(shape) * high) >> 32


def normal_like(rng: Rng, like: Tensor) -> Tensor:
    """Standard normal noise with the shape, dtype and device of ``like`` (B, *event)."""
    if len(rng) != like.shape[0]:
        raise ValueError(f"{len(rng)} random streams for a batch of {like.shape[0]}")
    return rng.normal(like.shape[1:], dtype=like.dtype).to(like.device)


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of n items in an epoch: a read-only int64 array (n,) that depends on (seed, epoch, n) alone."""
    rng = Rng(torch.tensor([derive(seed, "order")]), step=epoch)
    words = rng.fold("high").bits((n,))[0] * 2**31 + (rng.fold("low").bits((n,))[0] >> 1)
    order = np.argsort(words.numpy(), kind="stable")
    order.setflags(write=False)
    return order
