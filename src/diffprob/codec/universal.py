"""Universal quantisation: a shared dither makes the error of rounding uniform, whatever is rounded."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.distributions import Categorical, Distribution
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


@dataclass(frozen=True)
class UniversalQuantisation:
    """Each element is rounded with a shared dither: of q's mean and variance, with a uniform error.

    It costs up to 1/2 log2(2 pi e/12) = 0.2546 bits an element and step more than the normal draw, and at rates far
    below a bit many times as much; a search there is none. An element further than 16,384 cells from the mean is moved.

    Exact when: never: mean and variance of q are right, its law is uniform.

    Reference: Agustsson & Theis, "Universally quantized neural compression" (2020); Yang, Will & Mandt, "Progressive
    compression with universally quantized diffusion models" (2025), sec. 3.
    """

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
        seeds = [derive(int(seed), f"{rng.stream}/{rng.step}") for seed in rng.seeds]
        parts = [put_cells(step.shift[i], step.ratio[i], seed, writer) for i, seed in enumerate(seeds)]
        return step.at(np.stack(parts), p.mean)

    def decode(self, like: Distribution, p: Distribution, rng: Rng, reader: Reader, memory: Any = None) -> Tensor:
        """The same."""
        if isinstance(p, Categorical):
            return Exact().decode(like, p, rng, reader)
        step = NormalStep.of(like, p)
        seeds = [derive(int(seed), f"{rng.stream}/{rng.step}") for seed in rng.seeds]
        parts = [take_cells(step.ratio[i], seed, reader) for i, seed in enumerate(seeds)]
        return step.at(np.stack(parts), p.mean)
