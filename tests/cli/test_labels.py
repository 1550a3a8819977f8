"""Runs with labels from Python and from the command line: classes by name wherever images are shown or measured."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli.test_classes import FRUIT, pictures, recipe
from PIL import Image
from truth.page import Page

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.codec.poisson import PoissonFunctional
from diffprob.conditions.condition import Labels
from diffprob.config.recipe import build_model
from diffprob.data import Folder, open_data
from diffprob.runs.folder import Run
from diffprob.runs.measurements import Measurement, add_measurement
from diffprob.runs.publish import write_run
from diffprob.tasks.bounds import ChainBound
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.likelihood import likelihood_measurement
from diffprob.tasks.plan import Sampling
from diffprob.tasks.reporting import CompareRequest, ReportRequest, compare, report

LEAST = Sampling(n=4, steps=2, compute=Compute(device="cpu", batch=4))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was told which fruit it sees, of random weights that depend on the fruit."""
    folder = tmp_path_factory.mktemp("labels")
    pictures(folder / "data" / "train", FRUIT)
    pictures(folder / "data" / "test", FRUIT, 5)
    torch.manual_seed(0)
    of = recipe(Folder(str(folder / "data"), None, 1), "fruit")
    weights = {name: value + 0.1 * torch.randn_like(value) for name, value in build_model(of).state_dict().items()}
    write_run(folder / "run", of, weights, digest=Folder(str(folder / "data"), None, 1).load().digest(), step=1)
    return folder / "run"


@pytest.fixture
def run(place: Path) -> Run:
    return Run.open(place)


def test_pages_call_samples_by_their_class(run: Run) -> None:
    page = Page(report(run, ReportRequest(sampling=LEAST)).page)
    assert page.problems == [] and "told apple, banana, cherry in turn" in page.text
    alts = [image["alt"] for image in page.all("img")]
    names = ["apple", "banana", "cherry", "apple"]
    assert alts[:4] == [f"Sample of seed {k}, class {name}" for k, name in enumerate(names)]
    assert "Predicted image of seed 1, class banana at t = 1" in alts
    assert any(alt.startswith("Noised copy of image ") and ", class " in alt for alt in alts)
    one = replace(LEAST, conditioning=Conditioning(label=("cherry",)))
    page = Page(compare([run, run], CompareRequest(sampling=one)).page)
    assert sum("sample of seed 3, class cherry" in image["alt"] for image in page.all("img")) == 2
    any_class = replace(LEAST, conditioning=Conditioning(label=("none",)))
    page = Page(report(run, ReportRequest(sampling=any_class)).page)
    assert "told none" in page.text and page.all("img")[0]["alt"] == "Sample of seed 0"


def test_likelihood_given_labels_is_the_low_level_bound_with_them(place: Path, run: Run) -> None:
    """p(x|y) with the label of each image, with one for all, and p(x); and the verb has the same numbers."""
    model, chain = dp.load(str(place)), dp.ChainBound(terms=None, steps=4)
    test = model.data(split="test")
    assert test.labels is not None and len(test) == 15
    x0 = run.space.to_model(torch.from_numpy(test.images), torch.float64)
    net = run.load(variance=dp.variances.Zero())
    rng, times = dp.Rng(torch.from_numpy(test.index)), dp.grids.Uniform()(net.process, 4)

    def bits(network: Any) -> np.ndarray:
        nats = dp.variational_bound(dp.Clip(network), x0, times, rng, dp.Decoder(256)).total
        return nats.numpy() / np.log(2) / 64

    own = model.bits_per_dim(method=chain, labels="own")
    np.testing.assert_allclose(own.per_image, bits(net.condition_on(torch.from_numpy(test.labels))), rtol=1e-6)
    one = model.bits_per_dim(method=chain, labels="banana")
    np.testing.assert_allclose(one.per_image, bits(net.condition_on(torch.tensor([1]))), rtol=1e-6)
    none = model.bits_per_dim(method=chain)
    np.testing.assert_allclose(none.per_image, bits(net), rtol=1e-6)
    assert len({own.mean, one.mean, none.mean}) == 3
    assert "bits/dim given its own label (var" in repr(own) and "bits/dim given banana (var" in repr(one)
    assert "bits/dim (variational" in repr(none) and none.settings["told"] == "none"
    some = model.bits_per_dim(method=chain, labels="own", n=7)  # the same images, in another batch
    np.testing.assert_allclose(some.per_image, own.per_image[np.isin(own.index, some.index)], rtol=1e-6)
    names = [likelihood_measurement(result).name for result in (own, one, none)]
    assert names == [f"bits/dim{given} (variational bound)" for given in (" given its own label", " given banana", "")]


def test_verb_measures_given_labels(diffprob: Callable, place: Path) -> None:
    asked = ("likelihood", place, "--steps", "4", "--terms", "all", "--label", "own", "--device", "cpu", "--no-record")
    code, out, _ = diffprob(*asked)
    model = dp.load(str(place))
    mean = model.bits_per_dim(method=dp.ChainBound(terms=None, steps=4), labels="own").mean
    assert code == 0 and f"variational bound: {mean:.4f}" in out and "told its own label, levels 256" in out


def test_labels_that_cannot_be_measured_are_refused(diffprob: Callable, place: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8), np.uint8))
    pictures(tmp_path / "more", {"apple": 0, "durian": 9}, 2)
    for arguments, told in (
        (("--label", "banan"), "--label banan: fruit: no class 'banan' among apple, banana, cherry; did you mean 'ba"),
        (("--label", "1"), "--label 1: fruit: no class '1' among apple, banana, cherry"),
        ((tmp_path / "x.npy", "--label", "own"), "--label own: x has no labels"),
        ((tmp_path / "more", "--label", "own"), "no class 'durian' among apple, banana, cherry"),
    ):
        code, _, err = diffprob("likelihood", place, *arguments)
        assert code == 2 and told in err.splitlines()[-1], err
    code, _, err = diffprob("likelihood", "digits", "--label", "own")
    assert code == 2 and err.endswith(
        "digits was trained without any; --labels of a training tells it those of the images\n"
    )
    with pytest.raises(InputError, match='labels="banan"'):
        dp.load(str(place)).bits_per_dim(labels="banan")


def test_run_that_always_had_labels_says_how_to_measure(place: Path, tmp_path: Path) -> None:
    run = Run.open(place)
    assert isinstance(run.recipe.condition, Labels)
    condition = replace(run.recipe.condition, drop=0.0)
    of = replace(run.recipe, condition=condition, network=replace(run.recipe.network, classes=3))
    write_run(tmp_path / "run", of, build_model(of).state_dict(), digest=run.meta["data"], step=1)
    model, chain = dp.load(str(tmp_path / "run")), dp.ChainBound(terms=None, steps=2)
    with pytest.raises(InputError, match=r'always told a label.*labels="own" measures'):
        model.bits_per_dim(method=chain)
    assert np.isfinite(model.bits_per_dim(method=chain, labels="own").mean)


def test_samples_of_one_class_do_not_take_the_place_of_all(run: Run) -> None:
    """What was measured of samples of one class, or guided ones, stands beside what was measured of all."""
    drawn = {"sampler": "DDIM()", "evaluations": 5}
    items: list[Measurement] = []
    for more in ({"told": "all in turn"}, {"told": "apple"}, {"told": "apple", "guidance": "2"}, {"told": "apple"}):
        items = add_measurement(items, Measurement("KID", 1.0, 9, 0, details={**drawn, **more}))
    assert [item.details["told"] for item in items] == ["all in turn", "apple", "apple"]
    bits = Measurement("bits/dim", 1.0, 9, 0)
    assert len(add_measurement([bits], replace(bits, details={"told": "none"}))) == 1


def test_pictures_of_another_size_are_converted_only_where_that_is_asked_for(
    diffprob: Callable, place: Path, tmp_path: Path
) -> None:
    """One's own pictures, as they were before the training scaled them: `sample --from` and `interpolate`."""
    for name, size in (("a", (20, 14)), ("b", (9, 30))):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    least = ("--steps", "2", "--device", "cpu", "--label", "banana")
    refused = diffprob("interpolate", place, tmp_path / "a.png", tmp_path / "b.png", *least)
    assert refused.code == 2 and refused.error.endswith("; --resize would convert them")
    mixed = diffprob("interpolate", place, tmp_path / "a.png", tmp_path / "b.png", *least, "--resize", "--json")
    assert mixed.code == 0 and json.loads(mixed.out)["b_converted"] == "scaled from 30x9 and centre-cropped"
    with pytest.warns(UserWarning, match="to 8x8"):
        rows = dp.load(str(place)).sample_from(tmp_path / "a.png", 2, at=(0.5,), resize=True, steps=2, labels="banana")
    drawn = diffprob("sample", place, "--from", tmp_path / "a.png", "--at", "0.5", "-n", "2", *least, "--resize")
    assert drawn.code == 0 and "told: banana" in drawn.out and rows.images.shape[-2:] == (8, 8)
    assert diffprob("sample", place, "--resize").error.startswith("--resize goes with --from IMAGE")


def test_rate_and_distortion_given_a_label_are_those_of_its_likelihood(run: Run) -> None:
    model, chain = dp.Model.of(run), ChainBound(terms=None, steps=3)
    for labels in (None, "own", "cherry"):
        whole = model.bits_per_dim(method=chain, labels=labels, n=4).mean
        rates = model.rate_distortion(chain=chain, labels=labels, n=4)
        assert rates.total == pytest.approx(whole, rel=1e-9) and rates.settings["told"] == (
            {"own": "its own label"}.get(str(labels), str(labels).lower())
        )
    with pytest.raises(ValueError, match="codes are told no label"):
        model.rate_distortion(measured=PoissonFunctional(), labels="own")


def test_samples_in_a_file_keep_their_labels(diffprob: Callable, run: Run, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "drawn.npz"
    assert diffprob("sample", place, "-n", 5, "--steps", 2, "--out", out, "--device", "cpu").code == 0
    with np.load(out) as kept:
        assert kept["labels"].tolist() == [0, 1, 2, 0, 1]
    assert np.array_equal(np.asarray(open_data(str(out)).load().labels), [0, 1, 2, 0, 1])
