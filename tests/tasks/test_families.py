"""The table of docs/families.md: every verb on a tiny run of every family, or one line that says why not."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.codec.universal import UniversalQuantisation
from diffprob.config.pretrained import begin
from diffprob.config.recipe import build_noisy_classifier
from diffprob.data.toys import Heartbeat, SwissRoll
from diffprob.net.levels import CategoricalUNetSpec
from diffprob.net.unet import UNetSpec
from diffprob.recipes import FAMILIES, RECIPES
from diffprob.recipes.noisy_classifiers import noisy_classifier
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.fitting import AnalyticFit, FitRequest, fit
from diffprob.tasks.likelihood_methods import FixedOrder
from diffprob.tasks.model import Model
from diffprob.tasks.reporter import SILENT

TOYS = ("swiss_roll", "heartbeat")
COLUMNS = (*FAMILIES, *TOYS)
LINEAR = "needs a signal with noise added"
ORDERED = "log p of one order is known of models that draw in orders"
UNKNOWN = "only its mean and variance are known"
UNCODED = "a discrete step that is random has no code"
NOISE = dp.degradations.Denoise(noise=80)


@dataclass(frozen=True)
class Case:
    """A tiny run, images of its data in 256 grey levels, as pictures have them, and levels that could be samples."""

    model: Model
    images: np.ndarray
    levels: np.ndarray

    @property
    def hole(self) -> dp.degradations.Inpaint:
        """The middle of an image."""
        down, across = (max(1, side // 2) for side in self.images.shape[2:])
        return dp.degradations.Inpaint(box=(down // 2, across // 2, down, across))

    def bits(self, n: int, method: Any) -> float:
        """Bits/dim of n images."""
        return self.model.bits_per_dim(self.images[:n], method=method).mean

    def way(self, latent: bool) -> np.ndarray:
        """From one image to another."""
        return self.model.interpolate(self.images[0], self.images[1], points=3, steps=3, latent=latent).images

    def detected(self) -> dict[str, Any]:
        """Against the images reversed."""
        proxies = (dp.NoiseNorm(),) if self.model.process.is_linear else (dp.proxies.BoundDensity(terms=2),)
        return self.model.detect(outside=self.images[..., ::-1].copy(), n=50, proxies=proxies).to_json()

    def code(self) -> float:
        """Bits/dim of a code, which needs a fitted variance where there is noise."""
        run = self.model.run
        if self.model.process.is_linear:
            fit(run, FitRequest(what=("analytic",), analytic=AnalyticFit(n=8, times=24)))
        fresh = dp.load(run.path, device="cpu", reporter=SILENT)
        return fresh.encode(self.images[:1], steps=4, coder=UniversalQuantisation()).bits_per_dim


USES: dict[str, Callable[[Case, Path], Any]] = {
    "sample": lambda case, _: case.model.sample(2, steps=4).images,
    "likelihood, bound": lambda case, _: case.bits(2, dp.ChainBound(steps=4, terms=None)),
    "likelihood, continuous": lambda case, _: case.bits(2, dp.ContinuousTimeBound(terms=3)),
    "likelihood, order": lambda case, _: case.bits(2, FixedOrder()),
    "likelihood, flow": lambda case, _: case.bits(1, dp.ProbabilityFlow(tolerance=0.1)),
    "score": lambda case, _: case.model.score(torch.zeros(1, *case.images.shape[1:]), t=0.5),
    "detect": lambda case, _: case.detected(),
    "evaluate": lambda case, _: case.model.evaluate(samples=case.levels, n=50, metrics=("sliced",)).to_json(),
    "encode": lambda case, _: case.code(),
    "interpolate": lambda case, _: case.way(latent=False),
    "interpolate, latent": lambda case, _: case.way(latent=True),
    "restore": lambda case, _: case.model.restore(case.images[:1], NOISE).images,
    "restore, drawn": lambda case, _: case.model.restore(case.images[:1], replace(NOISE, draw=True), steps=3).images,
    "restore, missing": lambda case, _: case.model.restore(case.images[:1], case.hole, steps=3).images,
    "report": lambda case, folder: case.model.report(folder / "page.html", n=2, steps=3),
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
    **{name: {"likelihood, order": ORDERED} for name in ("ncsn", "edm", "flow", "swiss_roll")},
    "ardm": {**OF_LEVELS, "likelihood, continuous": "has no rate"},
    "ardm_upscale": {**OF_LEVELS, "likelihood, continuous": "has no rate", "restore, missing": "coarse values"},
    "masked": {**OF_LEVELS, "likelihood, order": ORDERED, "encode": UNCODED},
    "heartbeat": {
        **OF_LEVELS,
        "likelihood, order": ORDERED,
        "encode": UNCODED,
        "restore, missing": "draws levels anew",
    },
    "mixture": {
        "likelihood, order": ORDERED,
        "likelihood, bound": UNKNOWN,
        "likelihood, continuous": UNKNOWN,
        "likelihood, flow": UNKNOWN,
        "score": UNKNOWN,
        "encode": UNKNOWN,
    },
}


def tiny(name: str) -> dp.Recipe:
    recipe, toy = dp.named(name if name in TOYS else f"digits_{name}"), name in TOYS
    body = UNetSpec(in_channels=1, out_channels=1, widths=(8,), layers=1, attention=(False,), groups=4)
    levels = isinstance(recipe.network, CategoricalUNetSpec)
    network = recipe.network if toy else replace(recipe.network, body=body) if levels else body
    training = replace(recipe.training, steps=3, batch=8, warmup=1, cooldown=0, sample_every=0, checkpoint_every=3)
    # A thousand points of a line on the grid of levels: most held-out ones lie on others, as of the toy's 8,000 do.
    data = SwissRoll(n=1000, noise=0.0) if name == "swiss_roll" else recipe.data
    return replace(recipe, data=data, network=network, training=replace(training, samples=1))


@pytest.fixture(scope="module", params=COLUMNS)
def family(request, tmp_path_factory) -> tuple[str, Case]:
    name, toys = request.param, {"swiss_roll": SwissRoll("test", 60), "heartbeat": Heartbeat("test", 60)}
    out = tmp_path_factory.mktemp("families") / name
    model = dp.train(tiny(name), out=out, reporter=SILENT, device="cpu")
    data = toys.get(name, dp.Digits("test")).load()
    pictures = np.round(data.pixels[:60] * (255 / (data.levels - 1))).astype(np.uint8)
    return name, Case(model, pictures, data.pixels[:50, ..., ::-1].copy())


@pytest.mark.parametrize("use", USES)
def test_every_verb_answers_or_says_why_not(family, use: str, tmp_path) -> None:
    name, case = family
    why = REFUSED.get(name, {}).get(use)
    if why is None:
        answer = USES[use](case, tmp_path)
        assert answer is not None
        if isinstance(answer, float | torch.Tensor):
            assert bool(torch.isfinite(torch.as_tensor(answer)).all())
        return
    with pytest.raises(InputError, match=why) as caught:
        USES[use](case, tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300


def test_page_of_families_has_the_table_that_is_tested() -> None:
    text = (Path(__file__).parents[2] / "docs" / "families.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `") and line.count("|") == 2 + len(COLUMNS)]
    table = {row.split("|")[1].strip().strip("`"): [cell.strip() for cell in row.split("|")[2:-1]] for row in rows}
    assert set(USES) <= set(table)
    for use, cells in table.items():
        if use in USES:
            expected = [use not in REFUSED.get(name, {}) for name in COLUMNS]
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
    name, model = family[0], family[1].model
    if name == "mixture":
        for what in ("steps", "ocm"):
            with pytest.raises(InputError, match=f"`fit {what}` needs .*{UNKNOWN}"):
                model.fit(what)


def test_noisy_classifier_of_a_run_sees_what_the_run_s_network_does(family) -> None:
    name, model = family[0], family[1].model
    if model.process.is_linear and name not in TOYS:
        recipe, own = noisy_classifier(model.run, dp.Digits(), 10), model.denoiser()
        assert recipe.prediction == (model.run.recipe.prediction if name == "edm" else None)
        classifier, xt, t = build_noisy_classifier(recipe), torch.randn(2, 1, 8, 8), torch.tensor(0.7).double()
        begin(classifier, recipe.start)
        seen = classifier.clock.label(own.process, t).float().expand(2)
        expected = own.net.encode(own._input(xt, t), seen, None)
        torch.testing.assert_close(classifier.features(xt, t), expected)


@pytest.mark.parametrize("name", ["ardm", "ardm_upscale", "masked"])
def test_models_of_levels_are_guided_by_labels(name: str, tmp_path) -> None:
    recipe = tiny(name)
    body = replace(recipe.network.body, classes=11)
    recipe = replace(recipe, condition=dp.Labels(10), network=replace(recipe.network, body=body))
    model = dp.train(recipe, out=tmp_path / name, reporter=SILENT, device="cpu")
    plain, guided = (model.sample(3, labels=7, guidance=w, steps=3).images for w in (0.0, 1e6))
    assert guided.shape == (3, 1, 8, 8) and not np.array_equal(plain, guided)
    away = model.sample(3, labels=7, guidance=-1.0, steps=3).images
    assert np.array_equal(away, model.sample(3, labels="none", steps=3).images)
    with pytest.raises(InputError, match=r"guidance_rescale=0\.5 needs a signal with noise added"):
        model.sample(3, conditioning=Conditioning(label=("7",), guidance=1.0, guidance_rescale=0.5))
