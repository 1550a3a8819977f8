"""Philox4x32-10 in blocks that stay in the processor's cache: the words behind every random number.

`philox` is the definition, for tensors on any device. On a CPU `filled` computes the same integers a tile at a time in
numpy's unsigned arithmetic, without new memory, and turns each tile into numbers before the next: a tensor of normals
is written once. Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from diffprob.base.quantile import fill_quantiles

MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_STEPS = np.arange(10, dtype=np.uint64)[:, None] * np.array(_WEYL, dtype=np.uint64) & MASK
_TILE = 1 << 14  # blocks of four words that are computed together, so many that calling numpy costs little
_ALONE = 1 << 15  # blocks below which a further thread costs more than it saves
_SHORT = 32  # blocks of a sample below which the samples lie next to each other in a tile, instead of the blocks
_ORDER = (0, 2, 1, 3)  # which word each row of a tile holds

# From words (n,), to values (n,), with memory float64 (3, n) in between.
Finish = Callable[[np.ndarray, np.ndarray, np.ndarray], None]


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
        c0, c1, c2, c3 = ((p1 >> 32) & MASK) ^ c1 ^ k0, p1 & MASK, ((p0 >> 32) & MASK) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + _WEYL[0]) & MASK, (k1 + _WEYL[1]) & MASK
    return c0, c1, c2, c3


def keys_of(seeds: np.ndarray) -> np.ndarray:
    """The keys of ten rounds: lower and upper 32 bits of int64 seeds (B,), each so many Weyl steps on, (10, 2, B)."""
    unsigned = seeds.astype(np.uint64)
    return (np.stack([unsigned & MASK, unsigned >> 32]) + _STEPS[:, :, None]) & MASK


def _begin(words: np.ndarray, number: np.ndarray, counter: tuple[int, int, int], keys: np.ndarray) -> None:
    """The first two rounds: c0, c2, c1, c3 into ``words`` (4, ...).

    Only c0, the number of the block, differs within a sample, and only the key between samples: what does not depend on
    both is computed once.

    Args:
        words: uint64 (4, ...).
        number: uint64 numbers of the blocks, broadcastable.
        counter: c1, c2 and c3.
        keys: uint64 (2, 2, ...), broadcastable.
    """
    c1, c2, c3 = counter
    first, second = number * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
    np.bitwise_xor(first >> 32, keys[0, 1] ^ c3, out=words[1])
    product = (keys[0, 0] ^ (second >> 32 ^ c1)) * _MULTIPLIERS[0]
    words[1] *= _MULTIPLIERS[1]
    np.right_shift(words[1], 32, out=words[0])
    words[0] ^= keys[1, 0] ^ (second & MASK)
    np.bitwise_and(words[1], MASK, out=words[2])
    np.bitwise_xor(first & MASK, (product >> 32) ^ keys[1, 1], out=words[1])
    words[3] = product & MASK


def _rounds(pairs: np.ndarray, spare: np.ndarray, keys: np.ndarray) -> None:
    """Further rounds, one for each pair of ``keys``, on (c0, c2) and (c1, c3), uint64 (2, 2, ...), in place.

    A round turns (c0, c2) into products, of which the upper halves go into (c1, c3) crosswise, and the lower halves
    become the next (c3, c1). After four rounds everything is where it was.
    """
    multipliers = np.array(_MULTIPLIERS, dtype=np.uint64).reshape(2, 1, 1)
    even, odd = pairs
    for key in keys:
        even *= multipliers
        np.right_shift(even, 32, out=spare)
        odd ^= spare[::-1]
        odd ^= key
        even &= MASK
        even, odd = odd, even[::-1]


class _Tiles:
    """Tiles of the numbers of some samples, and memory for one at a time.

    Args:
        seeds: int64 (B,).
        counter: step, and lower and upper half of the stream's digest.
        out: (B, blocks, 4).
        count: of numbers that are wanted of each sample.
        finish: turns words into numbers; None where words are wanted.
    """

    def __init__(
        self, seeds: np.ndarray, counter: tuple[int, int, int], out: np.ndarray, count: int, finish: Finish | None
    ) -> None:
        self.seeds, self.counter, self.out, self.finish = seeds, counter, out, finish
        n, blocks = out.shape[:2]
        self.used = 1 + max(_ORDER.index(place) for place in range(min(count, 4)))  # rows of a tile
        self.blocks = min(blocks, _TILE)
        self.rows = min(n, max(1, _TILE // self.blocks))
        self.places = [(i, j) for i in range(0, n, self.rows) for j in range(0, blocks, self.blocks)]

    def fill(self, places: Sequence[tuple[int, int]]) -> None:
        """Compute the tiles that begin at these samples and blocks."""
        size = self.rows * self.blocks
        counters, spare = np.empty(4 * size, np.uint64), np.empty(2 * size, np.uint64)
        values = np.empty(4 * size if self.finish else 0)
        memory = np.empty((3, 4 * size if self.finish else 0))
        for row, block in places:
            out = self.out[row : row + self.rows, block : block + self.blocks]
            keys = keys_of(self.seeds[row : row + self.rows])
            short = out.shape[1] < min(_SHORT, len(out))  # the innermost loops are then over samples
            out, keys = (out.transpose(1, 0, 2), keys[:, :, None]) if short else (out, keys[..., None])
            shape, n = out.shape[:2], out.shape[0] * out.shape[1]
            number = np.arange(block, block + shape[0 if short else 1], dtype=np.uint64)
            words = counters[: 4 * n].reshape(4, *shape)
            _begin(words, number[:, None] if short else number, self.counter, keys[:2])
            _rounds(words.reshape(2, 2, *shape), spare[: 2 * n].reshape(2, *shape), keys[2:])
            results = words[: self.used]
            if self.finish is not None:
                m = self.used * n
                self.finish(results.reshape(-1), values[:m], memory[:, :m])
                results = values[:m].reshape(self.used, *shape)
            for place, result in zip(_ORDER, results, strict=False):
                out[:, :, place] = result


def filled(
    seeds: np.ndarray,
    counter: tuple[int, int, int],
    count: int,
    dtype: Any,
    finish: Finish | None = None,
    threads: int = 1,
) -> np.ndarray:
    """``count`` words of every sample, or the numbers that are made of them, (B, count).

    Args:
        seeds: int64 (B,).
        counter: step, and lower and upper half of the stream's digest.
        count: of words for each sample.
        dtype: numpy's, of the result; float64 numbers are rounded to it once.
        finish: turns words into float64 numbers; None: the words themselves.
        threads: how many may be used; they change no bit.
    """
    blocks = -(-count // 4)
    out = np.empty((len(seeds), blocks, 4), dtype)
    if out.size:
        tiles = _Tiles(seeds, counter, out, count, finish)
        workers = min(threads, len(seeds) * blocks // _ALONE, len(tiles.places))
        if workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(tiles.fill, [tiles.places[k::workers] for k in range(workers)]))
        else:
            tiles.fill(tiles.places)
    return out.reshape(len(seeds), 4 * blocks)[:, :count]


def uniforms(words: np.ndarray, values: np.ndarray, _memory: np.ndarray) -> None:
    """(word + 1/2) / 2^32 as a `Finish`."""
    np.copyto(values, words.view(np.int64))
    values += 0.5
    values *= 2.0**-32


def short_uniforms(words: np.ndarray, values: np.ndarray, _memory: np.ndarray) -> None:
    """(upper 23 bits + 1/2) / 2^23, which float32 holds without rounding to 0 or 1, as a `Finish`."""
    np.right_shift(words, 9, out=words)
    np.copyto(values, words.view(np.int64))
    values += 0.5
    values *= 2.0**-23


normals: Finish = fill_quantiles
