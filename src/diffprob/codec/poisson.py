"""Relative entropy coding by the Poisson functional representation, in blocks of elements.

A draw of q is chosen among candidates that both sides can make (`diffprob.codec.search`), and its number is what is
sent. The search costs 2^KL, so elements are divided into blocks of a few bits.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.distributions import Categorical, Distribution
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, derive
from diffprob.codec.coders import Exact, NormalStep
from diffprob.codec.entropy import Counted, Reader, Uniform, Writer
from diffprob.codec.search import Block, Windows
from diffprob.codec.universal import put_cells, take_cells

FINE = 1024  # parts of a bit in which what an element costs is counted
TRUST = 16.0  # bits after which what was sent counts as much as what was foretold
PRIOR = 16.0  # blocks after which what came counts as much as Zipf's law
BITS = 12  # foretold bits less those of the window that are told apart
WINDOW, MOST_SHIFTS = 3, 14  # a base has so many times fewer candidates, in bits, than are foretold; at most 2^14


def shifts_of(bits: float) -> int:
    """log2 of the candidates that a base has where so many bits are foretold."""
    return min(MOST_SHIFTS, max(0, round(bits) - WINDOW))


def blocks_of(cost: np.ndarray, bits: float, rng: Rng) -> tuple[list[np.ndarray], float]:
    """Elements in blocks of about equal expected cost, and that cost, of about ``bits``; those that cost alike stand
    together.

    Args:
        cost: what each element is expected to cost, in bits/1024, positive int64 (d,).
        bits: of a block, that are wanted.
        rng: the order of equals, (1,).
    """
    order = np.lexsort((rng.fold("blocks").bits((len(cost),))[0].numpy(), -cost))
    total = int(cost.sum())
    n = min(len(cost), max(1, round(total / (FINE * bits))))
    spent = cost[order].cumsum() - cost[order]
    return np.split(order, np.searchsorted(spent, np.arange(1, n) * (total / n))), total / (FINE * n)


@dataclass(eq=False)
class Memory:
    """What was sent of a chain so far, from which both sides foretell what is to come.

    Args:
        expected: bits that the spreads foretold, of each sample, (n,).
        spent: bits of the numbers that were sent, (n,).
        seen: how often each exponent came where so many bits were foretold of the base, (BITS, 25).
        splits: how often a block was sent whole, and how often it was split, (2,).
    """

    expected: np.ndarray
    spent: np.ndarray
    seen: np.ndarray
    splits: np.ndarray

    def ratio(self, i: int) -> float:
        """Bits of a sample's numbers for each bit that was foretold, from 1/4 to 4."""
        return min(4.0, max(0.25, float((TRUST + self.spent[i]) / (TRUST + self.expected[i]))))

    def exponents(self, bits: float, most: int) -> Counted:
        """The law of floor(log2 k) of bases where so many bits are foretold: Zipf's at first, and then what came.

        Zipf's has 2^(-b (l - 1)) with l = 1 + 1/(bits + log2(e)/e + 1) (Li & El Gamal 2018, eq. 17).
        """
        shifts = shifts_of(bits)
        decay = 1 / (bits - shifts + math.log2(math.e) / math.e + 1)
        last = max(0, most - shifts)
        prior = np.exp2(-decay * np.arange(last + 1))
        counts = PRIOR * prior / prior.sum() + self.seen[self._context(bits), : last + 1]
        return Counted(np.rint(FINE * counts) + 1)

    def add(self, i: int, bits: float, exponent: int) -> None:
        """A block of a sample for which so many bits were foretold was sent."""
        self.expected[i] += bits / self.ratio(i)
        self.spent[i] += exponent + 0.5 + shifts_of(bits)
        self.seen[self._context(bits), exponent] += 1

    @staticmethod
    def _context(bits: float) -> int:
        return min(BITS - 1, round(bits) - shifts_of(bits))


@dataclass(frozen=True)
class PoissonFunctional:
    """Each block is a draw of q, and its number is sent; a block that costs too much is split, an element quantised.

    Args:
        bits: expected of a block, 1 to 20. More cost less for each bit sent, and twice the time for each.
        most: log2 of the candidates that are looked at, at most, 8 to 24.
        risk: expected number of candidates not looked at that would have been chosen instead, at most, unless ``most``
            ends the search.

    Exact when: ``risk`` is 0 and ``most`` is infinite: what is received is then a draw of q. Its base takes at most
    B + log2(B + 1) + 4 bits on average, B being the divergence that a base carries, which is KL less the bits of the
    window plus what the window leaves open given its base; measured, a block takes KL + log2(KL + 1) + [0, 2] in all.

    Reference: Li & El Gamal, "Strong functional representation lemma and applications to coding theorems" (2018); Theis
    & Yosri, "Algorithms for the communication of samples" (2022).
    """

    bits: float = 10.0
    most: int = 18
    risk: float = 0.1

    def __post_init__(self) -> None:
        real("bits", self.bits, "[1, 20]")
        whole("most", self.most, 8, 24)
        real("risk", self.risk, "[1e-6, 1]")

    @property
    def limit(self) -> float:
        """The divergence from which on a block is split: so many bits that the search ends with what q would give."""
        return max(self.bits, self.most - math.sqrt(2 * self.bits / math.log(2)))

    def cost(self, bits: Tensor, dimensions: int) -> Tensor:
        """log2(KL + 1) + 1/2 more for each block, as measured, of which a step has one at least."""
        blocks = (bits / self.bits).clamp_min(1)
        return bits + blocks * (torch.log2(bits / blocks + 1) + 0.5)

    def memory(self, n: int) -> Memory:
        """Nothing was sent of n samples yet."""
        return Memory(np.zeros(n), np.zeros(n), np.zeros((BITS, 25)), np.array([16.0, 1.0]))

    def encode(self, q: Distribution, p: Distribution, rng: Rng, writer: Writer, memory: Any = None) -> Tensor:
        """Block after block of sample after sample.

        Raises:
            InputError: p has the spread of q, from which nothing follows of what a step costs.
        """
        if isinstance(p, Categorical):
            return Exact().encode(q, p, rng, writer)
        step = NormalStep.of(q, p)
        memory = self.memory(len(step.mean)) if memory is None else memory
        return step.at(
            np.stack([_Sending(self, step, i, rng, memory, writer).z for i in range(len(step.mean))]), p.mean
        )

    def decode(self, like: Distribution, p: Distribution, rng: Rng, reader: Reader, memory: Any = None) -> Tensor:
        """The candidates with the numbers that were sent."""
        if isinstance(p, Categorical):
            return Exact().decode(like, p, rng, reader)
        step = NormalStep.of(like, p)
        memory = self.memory(len(step.mean)) if memory is None else memory
        return step.at(np.stack([_Taking(self, step, i, rng, memory, reader).z for i in range(len(step.mean))]), p.mean)


class _Side:
    """A step of one sample on either side: the blocks, one after the other, fill ``z`` (d,), standard under p."""

    def __init__(self, coder: PoissonFunctional, step: NormalStep, i: int, rng: Rng, memory: Memory) -> None:
        self.coder, self.memory, self.i = coder, memory, i
        self.ratio, self.shift = step.ratio[i], step.shift[i]
        self.name = f"{rng.stream}/{rng.step}"
        self.seed = int(rng.seeds[i])
        self.z = np.zeros_like(self.ratio)
        if not (self.ratio < 1).any():
            raise InputError(
                "a chain whose steps have no more spread than q says nothing of what they cost: fit a variance first, "
                "as by diffprob fit RUN analytic"
            )
        cost = np.maximum(np.rint(-FINE * np.log2(self.ratio)), 1).astype(np.int64)
        blocks, each = blocks_of(cost, coder.bits / memory.ratio(i), rng.select(slice(i, i + 1)))
        for k, block in enumerate(blocks):
            self.block(block, str(k), each * memory.ratio(i))

    def block(self, at: np.ndarray, name: str, bits: float) -> None:
        """Send or take the elements ``at``, for which so many bits are foretold."""
        seed = derive(self.seed, f"{self.name}/{name}")
        split = self.split(at)
        self.memory.splits[int(split)] += 1
        if split:
            if len(at) > 1:  # every second one, and the others: both halves cost about the same
                for half in (0, 1):
                    self.block(at[half::2], f"{name}.{half}", 0.6 * self.coder.limit)
            else:
                self.z[at] = self.cell(at, seed)
            return
        bits = min(bits, float(self.coder.most))
        base, window = self.number(at, seed, bits)
        self.memory.add(self.i, bits, (base + 1).bit_length() - 1)
        self.z[at] = Windows(seed, len(at), shifts_of(bits)).take(base, window)

    def split(self, at: np.ndarray) -> bool:
        """Whether a block costs too much to be searched."""
        raise NotImplementedError

    def cell(self, at: np.ndarray, seed: int) -> np.ndarray:
        """An element that is quantised."""
        raise NotImplementedError

    def number(self, at: np.ndarray, seed: int, bits: float) -> tuple[int, int]:
        """Which base and which window of it, from 0 on."""
        raise NotImplementedError


class _Sending(_Side):
    """The side that knows q."""

    def __init__(
        self, coder: PoissonFunctional, step: NormalStep, i: int, rng: Rng, memory: Memory, writer: Writer
    ) -> None:
        self.writer = writer
        super().__init__(coder, step, i, rng, memory)

    def split(self, at: np.ndarray) -> bool:
        yes = Block(self.shift[at], self.ratio[at]).kl > self.coder.limit
        self.writer.put(np.array([int(yes)]), Counted(self.memory.splits))
        return yes

    def cell(self, at: np.ndarray, seed: int) -> np.ndarray:
        return put_cells(self.shift[at], self.ratio[at], seed, self.writer)

    def number(self, at: np.ndarray, seed: int, bits: float) -> tuple[int, int]:
        shifts = shifts_of(bits)
        base, window = Block(self.shift[at], self.ratio[at]).search(seed, shifts, self.coder.most, self.coder.risk)
        exponent = (base + 1).bit_length() - 1
        self.writer.put(np.array([exponent]), self.memory.exponents(bits, self.coder.most))
        self.writer.put(np.array([base + 1 - (1 << exponent)]), Uniform(exponent))
        self.writer.put(np.array([window]), Uniform(shifts))
        return base, window


class _Taking(_Side):
    """The side that has the bytes."""

    def __init__(
        self, coder: PoissonFunctional, step: NormalStep, i: int, rng: Rng, memory: Memory, reader: Reader
    ) -> None:
        self.reader = reader
        super().__init__(coder, step, i, rng, memory)

    def split(self, at: np.ndarray) -> bool:
        return bool(self.reader.get(Counted(self.memory.splits))[0])

    def cell(self, at: np.ndarray, seed: int) -> np.ndarray:
        return take_cells(self.ratio[at], seed, self.reader)

    def number(self, at: np.ndarray, seed: int, bits: float) -> tuple[int, int]:
        exponent = int(self.reader.get(self.memory.exponents(bits, self.coder.most))[0])
        base = (1 << exponent) - 1 + int(self.reader.get(Uniform(exponent))[0])
        return base, int(self.reader.get(Uniform(shifts_of(bits)))[0])
