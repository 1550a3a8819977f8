"""Real numbers by one command: trained, drawn, bounded and written in the user's own units."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.cli.main import main
from diffprob.runs.folder import open_run
from diffprob.space.real_numbers import Reals
from diffprob.tasks.first_report import make_first_report
from diffprob.tasks.reporter import SILENT

RNG = np.random.default_rng(0)
SHAPES = {"vectors": (3,), "signals": (1, 16), "images": (2, 8, 8), "volumes": (1, 4, 4, 4)}
SMALL = {kind: {"network.widths": "(16,)", "training.batch": 8} for kind in SHAPES}
SMALL["vectors"] = {"network.width": 16}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbers")
    for kind, shape in SHAPES.items():
        np.save(folder / f"{kind}.npy", RNG.normal(50, 20, (120, *shape)))
        dp.train(
            str(folder / f"{kind}.npy"),
            out=folder / kind,
            steps=2,
            dims=len(shape) - 1,
            overrides=SMALL[kind],
            reporter=SILENT,
        )
    return folder


@pytest.mark.parametrize("kind", SHAPES)
def test_each_kind_trains_draws_and_is_bounded_in_its_own_units(place: Path, kind: str, capsys) -> None:
    model = dp.load(place / kind, reporter=SILENT)
    space, shape = model.space, SHAPES[kind]
    assert isinstance(space, Reals) and space.shape == shape and space.kind == kind
    drawn = model.sample(3, steps=3, seed=1)
    assert drawn.images.dtype == np.float32 and drawn.images.shape == (3, *shape)
    assert abs(drawn.images.mean() - 50) < 20  # units are the user's, not the model's
    for name in ("x.npy", "x.npz", "x.png"):
        drawn.save(place / name)
    assert np.array_equal(np.load(place / "x.npy"), drawn.images)
    bound = model.bits_per_dim(n=4, method=dp.ChainBound(terms=5))
    assert bound.unit.name == "nats/dim" and "bits" not in json.dumps(bound.to_json())
    assert "nats/dim" in repr(bound) and "bits" not in repr(bound)
    # A new network that predicts v = 0 says N(0, I) of z: nats of a normal law of the data's own scale.
    assert abs(bound.mean - (0.5 * math.log(2 * math.pi * math.e) + math.log(20))) < 1
    assert np.allclose(bound.parts["scaling"], -space.log_det() / space.dimensions)
    if kind == "vectors":
        assert main(["likelihood", str(place / kind), "-n", "3", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["unit"] == "nats/dim"
    assert main(["show", str(place / kind)]) == 0
    shown = capsys.readouterr().out
    assert "bits/dim" not in shown and kind in shown
    assert "diffprob evaluate" in shown and "diffprob report" in shown
    assert "bits/dim" not in (place / kind / "README.md").read_text()


def test_flow_and_bound_have_the_units_of_the_data(place: Path) -> None:
    model = dp.load(place / "vectors", reporter=SILENT)
    points = np.load(place / "vectors.npy")[:4].astype(np.float32)
    flow = model.log_prob(points, method=dp.ProbabilityFlow(divergence=dp.divergences.Exact()))
    # Two steps of training leave N(0, I) in model space nearly as it was.
    z = (points - np.array(model.space.mean)) / np.array(model.space.scale)
    closed = -0.5 * (z**2).sum(1) - 1.5 * math.log(2 * math.pi) - np.log(model.space.scale).sum()
    assert np.allclose(flow, closed, atol=0.5)


def test_what_has_no_meaning_for_numbers_is_refused_in_one_line(place: Path, capsys) -> None:
    run = str(place / "images")
    np.save(place / "u.npy", np.zeros((9, 8, 8), np.uint8))
    np.savetxt(place / "t.csv", RNG.normal(size=(60, 3)), delimiter=",")
    for command, message in (
        (["encode", run, "--out", str(place / "x.code")], "grey levels"),
        (["train", "--data", str(place / "images.npy"), "--size", "4", "--out", str(place / "n")], "own size"),
        (["likelihood", run, str(place / "vectors.npy")], "dims=2|--dims 2"),
        (["likelihood", run, "--method", "flow", "--repeats", "2"], "no bins"),
        (["detect", run, str(place / "u.npy")], "shape"),
        (["rate", run], "grey levels"),
        (["translate", run, str(place / "images.npy"), "--method", "sdedit", "--out", str(place / "t")], "grey levels"),
        (["interpolate", run, f"{place}/images.npy:0", f"{place}/images.npy:1", "--out", str(place / "i.png")], "grey"),
        (["sample", run, "--from", f"{place}/images.npy:0", "--at", "0.5", "--out", str(place / "f.png")], "grey"),
        (["baseline", "glow", str(place / "t.csv"), "--out", str(place / "b")], "grey levels"),
        (["data-check", str(place / "t.csv")], "grey levels"),
    ):
        assert main(command) == 2, command
        err = capsys.readouterr().err
        assert err.count("error:") == 1 and any(part in err for part in message.split("|")), err
    with pytest.raises(InputError, match="numbers"):
        dp.load(run, reporter=SILENT).bits_per_dim(np.zeros((2, 3, 8, 8)))


MEAN, SPREAD = np.array([10.0, -3.0]), np.diag([4.0, 0.5])


def _normal(n: int, mean: np.ndarray, covariance: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal(mean, covariance, n).astype(np.float32)


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a normal law in the plane, hardly trained, that holds out 2,000 of 4,000 vectors."""
    folder = tmp_path_factory.mktemp("gaussian")
    np.savez(folder / "plane.npz", x_train=_normal(2000, MEAN, SPREAD, 1), x_test=_normal(2000, MEAN, SPREAD, 2))
    settings = {"network.width": 16, "training.batch": 8}
    dp.train(str(folder / "plane.npz"), out=folder / "run", steps=2, dims=0, overrides=settings, reporter=SILENT)
    return folder / "run"


def test_the_frechet_distance_of_two_normal_laws_is_that_of_their_standardised_numbers(gaussian: Path) -> None:
    model = dp.load(gaussian, reporter=SILENT)
    mean, covariance = MEAN + np.array([1.0, -0.5]), np.array([[5.0, 1.0], [1.0, 1.0]])
    result = model.evaluate(samples=_normal(2000, mean, covariance, 3), metrics=("frechet",))
    scale = np.array(model.space.scale)
    one, two = (part / np.outer(scale, scale) for part in (SPREAD, covariance))
    # the first covariance is nearly I, so that they commute: |m1 - m2|^2 + sum (sqrt(l1) - sqrt(l2))^2
    roots = np.sqrt(np.linalg.eigvalsh(two)) - np.sqrt(np.linalg.eigvalsh(one))
    closed = float((((mean - MEAN) / scale) ** 2).sum() + (roots**2).sum())
    estimate = result.estimates["Frechet distance"]
    assert estimate.low is not None and estimate.high is not None
    # The interval is of the samples; the held-out data are as many, so that their error is about as large.
    error = (estimate.high - estimate.low) / (2 * 1.96) * math.sqrt(2)
    assert abs(estimate.value - closed) < 4 * error and error < 0.1 * closed
    real = result.real["Frechet distance"].value
    assert real < 0.02 * closed  # held-out against training data of one law
    assert "standardised" not in result.features and "vectors" in result.features


def test_every_kind_is_evaluated_and_what_has_no_meaning_is_refused(place: Path, capsys) -> None:
    for kind in SHAPES:
        result = dp.load(place / kind, reporter=SILENT).evaluate(n=20, steps=2)
        titles = list(result.estimates)
        assert {"Frechet distance", "KID"} <= {*titles} and not any("pixels" in title for title in titles), titles
        assert any(title.startswith("memorisation ratio") for title in titles), titles
    for command, message in (
        (["evaluate", str(place / "vectors"), "-n", "20", "--metrics", "sliced"], "grey levels"),
        (["evaluate", str(place / "vectors"), "-n", "20", "--features", "classifier"], "grey levels"),
    ):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert err.count("error:") == 1 and message in err, err


@pytest.mark.parametrize("kind", ["vectors", "volumes"])  # figures and colours
def test_a_training_ends_with_samples_nats_a_distance_and_a_page(place: Path, kind: str) -> None:
    run = open_run(str(place / kind))
    first = make_first_report(run, "cpu", {}, reporter=SILENT)
    assert not first.left_out and not first.no_time, first
    assert "nats/dim" in first.worth and kind in first.worth and "Frechet distance" in first.worth
    assert first.low is not None and first.distance is not None and first.real_distance is not None
    assert (place / kind / "samples.png").read_bytes().startswith(b"\x89PNG")
    page = (place / kind / "report.html").read_text()
    assert "nats/dim" in page and "bits/dim" not in page and kind in page
    assert page.count("<img") > 11  # samples, chains both ways, data


def test_two_normal_laws_are_told_apart_as_often_as_their_radii_say(gaussian: Path, tmp_path: Path, capsys) -> None:
    model, n = dp.load(gaussian, reporter=SILENT), 800
    wide = _normal(n, MEAN, 4 * SPREAD, 5)
    result = model.detect(outside=wide, n=n)
    assert len(result.separations) == 3 and all(pair.partial is None for pair in result.correlations)
    assert "complexity" not in result.to_csv().splitlines()[0]
    by = {pair.proxy: pair.auroc for pair in result.separations}
    # A new network is the denoiser of N(0, I), whose score falls with |z|^2, inside 2 E and outside 8 E' with
    # exponential E, E': P(E < 4 E') = 4/5.
    auroc = by["DenoisingScore"]
    assert auroc.low is not None and auroc.high is not None
    assert abs(auroc.value - 0.8) < 4 * (auroc.high - auroc.low) / (2 * 1.96)
    ranked = model.detect(wide[:200] + np.float32(20))
    assert len(ranked.rankings[0].flagged) == 200
    np.save(tmp_path / "wide.npy", wide[:200])
    for k, more in enumerate(([], ["--outside"])):
        out = ["--out", str(tmp_path / f"d{k}"), "-n", "100"]
        assert main(["detect", str(gaussian), *more, str(tmp_path / "wide.npy"), *out]) == 0, more
    assert "AUROC" in capsys.readouterr().out
    assert main(["detect", str(gaussian), str(tmp_path / "wide.npy"), "--proxy", "ComplexityCorrected()"]) == 2
    err = capsys.readouterr().err
    assert err.count("error:") == 1 and "grey levels" in err, err
