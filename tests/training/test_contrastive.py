"""Langevin chains against the stationary law of linear ones, and contrastive divergence against its fixed point."""

import math
from dataclasses import replace

import pytest
import torch
from truth.densities import MemoryStore, Normal
from truth.statistics import assert_frequencies, assert_mean, assert_moments

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.data.sources import Digits
from diffprob.density.baselines import DensityModel
from diffprob.net.energy import EnergySpec
from diffprob.space.pixels import Pixels
from diffprob.training.contrastive import ContrastiveDivergence, Replay, langevin
from diffprob.training.loop import Trainer
from diffprob.training.settings import Training

SPACE = Pixels((1, 2, 2), 256)


def after_noise(v, step_size):
    """The stationary variance of a chain on N(0, v) just after its noise, noise^2 = 2 step_size."""
    return v / (1 - step_size / (2 * v))


def after_step(v, step_size):
    """The same just after the gradient: (1 - step_size/v)^2 of it."""
    return (1 - step_size / v) ** 2 * after_noise(v, step_size)


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.8])
def test_langevin_chains_reach_their_stationary_variance(ratio):
    """Chains of N(0, C) with two variances, long enough that e^-8 of the start is left."""
    v = torch.tensor([0.5, 1.0], dtype=torch.float64)
    step_size, n = ratio * 0.5, 5000
    rng = Rng.of(0, n)
    x = rng.fold("start").normal((2,), torch.float64)

    def energy(y):
        return 0.5 * (y * y / v).sum(1)

    for k in range(math.ceil(4 / step_size)):
        x = langevin(energy, x, rng.at(k), step_size, (2 * step_size) ** 0.5)
    expected = torch.stack([torch.tensor(after_step(float(one), step_size)) for one in v])
    assert_moments(x, torch.zeros(2), torch.diag(expected))
    z = rng.fold("last").normal((2,), torch.float64) * (2 * step_size) ** 0.5
    assert_moments(x + z, torch.zeros(2), torch.diag(torch.tensor([after_noise(float(one), step_size) for one in v])))


def test_langevin_step_matches_the_formula():
    """Noise first, then the gradient at the noised point, cut; then the cube."""
    x = torch.tensor([[0.0, 0.5], [-1.0, 2.0]], dtype=torch.float64)
    rng = Rng.of(3, 2)
    z = rng.normal((2,), torch.float64)
    noised = x + 0.1 * z

    def energy(y):
        return (y**4).sum(1) / 4

    free = langevin(energy, x, rng, 0.3, 0.1)
    torch.testing.assert_close(free, noised - 0.3 * noised**3)
    cut = langevin(energy, x, rng, 0.3, 0.1, clip=0.05, bound=1.0)
    torch.testing.assert_close(cut, (noised - 0.3 * (noised**3).clamp(-0.05, 0.05)).clamp(-1, 1))
    assert (cut.abs() == 1).any() and ((cut - noised).abs() <= 0.3 * 0.05 + 1e-12).any()
    assert not free.requires_grad
    with torch.no_grad():
        assert torch.equal(langevin(energy, x, rng, 0.3, 0.1), free)
        assert torch.equal(langevin(energy, x[1:], rng.select(slice(1, 2)), 0.3, 0.1), free[1:])


def test_defaults_match_published_after_rescaling():
    """The same chain in [0, 1] with the published numbers, mapped to [-1, 1] by 2y - 1."""
    y = Rng.of(0, 50).uniform((3,), torch.float64)
    x, published, ours = 2 * y - 1, (10, 0.005, 0.01), ContrastiveDivergence()
    for k in range(5):
        rng = Rng.of(7, 50).at(k)
        y = langevin(lambda p: (0.02 * p.sin()).sum(1) * 3, y, rng, *published)
        x = langevin(lambda p: (0.02 * ((p + 1) / 2).sin()).sum(1) * 3, x, rng, ours.step_size, ours.noise, ours.clip)
    torch.testing.assert_close(x, 2 * y - 1)
    assert (ours.steps, ours.buffer, ours.fresh, ours.weight) == (60, 10000, 0.05, 1.0)


def test_chains_depend_only_on_seed_and_step():
    """Neither of the neighbours, nor the same at another step of the training."""
    model = DensityModel(EnergySpec(1, (4,)).build().double())
    objective = ContrastiveDivergence(steps=3, step_size=0.5, noise=0.1, clip=math.inf)
    x, rng = torch.zeros(6, 1, 2, 2, dtype=torch.float64), Rng.of(0, 6).at(5)
    ends = objective.chain(model, x, rng)
    torch.testing.assert_close(objective.chain(model, x[2:4], rng.select(slice(2, 4))), ends[2:4])
    assert (objective.chain(model, x, rng.at(6)) != ends).all()
    assert len(torch.unique(ends)) == ends.numel()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_replay_buffer_draws_noise_and_kept_samples_in_their_shares():
    """All from noise at first; then a share of 5%, the others evenly from what is kept, which is a ring."""
    n = 20_000
    replay, like = Replay((1,), 4, 0.05, 1.5), torch.zeros(n, 1)
    first = replay.draw(Rng.of(0, n), like)
    assert first.abs().max() <= 1.5
    assert_mean(first.square(), 1.5**2 / 3)
    for batch in ([10.0, 11.0], [12.0, 13.0, 14.0]):  # 14 takes the place of 10
        replay.note(torch.tensor(batch)[:, None])
        assert torch.equal(replay.draw(Rng.of(0, n), like), first)  # until it is synchronised
        replay.synchronise(lambda x: x)
        first = replay.draw(Rng.of(0, n), like)
    drawn = replay.draw(Rng.of(1, n), like)[:, 0]
    counts = torch.stack([(drawn.abs() <= 1.5).sum(), *((drawn == value).sum() for value in (11.0, 12.0, 13.0, 14.0))])
    assert counts.sum() == n
    assert_frequencies(counts.numpy(), torch.tensor([0.05, *[0.95 / 4] * 4]).numpy())


def test_replay_buffer_stores_processes_in_order():
    """Parts in the order of their steps, and in each the processes; more than fit leave the last ones."""
    replay = Replay((1,), 6, 0.0, 1.0)
    replay.note(torch.tensor([[1.0], [2.0]]))
    replay.note(torch.tensor([[5.0], [6.0]]))
    replay.synchronise(lambda x: torch.cat([x, x + 2]))
    assert replay.images[:, 0].tolist() == [7, 8, 3, 4, 5, 6] and int(replay.count) == 8
    replay.note(torch.arange(20.0)[:, None])
    replay.synchronise(lambda x: x)
    assert sorted(replay.images[:, 0].tolist()) == [14, 15, 16, 17, 18, 19]
    other = Replay((1,), 6, 0.0, 1.0)
    other.note(torch.zeros(1, 1))
    other.load(replay.state())
    rng, like = Rng.of(0, 30), torch.zeros(30, 1)
    assert torch.equal(other.draw(rng, like), replay.draw(rng, like)) and not other.noted
    other.images[0] = -1
    assert not torch.equal(other.images, replay.images)


def test_loss_matches_the_formula():
    """E+ - E- + weight (E+^2 + E-^2), with the end of the chain noted; only the energies carry gradients."""
    model = DensityModel(Normal(0.7))
    bound = ContrastiveDivergence(4, 0.05, 0.1, math.inf, 10, weight=0.5).bind(model, SPACE)
    x0, rng = torch.full((6, 1, 2, 2), 0.2, dtype=torch.float64), Rng.of(0, 6).at(2)
    x0 = SPACE.to_model(SPACE.to_data(x0), torch.float64)
    loss = bound(model, x0, rng)
    (made,) = bound.memory.noted
    edge = 1 + 1 / 255
    assert made.abs().max() <= edge
    noised = x0 + (rng.fold("dequantise").uniform((1, 2, 2), torch.float64) - 0.5) * 2 / 255
    above, below = model.energy(noised), model.energy(made)
    torch.testing.assert_close(loss, above - below + 0.5 * (above**2 + below**2))
    (slope,) = torch.autograd.grad(loss.sum(), model.net.v)
    expected = torch.autograd.grad((above - below + 0.5 * (above**2 + below**2)).sum(), model.net.v)[0]
    torch.testing.assert_close(slope, expected)


@pytest.mark.parametrize("at_fixed_point", [True, False])
def test_average_loss_matches_the_closed_form(at_fixed_point):
    """With weight 0 and long chains: d/2v times the data's variance less the chains', in this family also the slope.

    Training therefore ends where the chains' variance is the data's, and E+ - E- is 0 there; the model's own variance
    is smaller by the bias of the step. All of it fits the cube.
    """
    n, ratio, data = 6000, 0.3, 0.02
    v = data * (2 - ratio) / (2 * (1 - ratio) ** 2) if at_fixed_point else data  # after_step(v, ratio v) = data
    step_size = ratio * v
    assert (after_step(v, step_size) == pytest.approx(data)) == at_fixed_point
    objective = ContrastiveDivergence(20, step_size, (2 * step_size) ** 0.5, math.inf, 10, fresh=1.0, weight=0.0)
    model, rng = DensityModel(Normal(v)), Rng.of(0, n)
    x0 = SPACE.to_model(SPACE.to_data(data**0.5 * rng.fold("data").normal((1, 2, 2), torch.float64)), torch.float64)
    loss = objective.bind(model, SPACE)(model, x0, rng)
    seen = data + SPACE.bin_width**2 / 6  # rounding to levels, and their noise, a twelfth each
    expected = 4 * (seen - after_step(v, step_size)) / (2 * v)
    assert_mean(loss.detach(), expected)  # 0.7^40 of the start's variance is left, 1e-6
    assert (abs(expected) < 0.01) == at_fixed_point
    (slope,) = torch.autograd.grad(loss.sum(), model.net.v)
    torch.testing.assert_close(slope, -loss.sum().detach() / v)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_resumes_with_the_same_bits(accumulate):
    """The buffer is part of the checkpoint, and parts of a batch draw what the whole batch draws."""
    objective = ContrastiveDivergence(steps=2, buffer=40, fresh=0.2)
    space = Pixels((1, 8, 8), 17)
    settings = Training(
        steps=6, batch=16, lr=1e-3, warmup=1, precision="fp32", betas=(0.0, 0.999), accumulate=accumulate,
        checkpoint_every=3, sample_every=0,
    )  # fmt: skip

    def train(store, **changes):
        torch.manual_seed(0)
        model = DensityModel(EnergySpec(1, (4, 8), spectral=True).build())
        trainer = Trainer(
            model, objective, Digits().load(), space, replace(settings, **changes), store, device="cpu"
        )  # fmt: skip
        trainer.run()
        return trainer

    whole, cut = MemoryStore(), MemoryStore()
    first = train(whole)
    train(cut, steps=4)
    assert int(cut.kept.optimiser["memory.count"]) == 64
    second = train(cut)
    for part in ("raw", "ema", "optimiser"):
        for name, value in getattr(whole.kept, part).items():
            assert torch.equal(value, getattr(cut.kept, part)[name]), name
    assert torch.equal(first.memory.images, second.memory.images)
    assert not torch.equal(whole.kept.raw["net.conv_in.weight"], whole.kept.ema["net.conv_in.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"buffer": 0}, "buffer"),
        ({"step_size": 0.0}, r"step_size must be above 0, got 0\.0"),
        ({"clip": -1.0}, "clip"),
        ({"noise": -0.1}, "noise"),
        ({"weight": math.inf}, "weight"),
        ({"fresh": 1.5}, r"fresh must lie in \[0, 1\], got 1\.5"),
    ],
)
def test_invalid_settings_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        ContrastiveDivergence(**changes)


def test_invalid_use_is_an_error():
    objective = ContrastiveDivergence()
    with pytest.raises(InputError, match="trains a DensityModel"):
        objective.bind(torch.nn.Linear(1, 1), SPACE)
    with pytest.raises(ValueError, match="remembers chains"):
        objective(DensityModel(Normal(1.0)), torch.zeros(2, 1, 2, 2), Rng.of(0, 2))
