"""A recipe and a snapshot small enough to save hundreds of times."""

import pytest
import torch

from diffprob.config.recipe import Recipe, build_model
from diffprob.data.sources import Digits
from diffprob.net.unet import UNetSpec
from diffprob.space.pixels import Pixels
from diffprob.training.settings import Training
from diffprob.training.store import Snapshot

DIGEST = "ab" * 32


@pytest.fixture(scope="session")
def shared_recipe():
    network = UNetSpec(in_channels=1, out_channels=1, widths=(8,), layers=1, attention=(False,), groups=4)
    return Recipe(
        name="tiny", data=Digits(), space=Pixels((1, 8, 8), 17), network=network, training=Training(steps=100, batch=4)
    )


@pytest.fixture
def recipe(shared_recipe):
    return shared_recipe


@pytest.fixture
def digest():
    return DIGEST


@pytest.fixture
def snapshot(shared_snapshot):
    return shared_snapshot


@pytest.fixture(scope="session")
def shared_snapshot(shared_recipe):
    """A function of the step: every tensor holds the step, so that parts of different steps are distinguished."""
    shapes = {name: tensor.shape for name, tensor in build_model(shared_recipe).state_dict().items()}

    def make(step):
        full = {name: torch.full(shape, float(step)) for name, shape in shapes.items()}
        moments = {"x.exp_avg": torch.full((3,), float(step))}
        return Snapshot(step, full, full, moments, {"precision": "fp32", "step": step})

    return make
