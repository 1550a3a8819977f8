"""Philox4x32-10 and the library's stream layout in plain Python integers, written on their own."""

import hashlib
import math
from statistics import NormalDist

import numpy as np


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> list[int]:
    """Random123's definition, four unbounded integers at a time."""
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(second >> 32) ^ c[1] ^ k[0], second % 2**32, (first >> 32) ^ c[3] ^ k[1], first % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def stream(*names: str) -> int:
    """Digest of nested stream names: 64 bits of SHA-256 over the parent's digest and the name."""
    digest = 0
    for name in names:
        text = f"{digest}\x1f{name}".encode()
        digest = int.from_bytes(hashlib.sha256(text).digest()[:8], "little")
    return digest


def words(seed: int, names: tuple[str, ...], step: int, count: int) -> np.ndarray:
    """The first ``count`` uint32 words of one sample: key = seed, counter = (block, step, digest low, digest high)."""
    digest = stream(*names)
    key = (seed % 2**32, seed >> 32)
    blocks = (philox((b, step, digest % 2**32, digest >> 32), key) for b in range(math.ceil(count / 4)))
    return np.array([word for block in blocks for word in block][:count], dtype=np.int64)


def normals(seed: int, names: tuple[str, ...], step: int, count: int) -> np.ndarray:
    """The normal numbers that belong to `words`, by the standard library's quantile function."""
    return np.array([NormalDist().inv_cdf((int(w) + 0.5) / 2**32) for w in words(seed, names, step, count)])
