"""Numbers that are not finite never leave a verb: exit code 3, one line, and nothing written."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli.commands import TINY, contents

from diffprob.base.errors import NumericalError
from diffprob.cli import doctor
from diffprob.storage import tensors
from diffprob.storage.files import measure
from diffprob.storage.manifest import Manifest
from diffprob.tasks import drawing

NO_LIGHT = [*("-n", "2"), *("--device", "cpu")]
VERBS = {
    "sample": [*NO_LIGHT, "--steps", "2"],
    "rate": NO_LIGHT,
    "likelihood": NO_LIGHT,
    "evaluate": ["-n", "60", "--device", "cpu", "--metrics", "frechet"],
    "detect": ["digits", "--device", "cpu", "-n", "60"],
    "report": NO_LIGHT,
    "fit": ["analytic", "steps", *NO_LIGHT],
}


@pytest.fixture
def spoilt(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny run as an older version could have left it: hashes right, a weight not a number."""
    path = tiny / "model.safetensors"
    weights, about = tensors.read(path), tensors.read_metadata(path)
    weights["net.conv_in.weight"][0] = math.nan
    with monkeypatch.context() as patch:
        patch.setattr(tensors, "check_tensors", lambda *_: None)
        path.write_bytes(b"".join(bytes(piece) for piece in tensors.pieces(weights, about)))
    manifest = Manifest.read(tiny)
    manifest.files[path.name] = measure(path)
    manifest.write()
    return tiny


def test_weights_that_are_not_finite_are_an_error_in_every_verb(diffprob: Callable, spoilt: Path) -> None:
    before = contents(spoilt)
    for verb, options in VERBS.items():
        done = diffprob(verb, spoilt, *options)
        assert done.code == 3, (verb, done.err)
        assert "not finite: net.conv_in.weight holds NaN" in done.error, verb
    assert contents(spoilt) == before


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_results_are_checked_before_printing(
    diffprob: Callable, monkeypatch: pytest.MonkeyPatch, json: tuple[str, ...]
) -> None:
    monkeypatch.setattr(doctor, "run", lambda _: {"rows": [{"rate": math.nan}]})
    done = diffprob("doctor", *json)
    assert (done.code, done.error) == (3, "rows.0.rate is not finite (nan): no result to give")


def test_weights_are_blamed_only_if_not_finite() -> None:
    net = torch.nn.Linear(2, 2)
    assert drawing.blame(net).startswith("the weights are finite")
    assert "weights" not in drawing.blame(lambda x, t: x)
    with torch.no_grad():
        net.bias[0] = math.inf
    assert drawing.blame(net) == "the weights are damaged, bias holds infinity"


def test_diverging_training_exits_with_3_and_can_be_corrected(diffprob: Callable) -> None:
    """No checkpoint holds a number that is none, and a run without any stands in nobody's way."""
    settings = [*TINY, "--set", "training.warmup=0", "--steps", "3", "--out", "wild"]
    for every in (1, 2):
        wild = ["--set", "training.lr=1e38", "--set", f"training.checkpoint_every={every}"]
        done = diffprob("train", "digits", *settings, *wild)
        assert done.code == 3 and "finite" in done.error
        for path in Path("wild").glob("state/*/*.safetensors"):
            assert all(bool(value.isfinite().all()) for value in tensors.read(path).values()), path
    assert not list(Path("wild/state").glob("*"))
    assert "never came to a checkpoint" in diffprob("train", "digits", *settings, "--dry-run").out
    done = diffprob("train", "digits", *settings)
    assert (done.code, "begun anew" in done.err) == (0, True)


def test_values_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NumericalError, match="x holds NaN"):
        list(tensors.pieces({"x": torch.tensor([math.nan])}))
