"""The random streams: known answers, independence from the batch, and their statistics."""

import hashlib
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from truth import normals as first_version
from truth import philox as reference
from truth.statistics import assert_frequencies, assert_mean, assert_uncorrelated

from diffprob.base import blocks
from diffprob.base import rng as module
from diffprob.base.quantile import fill_quantiles
from diffprob.base.rng import Rng, derive, normal_like, normal_quantile, permutation, philox

# kat_vectors of Random123 1.14, philox4x32 with 10 rounds: (counter, key, result).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_matches_published_vectors(
    counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    as_torch = philox([torch.tensor([c]) for c in counter], [torch.tensor([k]) for k in key])
    as_numpy = philox([np.array([c], dtype=np.int64) for c in counter], [np.array([k], dtype=np.int64) for k in key])
    assert tuple(int(word) for word in as_torch) == expected
    assert tuple(int(word[0]) for word in as_numpy) == expected
    assert tuple(reference.philox(counter, key)) == expected


def test_numpy_and_torch_give_the_same_bits() -> None:
    words = np.random.Generator(np.random.PCG64(1)).integers(0, 2**32, (6, 500))
    ours = philox(list(torch.from_numpy(words[:4])), list(torch.from_numpy(words[4:])))
    theirs = philox(list(words[:4]), list(words[4:]))
    for a, b in zip(ours, theirs, strict=True):
        assert np.array_equal(a.numpy(), b)
        assert a.min() >= 0
        assert a.max() < 2**32


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1, 2**32, 2**63 - 8])
def test_bits_match_the_reference_implementation(seed: int) -> None:
    rng = Rng.of(seed, 2).fold("step").fold("value").at(17)
    for i in range(2):
        expected = reference.words(seed + i, ("step", "value"), 17, 10)
        assert np.array_equal(rng.bits((10,))[i].numpy(), expected)
        assert np.array_equal(rng.bits((2, 5))[i].flatten().numpy(), expected)


def test_recorded_numbers_are_unchanged() -> None:
    """Changing a stream's name, the layout or the digest changes every sample ever recorded with its seed."""
    assert Rng.of(0, 1).bits((4,))[0].tolist() == list(KNOWN[0][2])
    assert np.array_equal(Rng.of(7, 1).fold("prior").bits((3,))[0].numpy(), reference.words(7, ("prior",), 0, 3))
    assert derive(0, "order") == 870786519423807412  # half of the first 8 bytes of SHA-256("derive\\x1f0\\x1forder")
    high, low = (reference.words(derive(0, "order"), (name,), 0, 8) for name in ("high", "low"))
    assert np.array_equal(permutation(0, 0, 8), np.argsort(high * 2**31 + low // 2))


def test_normals_match_the_reference_implementation() -> None:
    rng = Rng.of(99, 3).fold("a").at(4)
    normals = rng.normal((7,), torch.float64)
    for i in range(3):
        np.testing.assert_allclose(normals[i].numpy(), reference.normals(99 + i, ("a",), 4, 7), rtol=1e-14, atol=1e-15)
    assert torch.equal(rng.normal((7,)), normals.float())
    assert torch.equal(normal_like(rng, torch.empty(3, 7, dtype=torch.float64)), normals)
    uniforms = rng.uniform((7,), torch.float64)
    np.testing.assert_allclose(uniforms[0].numpy(), (reference.words(99, ("a",), 4, 7) + 0.5) / 2**32, rtol=1e-16)


def test_normal_quantile_matches_scipy() -> None:
    edges = torch.tensor([0, 1, 2, 2**20, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])
    words = torch.cat([edges, Rng.of(3, 1).bits((20_000,))[0]])
    ours = normal_quantile(words)
    # scipy's ndtri is good to about 1e-15 relative; at p near 1 both see p rounded to 2^-53, which the tail amplifies.
    p = (words.numpy() + 0.5) / 2**32
    expected = np.where(p < 0.5, stats.norm.ppf(p), -stats.norm.ppf(1 - p))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=3e-15, atol=1e-16)
    assert torch.equal(normal_quantile(2**32 - 1 - words), -ours), "not antisymmetric to the last bit"


def test_normal_quantile_increases_where_the_formula_changes() -> None:
    """AS 241 changes formula at |p - 1/2| = 0.425."""
    seam = int(0.075 * 2**32)
    for start in (seam - 500, 2**32 - seam - 500):
        assert (normal_quantile(torch.arange(start, start + 1000)).diff() > 0).all()


STREAMS = [
    (1, ()), (3, ()), (200, ()), (5, (2,)), (40, (3,)), (2, (4,)), (7, (5,)), (1, (127,)), (1, (129,)), (9, (2, 33)),
    (3, (1, 8, 8)), (1, (600,)), (5, (257,)),
]  # fmt: skip


def assert_bits_of_the_first_version(rng: Rng, shape: tuple[int, ...]) -> None:
    words = first_version.words(rng, shape)
    assert torch.equal(rng.bits(shape), words)
    assert torch.equal(rng.integers(shape, 1000), words * 1000 >> 32)
    exact = first_version.quantile(words)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert torch.equal(rng.normal(shape, dtype), exact.to(dtype))
        assert torch.equal(rng.uniform(shape, dtype), first_version.uniform(words, dtype))


@pytest.mark.parametrize("tile", [30, blocks._TILE])
@pytest.mark.parametrize("seed", [2**32 - 20, 2**63 - 300])
def test_fast_numbers_have_the_bits_of_the_first_version(monkeypatch: pytest.MonkeyPatch, seed: int, tile: int) -> None:
    """Samples beside each other and blocks beside each other, whole tiles and their ends, steps and streams."""
    monkeypatch.setattr(blocks, "_TILE", tile)
    for k, (n, shape) in enumerate(STREAMS):
        assert_bits_of_the_first_version(Rng.of(seed, n).fold("a").at((0, 1, 2**32 - 1)[k % 3]), shape)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_long_streams_have_the_same_bits_for_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(blocks, "_ALONE", 1 << 10)
    for n, count in ((1, 4 * blocks._TILE + 5), (90, 784), (30_000, 1)):
        rng = Rng.of(3, n).fold("long").at(2)
        assert torch.equal(rng.normal((count,)), first_version.quantile(first_version.words(rng, (count,))).float())


def test_path_for_other_devices_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_by_blocks", lambda seeds: False)
    for n, shape in STREAMS:
        assert_bits_of_the_first_version(Rng.of(2**40, n).fold("a").at(7), shape)


def test_normal_quantile_keeps_its_bits_at_tails_and_formula_changes() -> None:
    """The farthest tails, both changes of formula at |p - 1/2| = 0.425, and the middle."""
    seam = int(0.075 * 2**32)
    places = (0, seam - 2000, 2**31 - 2000, 2**32 - seam - 2000, 2**32 - 4000)
    words = torch.cat([torch.arange(place, place + 4000) for place in places])
    values = np.empty(len(words))
    fill_quantiles(words.numpy().astype(np.uint64), values, np.empty((3, len(words))))
    assert np.array_equal(values, first_version.quantile(words).numpy())
    assert torch.equal(normal_quantile(words), first_version.quantile(words))


def test_square_roots_are_rounded_correctly() -> None:
    """As IEEE 754 wants it and every device but MKL does: the same bits of float64 normals everywhere."""
    words = torch.arange(0, 2**28, 2**28 // 5000 + 1)
    p = (words.double() + 0.5) * 2.0**-32
    above, below = first_version.MIDDLE
    for k, (value, logarithm) in enumerate(
        zip(normal_quantile(words).tolist(), first_version._log(p).tolist(), strict=True)
    ):
        r = math.sqrt(-logarithm) - 1.6
        ratio = [0.0, 0.0]
        for i, row in enumerate((above, below)):
            for coefficient in row[::-1]:
                ratio[i] = ratio[i] * r + coefficient
        assert value == -ratio[0] / ratio[1], k


def test_normals_are_normal() -> None:
    n = 200_000
    z = torch.cat(
        [Rng.of(0, n // 2).normal((1,), torch.float64), Rng.of(0, 1).fold("x").normal((n // 2,), torch.float64).T]
    )
    for power, expected in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        assert_mean(z**power, expected)
    # 1.95/sqrt(n) is the Kolmogorov-Smirnov quantile of 0.999.
    assert stats.kstest(z.flatten().numpy(), "norm").statistic < 1.95 / math.sqrt(n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniforms_are_uniform_and_open(dtype: torch.dtype) -> None:
    n = 200_000
    u = Rng.of(1, n).uniform((), dtype)
    assert u.dtype == dtype
    assert u.min() > 0
    assert u.max() < 1
    assert_mean(u, 0.5)
    assert_mean(u.double() ** 2, 1 / 3)
    assert stats.kstest(u.numpy(), "uniform").statistic < 1.95 / math.sqrt(n)
    extremes, values = np.array([0, 2**32 - 1], dtype=np.uint64), np.empty(2)
    (blocks.uniforms if dtype == torch.float64 else blocks.short_uniforms)(extremes, values, np.empty((3, 2)))
    ends = torch.from_numpy(values).to(dtype)
    assert ((ends > 0) & (ends < 1)).all()


def test_integers_are_uniform() -> None:
    values = Rng.of(2, 20_000).integers((3,), 7)
    assert values.dtype == torch.int64
    assert_frequencies(np.bincount(values.flatten().numpy(), minlength=7), np.full(7, 1 / 7))
    high = Rng.of(2, 20_000).integers((), 2**31)
    assert high.min() >= 0
    assert high.max() < 2**31
    assert high.max() > 2**31 * 0.999
    assert (Rng.of(2, 5).integers((4,), 1) == 0).all()
    for bad in (0, -1, 2**31 + 1):
        with pytest.raises(ValueError, match=str(bad)):
            Rng.of(0, 1).integers((), bad)


def test_sample_depends_only_on_its_own_seed() -> None:
    everything = Rng.of(10, 64).fold("step").at(3).normal((2, 5))
    for n in (1, 2, 7):
        assert torch.equal(Rng.of(10, n).fold("step").at(3).normal((2, 5)), everything[:n])
    assert torch.equal(Rng.of(10, 4, first=60).fold("step").at(3).normal((2, 5)), everything[60:])
    index = torch.tensor([33, 2, 2, 50])
    assert torch.equal(Rng.of(10, 64).select(index).fold("step").at(3).normal((2, 5)), everything[index])
    assert torch.equal(Rng.of(10, 64).fold("step").at(3).select(slice(5, 9)).normal((2, 5)), everything[5:9])


def test_same_call_gives_the_same_numbers() -> None:
    rng = Rng.of(4, 3)
    assert torch.equal(rng.normal((5,)), rng.normal((5,)))
    rng.fold("a")
    rng.at(9)
    assert rng.step == 0
    assert torch.equal(rng.normal((5,)), Rng.of(4, 3).normal((5,)))


def variants() -> dict[str, Tensor]:
    """Streams that must have nothing to do with each other."""
    rng = Rng.of(0, 1)
    others = {
        "base": rng,
        "next seed": Rng.of(1, 1),
        "seed + 2^32": Rng.of(2**32, 1),
        "next step": rng.at(1),
        "step 2^32 - 1": rng.at(2**32 - 1),
        "name a": rng.fold("a"),
        "name b": rng.fold("b"),
        "a of b": rng.fold("b").fold("a"),
        "b of a": rng.fold("a").fold("b"),
        "name ab": rng.fold("ab"),
        "a, next step": rng.fold("a").at(1),
    }
    return {name: r.normal((40_000,), torch.float64)[0] for name, r in others.items()}


def test_streams_and_steps_are_uncorrelated() -> None:
    rows = list(variants().values())
    for i, a in enumerate(rows):
        for b in rows[:i]:
            assert_uncorrelated(a, b)
        for lag in (1, 2, 4):
            assert_uncorrelated(a[lag:], a[:-lag])
            assert_uncorrelated(a[lag:] ** 2, a[:-lag] ** 2)


def test_samples_are_uncorrelated() -> None:
    z = Rng.of(0, 20_000).normal((3,), torch.float64)
    assert_uncorrelated(z[1:], z[:-1])
    assert_uncorrelated(z[:, 0], z[:, 1])


@pytest.mark.parametrize("n", [0, 1, 2, 10, 1797, 5000])
def test_permutation_contains_every_index_once(n: int) -> None:
    order = permutation(3, 5, n)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(n))
    assert not order.flags.writeable
    assert np.array_equal(order, permutation(3, 5, n))


def test_permutations_differ_and_are_uniform() -> None:
    assert not np.array_equal(permutation(0, 0, 1000), permutation(0, 1, 1000))
    assert not np.array_equal(permutation(0, 0, 1000), permutation(1, 0, 1000))
    orders = np.stack([permutation(0, epoch, 5) for epoch in range(200)])
    for position in range(5):
        assert_frequencies(np.bincount(orders[:, position], minlength=5), np.full(5, 0.2))
    long = torch.from_numpy(np.stack([permutation(0, epoch, 20_000) for epoch in range(3)]))
    assert_uncorrelated(long, torch.arange(20_000).expand(3, -1))
    assert_uncorrelated(long[:, 1:], long[:, :-1])
    assert_uncorrelated(long[0], long[1])
    rises = (long.diff() > 0).sum().item()
    # The number of rises of a random permutation has mean (n-1)/2 and variance (n+1)/12.
    assert abs(rises - 3 * 19_999 / 2) < 4 * math.sqrt(3 * 20_001 / 12)


def test_derived_seeds_are_63_bit_and_distinct() -> None:
    seeds = {derive(seed, name) for seed in range(50) for name in ("order", "noise", "")}
    assert len(seeds) == 150
    assert all(0 <= seed < 2**63 for seed in seeds)
    Rng(torch.tensor(sorted(seeds)))


def test_invalid_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="float32"):
        Rng(torch.zeros(3))
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        Rng(torch.zeros(2, 2, dtype=torch.int64))
    for bad in (-1, 2**32):
        with pytest.raises(ValueError, match=str(bad)):
            Rng.of(0, 1).at(bad)
    for bad in (-1, 2**63 - 1):
        with pytest.raises(ValueError, match=str(bad)):
            Rng.of(bad, 4)
    with pytest.raises(ValueError, match="3 random streams for a batch of 2"):
        normal_like(Rng.of(0, 3), torch.zeros(2, 5))


def test_streams_of_images_depend_only_on_the_image():
    images = torch.arange(24, dtype=torch.uint8).reshape(3, 1, 2, 4)
    one = Rng.of_images(7, images)
    assert torch.equal(Rng.of_images(7, images.flip(0)).seeds, one.seeds.flip(0))
    assert torch.equal(Rng.of_images(7, images[1:2].numpy()).seeds, one.seeds[1:2])
    assert torch.equal(Rng.of_images(7, images[[2, 2]]).seeds, one.seeds[[2, 2]])
    others = (Rng.of_images(8, images), Rng.of_images(7, images + 1), Rng.of_images(7, images.reshape(3, 1, 4, 2)))
    seeds = torch.cat([one.seeds, *(other_stream.seeds for other_stream in others)])
    assert len(set(seeds.tolist())) == 12 and bool((seeds >= 0).all())
    head = b"image 7 |u1 (1, 2, 4) " + bytes(range(8))
    assert int(one.seeds[0]) == int.from_bytes(hashlib.sha256(head).digest()[:8], "little") >> 1
