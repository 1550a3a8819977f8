"""Counter-based random streams: one Philox4x32-10 stream per sample, the same bits on every device.

Philox is due to Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). The key is the
sample's seed; the counter is (element block, step, digest of the stream's name). A number therefore depends on nothing
but (seed, name, step, position): not on the batch size, the neighbours, the number of workers or the device. Normals
come from the inverse distribution function in float64 with + - * / sqrt only (Wichura 1988, algorithm AS 241), because
the vectorised log, sin and cos of different processors differ in the last bit.
"""

import hashlib
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from diffprob.base.blocks import MASK, Finish, filled, normals, philox, short_uniforms, uniforms
from diffprob.base.checks import shown, whole
from diffprob.base.quantile import normal_quantile

_NUMPY = {torch.int64: np.int64, torch.float64: np.float64, torch.float32: np.float32}


def _digest(*parts: str | int) -> int:
    """64 bits of SHA-256 over the parts; stable across machines and versions, unlike ``hash``."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _index(name: str, value: object) -> int:
    """A whole number of any type, which none is cut to."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {shown(value)}") from None


def derive(seed: int, name: str) -> int:
    """A 63-bit seed that belongs to ``name`` under ``seed``."""
    return _digest("derive", seed, name) >> 1


def _by_blocks(seeds: Tensor) -> bool:
    """Whether `diffprob.base.blocks` computes the numbers, or torch, with the same bits."""
    return seeds.is_cpu


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
        if not 0 <= self.step <= MASK:
            raise ValueError(f"step must lie in [0, 2^32), got {self.step}")

    @classmethod
    def of(cls, seed: int, n: int, first: int = 0, device: str | torch.device = "cpu") -> "Rng":
        """Streams of the samples first, ..., first + n - 1 of a run: sample i has the seed ``seed + i``.

        Raises:
            ValueError: what is no whole number, or outside the seeds that there are.
        """
        seed, n, first = _index("seed", seed), _index("n", n), _index("first", first)
        if n < 0 or first < 0:
            raise ValueError(f"n and first must be at least 0, got {n} and {first}")
        if not 0 <= seed < 2**63 - n - first:
            raise ValueError(f"seed must lie in [0, 2^63 - {n + first}), got {seed}")
        return cls(torch.arange(seed + first, seed + first + n, device=device, dtype=torch.int64))

    @classmethod
    def of_images(cls, seed: int, images: np.ndarray | Tensor, device: str | torch.device = "cpu") -> "Rng":
        """Streams that belong to what images show, not to where they stand: equal images have equal streams.

        The seed of an image is 63 bits of SHA-256 over ``seed``, its type, its shape and its bytes.

        Args:
            seed: a whole number.
            images: array or tensor (B, ...), such as uint8 levels (B, C, H, W).
        """
        array = np.ascontiguousarray(images.cpu().numpy() if isinstance(images, Tensor) else images)
        head = f"image {seed} {array.dtype.str} {array.shape[1:]} ".encode()
        digests = [hashlib.sha256(head + image.tobytes()).digest()[:8] for image in array]
        return cls(torch.tensor([int.from_bytes(digest, "little") >> 1 for digest in digests], device=device))

    def __len__(self) -> int:
        return self.seeds.shape[0]

    def fold(self, name: str) -> "Rng":
        """The stream called ``name`` under this one."""
        return replace(self, stream=_digest(self.stream, name))

    def at(self, step: int) -> "Rng":
        """The same stream at another step, a whole number in [0, 2^32)."""
        return replace(self, step=_index("step", step))

    def select(self, index: Tensor | slice) -> "Rng":
        """The streams of a subset of the samples."""
        return replace(self, seeds=self.seeds[index])

    def to(self, device: str | torch.device) -> "Rng":
        """The same streams with the seeds on another device."""
        return replace(self, seeds=self.seeds.to(device))

    def _words(self, shape: Sequence[int]) -> Tensor:
        """(B, *shape) uint32 words, held in int64."""
        if _by_blocks(self.seeds):
            return self._filled(shape, torch.int64)
        count = math.prod(shape)
        blocks = torch.arange(-(-count // 4), device=self.seeds.device, dtype=torch.int64)
        seeds = self.seeds[:, None]
        words = philox((blocks, *self._counter), (seeds & MASK, (seeds >> 32) & MASK))
        return torch.stack(words, -1).reshape(len(self), 4 * len(blocks))[:, :count].reshape(len(self), *shape)

    @property
    def _counter(self) -> tuple[int, int, int]:
        return self.step, self.stream & MASK, self.stream >> 32

    def _filled(self, shape: Sequence[int], dtype: torch.dtype, finish: Finish | None = None) -> Tensor:
        """Words, or what is made of them, (B, *shape), by the faster way that CPUs have."""
        kind = _NUMPY.get(dtype, np.float64)
        values = filled(self.seeds.numpy(), self._counter, math.prod(shape), kind, finish, torch.get_num_threads())
        return torch.from_numpy(values).reshape(len(self), *shape).to(dtype)

    def bits(self, shape: Sequence[int] = ()) -> Tensor:
        """Uniform integers in [0, 2^32), int64 (B, *shape)."""
        return self._words(shape)

    def uniform(self, shape: Sequence[int] = (), dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform numbers in (0, 1), (B, *shape): (word + 1/2) / 2^32, in float32 from the upper 23 bits."""
        if _by_blocks(self.seeds):
            return self._filled(shape, dtype, uniforms if dtype == torch.float64 else short_uniforms)
        words = self._words(shape)
        if dtype == torch.float64:
            return (words.double() + 0.5) * 2.0**-32
        return (((words >> 9).double() + 0.5) * 2.0**-23).to(dtype)

    def normal(self, shape: Sequence[int] = (), dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers (B, *shape), computed in float64 and rounded once."""
        if _by_blocks(self.seeds):
            return self._filled(shape, dtype, normals)
        return normal_quantile(self._words(shape)).to(dtype)

    def integers(self, shape: Sequence[int], high: int) -> Tensor:
        """Integers in [0, high), int64 (B, *shape), by the multiply-shift map (bias below high / 2^32)."""
        if not 0 < high <= 2**31:
            raise ValueError(f"high must lie in (0, 2^31], got {high}")
        return (self._words(shape) * high) >> 32


def one_for_each(rng: Rng, x: Tensor) -> None:
    """Refuse another number of streams than of samples (B, *event): a single one would be shared without a word.

    Raises:
        ValueError: both numbers.
    """
    if len(rng) != len(x):
        raise ValueError(f"{len(rng)} random streams for a batch of {len(x)}")


def normal_like(rng: Rng, like: Tensor) -> Tensor:
    """Standard normal noise with the shape, dtype and device of ``like`` (B, *event).

    Raises:
        ValueError: another number of streams than of samples.
    """
    one_for_each(rng, like)
    return rng.normal(like.shape[1:], dtype=like.dtype).to(like.device)


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of n items in an epoch: a read-only int64 array (n,) that depends on (seed, epoch, n) alone."""
    rng = Rng(torch.tensor([derive(seed, "order")]), step=epoch)
    words = rng.fold("high").bits((n,))[0] * 2**31 + (rng.fold("low").bits((n,))[0] >> 1)
    order = np.argsort(words.numpy(), kind="stable")
    order.setflags(write=False)
    return order


def subset(n: int, size: int, seed: int, name: str, repetition: int = 0) -> np.ndarray:
    """``size`` of the indices 0, ..., n - 1 without replacement: a function of the arguments alone, int64 (size,).

    Raises:
        ValueError: more than there are.
    """
    whole("size", size, 0, n)
    return permutation(derive(seed, name), repetition, n)[:size].copy()


def increasing_subset(n: int, most: int | None, seed: int, name: str) -> np.ndarray:
    """At most ``most`` of the indices 0, ..., n - 1 (None: all), in their order: those of `subset`, int64."""
    return np.sort(subset(n, n if most is None else min(most, n), seed, name))
