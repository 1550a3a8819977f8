"""The numbers of a training are checked where they are made."""

import pytest

from diffprob.training.settings import Training

BAD = [
    {"steps": 0},
    {"steps": -1},
    {"steps": 2.5},
    {"steps": True},
    {"batch": 0},
    {"lr": 0.0},
    {"lr": float("nan")},
    {"lr": float("inf")},
    {"warmup": -1},
    {"clip": 0.0},
    {"clip": float("nan")},
    {"weight_decay": -0.1},
    {"weight_decay": float("nan")},
    {"ema": 1.0},
    {"ema": -0.1},
    {"precision": "fp8"},
    {"accumulate": 0},
    {"accumulate": 3},
    {"seed": -1},
    {"sample_every": -1},
    {"checkpoint_every": 0},
    {"samples": 0},
    {"augment": [1]},
    {"augment": ("flip",)},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_invalid_settings_are_errors_with_name_and_value(change):
    (name, value), *_ = change.items()
    with pytest.raises(ValueError, match=name) as caught:
        Training(**{"steps": 10, **change})
    assert repr(value[0] if isinstance(value, tuple) else value) in str(caught.value)


def test_extreme_valid_settings_are_accepted():
    Training(steps=1, batch=1, warmup=0, clip=float("inf"), ema=0.0, sample_every=0, accumulate=1, checkpoint_every=1)
