"""Bits back: the stack is its own inverse, images cost the bound of the chain, and nothing wrong comes out."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from truth.models import IsotropicData

import diffprob.codec.bits_back as module
from diffprob.base.distributions import LocationScale
from diffprob.base.errors import InputError, NoClosedForm, NumericalError
from diffprob.base.rng import Rng
from diffprob.codec.bits_back import BitsBack, BitsBackCode, lattices, onward
from diffprob.codec.entropy import Binned, Counted, Damaged, Incomplete
from diffprob.codec.stack import Empty, Stack, shared_words
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.process.grids import LogSNR
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine

D, LEVELS, STEPS = 12, 33, 8


def gaussian(n: int, steps: int = STEPS, seed: int = 5, **settings: int) -> tuple[BitsBackCode, Tensor]:
    """Normal data of independent elements, rounded to levels, and the chain of its exact model."""
    model = IsotropicData(torch.zeros(D).double(), 0.09, LinearProcess(Cosine(1000)))
    x0 = 0.3 * Rng.of(seed, n).normal((D,), torch.float64)
    x0 = (x0.clamp(-1, 1) * (LEVELS - 1) / 2).round() * 2 / (LEVELS - 1)
    return BitsBackCode(model, LogSNR()(model.process, steps), Decoder(LEVELS), BitsBack(**settings)), x0


def encoded(code: BitsBackCode, x0: Tensor) -> bytes:
    stack = code.writer()
    (state,) = code.encode(x0, stack)
    assert float(state.t) == 0 and torch.equal(state.x, x0)
    return stack.data()


def test_what_is_taken_and_put_back_leaves_the_stack_as_it_was() -> None:
    words = shared_words(200)
    stack = Stack(words)
    laws = [Binned(np.linspace(3, 90, 40), np.linspace(0.2, 30, 40), 100), Counted(np.array([1.0, 5.0, 2.0]), 30)]
    taken = [stack.get(law) for law in laws]
    assert len({int(k) for k in taken[0]}) > 5, "a draw, no constant"
    for symbols, law in zip(taken[::-1], laws[::-1], strict=True):
        stack.put(symbols, law)
    assert np.array_equal(stack.words(), words)
    assert np.array_equal(Stack.of(stack.data()).words(), words)


def test_what_is_taken_is_drawn_from_the_law() -> None:
    """Mean and variance of 20,000 draws within 4 standard errors."""
    n, mean, std = 20_000, 50.3, 6.0
    drawn = Stack(shared_words(5000)).get(Binned(np.full(n, mean), np.full(n, std), 101))
    variance = std**2 + 1 / 12
    assert abs(drawn.mean() - mean) < 4 * math.sqrt(variance / n)
    assert abs(drawn.var() - variance) < 4 * variance * math.sqrt(2 / n)


def test_an_empty_stack_says_so() -> None:
    with pytest.raises(Empty):
        Stack(shared_words(10)).get(Binned(np.full(500, 10.0), np.full(500, 3.0), 20))
    for data in (b"", b"\0\0\0\0"):
        with pytest.raises(Damaged):
            Stack.of(data)
    full = Stack(shared_words(10))
    assert np.array_equal(Stack.of(full.data() + bytes(9)).words(), full.words())  # filled up with zeros


def test_a_law_that_has_no_symbols_is_no_damage() -> None:
    """Of a network whose answer is no number: an encoder says so, and a decoder that the bytes say nothing."""
    nothing = Counted(np.zeros(3))
    with pytest.raises(NumericalError, match="no symbols"):
        Stack(shared_words(100)).get(nothing)
    code, x0 = gaussian(2)
    stack = code.reader(encoded(code, x0))
    stack.get = lambda law: Stack.get(stack, nothing)
    with pytest.raises(Damaged, match="no symbols"):
        list(code.decode(torch.zeros_like(x0), stack))


def test_lattices_are_those_of_the_code_not_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, right = [], lattices
    monkeypatch.setattr(module, "lattices", lambda *arguments: calls.append(1) or right(*arguments))
    code, x0 = gaussian(5)
    list(code.decode(torch.zeros_like(x0), code.reader(encoded(code, x0))))
    assert len(calls) == 1


@pytest.mark.parametrize("settings", [{}, {"lanes": 2}, {"parts": 1}, {"parts": 16, "lanes": 3}], ids=repr)
def test_images_come_back(settings: dict[str, int]) -> None:
    code, x0 = gaussian(5, **settings)
    (state,) = code.decode(torch.zeros_like(x0), code.reader(encoded(code, x0)))
    assert torch.equal(state.x, x0) and torch.equal(state.mean, x0)


def test_one_time_is_a_chain_too() -> None:
    code, x0 = gaussian(3, steps=1)
    (state,) = code.decode(torch.zeros_like(x0), code.reader(encoded(code, x0)))
    assert torch.equal(state.x, x0)


def test_images_cost_the_bound_of_the_chain() -> None:
    """The bits that each image adds, against its bound: equal on average, within 4 standard errors of the difference.

    A state rounded to a p-th of the standard deviation of its steps is off by 1/(12 p^2) of their variance, which costs
    the next step 1/2 log(1 + 1/(12 p^2)) an element at most; laws of finite precision cost `ROUNDING`.
    """
    measured, bound, tolerance = cost_and_bound()
    assert abs(measured - bound) < tolerance < 0.06 * bound, (measured, bound, tolerance)


def test_states_drawn_from_another_law_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come back all the same, for both sides do so; but not for the bound."""
    right = onward

    def wider(*arguments: object) -> LocationScale:
        law = right(*arguments)  # type: ignore[arg-type]
        return LocationScale(law.mean, 1.3 * law.std, law.law)

    monkeypatch.setattr(module, "onward", wider)
    measured, bound, tolerance = cost_and_bound()
    assert measured > bound + tolerance


def cost_and_bound(n: int = 400) -> tuple[float, float, float]:
    """Bits of an image in a set, its bound, and by how much they may differ."""
    code, x0 = gaussian(n)
    stack = code.writer()
    list(code.encode(x0[:1], stack))
    first = stack.bits
    list(code.encode(x0, stack))
    measured = (stack.bits - first) / (n - 1)
    repeats = [variational_bound(code.model, x0, code.times, Rng.of(k, n), code.decoder).total for k in range(4)]
    bound = torch.stack(repeats).mean(0)[1:] / math.log(2)
    # Of one image the code is off its bound by the noise of its draws; what images cost differs by more.
    noise = float(torch.stack(repeats).std(0).mean()) / math.log(2)
    rounded = 0.5 * math.log1p(1 / (12 * code.coder.parts**2)) / math.log(2)
    tolerance = 4 * noise / math.sqrt(n) + (module.ROUNDING + rounded) * STEPS * D
    return measured, float(bound.mean()), tolerance


def test_the_forward_kernel_is_that_of_the_process() -> None:
    """q(x_t | x_0) = integral of q(x_t | x_s) q(x_s | x_0), to rounding."""
    process, x0 = LinearProcess(Cosine(1000)), torch.full((1, 3), 0.7).double()
    s, t = torch.tensor(0.3).double(), torch.tensor(0.55).double()
    lower = onward(process, x0, None, s)
    upper, whole = onward(process, lower.mean, s, t), onward(process, x0, None, t)
    ratio = float(process.alpha(t) / process.alpha(s))
    assert torch.allclose(upper.mean, whole.mean, atol=1e-12)
    assert float((ratio**2 * lower.variance + upper.variance - whole.variance).abs().max()) < 1e-12


def test_lattices_are_finer_than_every_step() -> None:
    process = LinearProcess(Cosine(1000))
    times = LogSNR()(process, 20).flip(0)
    for k, lattice in enumerate(lattices(process, times, 4)):
        if k:
            assert (
                4 * lattice.width
                <= float(onward(process, torch.zeros(1, 1).double(), times[k - 1], times[k]).std) + 1e-12
            )
        if k + 1 < len(times):
            assert 4 * lattice.width <= float(process.bridge_coefficients(times[k], times[k + 1]).ell) + 1e-12
        assert lattice.width * lattice.half >= 8 * float(process.sigma(times[k]))
    with pytest.raises(InputError, match="too small for a lattice"):
        lattices(process, torch.tensor([0.5, 0.5 + 1e-13]).double(), 64)


def test_a_beginning_says_nothing_and_damage_is_an_error() -> None:
    code, x0 = gaussian(4)
    data = encoded(code, x0)
    with pytest.raises(Incomplete):
        list(code.decode(torch.zeros_like(x0), code.reader(data[: len(data) // 2], whole=False)))
    wrong = 0
    for place in range(0, len(data), 7):
        bad = bytearray(data)
        bad[place] ^= 16
        try:
            list(code.decode(torch.zeros_like(x0), code.reader(bytes(bad))))
        except Damaged:
            wrong += 1
    assert wrong == len(range(0, len(data), 7)), "the bottom of the stack is not what it was begun with"


@pytest.mark.parametrize(
    "fault", ["another time's step", "a wrong forward kernel", "more images", "another number of lanes"]
)
def test_planted_errors_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, x0 = gaussian(4)
    data, like = encoded(code, x0), torch.zeros_like(x0)
    if fault == "another time's step":
        times = code.times.clone()
        times[3] += 0.001
        code = BitsBackCode(code.model, times, code.decoder, code.coder)
    elif fault == "a wrong forward kernel":
        right = onward
        monkeypatch.setattr(module, "onward", lambda process, x, s, t: right(process, 1.01 * x, s, t))
    elif fault == "more images":
        like = torch.zeros(5, D).double()
    else:
        code = BitsBackCode(code.model, code.times, code.decoder, BitsBack(lanes=2))
    with pytest.raises(Damaged):
        list(code.decode(like, code.reader(data)))


def test_a_chain_of_other_laws_has_no_code() -> None:
    code, x0 = gaussian(1)
    (lattice,) = lattices(code.model.process, torch.tensor([0.5]).double(), 4)
    law = code.decoder.law(code.model.process, code.model(x0, code.times[-1]), code.times[-1], None)
    with pytest.raises(NoClosedForm, match="no code for a Discretised"):
        lattice.law(law)
