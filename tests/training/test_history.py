"""Times drawn where the loss is large: unbiased, of lower variance, and the same after a stop or on two processes."""

from dataclasses import replace

import pytest
import torch
from training.linear_net import for_gaussian
from training.test_bound import grey
from truth.statistics import LIMIT, assert_frequencies

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import LinearBetas
from diffprob.space.pixels import Pixels
from diffprob.training.bound import VariationalBound
from diffprob.training.history import LossHistory

CHAIN = LinearProcess(LinearBetas(10, 0.01, 0.5))


def alone(values):
    return values


def filled(losses, length=3):
    """A history in which every time has seen its loss ``length`` times."""
    history = LossHistory(len(losses), length, 0.001)
    for _ in range(length):
        history.note(torch.arange(len(losses)), torch.as_tensor(losses))
    history.synchronise(alone)
    return history


def test_probabilities_are_roots_of_mean_squares_once_the_history_is_full():
    history = LossHistory(3, 2, 0.1)
    even = torch.full((3,), 1 / 3, dtype=torch.float64)
    history.note(torch.tensor([0, 0, 1, 1, 2, 0]), torch.tensor([9.0, 1.0, 2.0, 2.0, 5.0, 7.0]))
    assert torch.equal(history.probabilities, even), "what is noted counts from the next step on"
    history.synchronise(alone)
    assert torch.equal(history.probabilities, even), "t = 1 was seen once"
    history.note(torch.tensor([2]), torch.tensor([1.0]))
    history.synchronise(alone)
    root = torch.tensor([(1 + 49) / 2, 4.0, 13.0], dtype=torch.float64).sqrt()  # the 9 is forgotten
    torch.testing.assert_close(history.probabilities, 0.9 * root / root.sum() + 0.1 * even)


def test_draws_follow_the_probabilities():
    history = filled([1.0, 5.0, 0.1, 2.0])
    index, p = history.draw(Rng.of(0, 20_000))
    assert_frequencies(torch.bincount(index, minlength=4).numpy(), history.probabilities.numpy())
    assert torch.equal(p, history.probabilities[index])


def test_history_sampling_is_unbiased_with_lower_variance():
    """The terms of a chain differ by a factor of 30: drawn by their size, the estimate varies less."""
    n, model = 20_000, for_gaussian(CHAIN, 0.4, factor=0.9)
    x0 = grey(n)
    weighed = VariationalBound(levels=17, history=10).bind(model, Pixels((1, 2, 2), 17))
    with torch.no_grad():
        even = VariationalBound(levels=17)(model, x0, Rng.of(1, n))
        weighed(model, x0, Rng.of(2 * 10**6, n))
        weighed.memory.synchronise(alone)
        chosen = weighed(model, x0, Rng.of(10**6, n))
    error = float((even.var() / n + chosen.var() / n).sqrt())
    assert abs(float(even.mean() - chosen.mean())) < LIMIT * error
    assert chosen.var() < 0.5 * even.var()


def test_two_processes_record_the_same_history_as_one():
    index, losses = torch.arange(8) % 4, torch.rand(8, generator=torch.Generator().manual_seed(0))
    one, ranks = LossHistory(4, 2, 0.001), [LossHistory(4, 2, 0.001) for _ in range(2)]
    for part in (slice(0, 4), slice(4, 8)):  # two parts of a batch, each cut between two processes
        one.note(index[part], losses[part])
        for rank, history in enumerate(ranks):
            history.note(index[part][2 * rank : 2 * rank + 2], losses[part][2 * rank : 2 * rank + 2])
    one.synchronise(alone)
    together = [torch.cat(parts) for parts in zip(*(history.noted for history in ranks), strict=True)]
    for history in ranks:
        gathered = iter(together)
        history.synchronise(lambda _part, gathered=gathered: next(gathered))
        assert torch.equal(history.losses, one.losses) and torch.equal(history.counts, one.counts)


def test_state_survives_the_round_trip():
    history, other = filled([1.0, 2.0]), LossHistory(2, 3, 0.001)
    other.load(history.state())
    assert torch.equal(other.probabilities, history.probabilities)
    history.note(torch.tensor([0]), torch.tensor([9.0]))
    history.synchronise(alone)
    assert not torch.equal(other.probabilities, history.probabilities), "a state is a copy"


@pytest.fixture
def recipe(recipe):
    """The tiny recipe on a chain so short that its history fills within a few steps."""
    network = replace(recipe.network, dropout=0.0)
    return replace(recipe, network=network, process=CHAIN, objective=VariationalBound(history=2))


def test_resumed_training_has_the_same_bits(train, final_state, tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", on_step=interrupt)
    cut = train(tmp_path / "cut")
    left, right = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    assert left[0] == right[0] and left[2] == right[2] and left[1].keys() == right[1].keys()
    assert all(torch.equal(tensor, right[1][name]) for name, tensor in left[1].items())
    assert not torch.equal(whole.memory.probabilities, torch.full((10,), 0.1, dtype=torch.float64)), "it was active"
    assert torch.equal(whole.memory.losses, cut.memory.losses)
    assert int(whole.memory.counts.sum()) == 24 * 8
    assert "optimiser.memory.losses" in left[1]


def interrupt(progress):
    if progress.step == 16:
        raise KeyboardInterrupt


def test_gradient_accumulation_draws_the_same_times(train, final_state, tmp_path):
    one = train(tmp_path / "one", double=True, accumulate=1)
    two = train(tmp_path / "two", double=True, accumulate=2)
    assert torch.equal(one.memory.counts, two.memory.counts)
    torch.testing.assert_close(one.memory.losses, two.memory.losses, rtol=1e-4, atol=1e-6)


def test_continuous_schedule_is_an_error(train, recipe, tmp_path):
    from diffprob.process.schedule import VPSDE

    object.__setattr__(recipe, "process", LinearProcess(VPSDE()))
    with pytest.raises(InputError, match="is continuous"):
        train(tmp_path / "run")
