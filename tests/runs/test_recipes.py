"""The shipped recipes, and what a recipe refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.config.recipe import build_model, parameter_count, resumable, space
from diffprob.config.registry import ALL
from diffprob.config.spec import parse, render
from diffprob.data.images import Images
from diffprob.data.sources import Digits
from diffprob.denoise.prediction import Epsilon
from diffprob.recipes import RECIPES, named

PUBLISHED = {"cifar10": 35_746_307, "celebahq256": 113_673_219, "lsun256": 255_677_955}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_survives_the_round_trip_and_has_the_published_size(name):
    recipe = named(name)
    assert recipe.name == name
    assert parse(render(recipe), ALL) == recipe
    count = parameter_count(recipe)
    assert count == PUBLISHED.get(name, count)
    if name in {"digits", "mnist", "mnist_labels", "fashion"}:
        assert count <= 400_000


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cifar10", (128, 2e-4, 5000, 1.0, 0.9999, 800_000, 1)),
        ("celebahq256", (64, 2e-5, 5000, 1.0, 0.9999, 500_000, 1)),
        ("lsun256", (64, 2e-5, 5000, 1.0, 0.9999, 1_150_000, 0)),
    ],
)
def test_training_settings_match_the_paper(name, settings):
    t = named(name).training
    assert (t.batch, t.lr, t.warmup, t.clip, t.ema, t.steps, len(t.augment)) == settings
    assert named(name).network.dropout == (0.1 if name == "cifar10" else 0.0)


def test_attention_is_at_16x16():
    for name in PUBLISHED:
        recipe = named(name)
        sizes = [recipe.space.shape[1] // 2**level for level in range(len(recipe.network.widths))]
        assert [size for size, here in zip(sizes, recipe.network.attention, strict=True) if here] == [16]


def test_data_path_follows_the_environment(monkeypatch):
    monkeypatch.delenv("DIFFPROB_DATA", raising=False)
    assert named("mnist").data.path == "data/mnist"
    monkeypatch.setenv("DIFFPROB_DATA", "/somewhere")
    assert named("mnist").data.path == "/somewhere/mnist"
    assert named("mnist", "here").data.path == "here"
    with pytest.raises(InputError, match="embedded"):
        named("digits", "here")


def test_unknown_recipe_is_an_error_with_suggestion():
    with pytest.raises(InputError, match=r"no recipe 'cifar' \(recipes: digits, .*\); did you mean 'cifar10'\?"):
        named("cifar")


def test_model_and_space_match_the_recipe(recipe):
    model = build_model(recipe)
    assert model.process == recipe.process
    x, t = torch.zeros(2, 1, 8, 8), torch.tensor([0.5, 1.0], dtype=torch.float64)
    assert model(x, t).mean.shape == (2, 1, 8, 8)
    assert space(recipe, Digits().load()) == recipe.space
    others = [((2, 1, 8, 9), 17, "shape"), ((2, 1, 8, 8), 256, "grey levels"), ((2, 3, 8, 8), 17, "shape")]
    for shape, levels, what in others:
        with pytest.raises(InputError, match=what):
            space(recipe, Images(np.zeros(shape, np.uint8), levels=levels))


def test_incompatible_components_are_errors(recipe):
    for change, message in [
        ({"process": Epsilon()}, r"process cannot be Epsilon\(\)"),
        ({"data": 3}, "data cannot be 3"),
        ({"network": None}, "network cannot be None"),
        ({"training": Digits()}, "training must be"),
        ({"space": replace(recipe.space, shape=(3, 8, 8))}, "in_channels must be 3"),
        ({"network": replace(recipe.network, widths=(8, 8, 8, 8, 8), attention=(False,) * 5)}, "divisible by 16"),
    ]:
        with pytest.raises(ValueError, match=message):
            replace(recipe, **change)


def test_resumable_changes(recipe):
    longer = replace(
        recipe, data=Digits("all"), training=replace(recipe.training, steps=999, sample_every=7, samples=9)
    )
    assert resumable(recipe, longer) is None
    assert resumable(recipe, replace(longer, training=replace(longer.training, cooldown=100))) is None
    assert resumable(recipe, replace(recipe, training=replace(recipe.training, lr=1.0))) == ("training.lr", 2e-4, 1.0)
