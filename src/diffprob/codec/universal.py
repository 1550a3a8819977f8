"""Universal quantisation: a shared dither makes the error of rounding uniform, whatever is rounded."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import whole
from diffprob.base.distributions import Categorical, Distribution
from diffprob.base.errors import FieldError
from diffprob.base.rng import Rng, derive
from diffprob.codec.coders import Exact, NormalStep
from diffprob.codec.entropy import Binned, Reader, Writer

CELLS = 1 << 14  # on either side of the mean; what lies further out is moved to the last one
LEAST = 1e-3  # standard deviation of the law of cells, in cells


def _dither(seed: int, n: int) -> np.ndarray:
    """Uniform in (-1/2, 1/2), (n,)."""
    return Rng(torch.tensor([seed])).fold("dither").uniform((n,), torch.float64)[0].numpy() - 0.5


def _cells(ratio: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, Binned]:
    """(width of a cell, dither, laws of the cells): what both sides know."""
    width, dither = math.sqrt(12) * ratio, _dither(seed, len(ratio))
    spread = np.sqrt(np.maximum(1 - ratio**2, 0)) / width
    return width, dither, Binned(CELLS + dither, np.maximum(spread, LEAST), 2 * CELLS + 1)


def put_cells(shift: np.ndarray, ratio: np.ndarray, seed: int, writer: Writer) -> np.ndarray:
    """Send elements of q = N(shift, ratio^2) under p = N(0, 1), whitened (n,); return what is received, (n,).

    k = round(shift/D + U) with cells of the width D = sqrt(12) ratio, and D (k - U) is received: shift + D V with V
    uniform in (-1/2, 1/2), of the mean and variance of q. Under p, k has the mass of N(U, (1 - ratio^2)/D^2) around it.
    """
    width, dither, law = _cells(ratio, seed)
    cells = np.clip(np.rint(shift / width + dither), -CELLS, CELLS)
    writer.put(cells + CELLS, law)
    return width * (cells - dither)


def take_cells(ratio: np.ndarray, seed: int, reader: Reader) -> np.ndarray:
    """What `put_cells` returned, (n,)."""
    width, dither, law = _cells(ratio, seed)
    return width * (reader.get(law) - CELLS - dither)


class Quantisation:
    """What coders have in common that round elements with a shared dither: one sample after the other, no search."""

    def cost(self, bits: Tensor, dimensions: int) -> Tensor:
        """Up to 1/2 log2(2 pi e/12) more for each element."""
        return bits + dimensions * 0.5 * math.log2(math.pi * math.e / 6)

    def memory(self, n: int) -> None:
        """Nothing is remembered."""

    def encode(self, q: Distribution, p: Distribution, rng: Rng, writer: Writer, memory: Any = None) -> Tensor:
        """All elements of sample after sample."""
        if isinstance(p, Categorical):
            return Exact().encode(q, p, rng, writer)
        step = NormalStep.of(q, p)
        parts = [self.put(step.shift[i], step.ratio[i], seed, writer) for i, seed in enumerate(_seeds(rng))]
        return step.at(np.stack(parts), p.mean)

    def decode(self, like: Distribution, p: Distribution, rng: Rng, reader: Reader, memory: Any = None) -> Tensor:
        """The same."""
        if isinstance(p, Categorical):
            return Exact().decode(like, p, rng, reader)
        step = NormalStep.of(like, p)
        parts = [self.take(step.ratio[i], seed, reader) for i, seed in enumerate(_seeds(rng))]
        return step.at(np.stack(parts), p.mean)

    def put(self, shift: np.ndarray, ratio: np.ndarray, seed: int, writer: Writer) -> np.ndarray:
        """Send elements of q = N(shift, ratio^2) under p = N(0, 1), (d,); return what is received, (d,)."""
        raise NotImplementedError

    def take(self, ratio: np.ndarray, seed: int, reader: Reader) -> np.ndarray:
        """What `put` returned, (d,)."""
        raise NotImplementedError


def _seeds(rng: Rng) -> list[int]:
    """Of each sample at a step."""
    return [derive(int(seed), f"{rng.stream}/{rng.step}") for seed in rng.seeds]


@dataclass(frozen=True)
class UniversalQuantisation(Quantisation):
    """Each element is rounded with a shared dither: of q's mean and variance, with a uniform error.

    It costs up to 1/2 log2(2 pi e/12) = 0.2546 bits an element and step more than the normal draw, and at rates far
    below a bit many times as much; a search there is none. An element further than 16,384 cells from the mean is moved.

    Exact when: never: mean and variance of q are right, its law is uniform.

    Reference: Agustsson & Theis, "Universally quantized neural compression" (2020); Yang, Will & Mandt, "Progressive
    compression with universally quantized diffusion models" (2025), sec. 3.
    """

    def put(self, shift: np.ndarray, ratio: np.ndarray, seed: int, writer: Writer) -> np.ndarray:
        """See `put_cells`."""
        return put_cells(shift, ratio, seed, writer)

    def take(self, ratio: np.ndarray, seed: int, reader: Reader) -> np.ndarray:
        """See `take_cells`."""
        return take_cells(ratio, seed, reader)


@dataclass(frozen=True)
class RotatedQuantisation(Quantisation):
    """Elements are turned, rounded with a shared dither and turned back: of q's mean and variance, with a nearly normal
    error.

    Elements u = shift/ratio that cost alike stand together in blocks of n = 2^k <= ``most``. Of a block y = H S u is
    sent, H being the orthogonal Hadamard matrix and S shared random signs; y + V is received, V uniform of variance 1,
    which makes shift + ratio S H V. Each element of S H V is a sum of n uniform ones with the weights +-1/sqrt(n): its
    excess kurtosis is -6/(5 n). Under p, y has the mean variance m of the block's 1/ratio^2 - 1, so that an element
    costs h(N(0, m) + V) - h(V): as much as without the turn where all ratios are one, and more where they differ.

    Args:
        most: elements of a block, a power of two from 2 to 4096.

    Exact when: never: mean and variance of q are right, its law is normal up to 1/``most``.

    Reference: Kobus, Theis & Gunduz, "Gaussian channel simulation with rotated dithered quantization" (2024).
    """

    most: int = 1024

    def __post_init__(self) -> None:
        whole("most", self.most, 2, 4096)
        if self.most & (self.most - 1):
            raise FieldError("most", f"must be a power of two, such as {1 << self.most.bit_length() - 1}")

    def put(self, shift: np.ndarray, ratio: np.ndarray, seed: int, writer: Writer) -> np.ndarray:
        """Block after block."""
        out = np.empty_like(shift)
        for k, (at, signs, spread) in enumerate(self._blocks(ratio, seed)):
            turned = hadamard(signs * shift[at] / ratio[at])
            y = put_cells(turned * spread, np.full(len(at), spread), derive(seed, str(k)), writer) / spread
            out[at] = ratio[at] * signs * hadamard(y)
        return out

    def take(self, ratio: np.ndarray, seed: int, reader: Reader) -> np.ndarray:
        """The same."""
        out = np.empty_like(ratio)
        for k, (at, signs, spread) in enumerate(self._blocks(ratio, seed)):
            y = take_cells(np.full(len(at), spread), derive(seed, str(k)), reader) / spread
            out[at] = ratio[at] * signs * hadamard(y)
        return out

    def _blocks(self, ratio: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """(elements, their signs, the standard deviation of the error over that of p after the turn)."""
        order, first = np.argsort(ratio, kind="stable"), 0
        signs = 1.0 - 2.0 * (Rng(torch.tensor([seed])).fold("signs").bits((len(ratio),))[0].numpy() & 1)
        while first < len(order):
            size = min(self.most, 1 << (len(order) - first).bit_length() - 1)
            at = order[first : first + size]
            yield at, signs[at], 1 / math.sqrt(1 + np.maximum(1 / ratio[at] ** 2 - 1, 0).mean())
            first += size


def hadamard(v: np.ndarray) -> np.ndarray:
    """H v for v (2^k,), H orthogonal and its own inverse: (+-1)/sqrt(2^k) in the order of Sylvester."""
    n, half = len(v), 1
    while half < n:
        first, second = v.reshape(-1, 2, half).transpose(1, 0, 2)
        v = np.stack([first + second, first - second], 1)
        half *= 2
    return v.reshape(n) / math.sqrt(n)
