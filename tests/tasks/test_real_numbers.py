"""Real numbers by one command: trained, drawn, bounded and written in the user's own units."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.cli.main import main
from diffprob.space.real_numbers import Reals
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
    for command, message in (
        (["encode", run, "--out", str(place / "x.code")], "grey levels"),
        (["train", "--data", str(place / "images.npy"), "--size", "4", "--out", str(place / "n")], "own size"),
        (["likelihood", run, str(place / "vectors.npy")], "dims=2|--dims 2"),
        (["likelihood", run, "--method", "flow", "--repeats", "2"], "no bins"),
        (["detect", run, str(place / "u.npy")], "shape"),
    ):
        assert main(command) == 2, command
        err = capsys.readouterr().err
        assert err.count("error:") == 1 and any(part in err for part in message.split("|")), err
    with pytest.raises(InputError, match="numbers"):
        dp.load(run, reporter=SILENT).bits_per_dim(np.zeros((2, 3, 8, 8)))
