"""Coders: what is received is a draw of q, for about its KL from p; and what a decoder has is what the encoder had."""

import math
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import Tensor

from diffprob.base.distributions import Categorical, LocationScale
from diffprob.base.divergence import kl
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.codec.coders import Exact, Ideal
from diffprob.codec.entropy import Damaged, Reader, Writer
from diffprob.codec.poisson import PoissonFunctional, blocks_of
from diffprob.codec.search import ORDERS, Block, Windows, bases
from diffprob.codec.universal import RotatedQuantisation, UniversalQuantisation, hadamard

CODERS = (PoissonFunctional(), PoissonFunctional(bits=4.0), UniversalQuantisation(), RotatedQuantisation())


def normal_step(n: int, d: int, bits: float, ratio: float = 0.8, seed: int = 0) -> tuple[LocationScale, LocationScale]:
    """q and p of n samples with d elements, of ``bits`` on average, p calibrated: its spread is that of q's means."""
    draw = torch.Generator().manual_seed(seed)
    each = -math.log2(ratio)
    d_active = min(d, max(1, round(bits / each)))
    std_p = torch.ones(n, d, dtype=torch.float64)
    std_q = torch.full((n, d), 0.99999, dtype=torch.float64)
    std_q[:, :d_active] = ratio
    shift = torch.randn(n, d, generator=draw, dtype=torch.float64) * (std_p**2 - std_q**2).sqrt()
    mean = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return LocationScale(mean + 2.5 * shift, 2.5 * std_q), LocationScale(mean, 2.5 * std_p)


def sent(coder: object, q: LocationScale, p: LocationScale, rng: Rng) -> tuple[Tensor, bytes]:
    writer = Writer()
    return coder.encode(q, p, rng, writer), writer.data()  # type: ignore[attr-defined]


@pytest.mark.parametrize("coder", CODERS, ids=repr)
def test_a_decoder_has_what_the_encoder_had(coder: PoissonFunctional) -> None:
    q, p = normal_step(6, 30, 12.0)
    rng = Rng.of(3, 6).fold("step").at(7)
    x, data = sent(coder, q, p, rng)
    like = LocationScale(torch.zeros_like(q.mean), q.std)
    assert torch.equal(coder.decode(like, p, rng, Reader(data)), x)
    assert not torch.equal(coder.decode(like, p, rng.at(8), Reader(data)), x)  # another step's numbers
    again, same = sent(coder, q, p, rng)
    assert same == data and torch.equal(again, x)


@pytest.mark.parametrize("coder", CODERS, ids=repr)
def test_moments_of_what_is_received_are_those_of_q(coder: PoissonFunctional) -> None:
    n, d = 250, 6
    q, p = normal_step(n, d, 2.0)
    x, _ = sent(coder, q, p, Rng.of(0, n))
    z = (x - q.mean) / q.std
    assert abs(float(z.mean())) < 4 / math.sqrt(n * d)
    # The variance of a uniform law's squares is 4/5, of a normal one's 2.
    assert float((z**2).mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / (n * d)))
    slope = float(((x - p.mean) * (q.mean - p.mean)).sum() / ((q.mean - p.mean) ** 2).sum())
    assert slope == pytest.approx(1, abs=4 * float(q.std.mean() / (q.mean - p.mean).pow(2).sum().sqrt()))


@pytest.mark.parametrize("bits", [3.0, 6.0, 10.0])
def test_a_block_costs_its_divergence_and_a_logarithm(bits: float) -> None:
    """KL + log2(KL + 1) + [0, 2] bits on average, what is proved being + 4 (Li & El Gamal 2018)."""
    n, d = (300, 12) if bits < 10 else (60, 100)
    q, p = normal_step(n, d, bits, ratio=2 ** (-bits / d))
    _, data = sent(PoissonFunctional(bits=bits, most=20), q, p, Rng.of(0, n))
    divergence = kl(q, p).numpy() / math.log(2)
    expected = divergence + np.log2(divergence + 1)
    error = float((divergence + np.log2(divergence + 1)).std() + 2) / math.sqrt(n)  # the number's own spread is about 2
    assert -4 * error < 8 * len(data) / n - expected.mean() < 2 + 4 * error


def test_a_turn_is_orthogonal_and_its_own_inverse() -> None:
    for n in (1, 2, 8, 64):
        matrix = np.stack([hadamard(row) for row in np.eye(n)])
        assert np.allclose(matrix @ matrix.T, np.eye(n), atol=1e-12) and np.allclose(matrix, matrix.T, atol=1e-12)
        assert np.allclose(np.abs(matrix), 1 / math.sqrt(n), atol=1e-12)


@pytest.mark.parametrize(("most", "d", "n", "spread"), [(2, 8, 500, 24), (64, 64, 150, 96)])
def test_the_error_of_a_rotated_step_has_the_moments_of_a_sum_of_uniform_ones(
    most: int, d: int, n: int, spread: float
) -> None:
    """Variance 1, third moment 0, excess kurtosis -6/(5 n), no correlation with what was sent: within 4.5 standard
    errors. A fourth power has the variance 23 for two uniform ones and at most that of a normal law, 96.
    """
    q, p = normal_step(n, d, d / 2, ratio=2**-0.5)
    x, _ = sent(RotatedQuantisation(most), q, p, Rng.of(0, n))
    e, count = ((x - q.mean) / q.std).flatten().numpy(), n * d
    assert abs(e.mean()) < 4.5 / math.sqrt(count) and abs((e**2).mean() - 1) < 4.5 * math.sqrt(2 / count)
    assert abs((e**3).mean()) < 4.5 * math.sqrt(15 / count)
    assert abs((e**4).mean() - (3 - 6 / (5 * most))) < 4.5 * math.sqrt(spread / count)
    shift = ((q.mean - p.mean) / q.std).flatten().numpy()
    assert abs((e * shift).mean()) < 4.5 * shift.std() / math.sqrt(count)


@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_quantised_elements_cost_the_information_of_their_channel(ratio: float) -> None:
    """h(N(0, m) + V) - h(V) bits an element with m = 1/ratio^2 - 1, V uniform of variance 1, by a sum over a grid;
    a factor in a rate or a turn that changes the variance would show.
    """
    n, d = 40, 256
    m = 1 / ratio**2 - 1
    y = np.linspace(-12, 12, 24_001) * math.sqrt(1 + m)
    below, above = (
        torch.special.ndtr(torch.from_numpy((y + side * math.sqrt(3)) / math.sqrt(m))).numpy() for side in (-1, 1)
    )
    density = np.maximum((above - below) / math.sqrt(12), 1e-300)
    information = float(-(density * np.log2(density)).sum() * (y[1] - y[0])) - math.log2(math.sqrt(12))
    assert 0.5 * math.log2(1 + m) < information < 0.5 * math.log2(1 + m) + 0.2547
    q, p = normal_step(n, d, -d * math.log2(ratio), ratio=ratio)
    assert float(q.std[:, -1].mean()) == pytest.approx(2.5 * ratio)
    for coder in (RotatedQuantisation(), UniversalQuantisation()):
        _, data = sent(coder, q, p, Rng.of(0, n))
        assert abs(8 * len(data) / (n * d) - information) < 4 * 1.2 / math.sqrt(n * d) + 0.002, coder  # spread of log p


def test_the_search_is_the_first_of_a_poisson_process() -> None:
    """With q = p every weight is 1, and the first candidate is taken; far more candidates change nothing."""
    same = Block(np.zeros(3), np.full(3, 0.999999))
    assert same.search(5, 0, 16, 0.1) == (0, 0)
    block = Block(np.array([1.5, -0.5]), np.array([0.6, 0.7]))
    short = [block.search(seed, 0, 20, 0.1) for seed in range(0, 1_000_000, 20_000)]
    long = [block.search(seed, 0, 20, 1e-6) for seed in range(0, 1_000_000, 20_000)]
    assert np.mean([a != b for a, b in zip(short, long, strict=True)]) < 0.1


def test_the_bound_on_later_candidates_has_the_moments_of_the_weights() -> None:
    """log E_p w^a against a sum over many candidates, for small orders."""
    block = Block(np.array([0.4, -0.3, 0.0]), np.array([0.8, 0.9, 0.7]))
    z = np.random.default_rng(0).standard_normal((400_000, 3))
    r, d = block.ratio, block.shift
    log_w = (-np.log(r) - 0.5 * ((z - d) / r) ** 2 + 0.5 * z**2).sum(1)
    assert np.exp(log_w).mean() == pytest.approx(1, abs=0.02)
    for k in range(4):
        several = np.exp(ORDERS[k] * log_w)
        error = several.std() / math.sqrt(len(z))
        assert np.exp(block.moments()[k]) == pytest.approx(several.mean(), abs=5 * error)
    assert block.kl == pytest.approx(float((log_w * np.exp(log_w)).mean() / math.log(2)), abs=0.05)


def test_bases_are_standard_normal_and_each_its_own() -> None:
    z = bases(11, 0, 20_000, 5).double()
    assert float(z.mean()) == pytest.approx(0, abs=4 / math.sqrt(z.numel()))
    assert float((z**2).mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / z.numel()))
    assert abs(float(torch.corrcoef(z.T).fill_diagonal_(0).abs().max())) < 4.5 / math.sqrt(len(z))
    assert torch.equal(z[7:9], bases(11, 7, 2, 5).double())


def test_a_window_is_a_part_of_its_base_in_an_order_and_with_signs_of_the_block() -> None:
    windows = Windows(7, 6, 4)
    order, signs = windows.order()
    assert sorted(order) == list(range(6)) and set(signs) <= {-1.0, 1.0} and windows.length == 16
    base = bases(7, 3, 1, 16)[0].double().numpy()
    assert np.array_equal(windows.take(3, 13)[order], signs * base[[13, 14, 15, 0, 1, 2]])
    assert Windows(7, 6, 1).length == 8 and Windows(7, 1, 0).length == 1


@pytest.mark.parametrize("shifts", [0, 4])
def test_what_is_chosen_among_overlapping_windows_is_a_draw_of_q(shifts: int) -> None:
    """Each base has 16 windows of 12 numbers, which overlap; whitened by q they have mean 0, variance 1 and no skew."""
    n, d = 500, 12
    draw = np.random.default_rng(1)
    ratio = np.full(d, 0.85)
    shift = draw.standard_normal((n, d)) * np.sqrt(1 - ratio**2)
    chosen = [Block(v, ratio).search(90_000 * k, shifts, 18, 0.01) for k, v in enumerate(shift)]
    z = np.stack([Windows(90_000 * k, d, shifts).take(*at) for k, at in enumerate(chosen)])
    z = (z - shift) / ratio
    assert abs(z.mean()) < 4 / math.sqrt(n * d)
    assert abs((z**2).mean() - 1) < 4 * math.sqrt(2 / (n * d))
    assert abs((z * shift).sum() / math.sqrt((shift**2).sum())) < 4
    assert abs((z[:, 1:] * z[:, :-1]).mean()) < 4 / math.sqrt(n * (d - 1))


def test_blocks_hold_every_element_once_and_cost_alike() -> None:
    cost = (1024 * np.random.default_rng(0).exponential(0.3, 500)).astype(np.int64) + 1
    blocks, each = blocks_of(cost, 8.0, Rng.of(0, 1))
    assert sorted(np.concatenate(blocks)) == list(range(500))
    costs = [cost[block].sum() / 1024 for block in blocks]
    assert len(blocks) == round(cost.sum() / 1024 / 8)
    assert each == pytest.approx(np.mean(costs))
    assert max(costs) < each + cost.max() / 1024 and min(costs[:-1]) > each - 2 * cost.max() / 1024


def test_a_step_of_no_spread_says_what_is_missing() -> None:
    q, p = normal_step(1, 5, 2.0)
    with pytest.raises(InputError, match="fit RUN analytic"):
        PoissonFunctional().encode(LocationScale(q.mean, p.std), p, Rng.of(0, 1), Writer())


def test_a_surprise_is_split_and_at_last_quantised() -> None:
    """An image that the model holds for impossible still comes through: 40 standard deviations away."""
    q, p = normal_step(2, 20, 8.0)
    far = LocationScale(q.mean + 100.0, q.std)
    x, data = sent(PoissonFunctional(), far, p, Rng.of(0, 2))
    assert float(((x - far.mean) / far.std).abs().max()) < 6
    like = LocationScale(q.mean, q.std)
    assert torch.equal(PoissonFunctional().decode(like, p, Rng.of(0, 2), Reader(data)), x)
    assert 8 * len(data) < 2 * float(kl(far, p).sum() / math.log(2))


def test_a_wrong_step_is_not_decoded_to_the_same() -> None:
    q, p = normal_step(3, 20, 8.0)
    x, data = sent(PoissonFunctional(), q, p, Rng.of(0, 3))
    other = LocationScale(p.mean, p.std * 2)
    with suppress(Damaged):  # more was read than the bytes have
        assert not torch.equal(PoissonFunctional().decode(q, other, Rng.of(0, 3), Reader(data)), x)


def test_discrete_steps_cost_their_probability_and_random_ones_are_refused() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 50, 7, generator=draw, dtype=torch.float64)
    logits[:, ::3, 1:] = -math.inf  # certain: nothing is sent
    p = Categorical(logits, torch.float64)
    x = p.sample(Rng.of(0, 4))
    q = Categorical(torch.where(torch.arange(7) == x[..., None], 0.0, -math.inf).double(), torch.float64)
    writer = Writer()
    assert torch.equal(Exact().encode(q, p, Rng.of(0, 4), writer), x)
    data = writer.data()
    assert torch.equal(PoissonFunctional().decode(p, p, Rng.of(0, 4), Reader(data)), x)
    assert 8 * len(data) == pytest.approx(-float(p.log_prob(x).sum()) / math.log(2), abs=16)
    with pytest.raises(InputError, match="Staircase"):
        Exact().encode(p, p, Rng.of(0, 4), writer)


def test_the_ideal_code_charges_the_divergence() -> None:
    q, p = normal_step(3, 20, 8.0)
    writer = Writer()
    x = Ideal().encode(q, p, Rng.of(0, 3), writer)
    assert x.shape == q.mean.shape and writer.data() == b""
    assert writer.bits == pytest.approx(float(kl(q, p).sum()) / math.log(2))
    with pytest.raises(InputError, match="no bytes"):
        Ideal().decode(q, p, Rng.of(0, 3), Reader(b""))
