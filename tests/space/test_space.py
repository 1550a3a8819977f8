"""What tasks ask of a space: every one answers, or refuses in one line."""

import math

import pytest
import torch

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.space.space import Space
from diffprob.tasks.in_memory import Points

SPACES: list[Space] = [dp.Pixels((1, 2, 2), 17), dp.Tokens((1, 2, 2), 17), Points((3,))]


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_space_answers_what_tasks_ask(space: Space) -> None:
    assert space.log_det() == pytest.approx(space.dimensions * math.log(space.bin_width))
    assert tuple(space.shape) == tuple(space.model_shape) and space.dimensions == math.prod(space.shape)
    assert space.bins in (None, space.levels)
    space.require_pixels("it")
    x = torch.linspace(-1.2, 20, space.dimensions).reshape(1, *space.model_shape)
    shown = space.nearest(x)
    assert tuple(shown.shape) == (1, *space.shape)
    if space.levels is not None:
        assert shown.dtype == torch.uint8 and int(shown.max()) == 16 and int(shown.min()) == 0
        levels = torch.arange(space.dimensions).reshape(1, *space.shape).to(torch.uint8)
        assert torch.equal(space.to_data(space.to_model(levels)), levels)


def test_what_needs_signal_and_noise_is_refused_by_a_process_without() -> None:
    dp.LinearProcess().require_linear("the score")
    for process in (dp.AbsorbingProcess(17), dp.MultinomialProcess(17)):
        with pytest.raises(InputError, match="the score needs a signal with noise added"):
            process.require_linear("the score")
