"""The denoising objective, the batches and the optimiser against what they must equal."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.ideal import GaussianData
from diffprob.denoise.prediction import Epsilon, V
from diffprob.net.layers import Output
from diffprob.process.linear import LinearProcess
from diffprob.training.batches import Batches, order
from diffprob.training.denoising import Denoising
from diffprob.training.optimise import Optimiser, ema_decay
from diffprob.training.settings import Training


class Exact(nn.Module):
    """The optimal network for N(0, v I), given the label i - 1 of t = i/1000; ``factor`` spoils it."""

    def __init__(self, process, prediction, v, factor=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.process, self.prediction, self.v, self.factor = process, prediction, v, factor

    def forward(self, x, label):
        t = (label + 1) / 1000
        data = GaussianData(torch.zeros(x[0].numel()), self.v * torch.eye(x[0].numel()), self.process)
        mean = data(x.flatten(1), t).mean.reshape(x.shape)
        return Output(self.factor * self.prediction.from_x0(self.process, x, t, mean))


@pytest.mark.parametrize("v", [0.25, 1.0])
def test_optimal_network_reaches_the_mean_mmse(v):
    """The floor of L_simple is the mean over t of 1 - sigma^2/(alpha^2 v + sigma^2), not 0 (four standard errors)."""
    process = LinearProcess()
    x0 = math.sqrt(v) * Rng.of(5, 4096).fold("data").normal((4,), torch.float64)
    loss = Denoising()(NetDenoiser(Exact(process, Epsilon(), v), process), x0, Rng.of(0, 4096))
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, sigma = process.coefficients(t)
    floor = (1 - sigma**2 / (alpha**2 * v + sigma**2)).mean()
    assert abs(loss.mean() - floor) < 4 * loss.std() / math.sqrt(len(loss))


def test_predicting_zero_gives_loss_one():
    process = LinearProcess()
    x0 = Rng.of(5, 4096).fold("data").normal((4,), torch.float64)
    loss = Denoising()(NetDenoiser(Exact(process, Epsilon(), 1.0, factor=0.0), process), x0, Rng.of(0, 4096))
    assert abs(loss.mean() - 1) < 4 * loss.std() / math.sqrt(len(loss))


def test_loss_of_a_sample_does_not_depend_on_its_batch():
    process = LinearProcess()
    model = NetDenoiser(Exact(process, V(), 0.5, factor=0.7), process, V())
    x0 = Rng.of(5, 8).normal((4,), torch.float64)
    together = Denoising()(model, x0, Rng.of(0, 8))
    alone = Denoising()(model, x0[3:4], Rng.of(3, 1))
    assert torch.allclose(together[3:4], alone, rtol=1e-12)


def test_every_epoch_visits_each_image_once():
    seen = order(0, 0, 30, 10)
    for epoch in range(3):
        assert sorted(seen[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert not np.array_equal(seen[:10], seen[10:20])
    assert np.array_equal(order(0, 7, 9, 10), seen[7:16])


def test_processes_and_accumulation_steps_split_the_global_batch(images, recipe):
    """Slot j of step n is the same image with the same streams, however the batch is cut."""

    def slots(world, accumulate):
        settings = Training(steps=1, batch=8, accumulate=accumulate)
        parts = [
            part
            for rank in range(world)
            for part in Batches(images, recipe.space, settings, rank, world)(3, torch.device("cpu"), torch.float32)
        ]
        return {int(rng.seeds[i]): (x0[i], int(rng.bits(())[i])) for x0, rng, _ in parts for i in range(len(x0))}

    whole = slots(1, 1)
    assert len(whole) == 8
    for world, accumulate in ((2, 1), (1, 2), (2, 2), (4, 2)):
        cut = slots(world, accumulate)
        assert cut.keys() == whole.keys()
        assert all(torch.equal(cut[k][0], whole[k][0]) and cut[k][1] == whole[k][1] for k in whole)


def test_indivisible_batch_is_an_error(images, recipe):
    with pytest.raises(InputError, match=r"batch=8 .* 2 x 3"):
        Batches(images, recipe.space, Training(steps=1, batch=8, accumulate=2), 0, 3)


def test_gradient_accumulation_matches_the_whole_batch(train, final_state, tmp_path, recipe):
    """Without dropout, in float64: two parts of 4 give the weights of one part of 8."""
    from dataclasses import replace

    object.__setattr__(recipe, "network", replace(recipe.network, dropout=0.0))
    train(tmp_path / "one", double=True, accumulate=1, steps=5)
    train(tmp_path / "two", double=True, accumulate=2, steps=5)
    one, two = final_state(tmp_path / "one")[1], final_state(tmp_path / "two")[1]
    # Adam divides by the root of the second moment: where a gradient is rounding error, so is the sign of the step.
    worst = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert 0 < worst < 1e-6


def test_optimiser_warms_up_clips_and_averages():
    """The first steps by hand: AdamW's first step is lr in the direction of the sign; the average has (1+n)/(10+n)."""
    model, average = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -1.0]]))
        average.weight.copy_(model.weight)
    settings = Training(steps=10, batch=1, lr=0.1, warmup=4, clip=0.5, ema=0.9)
    optimiser = Optimiser(model, average, settings)
    model.weight.grad = torch.tensor([[3.0, -4.0]])
    norm = optimiser.update(1, torch.amp.GradScaler("cpu", enabled=False))
    assert float(norm) == pytest.approx(5.0)
    assert optimiser.rate(1) == pytest.approx(0.025)
    assert model.weight.tolist()[0] == pytest.approx([1 - 0.025, -1 + 0.025], rel=1e-5)
    decay = 2 / 11
    assert average.weight.tolist()[0] == pytest.approx([1 - 0.025 * (1 - decay), -1 + 0.025 * (1 - decay)], rel=1e-5)
    moment = optimiser.adam.state[model.weight]["exp_avg"]
    assert moment.tolist()[0] == pytest.approx([0.1 * 0.3, -0.1 * 0.4], rel=1e-5), "clipped to norm 0.5"
    cooling = Optimiser(model, average, Training(steps=10, batch=1, lr=0.1, warmup=4, cooldown=3))
    rates = [round(cooling.rate(step) / 0.1, 12) for step in range(1, 11)]
    assert rates == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, round(2 / 3, 12), round(1 / 3, 12)]
    assert ema_decay(0.9999, 10) == 11 / 20
    assert ema_decay(0.9999, 10**7) == 0.9999
