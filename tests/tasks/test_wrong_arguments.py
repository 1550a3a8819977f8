"""What a user gives the face by mistake is refused by name, in one line, before anything is computed or written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.model import Model, load, train
from diffprob.tasks.reporter import Silent
from diffprob.tasks.training import set_fields

BLACK = np.zeros((2, 1, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> Model:
    return load("digits", device="cpu", reporter=Silent())


def refused(match: str, ask: Any) -> None:
    with pytest.raises((ValueError, dp.InputError), match=match) as caught:
        ask()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"sampler": "DDIM()"}, r"sampler cannot be 'DDIM\(\)'.*DDIM\(\) would be right"),
        ({"sampler": dp.DDIM}, "sampler cannot be <class"),
        ({"sampler": dp.samplers}, "sampler cannot be"),
        ({"grid": "Uniform()"}, "grid cannot be"),
        ({"grid": dp.Uniform}, "grid cannot be"),
        ({"grid": torch.linspace(1, 0, 3)}, "grid cannot be"),
        ({"variance": "Analytic()"}, "variance cannot be"),
        ({"variance": dp.Analytic}, "variance cannot be"),
        ({"conditioning": {"label": "7"}}, "conditioning must be a Conditioning"),
        ({"n": np.int64(2)}, r"n must be a whole number.*int\(n\) would be right"),
        ({"labels": []}, r"labels: 7, \"cat\""),
        ({"labels": 3.0}, "labels: 7"),
        ({"labels": [True]}, "labels: 7"),
        ({"labels": torch.tensor([1.5])}, "labels: 7"),
    ],
    ids=str,
)
def test_drawing(model: Model, fields: dict[str, Any], match: str) -> None:
    refused(match, lambda: model.sample(**{"n": 1, "steps": 1, **fields}))


@pytest.mark.parametrize(
    "fields",
    [
        {"label": "7"},
        {"label": ()},
        {"label": (7,)},
        {"caption": "a seven"},
        {"guidance_interval": 0.5},
        {"guidance_interval": (0.1, 0.2, 0.3)},
        {"guide_with": 3},
        {"classify_with": Path("x")},
    ],
    ids=str,
)
def test_conditioning(fields: dict[str, Any]) -> None:
    refused(f"^{next(iter(fields))}", lambda: Conditioning(**fields))


@pytest.mark.parametrize("labels", [7, np.int64(7), [np.int64(7)], torch.tensor(7), torch.tensor([7]), np.array([7])])
def test_labels_of_arrays_are_numbers(labels: Any) -> None:
    mnist = load("mnist_labels", device="cpu", reporter=Silent())
    assert mnist._sampling(1, {"labels": labels}).conditioning.label == ("7",)


@pytest.mark.parametrize(
    "images", [[BLACK[0]], BLACK.tolist(), 3, b"x", {"images": BLACK}], ids=lambda x: type(x).__name__
)
def test_images(model: Model, images: Any) -> None:
    for ask in (
        lambda: model.data(images),
        lambda: model.bits_per_dim(images),
        lambda: model.sample_from(images),
        lambda: model.detect(images),
        lambda: model.evaluate(images),
        lambda: model.restore("digits", dp.degradations.Denoise(), clean=images),
    ):
        refused("images cannot be of type", ask)
    refused("samples cannot be", lambda: model.evaluate(samples=images))
    refused("pixels must be a numpy array", lambda: dp.Images(images))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"process": dp.Cosine()}, r"^process must be a LinearProcess\(...\) such as"),
        ({"process": "vp"}, "^process must be a LinearProcess"),
        ({"prediction": "V"}, r"^prediction cannot be 'V'.*predictions.V\(\) would be right"),
        ({"prediction": dp.predictions.V}, "^prediction cannot be <class"),
        ({"clock": 3}, "^clock cannot be 3"),
        ({"process": None, "scheduler": 3}, "^scheduler cannot be 3"),
        ({"shape": 8}, "^shape must be"),
        ({"shape": ()}, "^shape must be"),
        ({"shape": (-2,)}, r"^shape\[0\] must be at least 1"),
        ({"shape": "ab"}, "^shape must be"),
        ({"shape": (2.0,)}, r"^shape\[0\] must be a whole number"),
        ({"compute": "cpu"}, "^compute must be"),
    ],
    ids=str,
)
def test_parts_of_a_model(fields: dict[str, Any], match: str) -> None:
    refused(match, lambda: Model(torch.nn.Identity(), **{"shape": (2,), "process": dp.LinearProcess(), **fields}))


def test_what_is_a_model(model: Model) -> None:
    exact = Model(dp.TwoPoint(), shape=np.array([2]))
    assert exact.shape == (2,) and type(exact.shape[0]) is int
    images = Model(dp.TwoPoint(), shape=np.array([1, 8, 8]), levels=np.int64(17))  # pyright: ignore[reportArgumentType]
    assert repr(images.space) == "Pixels(shape=(1, 8, 8), levels=17)"
    for wrong, match in ((model, "is a Model already"), (model.run, r"dp.load\(run\)"), (exact.run, "run of a Model")):
        refused(match, lambda wrong=wrong: Model(wrong, shape=(2,)))
    refused(r"dp.load\('digits'\)", lambda: Model("digits", shape=(1, 8, 8)))
    refused(r"TwoPoint is a class", lambda: Model(dp.TwoPoint, shape=(2,)))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_answers_that_are_not_floating(dtype: torch.dtype) -> None:
    class Wrong(torch.nn.Module):
        def forward(self, x: torch.Tensor, _t: torch.Tensor) -> torch.Tensor:
            return x.to(dtype)

    refused(f"answered with {dtype}", lambda: Model(Wrong(), shape=(2,), process=dp.LinearProcess()).sample(1, steps=1))


def test_images_that_are_tensors_or_have_listed_labels() -> None:
    refused("pixels must be a numpy array", lambda: dp.Images(torch.from_numpy(BLACK)))
    refused("labels must be a numpy array", lambda: dp.Images(BLACK, labels=[0, 1]))


def test_methods(model: Model) -> None:
    for method in (dp.ChainBound, "ChainBound()", 3, None, dp.ProbabilityFlow, dp.DDIM()):
        refused("method must be a ChainBound", lambda method=method: model.bits_per_dim("digits", method=method))
        if method is not None:
            refused("method must be a ChainBound", lambda method=method: model.log_prob("digits", method=method))
    refused("chain must be", lambda: model.rate_distortion("digits", chain=dp.ProbabilityFlow()))
    refused("grid cannot be", lambda: dp.ChainBound(grid="Uniform()"))
    refused("variance cannot be", lambda: dp.ChainBound(variance=dp.Analytic))
    refused("resize must be True or False", lambda: model.data(BLACK, resize="yes"))


def test_points_and_times(model: Model) -> None:
    x = torch.zeros(2, 1, 8, 8)
    for wrong in (None, "a", [x, x], np.array(["a"])):
        refused("^points", lambda wrong=wrong: model.score(wrong, 0.3))
    for t in (None, "0.3", 1j, torch.tensor([[0.1]]), [0.1, 0.2, 0.3]):
        for ask in (model.score, model.denoise):
            refused("^t is a number in", lambda t=t, ask=ask: ask(x, t))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_points_that_are_not_finite(value: float) -> None:
    exact, x = Model(dp.TwoPoint(), shape=(2,)), torch.tensor([[0.1, value]])
    for ask in (exact.log_prob, lambda x: exact.score(x, 0.3), lambda x: exact.denoise(x, 0.3)):
        with pytest.raises(dp.NumericalError, match=r"^the points are not finite: x holds"):
            ask(x)


def test_points_are_no_images() -> None:
    exact, x = Model(dp.TwoPoint(), shape=(2,)), np.zeros((4, 2), np.uint8)
    asked = {
        "data": lambda: exact.data(x),
        "evaluation": lambda: exact.evaluate(x),
        "detection": lambda: exact.detect(x, inside=x),
        "this": lambda: exact.reconstruct(x),
    }
    for what, ask in asked.items():
        refused(f"^{what} is for images of grey levels", ask)
    refused("^this is for images", lambda: exact.restore(x, dp.degradations.Denoise()))
    refused("^this is for images", lambda: exact.translate(x, dp.translations.SDEdit()))


def test_wrong_names_have_a_suggestion(model: Model) -> None:
    for ask in (
        lambda: model.log_prob(BLACK, metod=dp.ChainBound()),
        lambda: Model(dp.TwoPoint(), shape=(2,)).log_prob(torch.zeros(1, 2), metod=dp.ProbabilityFlow()),
    ):
        with pytest.raises(TypeError, match=r"^log_prob\(\) .*'metod'; did you mean 'method'\?"):
            ask()
    for wrong, right in (("EulerMaruyam", "EulerMaruyama"), ("Modle", "Model"), ("smplers", "samplers")):
        with pytest.raises(AttributeError, match=f"{wrong}'; did you mean '{right}'"):
            getattr(dp, wrong)


def test_where_and_who_hears() -> None:
    assert load("digits", device=torch.device("cpu")).compute.on() == torch.device("cpu")
    for device in (0, None):
        refused("no such device", lambda device=device: load("digits", device=device))
    refused("best must be True or False", lambda: load("digits", best="yes"))
    refused("reporter cannot be", lambda: load("digits", reporter=print))
    refused("progress must be", lambda: load("digits", progress="yes"))


@pytest.mark.parametrize("what", [BLACK, torch.from_numpy(BLACK), [BLACK], dp.Images(BLACK), None, 3, b"x", dp.Recipe])
def test_what_is_trained(what: Any, tmp_path: Path) -> None:
    refused("cannot be trained: a recipe", lambda: train(what, out=tmp_path / "x", steps=1))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"data": "x.npy"}, "given twice"),
        ({"out": 3}, "^out must be"),
        ({"seconds": "x"}, "^seconds must"),
        ({"seconds": -1}, "^seconds must"),
        ({"labels": "yes"}, "^labels must be"),
        ({"overrides": "a=1"}, "^overrides must be"),
        ({"overrides": {3: 1}}, "^overrides must be"),
        ({"reporter": 3}, "^reporter cannot"),
        ({"halt": 3}, "^halt cannot"),
    ],
    ids=str,
)
def test_training(fields: dict[str, Any], match: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", BLACK)
    refused(match, lambda: train(tmp_path / "x.npy", **{"out": tmp_path / "run", "steps": 1, **fields}))
    assert not (tmp_path / "run").exists()


def test_names_of_fits_others_and_files(model: Model) -> None:
    for what in (3, ["steps"]):
        refused(r"^what\[0\] must be", lambda what=what: model.fit(what))
    refused("^others must be a tuple", lambda: model.detect(BLACK, others="glow"))
    samples = model.sample(1, steps=1)
    for path in (None, 3):
        refused("^path must be", lambda path=path: samples.save(path))


def test_an_override_may_be_a_number_of_numpy() -> None:
    recipe = set_fields(dp.named("digits"), {"training.lr": np.float64(1e-4), "training.steps": np.int64(7)})
    assert (recipe.training.lr, recipe.training.steps) == (1e-4, 7)
