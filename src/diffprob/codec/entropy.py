"""Symbols to bytes and back under laws that both sides know: a range coder, whose bytes may be cut anywhere.

The coder is that of constriction (Bamler 2022). Here are the laws in numbers that do not depend on the last bits of a
network's, the shortest ending, and what a beginning of the bytes already says.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from diffprob.base.checks import whole
from diffprob.base.errors import InputError

GRID = 64  # steps of a natural logarithm in which weights are counted
LOWEST = 16  # natural logarithms below the largest weight at which weights end
FINE = 4096  # parts of a level, or of a standard deviation, in which means are counted
WORD = 4  # bytes
SLICE = 1 << 22  # weights that are handed over at once


class Damaged(InputError):
    """Bytes that no encoder wrote, or not under these laws."""


class Incomplete(InputError):
    """The bytes end before all symbols are certain.

    Args:
        symbols: those that are, (n',) int32.
    """

    def __init__(self, symbols: np.ndarray) -> None:
        super().__init__("the bytes end here: more of them would be needed")
        self.symbols = symbols


class SymbolLaw(Protocol):
    """The laws of n independent symbols, each a whole number from 0 on."""

    def __len__(self) -> int:
        """n."""
        ...

    def parts(self) -> list[tuple[int, Any, tuple[np.ndarray, ...]]]:
        """(number of symbols, model family of constriction, its parameters), one after the other."""
        ...


def coding() -> Any:
    """The coders and models of constriction."""
    import constriction

    return vars(constriction)["stream"]


@lru_cache(maxsize=1)
def _weights() -> np.ndarray:
    """round(2^24 exp(-k/GRID)), k = 0, 1, ..., and 0 at the end; from whole numbers, the same on every machine."""
    bits = 96
    ratio, term = 0, 1 << bits  # exp(-1/GRID) by its series, in units of 2^-96
    for k in range(1, 40):
        ratio += term
        term = -term // (GRID * k)
    weights, value = [], 1 << bits
    for _ in range(LOWEST * GRID):
        weights.append((value + (1 << (bits - 25))) >> (bits - 24))
        value = value * ratio >> bits
    return np.array([*weights, 0], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Weights:
    """Symbols with weights exp(logits), of which logarithms are counted in steps of 1/64 below the largest.

    So a difference in the last bits of a network's answer, as between two machines, hardly ever changes a law; a weight
    below exp(-16) of the largest is 0, which still can be coded, for 24 bits.

    Args:
        logits: (n, K), of which none is NaN and each row has a finite largest one.
    """

    logits: np.ndarray

    def __len__(self) -> int:
        return len(self.logits)

    def counts(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """The weights of some of the symbols, whole numbers in float64 (n', K)."""
        logits = np.asarray(self.logits[first:last], dtype=np.float64)
        below = (logits.max(1, keepdims=True) - logits) * GRID
        return _weights()[np.minimum(np.rint(below), LOWEST * GRID).astype(np.int64)]

    def parts(self) -> list[tuple[int, Any, tuple[np.ndarray, ...]]]:
        """Categorical laws, some of them at a time."""
        n, values = self.logits.shape
        at_once, family = max(1, SLICE // values), coding().model.Categorical(perfect=False)
        counts = (self.counts(first, first + at_once) for first in range(0, n, at_once))
        return [(len(part), family, (part,)) for part in counts]


@dataclass(frozen=True, eq=False)
class Counted:
    """n symbols with the same whole weights.

    Args:
        weights: (K,), at least 0 and not all 0.
        n: how many.
    """

    weights: np.ndarray
    n: int = 1

    def __len__(self) -> int:
        return self.n

    def parts(self) -> list[tuple[int, Any, tuple[np.ndarray, ...]]]:
        """The law, once for each."""
        table = np.broadcast_to(np.asarray(self.weights, dtype=np.float64), (self.n, len(self.weights)))
        return [(self.n, coding().model.Categorical(perfect=False), (np.ascontiguousarray(table),))]


@dataclass(frozen=True, eq=False)
class Uniform:
    """n symbols of 2^bits alike.

    Args:
        bits: at most 24.
        n: how many.
    """

    bits: int
    n: int = 1

    def __post_init__(self) -> None:
        whole("bits", self.bits, 0, 23)

    def __len__(self) -> int:
        return self.n

    def parts(self) -> list[tuple[int, Any, tuple[np.ndarray, ...]]]:
        """constriction's uniform law; of 2^0 there is nothing to code."""
        if not self.bits:
            return []
        sizes = np.full(self.n, 1 << self.bits, dtype=np.int32)
        return [(self.n, coding().model.Uniform(), (sizes,))]


@dataclass(frozen=True, eq=False)
class Binned:
    """Whole numbers 0..K-1 with the mass that N(mean, std^2) has in the bins around them, the outer ones open.

    Means are rounded to 1/4096 of what is smaller, a standard deviation or 1, and standard deviations to a power of
    2^(1/64).

    Args:
        mean: (n,).
        std: (n,), positive.
        values: K.
    """

    mean: np.ndarray
    std: np.ndarray
    values: int

    def __len__(self) -> int:
        return len(self.mean)

    def parts(self) -> list[tuple[int, Any, tuple[np.ndarray, ...]]]:
        """constriction's quantised normal laws."""
        exponent = np.rint(GRID * np.log2(np.clip(self.std, 1e-3, 1e6))).astype(np.int64)
        whole_part, part = exponent // GRID, exponent % GRID
        std = np.ldexp(_roots()[part], whole_part.astype(np.int32))
        step = np.ldexp(1.0 / FINE, np.minimum(whole_part, 0).astype(np.int32))
        mean = np.rint(np.clip(self.mean, -self.values, 2 * self.values) / step) * step
        return [(len(mean), coding().model.QuantizedGaussian(0, self.values - 1), (mean, std))]


@lru_cache(maxsize=1)
def _roots() -> np.ndarray:
    """2^(k/64), k = 0..63, to 2^-40, from whole numbers."""
    values = [round(2 ** (k / GRID) * 2**40) for k in range(GRID)]
    return np.ldexp(np.array(values, dtype=np.float64), -40)


class Refused(Exception):
    """The coder of constriction refused, by an error or by a panic, which is no `Exception`."""


class Guarded:
    """Turns whatever the coder raises into `Refused`, but for what stops the program."""

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """See the class."""
        if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
            raise Refused(str(error)) from None


def put_parts(symbols: np.ndarray, law: SymbolLaw, encode: Callable[..., None], last_first: bool = False) -> None:
    """Hand symbols (n,) over to a coder of constriction, part after part of their laws, or from the last part on.

    Raises:
        ValueError: another number of symbols than of laws, or one that its law has not.
    """
    symbols = np.ascontiguousarray(symbols, dtype=np.int32).reshape(-1)
    if len(symbols) != len(law):
        raise ValueError(f"{len(symbols)} symbols for {len(law)} laws")
    parts = law.parts()
    pieces = np.split(symbols, np.cumsum([n for n, _, _ in parts[:-1]], dtype=np.int64)) if parts else []
    both = list(zip(pieces, parts, strict=True))
    for piece, (_, family, parameters) in reversed(both) if last_first else both:
        try:
            with Guarded():
                encode(piece, family, *parameters)
        except Refused as error:
            raise ValueError(f"a symbol that its law has not: {error}") from None


class Writer:
    """Symbols become bytes, the first ones first."""

    def __init__(self) -> None:
        self._coder = coding().queue.RangeEncoder()
        self.charged = 0.0  # bits of an ideal code, of which there are no bytes
        self.levels = 0.0  # bits of the levels at the end of a chain
        self.first = 0.0  # bits that it was begun with: none

    def charge(self, bits: float) -> None:
        """Count bits that are not written."""
        self.charged += bits

    def put(self, symbols: np.ndarray, law: SymbolLaw) -> None:
        """Append symbols (n,) under their laws.

        Raises:
            ValueError: another number of symbols than of laws, or one that its law has not.
        """
        put_parts(symbols, law, self._coder.encode)

    @property
    def bits(self) -> float:
        """That the symbols so far cost, and what was charged; at once, however many they are."""
        position, (_, width) = self._coder.pos()
        return 8 * WORD * position + 64 - math.log2(width) + self.charged

    @property
    def place(self) -> tuple[int, Any]:
        """Where a decoder goes on behind these symbols: words, and its state."""
        return self._coder.pos()

    @property
    def size(self) -> int:
        """Bytes of `data`; at once."""
        position, (low, width) = self._coder.pos()
        return WORD * position + _ending(low, width)[0]

    def data(self) -> bytes:
        """The shortest bytes that say all symbols, whatever follows them being read as zeros."""
        position, (low, width) = self._coder.pos()
        words = self._coder.get_compressed()
        before = int.from_bytes(words[:position].astype(">u4").tobytes(), "big") if position else 0
        n, value = _ending(low, width)
        value += before << 64
        return (value >> (64 - 8 * n)).to_bytes(WORD * position + n, "big")


def _ending(low: int, width: int) -> tuple[int, int]:
    """The fewest bytes of 8, and the number that they begin, which lies in [low, low + width)."""
    for n in range(9):
        unit = 1 << (64 - 8 * n)
        value = -(-low // unit) * unit
        if value < low + width:
            return n, value
    raise ValueError(f"an interval of {width} numbers has none")


def _reader(data: bytes, fill: int) -> Any:
    """A coder of bytes with ever more ``fill`` bytes behind."""
    padded = data + bytes([fill]) * (4 * WORD + -len(data) % WORD)
    return coding().queue.RangeDecoder(np.frombuffer(padded, dtype=">u4").astype(np.uint32))


def _some(coder: Any, law: SymbolLaw) -> np.ndarray:
    with Guarded():
        taken = [coder.decode(family, *parameters) for _, family, parameters in law.parts()]
    return np.concatenate(taken) if taken else np.zeros(len(law), dtype=np.int32)


class Reader:
    """Bytes become symbols.

    Args:
        data: the bytes, or the first ones of them.
        whole: whether they are all: what follows is then known to be zeros. Otherwise a symbol is certain when all
            that can follow says it, which the smallest and the largest continuation tell.
    """

    def __init__(self, data: bytes, whole: bool = True) -> None:
        self._coders = [_reader(data, fill) for fill in ((0,) if whole else (0, 255))]

    def get(self, law: SymbolLaw) -> np.ndarray:
        """The next symbols, (n,) int32.

        Raises:
            Damaged: no symbols have these bytes, or more than these bytes can say.
            Incomplete: the bytes end before the last of them is certain.
        """
        before = [coder.clone() for coder in self._coders] if len(self._coders) > 1 else []
        try:
            first, *others = (_some(coder, law) for coder in self._coders)
        except Refused:
            if before:
                raise Incomplete(_certain(before, law)) from None
            raise Damaged("the bytes are damaged, or of another model") from None
        if others and not np.array_equal(first, others[0]):
            raise Incomplete(first[: int(np.argmax(first != others[0]))])
        if not others and self._coders[0].maybe_exhausted():
            raise Damaged("the bytes are damaged, or of another model: more was read than they have")
        return first


def _certain(coders: list[Any], law: SymbolLaw) -> np.ndarray:
    """The symbols that both coders have, one at a time, up to one that the second has not at all."""
    symbols: list[int] = []
    for n, family, parameters in law.parts():
        for k in range(n):
            try:
                with Guarded():
                    one, other = (int(c.decode(family, *(p[k : k + 1] for p in parameters))[0]) for c in coders)
            except Refused:
                return np.array(symbols, dtype=np.int32)
            if one != other:
                return np.array(symbols, dtype=np.int32)
            symbols.append(one)
    return np.array(symbols, dtype=np.int32)
