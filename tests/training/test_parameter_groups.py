"""Parts of a network that begin later or learn more slowly."""

import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.base.rng import derive
from diffprob.config.recipe import build_model
from diffprob.training.settings import ParameterGroup

MIDDLE, UP = "net.mid_block.", "net.up_blocks."


def test_group_is_frozen_until_its_start(train, recipe, tmp_path):
    """Before its start a part has the bits it began with, in the raw weights and in the averages; then it moves."""
    parts = (ParameterGroup(MIDDLE, start=3), ParameterGroup(UP, start=6))
    torch.manual_seed(derive(recipe.training.seed, "weights"))
    start = dict(build_model(recipe).named_parameters())
    names = [name for name in start if name.startswith((MIDDLE, UP))]
    third = train(tmp_path / "3", steps=3, parts=parts)
    raw, averaged = (dict(model.named_parameters()) for model in (third.model, third.average))
    for name in names:
        assert torch.equal(start[name], raw[name]) and torch.equal(start[name], averaged[name]), name
    assert any(not torch.equal(start[name], raw[name]) for name in start if name not in names)
    later = train(tmp_path / "6", steps=6, parts=parts)
    now = dict(later.model.named_parameters())
    assert all(torch.equal(now[name], start[name]) for name in names if name.startswith(UP))
    assert any(not torch.equal(now[name], start[name]) for name in names if name.startswith(MIDDLE))


def test_group_learns_at_its_own_rate(train, tmp_path):
    """AdamW's first step is lr x sign(gradient): a part with rate 0.1 moves a tenth as far, wherever it moves."""
    plain = train(tmp_path / "plain", steps=1, clip=float("inf"))
    slow = train(tmp_path / "slow", steps=1, clip=float("inf"), parts=(ParameterGroup(MIDDLE, rate=0.1),))
    still = train(tmp_path / "still", steps=1, clip=float("inf"), parts=(ParameterGroup(MIDDLE, start=1),))
    sets = [dict(trainer.model.named_parameters()) for trainer in (plain, slow, still)]
    for name in sets[0]:
        far, near, origin = (weights[name].detach().double() for weights in sets)
        if name.startswith(MIDDLE):
            # lr = 2e-4 at weights of order 1: float32 rounds a step to about 1e-3 of itself.
            assert torch.allclose(near - origin, 0.1 * (far - origin), atol=2e-7), name
        else:
            assert torch.equal(far, near), name


def test_resuming_across_the_start_of_a_group_changes_no_bit(train, final_state, tmp_path):
    parts = (ParameterGroup(MIDDLE, start=5, rate=0.5), ParameterGroup(UP, start=100))
    train(tmp_path / "whole", steps=8, parts=parts)
    for steps in (3, 5, 6, 8):
        train(tmp_path / "cut", steps=steps, parts=parts)
    left, right = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    assert left[1].keys() == right[1].keys()
    for name, tensor in left[1].items():
        assert torch.equal(tensor, right[1][name]), name
    assert not any(name.startswith("optimiser." + UP) for name in left[1])


def test_group_without_parameters_is_an_error(train, tmp_path):
    with pytest.raises(InputError, match="no parameter is left for ParameterGroup"):
        train(tmp_path / "a", steps=1, parts=(ParameterGroup("net.middle."),))
    with pytest.raises(InputError, match="no parameter is left for ParameterGroup"):
        train(tmp_path / "b", steps=1, parts=(ParameterGroup(MIDDLE), ParameterGroup(MIDDLE + "resnets")))


@pytest.mark.parametrize("wrong", [{"prefix": 3}, {"prefix": "net", "start": -1}, {"prefix": "net", "rate": 0.0}])
def test_invalid_fields_are_errors(wrong):
    with pytest.raises(ValueError, match=next(name for name in ("rate", "start", "prefix") if name in wrong)):
        ParameterGroup(**wrong)
