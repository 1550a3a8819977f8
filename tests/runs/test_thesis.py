"""The thesis's experiments: settings against the numbers of the published code, and the script's sums."""

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffprob.conditions.condition import Labels
from diffprob.config.recipe import build_model, parameter_count
from diffprob.config.registry import ALL
from diffprob.config.spec import parse, render
from diffprob.data.combined import Subset
from diffprob.data.sources import Cifar10, Digits, Idx
from diffprob.net.context_unet import ContextUNetSpec
from diffprob.recipes import named
from diffprob.recipes.thesis import thesis_cifar10, thesis_mnist
from diffprob.space.pixels import Pixels

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return {name: importlib.import_module(f"thesis{name}") for name in ("", "_measure", "_train", "_draw")}


@pytest.mark.parametrize(("name", "count"), [("thesis_mnist", 6_585_601), ("thesis_cifar10", 105_272_579)])
def test_network_sizes_match_published(name, count):
    recipe = named(name)
    assert parameter_count(recipe) == count
    assert parse(render(recipe), ALL) == recipe


def test_smaller_settings_survive_the_round_trip():
    for recipe in (thesis_mnist("p", 32, 10_000, lr=1e-3), thesis_cifar10("p", 32, 2000, 1, 2)):
        assert parse(render(recipe), ALL) == recipe
    assert thesis_mnist("p", 32, 10_000).data == Subset(Idx("p"), 10_000)
    assert thesis_mnist("p", 32, 10_000).training.steps == 20 * (10_000 // 256)
    assert thesis_cifar10("p", label=1).data == Subset(Cifar10("p"), None, 1)
    assert thesis_cifar10("p", label=1, epochs=100).training.steps == 100 * (5000 // 64)


def test_noise_levels_match_the_published_code():
    process = thesis_mnist().process
    # Its own loop: beta_i from 1e-4 to 0.02 at i = 0, ..., 400, multiplied up from i = 0.
    expected = np.cumprod([1 - (1e-4 + (0.02 - 1e-4) * i / 400) for i in range(401)])
    alpha, _ = process.coefficients(torch.arange(1, 402, dtype=torch.float64) / 401)
    np.testing.assert_allclose(alpha.square().numpy(), expected, rtol=1e-12)  # 401 products in float64
    # The digits that are known: half a unit of the last one.
    assert abs(float(alpha[-1]) ** 2 - 0.017297) < 5e-7 and abs(float(alpha[-1]) - 0.1315) < 5e-5
    assert abs(float(process.logsnr(1.0)) / 2 + 2.02) < 5e-3
    assert abs(float(thesis_cifar10().process.coefficients(torch.tensor(1.0))[0]) ** 2 - 0.0063) < 5e-5


def test_training_settings_match_the_published_code():
    digits, colour = thesis_mnist().training, thesis_cifar10().training
    assert (digits.batch, digits.lr, digits.steps // digits.checkpoint_every) == (256, 1e-4, 20)
    assert (colour.batch, colour.lr, colour.steps // colour.checkpoint_every) == (64, 2e-5, 20)
    for training in (digits, colour):
        assert (training.warmup, training.clip, training.ema, training.weight_decay) == (0, math.inf, 0.0, 0.0)
    assert (digits.cooldown, colour.cooldown) == (digits.steps, 0)
    assert thesis_mnist().condition == Labels(10, drop=0.1)


def test_time_scaling_matches_the_published_code():
    assert float(thesis_mnist().clock(torch.tensor(1.0))) == 1.0
    assert float(thesis_mnist().clock(torch.tensor(1 / 401, dtype=torch.float64))) == 1 / 401
    assert float(thesis_cifar10().clock(torch.tensor(1.0))) == 999.0


def test_smaller_networks_build():
    for recipe, shape in (
        (thesis_mnist(features=8), (1, 28, 28)),
        (replace(thesis_cifar10(features=32), condition=None), (3, 32, 32)),
    ):
        with torch.device("meta"):
            assert build_model(recipe).net is not None
        assert recipe.space.shape == shape


def test_epoch_losses_are_means_over_their_steps(scripts):
    # Steps 1..10 have 1, 11..20 have 2, 21..24 have 5; epochs of 8 steps: 1; (2 + 12)/8; (8 + 20)/8.
    log = [
        {"step": 10, "loss": 1.0},
        {"step": 10, "metric/x": 3.0},
        {"step": 20, "loss": 2.0},
        {"step": 24, "loss": 5.0},
    ]
    assert scripts["_draw"].epoch_losses(log, 8) == [1.0, 1.75, 3.5]
    assert scripts["_draw"].epoch_losses(log[:1], 8) == [1.0]


def test_rows_are_grouped_by_epoch_and_guidance(scripts):
    rows = [{"kind": "epoch", "w": w, "epoch": e, "x": 0} for w, e in ((2.0, 3), (0.0, 1), (2.0, 1))]
    rows += [{"kind": "real"}, {"kind": "epoch", "w": 2.0, "epoch": 3, "x": 1}]
    groups = scripts["_draw"].by_guidance(rows)
    assert {w: [(row["epoch"], row["x"]) for row in series] for w, series in groups.items()} == {
        2.0: [(1, 0), (3, 1)],
        0.0: [(1, 0)],
    }


def test_naive_distance_matches_the_stable_one_only_for_many_samples(scripts):
    measure, rng = scripts["_measure"], torch.Generator().manual_seed(0)
    many = torch.rand(400, 8, generator=rng, dtype=torch.float64), torch.rand(300, 8, generator=rng).double()
    stable = measure.frechet_distance(*map(measure.Statistics.of, many))
    assert abs(measure.root_of_product(*many) - stable) < 1e-9  # float64, full rank
    # 40 images of 196 pixels: the covariance has rank 39, and the true distance of a set from itself is 0.
    few = (torch.rand(40, 196, generator=rng) > 0.8).float()
    assert abs(measure.root_of_product(few, few)) > 1e-4
    assert measure.frechet_distance(measure.Statistics.of(few), measure.Statistics.of(few)) < 1e-9


def test_experiment_runs_from_training_to_figures(scripts, tmp_path, monkeypatch):
    measure = scripts["_measure"]
    recipe = thesis_mnist(epochs=2)
    recipe = replace(
        recipe,
        data=Subset(Digits(), 96),
        space=Pixels((1, 8, 8), 17),
        network=ContextUNetSpec(features=8, size=8),
        training=replace(recipe.training, steps=4, cooldown=4, checkpoint_every=2, batch=4, precision="fp32"),
    )
    monkeypatch.setattr(measure, "classifier_for", lambda *_: _Pixels())
    monkeypatch.setattr(measure, "FEW", 3)
    scripts["_train"].train(recipe, tmp_path)
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == [
        "step-000002.safetensors",
        "step-000004.safetensors",
    ]
    settings = measure.Settings(n=10, evaluations=2)
    measure.epochs(recipe, tmp_path, settings)
    with (tmp_path / "measured.jsonl").open("a") as file:
        file.write('{"kind": "epo')  # killed while it wrote
    before = measure.rows(tmp_path)
    assert [(row["kind"], row.get("epoch"), row.get("w")) for row in before] == [
        *(("epoch", epoch, w) for epoch in (1, 2) for w in (0.0, 0.5, 2.0)),
        ("real", None, None),
    ]
    assert all(row["low"] <= row["frechet"] <= row["high"] and row["sliced"] > 0 for row in before)
    measure.epochs(recipe, tmp_path, settings)
    assert measure.rows(tmp_path) == before
    (tmp_path / "measured.jsonl").write_text("".join(json.dumps(row) + "\n" for row in before))
    monkeypatch.setattr(measure, "GUIDANCE", (0.5,))
    last = measure.last(recipe, tmp_path, replace(settings, steps=3))
    assert [row["sampler"] for row in last] == ["fast", "ancestral"] and last[0]["stable_self"] < 1e-9
    drawn = scripts["_draw"].draw(tmp_path, tmp_path / "figures", "thesis")
    assert [path.name for path in drawn] == ["thesis-curves.png", "thesis-w0.5.png"]
    assert all(path.stat().st_size > 500 for path in drawn)


class _Pixels:
    """The features of a classifier that is not there."""

    def features(self):
        from diffprob.evaluation.features import PixelFeatures

        return PixelFeatures((1, 8, 8), 17)
