"""Relative entropy coding by the Poisson functional representation, in blocks of elements.

Candidates z_1, z_2, ... ~ p are shared; with the arrival times T_k of a Poisson process, argmin_k T_k/w(z_k) is a draw
of q, w = q/p (Li & El Gamal 2018; Theis & Yosri 2022). Its number k is what is sent. The search costs 2^KL, so elements
are divided into blocks of a few bits.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.distributions import Categorical, Distribution
from diffprob.base.errors import InputError
from diffprob.base.quantile import normal_quantile
from diffprob.base.rng import Rng, derive
from diffprob.codec.coders import Exact, NormalStep
from diffprob.codec.entropy import Counted, Reader, Uniform, Writer
from diffprob.codec.universal import put_cells, take_cells

HALF = 1 << 16  # a half of a random word chooses one of so many normal quantiles
FIRST, MOST = 1 << 8, 1 << 13  # candidates that are looked at together, at first and later
FINE = 1024  # parts of a bit in which what an element costs is counted
SPLIT, COSTS = 0, 1  # what is asked of a block, and of elements that are expected to cost nothing
LEAST = 0.05  # bits that such elements may cost together and yet be drawn from p
TRUST = 16.0  # bits after which what was sent counts as much as what was foretold
PRIOR = 8.0  # blocks after which what came counts as much as Zipf's law
BITS = 24  # foretold bits that are told apart
ORDERS = np.array([1.1, 1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64])  # of Renyi divergences


@lru_cache(maxsize=1)
def _quantiles() -> Tensor:
    """The normal quantiles at (k + 1/2)/2^16, float32, scaled to variance 1."""
    table = normal_quantile(torch.arange(HALF, dtype=torch.int64) * HALF + HALF // 2)
    return (table / (table * table).mean().sqrt()).float()


def candidates(seed: int, first: int, n: int, dimensions: int) -> Tensor:
    """Standard normal candidates ``first``, ..., first + n - 1 of a block, float32 (n, dimensions).

    Candidate k is a stream of its own, with the seed ``seed`` + k; each half of a random word chooses one of 2^16
    quantiles.
    """
    seeds = torch.arange(seed + first, seed + first + n, dtype=torch.int64)
    words = Rng(seeds).fold("candidate").bits((-(-dimensions // 2),))
    halves = torch.stack([words & (HALF - 1), words >> 16], -1).reshape(n, -1)[:, :dimensions]
    return torch.index_select(_quantiles(), 0, halves.flatten()).reshape(halves.shape)


def blocks_of(cost: np.ndarray, most: float, rng: Rng) -> tuple[list[np.ndarray], float]:
    """Elements in blocks of about equal expected cost, and that cost, of at most ``most`` bits; those that cost alike
    stand together.

    Args:
        cost: what each element is expected to cost, in bits/1024, int64 (d,); those of 0 are in no block.
        most: of a block.
        rng: the order of equals, (1,).
    """
    order = np.lexsort((rng.fold("blocks").bits((len(cost),))[0].numpy(), -cost))[: int((cost > 0).sum())]
    total = int(cost.sum())
    n = max(1, math.ceil(total / (FINE * most)))
    spent = cost[order].cumsum() - cost[order]
    return np.split(order, np.searchsorted(spent, np.arange(1, n) * (total / n))), total / (FINE * n)


@dataclass(eq=False)
class Memory:
    """What was sent of a chain so far, from which both sides foretell what is to come.

    Args:
        expected: bits that the spreads foretold, of each sample, (n,).
        spent: bits of the numbers that were sent, (n,).
        seen: how often each exponent came where so many bits were foretold, (BITS, 24).
        answers: how often no and yes came for each question, (2, 2).
    """

    expected: np.ndarray
    spent: np.ndarray
    seen: np.ndarray
    answers: np.ndarray

    def ratio(self, i: int) -> float:
        """Bits of a sample's numbers for each bit that was foretold, from 1/4 to 4."""
        return min(4.0, max(0.25, float((TRUST + self.spent[i]) / (TRUST + self.expected[i]))))

    def exponents(self, bits: float, most: int) -> Counted:
        """The law of floor(log2 k) where so many bits are foretold: Zipf's at first, and more and more what came.

        Zipf's has 2^(-b (l - 1)) with l = 1 + 1/(bits + log2(e)/e + 1) (Li & El Gamal 2018, eq. 17).
        """
        decay = 1 / (bits + math.log2(math.e) / math.e + 1)
        prior = np.exp2(-decay * np.arange(most + 1))
        counts = PRIOR * prior / prior.sum() + self.seen[self._context(bits), : most + 1]
        return Counted(np.rint(FINE * counts) + 1)

    def add(self, i: int, bits: float, exponent: int) -> None:
        """A block of a sample for which so many bits were foretold was sent."""
        self.expected[i] += bits / self.ratio(i)
        self.spent[i] += exponent + 0.5
        self.seen[self._context(bits), exponent] += 1

    @staticmethod
    def _context(bits: float) -> int:
        return min(BITS - 1, round(bits))


@dataclass(frozen=True)
class _Block:
    """log w(z) of a block as a quadratic of the candidates, and when the search may end; natural logarithms.

    log w = sum -log r - d^2/(2 r^2) + z^2 (1/2 - 1/(2 r^2)) + z d/r^2 for q = N(d, r^2), p = N(0, 1).
    """

    shift: np.ndarray
    ratio: np.ndarray

    @property
    def kl(self) -> float:
        """KL(q || p) in bits."""
        terms = -np.log(self.ratio) + 0.5 * (self.ratio**2 + self.shift**2 - 1)
        return float(terms.sum()) / math.log(2)

    def moments(self) -> np.ndarray:
        """log E_p w^a for the orders a: (a - 1) times the Renyi divergence of q from p."""
        r, d, a = self.ratio, self.shift, ORDERS[:, None]
        precision = 1 - a + a / r**2
        terms = -a * np.log(r) - 0.5 * np.log(precision) - 0.5 * a * d**2 / r**2
        return (terms + 0.5 * (a * d / r**2) ** 2 / precision).sum(1)

    def search(self, seed: int, most: int, risk: float) -> int:
        """The number of the chosen candidate, from 0 on.

        It ends when the expected number of later candidates that would be chosen instead is below ``risk``: after time
        T, with the best score e^b, it is at most E[w^a] e^(a b) T^(1 - a)/(a - 1) for every a > 1 (Markov's
        inequality). At 2^most candidates it ends as well.
        """
        r, d = self.ratio, self.shift
        square, linear = (torch.from_numpy(v).float() for v in (0.5 - 0.5 / r**2, d / r**2))
        constant = float((-np.log(r) - 0.5 * d**2 / r**2).sum())
        moments, ends = self.moments(), math.log(risk)
        best, chosen, seen, passed, n = math.inf, 0, 0, 0.0, FIRST
        while True:
            z = candidates(seed, seen, n, len(d))
            log_w = ((z * z) @ square + z @ linear).double().numpy() + constant
            # The times are the encoder's alone.
            waits = -np.log(Rng(torch.tensor([seed])).fold("waits").at(seen).uniform((n,), torch.float64)[0].numpy())
            times = passed + waits.cumsum()
            scores = np.log(times) - log_w
            k = int(scores.argmin())
            if scores[k] < best:
                best, chosen = float(scores[k]), seen + k
            seen, passed = seen + n, float(times[-1])
            later = moments + ORDERS * best + (1 - ORDERS) * math.log(passed) - np.log(ORDERS - 1)
            if later.min() < ends or seen >= 1 << most:
                return chosen
            n = min(seen, MOST, (1 << most) - seen)


@dataclass(frozen=True)
class PoissonFunctional:
    """Each block is a draw of q, and its number is sent; a block that costs too much is split, an element quantised.

    Args:
        bits: expected of a block, 1 to 20. More cost less for each bit sent, and twice the time for each.
        most: log2 of the candidates that are looked at, at most, 8 to 23.
        risk: expected number of candidates not looked at that would have been chosen instead, at most, unless ``most``
            ends the search.

    Exact when: ``risk`` is 0 and ``most`` is infinite: what is received is then a draw of q, for KL + log2(KL + 1) + 4
    bits at most on average.

    Reference: Li & El Gamal, "Strong functional representation lemma and applications to coding theorems" (2018); Theis
    & Yosri, "Algorithms for the communication of samples" (2022).
    """

    bits: float = 8.0
    most: int = 16
    risk: float = 0.1

    def __post_init__(self) -> None:
        real("bits", self.bits, "[1, 20]")
        whole("most", self.most, 8, 23)
        real("risk", self.risk, "[1e-6, 1]")

    def cost(self, bits: Tensor, dimensions: int) -> Tensor:
        """log2(KL + 1) + 1/2 more for each block, as measured, of which a step has one at least."""
        blocks = (bits / self.bits).clamp_min(1)
        return bits + blocks * (torch.log2(bits / blocks + 1) + 0.5)

    def memory(self, n: int) -> Memory:
        """Nothing was sent of n samples yet."""
        return Memory(np.zeros(n), np.zeros(n), np.zeros((BITS, 24)), np.array([[16.0, 1.0], [16.0, 1.0]]))

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
        bits = -np.log2(self.ratio)
        cost = np.rint(FINE * bits).astype(np.int64)
        free = np.flatnonzero(cost <= 0)
        if len(free) == len(cost):
            cost, free = np.ones_like(cost), free[:0]
        if len(free) and self.answered(COSTS, free):
            cost, free = np.maximum(cost, 1), free[:0]
        blocks, each = blocks_of(np.maximum(cost, 0), coder.bits / memory.ratio(i), rng.select(slice(i, i + 1)))
        for k, block in enumerate(blocks):
            self.block(block, str(k), each * memory.ratio(i))
        if len(free):
            self.z[free] = candidates(derive(self.seed, f"{self.name}/free"), 0, 1, len(free))[0].double().numpy()

    def block(self, at: np.ndarray, name: str, bits: float) -> None:
        """Send or take the elements ``at``, for which so many bits are foretold."""
        seed = derive(self.seed, f"{self.name}/{name}")
        if self.answered(SPLIT, at):
            if len(at) > 1:  # every second one, and the others: both halves cost about the same
                for half in (0, 1):
                    self.block(at[half::2], f"{name}.{half}", self.coder.bits)
            else:
                self.z[at] = self.cell(at, seed)
            return
        bits = min(bits, float(self.coder.most))
        chosen = self.number(at, seed, bits)
        self.memory.add(self.i, bits, (chosen + 1).bit_length() - 1)
        self.z[at] = candidates(seed, chosen, 1, len(at))[0].double().numpy()

    def answered(self, question: int, at: np.ndarray) -> bool:
        """Whether a block is split, or elements that are expected to cost nothing are put into blocks all the same."""
        yes = self.answer(question, at)
        self.memory.answers[question, int(yes)] += 1
        return yes

    def answer(self, question: int, at: np.ndarray) -> bool:
        """What `answered` counts."""
        raise NotImplementedError

    def cell(self, at: np.ndarray, seed: int) -> np.ndarray:
        """An element that is quantised."""
        raise NotImplementedError

    def number(self, at: np.ndarray, seed: int, bits: float) -> int:
        """Which candidate, from 0 on."""
        raise NotImplementedError


class _Sending(_Side):
    """The side that knows q."""

    def __init__(
        self, coder: PoissonFunctional, step: NormalStep, i: int, rng: Rng, memory: Memory, writer: Writer
    ) -> None:
        self.writer = writer
        # So many bits that the search ends with what q would give.
        self.limit = max(coder.bits, coder.most - math.sqrt(2 * coder.bits / math.log(2)))
        super().__init__(coder, step, i, rng, memory)

    def answer(self, question: int, at: np.ndarray) -> bool:
        limit = self.limit if question == SPLIT else LEAST
        yes = _Block(self.shift[at], self.ratio[at]).kl > limit
        self.writer.put(np.array([int(yes)]), Counted(self.memory.answers[question]))
        return yes

    def cell(self, at: np.ndarray, seed: int) -> np.ndarray:
        return put_cells(self.shift[at], self.ratio[at], seed, self.writer)

    def number(self, at: np.ndarray, seed: int, bits: float) -> int:
        chosen = _Block(self.shift[at], self.ratio[at]).search(seed, self.coder.most, self.coder.risk)
        exponent = (chosen + 1).bit_length() - 1
        self.writer.put(np.array([exponent]), self.memory.exponents(bits, self.coder.most))
        self.writer.put(np.array([chosen + 1 - (1 << exponent)]), Uniform(exponent))
        return chosen


class _Taking(_Side):
    """The side that has the bytes."""

    def __init__(
        self, coder: PoissonFunctional, step: NormalStep, i: int, rng: Rng, memory: Memory, reader: Reader
    ) -> None:
        self.reader = reader
        super().__init__(coder, step, i, rng, memory)

    def answer(self, question: int, at: np.ndarray) -> bool:
        return bool(self.reader.get(Counted(self.memory.answers[question]))[0])

    def cell(self, at: np.ndarray, seed: int) -> np.ndarray:
        return take_cells(self.ratio[at], seed, self.reader)

    def number(self, at: np.ndarray, seed: int, bits: float) -> int:
        exponent = int(self.reader.get(self.memory.exponents(bits, self.coder.most))[0])
        return (1 << exponent) - 1 + int(self.reader.get(Uniform(exponent))[0])
