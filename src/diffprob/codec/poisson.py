"""Relative entropy coding by the Poisson functional representation, in blocks of elements.

Candidates z_1, z_2, ... ~ p are shared; with the arrival times T_k of a Poisson process, argmin_k T_k/w(z_k) is a draw
of q, w = q/p (Li & El Gamal 2018; Theis & Yosri 2022). Its number k is what is sent. The search costs 2^KL, so elements
are divided into blocks of a few bits.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.distributions import Categorical, Distribution
from diffprob.base.errors import InputError
from diffprob.base.quantile import normal_quantile
from diffprob.base.rng import Rng, derive
from diffprob.codec.coders import Exact, NormalStep
from diffprob.codec.entropy import Counted, Reader, Uniform, Weights, Writer
from diffprob.codec.universal import put_cells, take_cells

HALF = 1 << 16  # a half of a random word chooses one of so many normal quantiles
FIRST, MOST = 1 << 8, 1 << 13  # candidates that are looked at together, at first and later
FINE = 1024  # parts of a bit in which what an element costs is counted
ONE, SPLIT = 0, 1  # what is said of a block
SAID = np.array([31.0, 1.0])
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


def blocks_of(bits: np.ndarray, most: float, rng: Rng) -> tuple[list[np.ndarray], float]:
    """Elements in blocks of about equal expected cost, and that cost, of at most ``most`` bits; those that cost alike
    stand together.

    Args:
        bits: what each element costs if p is calibrated, log2 of the standard deviation of p over that of q, (d,).
        most: of a block.
        rng: the order of equals, (1,).

    Raises:
        InputError: no element costs anything by its spread.
    """
    cost = np.rint(FINE * bits).astype(np.int64)
    total = max(1, int(cost.sum()))
    if not (bits > 0).any():
        raise InputError(
            "a chain whose steps have no more spread than q says nothing of what they cost: fit a variance first, "
            "as by diffprob fit RUN analytic"
        )
    order = np.lexsort((rng.fold("blocks").bits((len(bits),))[0].numpy(), -cost))
    n = max(1, math.ceil(total / (FINE * most)))
    spent = cost[order].cumsum() - cost[order]
    return np.split(order, np.searchsorted(spent, np.arange(1, n) * (total / n))), total / (FINE * n)


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
        bits: expected of a block. More cost less for each bit sent, and twice the time for each.
        most: log2 of the candidates that are looked at, at most.
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
        real("bits", self.bits, "(0, 20]")
        whole("most", self.most, 8, 23)
        real("risk", self.risk, "(0, 1]")

    @property
    def _limit(self) -> float:
        """Bits of a block that is not split: so many that the search ends with what q would give."""
        return max(self.bits, self.most - math.sqrt(2 * self.bits / math.log(2)))

    def encode(self, q: Distribution, p: Distribution, rng: Rng, writer: Writer) -> Tensor:
        """Block after block of sample after sample."""
        if isinstance(p, Categorical):
            return Exact().encode(q, p, rng, writer)
        step = NormalStep.of(q, p)
        z = np.zeros_like(step.mean)
        for i in range(len(z)):
            several, bits = self._blocks(step, i, rng)
            for k, block in enumerate(several):
                self._put(step, i, block, f"{k}", bits, rng, writer, z)
        return step.at(z, p.mean)

    def decode(self, like: Distribution, p: Distribution, rng: Rng, reader: Reader) -> Tensor:
        """The candidates with the numbers that were sent."""
        if isinstance(p, Categorical):
            return Exact().decode(like, p, rng, reader)
        step = NormalStep.of(like, p)
        z = np.zeros_like(step.mean)
        for i in range(len(z)):
            several, bits = self._blocks(step, i, rng)
            for k, block in enumerate(several):
                self._take(step, i, block, f"{k}", bits, rng, reader, z)
        return step.at(z, p.mean)

    def _blocks(self, step: NormalStep, i: int, rng: Rng) -> tuple[list[np.ndarray], float]:
        return blocks_of(-np.log2(step.ratio[i]), self.bits, rng.select(slice(i, i + 1)))

    def _seed(self, rng: Rng, i: int, name: str) -> int:
        return derive(int(rng.seeds[i]), f"{rng.stream}/{rng.step}/{name}")

    def _put(
        self, step: NormalStep, i: int, at: np.ndarray, name: str, bits: float, rng: Rng, writer: Writer, z: np.ndarray
    ) -> None:
        block, seed = _Block(step.shift[i, at], step.ratio[i, at]), self._seed(rng, i, name)
        if block.kl > self._limit:
            writer.put(np.array([SPLIT]), Counted(SAID))
            if len(at) > 1:
                for half, part in _halves(at, name):
                    self._put(step, i, part, half, self.bits, rng, writer, z)
            else:
                z[i, at] = put_cells(block.shift, block.ratio, seed, writer)
            return
        writer.put(np.array([ONE]), Counted(SAID))
        chosen = block.search(seed, self.most, self.risk)
        exponent = (chosen + 1).bit_length() - 1
        writer.put(np.array([exponent]), self._exponents(bits))
        writer.put(np.array([chosen + 1 - (1 << exponent)]), Uniform(exponent))
        z[i, at] = candidates(seed, chosen, 1, len(at))[0].double().numpy()

    def _take(
        self, step: NormalStep, i: int, at: np.ndarray, name: str, bits: float, rng: Rng, reader: Reader, z: np.ndarray
    ) -> None:
        seed = self._seed(rng, i, name)
        if int(reader.get(Counted(SAID))[0]) == SPLIT:
            if len(at) > 1:
                for half, part in _halves(at, name):
                    self._take(step, i, part, half, self.bits, rng, reader, z)
            else:
                z[i, at] = take_cells(step.ratio[i, at], seed, reader)
            return
        exponent = int(reader.get(self._exponents(bits))[0])
        chosen = (1 << exponent) - 1 + int(reader.get(Uniform(exponent))[0])
        z[i, at] = candidates(seed, chosen, 1, len(at))[0].double().numpy()

    def _exponents(self, bits: float) -> Weights:
        """The law of floor(log2 k) for a block of so many bits: that of Zipf's law, 2^(-b (l - 1)).

        l = 1 + 1/(bits + log2(e)/e + 1) (Li & El Gamal 2018, eq. 17).
        """
        decay = math.log(2) / (bits + math.log2(math.e) / math.e + 1)
        return Weights(-decay * np.arange(self.most + 1.0)[None])


def _halves(at: np.ndarray, name: str) -> list[tuple[str, np.ndarray]]:
    """Every second element, and the others: both halves cost about the same."""
    return [(f"{name}.0", at[::2]), (f"{name}.1", at[1::2])]
