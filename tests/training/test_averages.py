"""Averages after the fact against averages computed directly, in float64."""

import numpy as np
import pytest
import torch

from diffprob.base.errors import FieldError, InputError
from diffprob.runs.folder import Run
from diffprob.storage import tensors
from diffprob.tasks.averaging import AverageRequest, average
from diffprob.training.averages import PowerAverages, combine, power_of, profile
from diffprob.training.settings import Training

STEPS = 200


def walk(d=5):
    """Weights of every step of a training that drifts and jumps, float64 (STEPS, d)."""
    rng = np.random.default_rng(1)
    return np.cumsum(rng.normal(size=(STEPS, d)), 0) + np.linspace(0, 40, STEPS)[:, None]


def directly(weights, width, step):
    """theta_n <- b theta_(n-1) + (1 - b) weights_n, b = (1 - 1/n)^(g+1), with g found by bisection."""
    low, high = 0.0, 1e4  # (g + 1)/((g + 2)^2 (g + 3)) falls
    for _ in range(200):
        g = (low + high) / 2
        low, high = (g, high) if (g + 1) / ((g + 2) ** 2 * (g + 3)) > width**2 else (low, g)
    theta = np.zeros(weights.shape[1])
    for n in range(1, step + 1):
        b = (1 - 1 / n) ** (low + 1)
        theta = b * theta + (1 - b) * weights[n - 1]
    return theta


def test_powers_match_the_published_ones():
    """EDM2: 0.05 has g = 16.97 and 0.1 has 6.94; the shares have the width as their standard deviation."""
    assert power_of(0.05) == pytest.approx(16.97, abs=5e-3) and power_of(0.1) == pytest.approx(6.94, abs=5e-3)
    for width in (0.01, 0.05, 0.28):
        edges = np.linspace(0, 1, 200_001)
        middle, share = (edges[1:] + edges[:-1]) / 2, profile(width, 1, edges)
        assert share.sum() == pytest.approx(1, abs=1e-12)
        assert np.sqrt((share * middle**2).sum() - (share * middle).sum() ** 2) == pytest.approx(width, rel=1e-6)


def test_kept_averages_are_those_computed_directly():
    weights = walk()
    parameter = torch.zeros(5, dtype=torch.float64)
    averages = PowerAverages((0.05, 0.1), {"w": parameter})
    for n in range(1, STEPS + 1):
        parameter.copy_(torch.from_numpy(weights[n - 1]))
        averages.update(n)
    for width in (0.05, 0.1):
        np.testing.assert_allclose(averages.state()[f"{width}/w"], directly(weights, width, STEPS), rtol=1e-10)


@pytest.mark.parametrize(("width", "step"), [(0.05, 200), (0.1, 100), (0.08, 200), (0.2, 173), (0.02, 200)])
def test_any_length_is_exact_with_a_snapshot_of_every_step(width, step):
    """From snapshots of the averages alone (1e-6)."""
    weights = walk()
    kept = [(own, n) for n in range(1, STEPS + 1) for own in (0.05, 0.1)]
    factors, error = combine(kept, width, step)
    assert error < 1e-9
    made = sum(f * directly(weights, own, n) for f, (own, n) in zip(factors, kept, strict=True) if abs(f) > 1e-12)
    np.testing.assert_allclose(made, directly(weights, width, step), rtol=0, atol=1e-6)


def test_few_snapshots_are_as_near_as_they_say():
    """Sixteen of 200 steps: what is kept comes back exactly, what lies between to a percent, what is far says so."""
    weights, kept = walk(), [(own, n) for n in range(8, STEPS + 1, 12) for own in (0.05, 0.1)]
    snapshots = np.stack([directly(weights, own, n) for own, n in kept])

    def made(width, step=STEPS):
        factors, error = combine(kept, width, step)
        return factors @ snapshots, error

    assert made(0.1)[1] < 1e-9
    np.testing.assert_allclose(made(0.1)[0], directly(weights, 0.1, STEPS), rtol=1e-8)
    between, error = made(0.08)
    assert error < 0.01
    # The error of the weights is that of the profile times the weights' own spread.
    spread = np.linalg.norm(profile(0.08, STEPS, np.arange(STEPS + 1.0))) * np.linalg.norm(weights, axis=0)
    assert (np.abs(between - directly(weights, 0.08, STEPS)) < error * spread + 1e-9).all()
    assert made(0.005)[1] > 0.1


def test_few_checkpoints_leave_snapshots():
    settings = Training(steps=800_000, checkpoint_every=5000, averages=(0.05,))
    steps = [step for step in range(5000, 800_001, 5000) if settings.keeps_averages(step)]
    assert len(steps) == 16 and steps[-1] == 800_000
    short = Training(steps=24, checkpoint_every=7, averages=(0.1,))
    assert [step for step in (7, 8, 14, 21, 23, 24) if short.keeps_averages(step)] == [7, 14, 21, 24]
    assert not Training(steps=24, checkpoint_every=7).keeps_averages(14)


def test_run_gets_the_average_that_training_steps_give(train, final_state, tmp_path):
    """Of a training in float64 with a snapshot of every step: 1e-6 from the weights of each step, averaged directly."""
    seen = []

    def note(progress):
        seen.append({name: p.detach().clone() for name, p in holder[0].model.named_parameters()})

    import diffprob.training.loop as loop

    holder, original = [], loop.Trainer.run

    def run(self):
        holder.append(self)
        original(self)

    loop.Trainer.run = run
    try:
        train(
            tmp_path / "a", on_step=note, double=True, steps=8, checkpoint_every=1, accumulate=1, averages=(0.05, 0.1)
        )
    finally:
        loop.Trainer.run = original
    result = average(Run.open(tmp_path / "a"), AverageRequest(length=0.17, out=str(tmp_path / "b")))
    assert result.error < 1e-9 and result.kept == 16 and "length 0.17 at step 8" in repr(result)
    made = Run.open(tmp_path / "b")
    assert made.meta["step"] == 8 and made.recipe == Run.open(tmp_path / "a").recipe
    weights, theirs = made.weights(), Run.open(tmp_path / "a").weights()
    assert weights.keys() == theirs.keys()
    for name in seen[0]:
        steps = np.stack([step[name].numpy().ravel() for step in seen])
        np.testing.assert_allclose(weights[name].numpy().ravel(), directly(steps, 0.17, 8), rtol=0, atol=1e-6)
    assert any(not torch.equal(weights[name], theirs[name]) for name in seen[0])


def test_resumed_training_keeps_the_same_averages(train, final_state, tmp_path):
    """To the bit, in the state and in the snapshots; and the weights are those of a training without averages."""
    numbers = {"steps": 8, "checkpoint_every": 3, "accumulate": 1}
    train(tmp_path / "plain", **numbers)
    train(tmp_path / "whole", averages=(0.05, 0.1), **numbers)
    steps = iter(range(6))
    train(tmp_path / "cut", halt=lambda: next(steps) == 5, averages=(0.05, 0.1), **numbers)
    train(tmp_path / "cut", averages=(0.05, 0.1), **numbers)
    whole, cut, plain = (final_state(tmp_path / name)[1] for name in ("whole", "cut", "plain"))
    assert whole.keys() == cut.keys() and all(torch.equal(whole[name], cut[name]) for name in whole)
    assert all(torch.equal(plain[name], whole[name]) for name in plain)
    assert sum(name.startswith("optimiser.averages.0.05/") for name in whole) > 0
    for name in ("average-00000006.safetensors", "average-00000008.safetensors"):
        one, two = (tensors.read(tmp_path / folder / name) for folder in ("whole", "cut"))
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_what_cannot_be_averaged_is_one_line(train, tmp_path):
    train(tmp_path / "plain", steps=3)
    with pytest.raises(InputError, match="kept no averages"):
        average(Run.open(tmp_path / "plain"), AverageRequest(length=0.1, out=str(tmp_path / "x")))
    train(tmp_path / "kept", steps=3, averages=(0.1,))
    with pytest.raises(InputError, match="up to step 3"):
        average(Run.open(tmp_path / "kept"), AverageRequest(length=0.1, out=str(tmp_path / "x"), step=4))
    assert not (tmp_path / "x").exists()
    for fields in ({"length": 0.4, "out": "x"}, {"length": 0.1, "out": ""}):
        with pytest.raises(FieldError):
            AverageRequest(**fields)
    with pytest.raises(FieldError, match="different widths"):
        Training(steps=3, averages=(0.1, 0.1))
