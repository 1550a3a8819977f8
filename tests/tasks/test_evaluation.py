"""`evaluate` from Python: the numbers of the verb, to the bit; of samples and real images in memory too."""

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
from diffprob.runs.folder import Run
from diffprob.tasks.compute import Compute
from diffprob.tasks.evaluation import EvaluationRequest, evaluate, evaluation_measurements, prepare_evaluation
from diffprob.tasks.features import Auto, Dino, Inception, LabelClassifier, Pca, RawPixels, parse_features
from diffprob.tasks.images import ImageBatch, ImageSelection
from diffprob.tasks.plan import Sampling
from diffprob.tasks.reporter import SILENT

METRICS = ("frechet", "kid")
FEW = Sampling(n=40, steps=3, seed=1, compute=Compute(device="cpu"))
WORDS = ("evaluate", "digits", "-n", "40", "--steps", "3", "--seed", "1", "--device", "cpu", "--features", "pca:8")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFPROB_CACHE", str(tmp_path / "cache"))


def make_request(**more: Any) -> EvaluationRequest:
    return EvaluationRequest(**{"sampling": FEW, "features": Pca(8), "metrics": METRICS, **more})


def test_evaluate_matches_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main((*WORDS, "--metrics", ",".join(METRICS), "--json")) == 0
    verb = json.loads(capsys.readouterr().out)
    reporter = RecordingReporter()
    result = evaluate(Run.open("digits"), make_request(), reporter)
    assert verb == {**result.to_json(), "recorded": False, "not_recorded": None, "dry_run": False}
    assert set(result.estimates) > {"Frechet distance", "KID"} and result.real_n == 40
    assert repr(result).startswith(f"Frechet distance {result.estimates['Frechet distance'].value:.4g}, KID")
    assert "<td>KID</td>" in result._repr_html_()
    what, total, bar = reporter.bars[0]
    # 3 evaluations of 40 images in chunks of 16
    assert (what, total, bar.done, len(reporter.bars)) == ("draw", 9, 9, 4)
    assert reporter.notes == ["comparing the samples with the real images"]
    assert main((*WORDS, "--metrics", ",".join(METRICS), "--json", "--dry-run")) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan == {**prepare_evaluation(Run.open("digits"), make_request()).to_json(), "dry_run": True}


def test_measurements_record_how_they_were_made() -> None:
    result = evaluate(Run.open("digits"), make_request(metrics=("frechet", "sliced")))
    items = {item.name: item for item in evaluation_measurements(result)}
    distance = items["Frechet distance"]
    assert (distance.n, distance.seed, distance.role) == (40, 1, "test") and distance.features == result.features
    assert distance.details["evaluations"] == 3 and items[next(n for n in items if "sliced" in n)].features == "pixels"


def test_evaluate_accepts_samples_and_images_in_memory() -> None:
    """Held-out images that are the run's own are called so; samples that are those images lie at distance 0."""
    run, held = Run.open("digits"), Digits("test").load()
    samples = held.take(range(len(held)))
    from_memory = evaluate(run, make_request(samples=samples, held_out=held))
    assert from_memory.estimates["Frechet distance"].value < 1e-9
    assert from_memory.settings["drawing"]["sampler"] is None and from_memory.settings["n"] == len(held)
    one = ImageBatch(*ImageSelection(n=100).resolve(run, SILENT))
    part = evaluate(run, make_request(samples=samples, held_out=one, metrics=("frechet",)))
    assert (part.settings["converted"], part.reference.role) == ("100 of 360", "test")
    train = Digits("train").load()
    with pytest.raises(InputError, match=r"^held_out, .*: the images that digits was trained on"):
        prepare_evaluation(run, make_request(held_out=train))
    with pytest.raises(InputError, match=r"^samples: images float64"):
        prepare_evaluation(run, make_request(samples=samples / 1))
    with pytest.raises(InputError, match=r"^samples: levels up to 255, those of the run are 0\.\.16"):
        prepare_evaluation(run, make_request(samples=samples * np.uint8(15) + np.uint8(15)))


def test_exact_models_are_evaluated_against_given_images() -> None:
    train = torch.from_numpy(Digits("train").load().take(range(200)))
    exact = dp.FiniteData(dp.Pixels((1, 8, 8), 17).to_model(train), dp.LinearProcess(dp.Cosine()))
    run = dp.Model(exact, shape=(1, 8, 8), levels=17).run
    few = Sampling(n=20, steps=3, clip=False, compute=FEW.compute)
    result = evaluate(run, make_request(sampling=few, held_out=Digits("test").load(), metrics=("frechet",)))
    assert (result.settings["run"], result.settings["train_sha256"], result.real_n) == ("the given model", None, None)
    with pytest.raises(InputError, match="has no images of its own: held_out=DATA would be right"):
        prepare_evaluation(run, make_request())


def test_invalid_requests_are_one_line_errors() -> None:
    for wrong, line in (
        ({"split": "tset"}, "split must be one of auto, test, train, got 'tset'"),
        ({"metrics": ()}, "metrics must have 1 to"),
        ({"metrics": "frechet"}, "metrics must be a tuple"),
        ({"features": "pca"}, r"features cannot be 'pca': it has no fit\(\)"),
    ):
        with pytest.raises(ValueError, match=line):
            make_request(**wrong)
    with pytest.raises(InputError, match="no metric 'frechett'"):
        prepare_evaluation(Run.open("digits"), make_request(metrics=("frechett",)))
    with pytest.raises(InputError, match="a larger n, or other metrics, would be right"):
        prepare_evaluation(Run.open("digits"), make_request(sampling=Sampling(n=1, steps=1, compute=FEW.compute)))


def test_features_survive_the_round_trip() -> None:
    choices = (Auto(), RawPixels(), Pca(), Pca(3), LabelClassifier(), LabelClassifier("x.safetensors"), Dino("small"))
    for choice in choices:
        assert parse_features(choice.text) == choice
    assert parse_features("inception:x", "12ab") == Inception("x", "12ab")
    for text, line in (
        ("pcx", "features='pcx': one of auto, .*; did you mean 'pca'?"),
        ("pca:0", 'features="pca:0": a number of axes'),
        ("pca:99999999999", "axes must be at most"),
        (f"classifier:{'x' * 2000}", "path must have at most 1000 characters"),
        ("dino", "dino:NAME"),
    ):
        with pytest.raises(InputError, match=line):
            parse_features(text)
    with pytest.raises(InputError, match='accept_weights goes with features="inception:FILE"'):
        parse_features("pca", "12ab")
    with pytest.raises(InputError, match=r"^training.monitor.features pca:x: a number"):
        parse_features("pca:x", name="training.monitor.features")
