"""Another run in a recipe: named by its hash, loaded, and begun with."""

from dataclasses import replace

import pytest
import torch

from diffprob.base.errors import InputError, NumericalError
from diffprob.config.pretrained import PretrainedRun, begin
from diffprob.config.recipe import build_model
from diffprob.net.potential import PotentialSpec
from diffprob.net.scalar_unet import ScalarUNetSpec
from diffprob.net.unet import UNetSpec
from diffprob.runs.folder import Run


@pytest.fixture(scope="module")
def digits():
    return Run.open("digits")


def test_pretrained_run_is_identified_by_hash(digits):
    run = PretrainedRun.of(digits)
    assert run.run == "digits" and len(run.sha256) == 64
    weights = run.weights()
    assert all(torch.equal(value, weights[name]) for name, value in digits.weights().items())
    assert run.load().process == digits.process
    PretrainedRun("digits", run.sha256[:8]).load()
    with pytest.raises(InputError, match="other weights"):
        PretrainedRun("digits", "0" * 64).load()
    with pytest.raises(InputError, match="no run at"):
        PretrainedRun("nowhere", "0" * 64).weights()
    with pytest.raises(ValueError, match="sha256"):
        PretrainedRun("digits", "xyz")


@pytest.mark.parametrize("kind", ["same", "potential", "scalar"])
def test_training_starts_from_the_pretrained_weights(digits, kind):
    net = replace(digits.recipe.network)
    network = {"same": net, "potential": PotentialSpec(net), "scalar": PotentialSpec(ScalarUNetSpec(net))}[kind]
    model = build_model(replace(digits.recipe, network=network))
    taken, theirs = begin(model, PretrainedRun.of(digits)), digits.weights()
    for name, value in model.state_dict().items():
        source = theirs.get(name.replace("net.body.", "net."))
        assert (name in taken) == (source is not None), name
        assert source is None or torch.equal(source, value), name
    assert len(taken) == (len(theirs) if kind != "scalar" else len(taken)) and len(taken) > 20


def test_network_without_matching_weights_is_an_error(digits):
    other = UNetSpec(in_channels=1, out_channels=1, widths=(6, 6), attention=(False, False), layers=1, groups=2)
    model = build_model(replace(digits.recipe, network=other))
    theirs = {name: value.shape for name, value in digits.weights().items()}
    common = [name for name, value in model.state_dict().items() if theirs.get(name) == value.shape]
    if common:  # biases of the data's channels fit any network of these channels
        assert begin(model, PretrainedRun.of(digits)) == common
    with pytest.raises(InputError, match="start: no weight"):
        begin(torch.nn.Linear(2, 2), PretrainedRun.of(digits))


def test_pretrained_weights_that_are_not_finite_are_an_error(digits, monkeypatch):
    monkeypatch.setattr(PretrainedRun, "weights", lambda _: {"net.conv_in.bias": torch.full((32,), torch.nan)})
    with pytest.raises(NumericalError, match=r"start: the weights of digits .*net\.conv_in\.bias holds NaN"):
        begin(build_model(digits.recipe), PretrainedRun.of(digits))
