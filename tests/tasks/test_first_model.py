"""The toys of 2015 from a recipe to a number: drawn, measured, and what they would come to with exact conditionals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob.base.rng import Rng
from diffprob.cli.main import main
from diffprob.config.overrides import assign_all
from diffprob.denoise.multinomial import MultinomialLaw
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.process.grids import Native
from diffprob.recipes import named
from diffprob.recipes.first import heartbeat
from diffprob.tasks.reporter import SILENT

ROWS = torch.from_numpy(dp.Heartbeat(n=5).load().pixels)


def train(recipe, out, steps: int):
    training = replace(recipe.training, steps=steps, cooldown=0, warmup=5, batch=64, ema=0.9, sample_every=0, samples=2)
    return dp.train(replace(recipe, training=training), out=out, reporter=SILENT, device="cpu")


def test_exact_conditionals_cost_the_entropy_of_the_heartbeat() -> None:
    """log2(5) bits a row, and a little for bits that a step draws as if they were independent."""
    process = replace(heartbeat().process, schedule=dp.schedules.ConstantErasure(60))
    model, n = MultinomialLaw(ROWS, torch.ones(5), process), 320
    x0 = ROWS.double().repeat(n // 5, 1, 1, 1)
    bits = variational_bound(model, x0, Native()(process, 60), Rng.of(0, n), Decoder(None)).total / math.log(2)
    error = float(bits.std()) / n**0.5
    assert math.log2(5) - 4 * error < float(bits.mean()) < 2.45 + 4 * error
    assert error < 0.06


@pytest.mark.parametrize("law", ["Softmax()", "StepSoftmax()"])
def test_heartbeat_is_learned_drawn_and_measured(tmp_path, law: str, capsys) -> None:
    steps = [(f"{path}.steps", "10") for path in ("process.schedule", "clock", "network")]
    model = train(assign_all(named("heartbeat"), [*steps, ("prediction", law)]), tmp_path / "run", 120)
    bits = 20 * model.bits_per_dim(model.data(n=20)).mean
    alone = -20 * (0.2 * math.log2(0.2) + 0.8 * math.log2(0.8))
    assert math.log2(5) < bits < (0.5 if law == "Softmax()" else 1.3) * alone  # 14.44 bits for independent ones
    samples = model.sample(8, seed=1).images
    assert samples.shape == (8, 1, 1, 20) and set(np.unique(samples)) <= {0, 1}
    assert main(["likelihood", str(tmp_path / "run"), "-n", "20"]) == 0
    assert f"{bits / 20:.4f}" in capsys.readouterr().out
    if law == "StepSoftmax()":  # which knows its own steps alone
        assert main(["sample", str(tmp_path / "run"), "-n", "2", "--steps", "5", "--out", str(tmp_path / "x.npz")]) == 2


def test_swiss_roll_is_learned_drawn_and_measured(tmp_path) -> None:
    model = train(named("swiss_roll"), tmp_path / "run", 60)
    result = model.bits_per_dim(model.data(n=40))
    assert 6.7 < result.mean < 8.5  # 6.73 is what the formula's own density costs, 8 a uniform one
    points = model.sample(16, seed=0).images
    assert points.shape == (16, 1, 1, 2) and points.dtype == np.uint8


def test_parts_that_do_not_go_together_are_refused() -> None:
    for path, text, message in (
        ("network.shape", "(1, 1, 10)", "network.shape must be"),
        ("process.schedule", "VPSDE()", "is of the steps of"),
        ("prediction", "V()", "prediction"),
    ):
        recipe = assign_all(heartbeat(), [("prediction", "StepSoftmax()")])
        with pytest.raises(dp.InputError, match=message):
            assign_all(recipe, [(path, text)])
