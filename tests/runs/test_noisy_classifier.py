"""The recipe of a classifier of noised images, the run that is trained of it, and joined sources."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from diffprob.base.errors import InputError
from diffprob.conditions.condition import Labels
from diffprob.config.recipe import NoisyClassifierRecipe, build, build_noisy_classifier, resumable, space
from diffprob.config.registry import ALL
from diffprob.config.spec import parse, render
from diffprob.data.combined import Concatenated, concatenate
from diffprob.data.images import Images
from diffprob.data.sources import Digits
from diffprob.net.noisy import NoisyClassifierSpec
from diffprob.net.unet import UNetSpec
from diffprob.recipes.noisy_classifiers import noisy_classifier
from diffprob.runs.folder import NoisyClassifierRun, Run, open_run
from diffprob.runs.writer import RunWriter
from diffprob.space.pixels import Pixels
from diffprob.training.loop import Trainer, make_accelerator
from diffprob.training.settings import Monitor, Training

BODY = UNetSpec(1, 1, (8, 8), 1, (False, True), groups=4)


def recipe(**changes):
    fields = {
        "name": "tiny",
        "data": Digits(),
        "space": Pixels((1, 8, 8), 17),
        "network": NoisyClassifierSpec(BODY),
        "training": Training(steps=4, batch=8, precision="fp32", checkpoint_every=2, sample_every=0),
    }
    return NoisyClassifierRecipe(**{**fields, **changes})


def images(n=3, shape=(1, 8, 8), levels=17, name="a"):
    pixels = np.random.default_rng(n).integers(0, levels, (n, *shape)).astype(np.uint8)
    return Images(pixels, None, levels, name)


def test_noisy_classifier_recipe_survives_the_round_trip():
    two = NoisyClassifierSpec(BODY, 2)
    ours = recipe(data=Concatenated((Digits(), Digits("test"))), network=two, condition=Labels(2, drop=0.0))
    assert parse(repr(ours), ALL) == parse(render(ours), ALL) == ours


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition": Labels(10)}, r"condition must be Labels\(K, drop=0.0\)"),
        ({"condition": None}, r"condition must be Labels\(K, drop=0.0\)"),
        ({"network": BODY}, "network must be a NoisyClassifierSpec"),
        ({"space": Pixels((3, 8, 8), 17)}, "network.in_channels must be 3 as in space, got 1"),
        ({"space": Pixels((1, 9, 8), 17)}, "sizes divisible by 2, got 9x8"),
        ({"training": Training(steps=4, monitor=Monitor())}, "training.monitor must be None for a noisy classifier"),
        ({"start": 3}, "start cannot be 3"),
        ({"data": 3}, "data cannot be 3"),
    ],
)
def test_incompatible_components_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        recipe(**changes)


def test_number_of_classes_must_match_the_condition():
    with pytest.raises(ValueError, match=r"network.classes must be 5 .* got 10"):
        recipe(condition=Labels(5, drop=0.0))
    assert space(recipe(), Digits().load()) == Pixels((1, 8, 8), 17)


def test_training_starts_from_the_weights_of_a_run():
    """The body's tensors are the run's; the head, which begins at 0, is not touched."""
    from diffprob.config.pretrained import begin

    run = Run.open("digits")
    ours = noisy_classifier(run, Digits(), 10)
    assert (ours.process, ours.clock, ours.space) == (run.recipe.process, run.recipe.clock, run.space)
    model = build_noisy_classifier(ours)
    taken, theirs = begin(model, ours.start), run.weights()
    assert len(taken) > 20
    state = model.state_dict()
    assert all(state[name].equal(theirs[name]) for name in taken)
    assert set(state) - set(taken) == {f"net.{name}" for name in ("head.weight", "head.bias", *_norm())}


def _norm():
    return ("head_norm.weight", "head_norm.bias")


def trained(folder, steps):
    ours = replace(recipe(), training=replace(recipe().training, steps=steps))
    data = ours.data.load()
    torch.manual_seed(0)
    store = RunWriter.open(folder, ours, data.digest())
    trainer = Trainer(build(ours), ours.objective, data, ours.space, ours.training, store, make_accelerator("cpu"))
    trainer.run()
    store.close()
    return open_run(folder)


def test_stopped_training_resumes_with_the_same_bits(tmp_path):
    whole = trained(tmp_path / "whole", 4)
    trained(tmp_path / "parts", 2)
    parts = trained(tmp_path / "parts", 4)
    assert isinstance(whole, NoisyClassifierRun)
    one, two = whole.weights(), parts.weights()
    assert set(one) == set(two) and all(one[name].equal(two[name]) for name in one)
    model = whole.load(chunk=None)
    assert all(value.equal(one[name]) for name, value in model.state_dict().items())
    assert not model.training and not any(weight.requires_grad for weight in model.parameters())
    assert model(torch.zeros(3, 1, 8, 8), torch.tensor(0.5)).shape == (3, 10)
    with pytest.raises(InputError, match="which has no denoiser: `diffprob translate RUN IMAGES --classifier"):
        Run.open(tmp_path / "whole")
    card = (tmp_path / "whole" / "README.md").read_text()
    assert "noise-aware classifier (10 classes)" in card and "diffprob sample" not in card


def test_resuming_as_another_kind_of_run_is_an_error():
    theirs = Run.open("digits").recipe
    assert resumable(theirs, recipe()) == ("kind", "Recipe", "NoisyClassifierRecipe")


def test_concatenated_sources_are_classes_in_order():
    ours = Concatenated((Digits("test"), Digits("train")))
    assert parse(repr(ours), ALL) == ours
    whole, test, train = ours.load(), Digits("test").load(), Digits("train").load()
    assert whole.levels == 17 and whole.class_names == ("digits", "digits (2)")
    assert whole.labels is not None
    assert whole.labels.tolist() == [0] * len(test) + [1] * len(train)
    assert np.array_equal(whole.pixels[: len(test)], test.pixels)
    assert np.array_equal(whole.pixels[len(test) :], train.pixels)


def test_incompatible_sources_cannot_be_concatenated():
    wide, bright = images(shape=(1, 8, 9), name="wide"), images(levels=256, name="bright")
    with pytest.raises(InputError, match=r"a and wide cannot be joined: shape \(1, 8, 8\) and \(1, 8, 9\)"):
        concatenate([images(), images(), wide])
    with pytest.raises(InputError, match="a and bright cannot be joined: number of grey levels 17 and 256"):
        concatenate([images(), bright])
    for wrong in ((), (Digits(),), [Digits(), Digits()], Digits()):
        with pytest.raises(ValueError, match=r"sources must (be a tuple|have 2)"):
            Concatenated(wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"sources\[1\] cannot be 3: it has no load\(\)"):
        Concatenated((Digits(), 3))  # pyright: ignore[reportArgumentType]
