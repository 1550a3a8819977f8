"""Symbols come back, cost what their laws say, and a beginning of the bytes says a beginning of the symbols."""

import numpy as np
import pytest
from scipy.stats import norm

from diffprob.codec.entropy import Binned, Counted, Damaged, Incomplete, Reader, Uniform, Weights, Writer


def some(n: int = 300, k: int = 17, seed: int = 0) -> tuple[Weights, np.ndarray, float]:
    """Laws, symbols drawn from them, and -log2 of their probability."""
    draw = np.random.default_rng(seed)
    law = Weights(3 * draw.standard_normal((n, k)))
    p = law.counts() / law.counts().sum(1, keepdims=True)
    symbols = (p.cumsum(1) < draw.random((n, 1))).sum(1)
    return law, symbols, float(-np.log2(p[np.arange(n), symbols]).sum())


def written(symbols: np.ndarray, law: object) -> bytes:
    writer = Writer()
    writer.put(symbols, law)  # type: ignore[arg-type]
    return writer.data()


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_read_and_costs_its_probability(seed: int) -> None:
    law, symbols, bits = some(n=1 + 30 * seed, seed=seed)
    data = written(symbols, law)
    np.testing.assert_array_equal(Reader(data).get(law), symbols)
    assert bits - 16 <= 8 * len(data) <= bits + 16  # an ending of at most two bytes; zeros at the end are left out


def test_a_writer_counts_without_making_its_bytes() -> None:
    """Bits to what a range coder of 32-bit words loses."""
    law, symbols, bits = some(n=400)
    writer, each = Writer(), law.counts() / law.counts().sum(1, keepdims=True)
    assert (writer.bits, writer.size, writer.data()) == (0, 0, b"")
    for k, symbol in enumerate(symbols):
        writer.put(np.array([symbol]), Weights(law.logits[k : k + 1]))
        so_far = -np.log2(each[np.arange(k + 1), symbols[: k + 1]]).sum()
        assert writer.bits == pytest.approx(so_far, abs=1e-3, rel=1e-4)
        assert len(writer.data()) == writer.size and 8 * writer.size <= writer.bits + 16
    assert writer.bits == pytest.approx(bits, rel=1e-4)


def test_weights_are_the_exponentials_of_logits_to_their_grid() -> None:
    logits = np.random.default_rng(0).uniform(-20, 5, (50, 30))
    counts = Weights(logits).counts()
    exact = np.exp(logits - logits.max(1, keepdims=True))
    kept = exact > np.exp(-15.9)
    np.testing.assert_allclose(np.log(counts[kept] / 2**24), np.log(exact[kept]), atol=1 / 128 + 0.3)
    large = exact > 1e-3
    np.testing.assert_allclose(np.log(counts[large] / 2**24), np.log(exact[large]), atol=1 / 128 + 1e-4)
    assert (counts[exact < np.exp(-16.1)] == 0).all()
    assert (counts == np.rint(counts)).all()


def test_last_bits_of_logits_change_no_law() -> None:
    logits = np.random.default_rng(1).standard_normal((2000, 10)).astype(np.float32)
    law, moved = Weights(logits).counts(), Weights(np.nextafter(logits, np.float32(9))).counts()
    assert (law != moved).mean() < 1e-4


def test_several_laws_one_after_the_other() -> None:
    draw = np.random.default_rng(2)
    laws = [Counted(np.array([1, 5, 0, 2]), 40), Uniform(11, 30), Uniform(0, 5), some()[0], Counted(np.array([3, 1]))]
    laws.append(Binned(draw.uniform(0, 255, 60), draw.uniform(0.1, 30, 60), 256))
    symbols = [draw.integers(0, high, len(law)) for law, high in zip(laws, (2, 2048, 1, 17, 2, 256), strict=True)]
    writer = Writer()
    for some_symbols, law in zip(symbols, laws, strict=True):
        writer.put(some_symbols, law)
    reader = Reader(writer.data())
    for some_symbols, law in zip(symbols, laws, strict=True):
        np.testing.assert_array_equal(reader.get(law), some_symbols)


def test_binned_masses_are_those_of_the_normal_law() -> None:
    """n copies of one symbol cost n times -log2 of the mass of its bin."""
    n = 4000
    for mean, std, symbol in ((3.25, 1.5, 4), (16.0, 2.0, 16), (14.0, 3.0, 16), (7.0, 0.4, 7), (7.0, 40.0, 2)):
        high = np.inf if symbol == 16 else symbol + 0.5
        bits = -np.log2(norm.cdf(high, mean, std) - norm.cdf(symbol - 0.5, mean, std))
        data = written(np.full(n, symbol), Binned(np.full(n, mean), np.full(n, std), 17))
        assert 8 * len(data) / n == pytest.approx(bits, rel=0.01, abs=0.01)  # std is rounded to 0.5%


def test_every_beginning_of_the_bytes_says_a_beginning_of_the_symbols() -> None:
    law, symbols, bits = some(n=120)
    data, known = written(symbols, law), []
    for n in range(len(data)):
        with pytest.raises(Incomplete) as caught:
            Reader(data[:n], whole=False).get(law)
        part = caught.value.symbols
        np.testing.assert_array_equal(part, symbols[: len(part)])
        known.append(len(part))
    assert known == sorted(known)
    # A prefix of m bits says all but some three bytes' worth of the symbols that so many bits pay for.
    assert known[len(data) // 2] > 120 * (4 * len(data) - 24) / bits * 0.8


def test_what_was_never_written_is_said() -> None:
    law, symbols, _ = some()
    wrong = 0
    for seed in range(50):
        data = np.random.default_rng(seed).bytes(60)
        try:
            assert not np.array_equal(Reader(data).get(law), symbols)
        except Damaged:
            wrong += 1
    assert wrong < 50  # a range coder reads nearly anything: what was read is told apart by the container
    with pytest.raises(ValueError, match="symbols for"):
        Writer().put(symbols[:-1], law)
    with pytest.raises(ValueError, match="has not"):
        Writer().put(np.array([3]), Counted(np.array([1, 1])))
