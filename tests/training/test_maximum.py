"""The loss of a density is its code length, and the trainer resumes one to the bit."""

import math
from dataclasses import replace

import pytest
import torch
from truth.densities import MemoryStore, Normal
from truth.statistics import assert_mean

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.data.sources import Digits
from diffprob.density.baselines import DensityModel
from diffprob.net.energy import EnergySpec
from diffprob.net.glow import GlowSpec
from diffprob.space.pixels import Pixels
from diffprob.training.loop import Trainer
from diffprob.training.maximum import MaximumLikelihood
from diffprob.training.settings import Training

SPACE = Pixels((1, 8, 8), 17)


def test_loss_of_a_normal_density_matches_the_closed_form():
    """In closed form: x + u has the second moment of x plus w^2/12."""
    n, v, space = 4000, 0.6, Pixels((1, 2, 2), 5)
    image = space.to_model(torch.tensor([[[[0, 1], [3, 4]]]]), torch.float64)
    model = DensityModel(Normal(v, normalised=True))
    loss = MaximumLikelihood(5)(model, image.expand(n, -1, -1, -1), Rng.of(0, n)).detach()
    second = image.square().mean() + space.bin_width**2 / 12
    nats = 0.5 * second / v + 0.5 * math.log(2 * math.pi * v)
    assert_mean(loss, nats / math.log(2) - math.log2(space.bin_width))


def test_loss_of_a_sample_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    model = DensityModel(GlowSpec(SPACE.shape, 2, 2, 8).build().double().eval())
    x0, rng = SPACE.to_model(Rng.of(0, 6).integers(SPACE.shape, 17), torch.float64), Rng.of(4, 6).at(3)
    loss = MaximumLikelihood(17)(model, x0, rng)
    assert loss.shape == (6,)
    part = MaximumLikelihood(17)(model, x0[2:4], rng.select(slice(2, 4)))
    torch.testing.assert_close(part, loss[2:4])
    assert (MaximumLikelihood(17)(model, x0, rng.at(4)) != loss).all()


def test_bind_sets_levels_and_checks_the_model():
    glow = DensityModel(GlowSpec(SPACE.shape, 1, 1, 4).build())
    assert MaximumLikelihood().bind(glow, SPACE) == MaximumLikelihood(17)
    with pytest.raises(InputError, match="normalised density such as Glow's, got a EnergyNet"):
        MaximumLikelihood().bind(DensityModel(EnergySpec().build()), SPACE)
    with pytest.raises(ValueError, match="does not know the grey levels"):
        MaximumLikelihood()(glow, torch.zeros(2, *SPACE.shape), Rng.of(0, 2))
    with pytest.raises(ValueError, match="levels"):
        MaximumLikelihood(1)


def train(settings, store):
    torch.manual_seed(1)
    model = DensityModel(GlowSpec(SPACE.shape, 1, 1, 4).build())
    trainer = Trainer(model, MaximumLikelihood(), Digits().load(), SPACE, settings, store, device="cpu")
    trainer.run()
    return trainer


def test_training_resumes_with_the_same_bits_and_the_average_is_usable():
    settings = Training(
        steps=30, batch=16, lr=2e-3, warmup=5, precision="fp32", accumulate=2, checkpoint_every=11, sample_every=0
    )
    whole, cut = MemoryStore(), MemoryStore()
    trainer = train(settings, whole)
    train(replace(settings, steps=11), cut)
    train(settings, cut)
    one, other = whole.load(), cut.load()
    for part in ("raw", "ema", "optimiser"):
        for name, value in getattr(one, part).items():
            assert torch.equal(value, getattr(other, part)[name]), name
    assert whole.records[-1]["loss"] == cut.records[-1]["loss"]
    # The average began before the first batch had set the actnorms; 30 steps later nothing of that is left.
    x0 = SPACE.to_model(torch.from_numpy(Digits("test").load().pixels[:128]))
    with torch.no_grad():
        models = (trainer.model.eval(), trainer.average)
        last, average = (float(MaximumLikelihood(17)(model, x0, Rng.of(0, 128)).mean()) for model in models)
    assert last < whole.records[0]["loss"]
    assert abs(last - average) < 0.3
