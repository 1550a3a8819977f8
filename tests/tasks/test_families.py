"""The table of docs/families.md: every verb on a tiny run of every family, or one line that says why not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.config.pretrained import begin
from diffprob.config.recipe import build_noisy_classifier
from diffprob.net.levels import CategoricalUNetSpec
from diffprob.net.unet import UNetSpec
from diffprob.recipes import FAMILIES, RECIPES
from diffprob.recipes.noisy_classifiers import noisy_classifier
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.likelihood_methods import FixedOrder
from diffprob.tasks.model import Model
from diffprob.tasks.reporter import SILENT

X = np.round(dp.Digits("test").load().pixels[:60] * (255 / 16)).astype(np.uint8)  # 17 grey levels as pictures have them
LINEAR = "needs a signal with noise added"
ORDERED = "log p of one order is known of models that draw in orders"
UNKNOWN = "only its mean and variance are known"
HOLE = dp.degradations.Inpaint(box=(2, 2, 4, 4))
NOISE = dp.degradations.Denoise(noise=80)

USES: dict[str, Callable[[Model, Path], Any]] = {
    "sample": lambda model, _: model.sample(2, steps=4).images,
    "likelihood, bound": lambda model, _: model.bits_per_dim(X[:2], method=dp.ChainBound(steps=4, terms=None)).mean,
    "likelihood, continuous": lambda model, _: model.bits_per_dim(X[:2], method=dp.ContinuousTimeBound(terms=3)).mean,
    "likelihood, order": lambda model, _: model.bits_per_dim(X[:2], method=FixedOrder()).mean,
    "likelihood, flow": lambda model, _: model.bits_per_dim(X[:1], method=dp.ProbabilityFlow(tolerance=0.1)).mean,
    "score": lambda model, _: model.score(torch.zeros(1, 1, 8, 8), t=0.5),
    "detect": lambda model, _: model.detect(outside=X[:, :, ::-1].copy(), n=50, proxies=proxies(model)).to_json(),
    "evaluate": lambda model, _: model.evaluate(
        samples=np.minimum(X[:50] // 15, 16), n=50, metrics=("sliced",)
    ).to_json(),
    "interpolate": lambda model, _: model.interpolate(X[0], X[1], points=3, steps=3).images,
    "interpolate, latent": lambda model, _: model.interpolate(X[0], X[1], points=3, steps=3, latent=True).images,
    "restore": lambda model, _: model.restore(X[:1], NOISE).images,
    "restore, drawn": lambda model, _: model.restore(X[:1], replace(NOISE, draw=True), steps=3).images,
    "restore, missing": lambda model, _: model.restore(X[:1], HOLE, steps=3).images,
    "report": lambda model, folder: model.report(folder / "page.html", n=2, steps=3),
}
OF_LEVELS = {
    "likelihood, flow": LINEAR,
    "score": LINEAR,
    "interpolate": LINEAR,
    "interpolate, latent": LINEAR,
    "restore": LINEAR,
    "restore, drawn": LINEAR,
}
REFUSED: dict[str, dict[str, str]] = {
    **{name: {"likelihood, order": ORDERED} for name in ("ncsn", "edm", "flow")},
    "ardm": {**OF_LEVELS, "likelihood, continuous": "has no rate"},
    "masked": {**OF_LEVELS, "likelihood, order": ORDERED},
    "mixture": {
        "likelihood, order": ORDERED,
        "likelihood, bound": UNKNOWN,
        "likelihood, continuous": UNKNOWN,
        "likelihood, flow": UNKNOWN,
        "score": UNKNOWN,
    },
}


def proxies(model: Model) -> tuple[Any, ...]:
    return (dp.NoiseNorm(),) if model.process.is_linear else (dp.proxies.BoundDensity(terms=2),)


def tiny(name: str) -> dp.Recipe:
    recipe = dp.named(name)
    network = UNetSpec(in_channels=1, out_channels=1, widths=(8,), layers=1, attention=(False,), groups=4)
    if isinstance(recipe.network, CategoricalUNetSpec):
        network = replace(recipe.network, body=network)
    training = replace(recipe.training, steps=3, batch=8, warmup=1, sample_every=0, checkpoint_every=3, samples=1)
    return replace(recipe, network=network, training=training)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory) -> tuple[str, Model]:
    out = tmp_path_factory.mktemp("families") / request.param
    return request.param, dp.train(tiny(f"digits_{request.param}"), out=out, reporter=SILENT, device="cpu")


@pytest.mark.parametrize("use", USES)
def test_every_verb_answers_or_says_why_not(family, use: str, tmp_path) -> None:
    name, model = family
    why = REFUSED.get(name, {}).get(use)
    if why is None:
        answer = USES[use](model, tmp_path)
        assert answer is not None
        if isinstance(answer, float | torch.Tensor):
            assert bool(torch.isfinite(torch.as_tensor(answer)).all())
        return
    with pytest.raises(InputError, match=why) as caught:
        USES[use](model, tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300


def test_page_of_families_has_the_table_that_is_tested() -> None:
    text = (Path(__file__).parents[2] / "docs" / "families.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `") and line.count("|") == 2 + len(FAMILIES)]
    table = {row.split("|")[1].strip().strip("`"): [cell.strip() for cell in row.split("|")[2:-1]] for row in rows}
    assert set(USES) <= set(table)
    for use, cells in table.items():
        if use in USES:
            expected = [use not in REFUSED.get(name, {}) for name in FAMILIES]
            assert [cell == "yes" for cell in cells] == expected, use


def test_there_are_recipes_of_every_family_on_both_data_sets() -> None:
    for name in FAMILIES:
        small, large = dp.named(f"digits_{name}"), dp.named(f"mnist_{name}", "somewhere")
        assert type(small.clock) is type(large.clock) and small.process.is_linear == large.process.is_linear
        if small.process.is_linear:
            assert type(small.prediction) is type(large.prediction) and small.clock == large.clock
        assert type(small.process.schedule) is type(large.process.schedule)
        assert f"mnist_{name}" in RECIPES and large.data.path == "somewhere"
    with pytest.raises(InputError, match="embedded data"):
        dp.named("digits_edm", "somewhere")


def test_fits_that_need_a_law_are_refused(family) -> None:
    name, model = family
    if name == "mixture":
        for what in ("steps", "ocm"):
            with pytest.raises(InputError, match=f"`fit {what}` needs .*{UNKNOWN}"):
                model.fit(what)


def test_noisy_classifier_of_a_run_sees_what_the_run_s_network_does(family) -> None:
    name, model = family
    if model.process.is_linear:
        recipe, own = noisy_classifier(model.run, dp.Digits(), 10), model.denoiser()
        assert recipe.prediction == (model.run.recipe.prediction if name == "edm" else None)
        classifier, xt, t = build_noisy_classifier(recipe), torch.randn(2, 1, 8, 8), torch.tensor(0.7).double()
        begin(classifier, recipe.start)
        seen = classifier.clock.label(own.process, t).float().expand(2)
        expected = own.net.encode(own._input(xt, t), seen, None)
        torch.testing.assert_close(classifier.features(xt, t), expected)


@pytest.mark.parametrize("name", ["ardm", "masked"])
def test_models_of_levels_are_guided_by_labels(name: str, tmp_path) -> None:
    recipe = tiny(f"digits_{name}")
    body = replace(recipe.network.body, classes=11)
    recipe = replace(recipe, condition=dp.Labels(10), network=replace(recipe.network, body=body))
    model = dp.train(recipe, out=tmp_path / name, reporter=SILENT, device="cpu")
    plain, guided = (model.sample(3, labels=7, guidance=w, steps=3).images for w in (0.0, 1e6))
    assert guided.shape == (3, 1, 8, 8) and not np.array_equal(plain, guided)
    away = model.sample(3, labels=7, guidance=-1.0, steps=3).images
    assert np.array_equal(away, model.sample(3, labels="none", steps=3).images)
    with pytest.raises(InputError, match=r"guidance_rescale=0\.5 needs a signal with noise added"):
        model.sample(3, conditioning=Conditioning(label=("7",), guidance=1.0, guidance_rescale=0.5))
