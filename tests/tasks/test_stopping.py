"""`likelihood --until`: the same answer as asking for so many images, and an error that is what it says."""

import json
import math

import numpy as np
import pytest
from tasks.recording import RecordingReporter

import diffprob as dp
from diffprob.base.errors import FieldError
from diffprob.base.rng import increasing_subset
from diffprob.cli.main import main
from diffprob.runs.folder import Run
from diffprob.tasks.bounds import ChainBound
from diffprob.tasks.compute import Compute
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.likelihood import LikelihoodRequest, LikelihoodResult, likelihood
from diffprob.tasks.stopping import LEAST, needed

FEW, MOST, SEED = ChainBound(terms=1), 200, 3


def measure(n: int, until: float | None = None) -> tuple[LikelihoodResult, RecordingReporter]:
    reporter, images = RecordingReporter(), ImageSelection(n=n, seed=SEED)
    request = LikelihoodRequest(images=images, method=FEW, until=until, compute=Compute(device="cpu"))
    return likelihood(Run.open("digits"), request, reporter), reporter


@pytest.fixture(scope="module")
def whole() -> LikelihoodResult:
    return measure(MOST)[0]


def first(whole: LikelihoodResult, n: int) -> np.ndarray:
    """Bits/dim of the images that are chosen where n are asked for."""
    return whole.per_image[np.isin(whole.index, increasing_subset(360, n, SEED, "images"))]


def error(values: np.ndarray) -> float:
    """Of the mean, by its definition."""
    return math.sqrt(float(((values - values.mean()) ** 2).sum()) / (len(values) - 1) / len(values))


def check(result: LikelihoodResult, whole: LikelihoodResult, until: float) -> None:
    """It stopped after the first batch whose error is small enough."""
    n = len(result.per_image)
    assert error(first(whole, n)) <= until
    assert n == LEAST or error(first(whole, n - LEAST)) > until


def test_stopping_answers_as_asking_for_so_many_images(whole: LikelihoodResult) -> None:
    until = 1.0001 * error(first(whole, 2 * LEAST))
    assert error(first(whole, LEAST)) > until
    result, reporter = measure(MOST, until)
    assert len(result.index) == 2 * LEAST and not reporter.notes
    same, _ = measure(2 * LEAST)
    assert result.per_image.tobytes() == same.per_image.tobytes() == first(whole, 2 * LEAST).tobytes()
    assert result.to_json() == {**same.to_json(), "until": until, "ended": "stopped"}
    check(result, whole, until)
    _, total, bar = reporter.bars[0]
    assert bar.done == bar.total and total is not None and bar.done < total


def test_error_that_is_half_of_the_true_one_is_noticed(
    whole: LikelihoodResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    until, true = 0.99 * error(first(whole, LEAST)), LikelihoodResult.standard_error.fget
    assert true is not None
    monkeypatch.setattr(LikelihoodResult, "standard_error", property(lambda self: true(self) / 2))
    result, _ = measure(MOST, until)
    assert result.settings["ended"] == "stopped"
    with pytest.raises(AssertionError):
        check(result, whole, until)


def test_all_images_are_used_where_the_error_stays_too_large(whole: LikelihoodResult) -> None:
    result, reporter = measure(70, 1e-3)
    assert len(result.index) == 70 and result.settings["ended"] == "all images used"
    assert result.per_image.tobytes() == first(whole, 70).tobytes()
    assert reporter.notes[-1].startswith("all images used, 70 of the 360 that there are: a standard error of 0.")


def test_never_fewer_than_the_least() -> None:
    result, _ = measure(80, 0.99)
    assert len(result.index) == LEAST and result.settings["ended"] == "stopped"
    assert needed(100, 0.02, 0.01) == 400 and needed(100, 0.001, 0.01) == LEAST


def test_every_door_stops_alike(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("likelihood", "digits", "--terms", "1", "--until", "0.9", "--seed", "3", "--device", "cpu")
    assert main([*words, "--json"]) == 0
    verb = json.loads(capsys.readouterr().out)
    own = dp.load("digits", device="cpu").bits_per_dim(method=FEW, until=0.9, seed=3)
    assert verb == {**own.to_json(), "dry_run": False, "recorded": False, "not_recorded": None}
    assert main([*words]) == 0
    assert "until 0.9, ended stopped" in capsys.readouterr().out
    assert main([*words[:4], "--until", "0"]) == 2


def test_bound_that_is_no_error_is_refused() -> None:
    with pytest.raises(FieldError, match="until"):
        LikelihoodRequest(until=0.0)
