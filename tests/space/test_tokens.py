"""Tokens: levels and back without rounding, bits, and what is refused."""

import math

import pytest
import torch

from diffprob.base.errors import NumericalError
from diffprob.space.tokens import Tokens


def test_levels_come_back() -> None:
    for shape in ((1, 4, 4), (16,)):
        space = Tokens(shape, 7)
        levels = (torch.arange(32) % 7).to(torch.uint8).reshape(2, 1, 4, 4)
        x = space.to_model(levels)
        assert x.dtype == torch.float32 and x.shape == (2, *shape)
        assert torch.equal(space.to_data(x).flatten(), levels.flatten())
        assert float(space.bits_per_dim(torch.tensor(16 * math.log(7)))) == pytest.approx(math.log2(7))


@pytest.mark.parametrize(
    "call",
    [
        lambda space: space.to_model(torch.zeros(2, 4)),
        lambda space: space.to_model(torch.tensor([[0, 1, 2, 3]])),
        lambda space: space.to_model(torch.tensor([[0, 1, -1, 2]])),
        lambda space: space.to_model(torch.tensor([[0, 1, 2]])),
        lambda space: space.to_model(torch.tensor([[0, 1, 2, 0]]), torch.int64),
        lambda space: space.to_data(torch.tensor([[0.0, 1.0, 2.0, 3.0]])),
        lambda space: space.to_data(torch.tensor([[0.0, 0.5, 2.0, 1.0]])),
        lambda space: space.to_data(torch.tensor([[0, 1, 2, 0]])),
        lambda _: Tokens((4,), 1),
        lambda _: Tokens((4,), 257),
        lambda _: Tokens(()),
        lambda _: Tokens((10**6, 10**6)),
    ],
)
def test_what_is_no_token_is_refused(call) -> None:
    with pytest.raises(ValueError):
        call(Tokens((4,), 3))


def test_not_a_number_is_refused() -> None:
    with pytest.raises(NumericalError):
        Tokens((1,), 3).to_data(torch.tensor([[math.nan]]))
