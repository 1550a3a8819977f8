"""A draw of q among candidates that both sides can make: the Poisson functional representation, many of them at a time.

With the arrival times T_i of a Poisson process and shared g_i ~ p, argmin_i T_i/W(g_i) is a draw of p W, whatever W is
that has the mean 1 (Li & El Gamal 2018; Theis & Yosri 2022). Here g is a base of L normal numbers and its candidates
are M windows of it, z_k = (s_1 g_(k+1), ..., s_n g_(k+n)), read in a circle. Their weights w = q/p are a correlation,
so that a Fourier transform has all of them for about the price of one. The base is drawn with W = sum_k w(z_k)/M, and
then k with the probability w(z_k)/(M W). That windows overlap does not matter: P(z_k in A) is the sum over k of
E_p[W w(z_k)/(M W); z_k in A] = q(A)/M, which is q(A).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from diffprob.base.quantile import normal_quantile
from diffprob.base.rng import Rng

HALF = 1 << 16  # a half of a random word chooses one of so many normal quantiles
FIRST, MOST = 1 << 8, 1 << 15  # numbers of bases that are looked at together, at first and later
ORDERS = np.array([1.1, 1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64])  # of Renyi divergences


@lru_cache(maxsize=1)
def _quantiles() -> Tensor:
    """The normal quantiles at (k + 1/2)/2^16, float32, scaled to variance 1."""
    table = normal_quantile(torch.arange(HALF, dtype=torch.int64) * HALF + HALF // 2)
    return (table / (table * table).mean().sqrt()).float()


def bases(seed: int, first: int, n: int, length: int) -> Tensor:
    """Bases ``first``, ..., first + n - 1 of a block: standard normal numbers, float32 (n, length).

    Base i is a stream of its own, with the seed ``seed`` + i; each half of a random word chooses one of 2^16 quantiles.
    """
    seeds = torch.arange(seed + first, seed + first + n, dtype=torch.int64)
    words = Rng(seeds).fold("base").bits((-(-length // 2),))
    halves = torch.stack([words & (HALF - 1), words >> 16], -1).reshape(n, -1)[:, :length]
    return torch.index_select(_quantiles(), 0, halves.flatten()).reshape(halves.shape)


@dataclass(frozen=True, eq=False)
class Windows:
    """The candidates of a block, which both sides know.

    Args:
        seed: of the block.
        n: elements of the block.
        shifts: log2 of the candidates of a base.
    """

    seed: int
    n: int
    shifts: int

    @property
    def length(self) -> int:
        """L, a power of two of at least as many numbers as elements and as candidates."""
        return 1 << max(self.shifts, (self.n - 1).bit_length())

    def order(self) -> tuple[np.ndarray, np.ndarray]:
        """(which element stands where in a window, its sign): so overlapping windows have little in common."""
        bits = Rng(torch.tensor([self.seed])).fold("order").bits((self.n,))[0].numpy()
        order = np.argsort(bits >> 1, kind="stable")
        return order, 1.0 - 2.0 * (bits[order] & 1)

    def take(self, base: int, shift: int) -> np.ndarray:
        """A candidate, float64 (n,)."""
        order, signs = self.order()
        numbers = bases(self.seed, base, 1, self.length)[0].double().numpy()
        out = np.empty(self.n)
        out[order] = signs * numbers[(shift + np.arange(self.n)) & (self.length - 1)]
        return out


@dataclass(frozen=True, eq=False)
class Block:
    """Elements with q = N(shift, ratio^2) and p = N(0, 1) each, float64 (n,).

    log w = sum -log r - d^2/(2 r^2) + z^2 (1/2 - 1/(2 r^2)) + z d/r^2, in natural logarithms.
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

    def search(self, seed: int, shifts: int, most: int, risk: float) -> tuple[int, int]:
        """(number of the chosen base, of its window), from 0 on.

        It ends when the expected number of later bases that would be chosen instead is below ``risk``: after time T,
        with the best score e^b, it is at most E[W^a] e^(a b) T^(1 - a)/(a - 1) for every a > 1 (Markov's inequality),
        where E[W^a] is taken as 1 + M^(1 - a) E[w^a], as it is for windows of their own but for a constant. After
        2^most candidates it ends as well.
        """
        windows = Windows(seed, len(self.shift), shifts)
        score = _Scores(self, windows)
        moments = np.logaddexp(0.0, self.moments() + (1 - ORDERS) * shifts * math.log(2)) if shifts else self.moments()
        least, chosen, seen, passed = math.inf, (0, 0), 0, 0.0
        end, n = 1 << max(0, most - shifts), max(1, FIRST // windows.length)
        while True:
            log_w = score(bases(seed, seen, n, windows.length))
            weights = torch.logsumexp(log_w, 1).numpy() - shifts * math.log(2)
            # The times are the encoder's alone, and so is the choice among windows.
            rng = Rng(torch.tensor([seed])).at(seen)
            times = passed - np.log(rng.fold("waits").uniform((n,), torch.float64)[0].numpy()).cumsum()
            scores = np.log(times) - weights
            k = int(scores.argmin())
            if scores[k] < least:
                u = float(rng.fold("window").uniform((), torch.float64)[0])
                below = torch.softmax(log_w[k], 0).cumsum(0).numpy()
                least, chosen = float(scores[k]), (seen + k, min(int((below < u).sum()), len(below) - 1))
            seen, passed = seen + n, float(times[-1])
            later = moments + ORDERS * least + (1 - ORDERS) * math.log(passed) - np.log(ORDERS - 1)
            if later.min() < math.log(risk) or seen >= end:
                return chosen
            n = max(1, min(seen, MOST // windows.length, end - seen))


class _Scores:
    """log w of all windows of bases."""

    def __init__(self, block: Block, windows: Windows) -> None:
        order, signs = windows.order()
        r, d = block.ratio[order], block.shift[order] * signs
        self.length, self.count = windows.length, 1 << windows.shifts
        linear, square = (torch.from_numpy(v).float() for v in (d / r**2, 0.5 - 0.5 / r**2))
        self.linear, self.square = (torch.fft.rfft(v, self.length).conj() for v in (linear, square))
        self.constant = float((-np.log(r) - 0.5 * d**2 / r**2).sum())

    def __call__(self, several: Tensor) -> Tensor:
        """log w, float64 (bases, windows)."""
        spectrum = torch.fft.rfft(several) * self.linear + torch.fft.rfft(several * several) * self.square
        return torch.fft.irfft(spectrum, self.length)[:, : self.count].double() + self.constant
