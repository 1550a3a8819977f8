"""`detect` from Python: the numbers of the verb, to the bit; of images in memory too, and of exact models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tasks.recording import RecordingReporter

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.cli.main import main
from diffprob.data import Digits
from diffprob.density.anomaly import AnomalyMap
from diffprob.density.defaults import DEFAULT, QUICK
from diffprob.density.noise import NoiseNorm, ReconstructionError
from diffprob.runs.folder import Run
from diffprob.tasks import detection, scoring
from diffprob.tasks.compute import Compute
from diffprob.tasks.detection import DetectionRequest, detect, prepare_detection
from diffprob.tasks.images import ImageBatch, ImageSelection
from diffprob.tasks.reporter import SILENT

CPU = Compute(device="cpu")
FEW = (NoiseNorm(noises=1), ReconstructionError(noises=1))
WORDS = ("--proxy", "NoiseNorm(noises=1)", "--proxy", "ReconstructionError(noises=1)", "-n", "50", "--device", "cpu")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "TIMES", (0.5,))
    monkeypatch.setattr("diffprob.tasks.detection_files.comparison_figures", lambda *_: [])


def upside_down(n: int = 60) -> np.ndarray:
    return np.ascontiguousarray(Digits("test").load().take(np.arange(n))[:, :, ::-1] * np.uint8(15))


def make_request(**more: Any) -> DetectionRequest:
    return DetectionRequest(**{"proxies": FEW, "n": 50, "resize": True, "compute": CPU, **more})


def test_detect_matches_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd, out = str(tmp_path / "odd.npy"), str(tmp_path / "out")
    np.save(odd, upside_down())
    command = ("detect", "digits", "--outside", odd, "--resize", *WORDS, "--out", out, "--json")
    assert main(command) == 0
    verb, reporter = json.loads(capsys.readouterr().out), RecordingReporter()
    result = detect(Run.open("digits"), make_request(outside=(odd,)), reporter)
    assert verb == {**result.to_json(), "out": out, "dry_run": False, "files": ["detect.json", "scores.csv"]}
    assert [(what, total, bar.done) for what, total, bar in reporter.bars] == [
        *(
            (f"{proxy}(noises=1), {name}", 50, 50)
            for proxy in ("NoiseNorm", "ReconstructionError")
            for name in ("digits test", "odd.npy")
        ),
        ("integrability", 1, 1),
    ]
    assert result.to_csv() == Path(out, "scores.csv").read_text()
    assert reporter.notes[-1] == f"{odd}: 256 grey levels made 17"
    assert [separation.proxy for separation in result.separations] == [
        "NoiseNorm(noises=1)",
        "ReconstructionError(noises=1)",
    ]
    assert "AUROC" in repr(result) and "<td>odd.npy</td>" in result._repr_html_() and not result.fits.new


def test_images_in_memory_are_ranked_like_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "odd.npy", upside_down(9))
    command = (
        "detect",
        "digits",
        str(tmp_path / "odd.npy"),
        "--resize",
        *WORDS,
        "--map",
        "AnomalyMap(steps=2, repeats=1)",
    )
    assert main((*command, "--out", str(tmp_path / "out"), "--json")) == 0
    verb = json.loads(capsys.readouterr().out)
    result = detect(Run.open("digits"), make_request(judged=upside_down(9), map=AnomalyMap(steps=2, repeats=1)))
    computed = result.to_json()
    assert [computed[name] for name in ("ranks", "map", "map_means")] == [
        verb[name] for name in ("ranks", "map", "map_means")
    ]
    assert computed["outside"][0] == {**computed["outside"][0], "name": "judged", "role": "other data", "n": 9}
    ranking = result.rankings[0]
    assert ranking.p_values[ranking.order].tolist() == sorted(ranking.p_values.tolist())
    assert result.maps is not None and result.maps.values.shape == (8, 1, 8, 8)
    assert repr(result).startswith(f"NoiseNorm(noises=1) flags {len(ranking.flagged)} of 9")


def test_detect_accepts_sets_in_memory_and_exact_models() -> None:
    """Of a model that is its training images these are denser than noise; it has no images of its own."""
    train = Digits("train").load()
    exact = dp.FiniteData(
        dp.Pixels((1, 8, 8), 17).to_model(torch.from_numpy(train.take(range(100)))), dp.LinearProcess(dp.Cosine())
    )
    run = dp.Model(exact, shape=(1, 8, 8), levels=17).run
    noise = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    known = train.some(range(60))
    result = detect(run, make_request(inside=known, outside=(noise, upside_down()), proxies=(ReconstructionError(),)))
    assert [image_set.name for image_set in result.sets] == ["inside", "outside 1", "outside 2"]
    assert result.separations[0].auroc.value > 0.99
    with pytest.raises(InputError, match=r"its data has no held-out images; inside=DATA would be right"):
        prepare_detection(run, make_request(outside=(noise,)))
    with pytest.raises(InputError, match="the given model has no images of its own"):
        prepare_detection(run, make_request(inside=known, outside=(noise,), proxies=None))


def test_score_does_not_depend_on_position_or_batch() -> None:
    """Backwards, alone, or twice among others: the same picture has the same number, to the bit."""
    run, device = Run.open("digits"), torch.device("cpu")
    levels = Digits("test").load().take(np.arange(5))
    orders = {"as it is": [0, 1, 2, 3, 4], "backwards": [4, 3, 2, 1, 0], "alone": [3], "twice": [2, 0, 2]}
    for proxy in (ReconstructionError(noises=1), NoiseNorm(noises=2)):
        subject = scoring.Subject("", proxy, run.load(), "")
        statistics = {
            name: scoring.measure_statistics(
                subject, scoring.ImageSet(name, levels[order], np.arange(len(order)), {}), run, 0, device
            )
            for name, order in orders.items()
        }
        for name, order in orders.items():
            assert torch.equal(statistics[name], statistics["as it is"][order]), (proxy, name)


def test_default_proxies_depend_on_the_request() -> None:
    run = Run.open("digits")
    assert DetectionRequest(judged="x").measured(run) == (DEFAULT,)
    assert DetectionRequest(outside=("x",)).measured(run) == QUICK


def test_invalid_requests_are_one_line_errors() -> None:
    for wrong, line in (
        ({}, "give judged, to rank, or outside, to compare with: one of the two"),
        ({"judged": "x", "outside": ("y",)}, "one of the two"),
        ({"outside": ("y",), "map": AnomalyMap()}, "map belongs to judged"),
        ({"judged": "x", "proxies": ("NoiseNorm",)}, r"proxies\[0\] must be a Proxy"),
        ({"judged": "x", "n": 0}, "n must be at least 1, got 0"),
        ({"judged": "x", "fit_images": 10}, "fit_images must be at least 50"),
        ({"judged": "x", "false_alarms": 0}, "false_alarms must lie in"),
    ):
        with pytest.raises(ValueError, match=line):
            DetectionRequest(**wrong)
    run, held = Run.open("digits"), Digits("test").load()
    for wrong, line in (
        ({"n": 20}, r"^n=20: at least 50 images"),
        ({"outside": (held,)}, "outside and digits test: the same data twice"),
        ({"inside": Digits("train").load()}, r"^inside, .*: the images that digits was trained on"),
        ({"outside": ("digits", "digits")}, "digits digits: the same data twice"),
        ({"outside": (), "judged": upside_down(9), "false_alarms": 0.01}, r"^false_alarms=0.01: 50 images inside"),
        ({"others": ("mnist",)}, r'^others="mnist": images of '),
    ):
        with pytest.raises(InputError, match=line):
            prepare_detection(run, make_request(**{"outside": (upside_down(),), **wrong}))


def test_selected_batch_is_used_unchanged() -> None:
    run = Run.open("digits")
    batch = ImageBatch(*ImageSelection(n=55, seed=3).resolve(run, SILENT))
    prepared = prepare_detection(run, make_request(inside=batch, outside=(upside_down(),)))
    assert (prepared.settings["inside"]["role"], prepared.settings["inside"]["converted"]) == ("test", "55 of 360")
