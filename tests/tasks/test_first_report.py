"""What a run gets when its training ends: the numbers of the verbs, within the time, once, and whole after a Ctrl-C."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tasks.recording import RecordingReporter

from diffprob.base.errors import InputError
from diffprob.cli.main import main
from diffprob.recipes.digits import digits
from diffprob.runs.fits import fitted, read_moments
from diffprob.runs.folder import Run
from diffprob.runs.images import OwnImages, kept_in_memory
from diffprob.tasks import first_report, training_run
from diffprob.tasks.compute import Compute
from diffprob.tasks.first_report import BITS, FirstReport
from diffprob.tasks.first_state import STATE, is_complete, is_pending
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.likelihood import LikelihoodRequest, likelihood
from diffprob.tasks.report_time import (
    CLOSING,
    CURVE,
    FIRST,
    HEAD,
    IMAGES,
    KNOTS,
    Share,
    head_calls,
    head_steps,
    parts_of,
)
from diffprob.tasks.training import TrainRequest, prepare_training, train
from diffprob.tasks.training_plan import estimate_training
from diffprob.tasks.training_run import plan_text
from diffprob.training.pace import Pace

SMALL = {
    "network.widths": (8, 8),
    "network.groups": 4,
    "training.batch": 8,
    "training.samples": "2",
    "training.checkpoint_every": 2,
    "training.sample_every": 0,
    "training.precision": "fp32",
}
REQUEST = TrainRequest(recipe="digits", out="run", steps=3, overrides=SMALL, device="cpu", report=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_run, "PREVIEW_STEPS", 2)
    monkeypatch.setattr(training_run, "_loss_curve", lambda *_: None)


def test_a_report_is_made_once_and_goes_on_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupting:
        interrupting.setattr(first_report, "likelihood", stop)
        with pytest.raises(KeyboardInterrupt, match="run: interrupted: the run is trained and whole; the same command"):
            train(REQUEST)
    run = Run.open("run")
    assert run.meta["step"] == 3 and is_pending(run) and not run.measurements
    fits = {path.name: path.read_bytes() for path in run.path.glob("fit-*")}
    assert fitted(run) == ["analytic", "steps"], "a training of three steps leaves no time for a head"
    assert read_moments(run).times.shape == (25,) and read_moments(run).count == 16

    timed = replace(REQUEST, steps=None, duration="5s")
    reporter = RecordingReporter()
    prepared = prepare_training(timed, reporter)
    assert prepared.duration is None and any("without training; the same again trains on" in n for n in reporter.notes)

    result = train(timed)
    assert result is not None and result.finished_before and result.step == 3
    run, made = Run.open("run"), result.first_report
    assert made is not None and not made.left_out and not made.no_time
    assert is_complete(run) and not is_pending(run)
    assert {name: (run.path / name).read_bytes() for name in fits} == fits, "what was made is not made again"
    assert made.report is not None and "Measured without features" in Path(made.report).read_text()
    assert made.samples is not None and Path(made.samples).read_bytes()[:4] == b"\x89PNG"

    measured = {item.name: item for item in run.measurements}
    assert made.images >= 16 and made.role == "test"  # as many as the time allows
    assert made.distance == measured["Frechet distance"].value
    verb = likelihood(run, LikelihoodRequest(images=ImageSelection(n=made.images)))
    assert made.bits_per_dim == measured[BITS].value == verb.mean, "the number of the verb, to the bit"
    assert made.lines[0].startswith(f"{verb.mean:.3f} (") and made.lines[-1].startswith("ask next: diffprob likelihood")
    assert json.loads(json.dumps(result.to_json()))["first_report"]["bits_per_dim"] == verb.mean

    again = train(REQUEST)
    assert again is not None and again.first_report is None and "first_report" not in again.to_json()
    assert prepare_training(timed).duration == 5, "nothing is missing: the same command trains on"


def test_nothing_is_made_where_it_is_refused_or_not_asked_for(tmp_path: Path) -> None:
    np.save("mine.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))
    for name, more in {"steps": {"steps": 1}, "refused": {"duration": "1s", "report": False}}.items():
        request = TrainRequest(data="mine.npy", out=name, overrides=SMALL, device="cpu", **more)
        assert not prepare_training(request).report
        result = train(request)
        assert result is not None and result.first_report is None
        assert not (tmp_path / name / STATE).exists() and fitted(Run.open(name)) == []
    own = TrainRequest(data="mine.npy", out="new", device="cpu")
    assert prepare_training(own).report and prepare_training(replace(own, duration="9m")).report
    assert not prepare_training(TrainRequest(recipe="digits", duration="9m")).report


def test_no_report_for_what_does_not_denoise() -> None:
    arguments = ["baseline", "glow", "digits", "--steps", "1", "--device", "cpu", "--out", "glow"]
    sets = ("network.depth=1", "network.width=4", "training.batch=4")
    assert main([*arguments, *(word for text in sets for word in ("--set", text))]) == 0
    result = train(TrainRequest(recipe="glow", steps=2, device="cpu", report=True))
    assert result is not None and result.step == 2 and result.first_report is None
    assert not Path("glow", STATE).exists()


def test_of_images_without_held_out_ones_the_training_images_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_report, "fit", lambda *_: None)
    np.savez(
        "mine.npz", images=np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8), labels=[0, 1] * 6
    )
    request = TrainRequest(
        data="mine.npz", held_out="none", labels=True, out="mine", steps=1, overrides=SMALL, device="cpu", report=True
    )
    result = train(request)
    assert result is not None and result.first_report is not None
    made = result.first_report
    assert made.memorisation is None and made.distance is not None and made.samples is not None
    (wrong,) = made.left_out
    assert wrong == "no bits/dim: it wants the fit first (diffprob likelihood mine)"
    assert OwnImages(Run.open("mine")).test is None


def test_what_cannot_be_fitted_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of noise without a known law of a step the variance is fitted, and the rest made; once."""
    monkeypatch.setattr(first_report, "prepare_report", refuse)
    request = replace(REQUEST, out="mixture", steps=1, recipe="digits_mixture")
    result = train(request)
    assert result is not None and result.first_report is not None
    run, made = Run.open("mixture"), result.first_report
    assert fitted(run) == ["analytic"]
    steps, samples, bits, *_ = made.left_out
    assert steps.startswith("no fit of steps: `fit steps` needs the law of x_s given x_t"), made.left_out
    assert samples.startswith("no samples: not now") and bits.startswith(
        "no bits/dim: a variational bound needs the law"
    )
    making = first_report._Making(run, Compute(), Share(60, torch.device("cpu"), 50), None, RecordingReporter())
    assert making._made() == {"fit"}, "it is not fitted again"


def refuse(*_: Any) -> None:
    raise InputError("not now")


def shares(seconds: float, call: float, busy: float = 1.0, most: float = np.inf) -> float:
    now = {"wall": 0.0, "own": 0.0}
    share = Share(seconds, torch.device("cuda"), 50, None, 0.4, lambda: now["wall"], lambda: now["own"])
    now.update(wall=10 * busy, own=10.0)
    return share(call, most)


def test_the_share_is_a_fifth_and_more_or_less_where_that_is_too_little_or_too_much() -> None:
    parts = parts_of(50)
    fixed, least, most = (
        CLOSING + CURVE + sum(p.seconds for p in parts.values()),
        *(sum(getattr(p, name) for p in parts.values()) for name in ("least", "most")),
    )
    assert shares(600, 0.01) == 120
    assert shares(36000, 0.001) == pytest.approx(fixed + 0.001 * most), "no more than there is to do"
    assert shares(60, 0.01) == pytest.approx(fixed + 0.01 * least), "more than a fifth, to make all of it"
    assert shares(60, 0.005, busy=2) == pytest.approx(2 * fixed + 0.005 * least), "a machine that others use too"
    some = CLOSING + CURVE + sum(parts[name].seconds + 0.03 * parts[name].least for name in FIRST[:2])
    assert shares(60, 0.03) == pytest.approx(some), "what matters most, where not all of it can be"
    assert shares(60, 1.0) == pytest.approx(CLOSING + CURVE), "no report, but a loss curve"
    assert shares(60, 1.0, busy=15) == pytest.approx(15 * CLOSING), "and always the last checkpoint"
    assert shares(600, 0.01, most=25.0) == 25 and shares(600, 0.01, most=20.0) < 20, "no more than there is"
    share = Share(60, torch.device("cuda"), 50, lambda: 0.001, 0.4, lambda: 0.0, lambda: 0.0)
    assert share(0.1) == share(0.1) == pytest.approx(max(fixed + 0.001 * least, 12)), "a call is measured once"


def test_a_head_is_fitted_where_there_are_calls_for_it() -> None:
    with_head, without = parts_of(50, head=True)["fit"], parts_of(50)["fit"]
    assert with_head.least == without.least, "it is left out first"
    assert with_head.most == without.most + head_calls(HEAD[1])
    assert head_steps(head_calls(HEAD[0])) == HEAD[0] and head_steps(head_calls(HEAD[0] - 1)) == 0
    assert head_steps(head_calls(10**6)) == HEAD[1]
    run = Run.open("digits")
    for calls, kinds in ((KNOTS * IMAGES[0] + 100, ["analytic", "steps"]), (4000, ["analytic", "nll", "steps"])):
        share = Share(60, torch.device("cpu"), 50, head=True)
        requests: list[Any] = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(first_report, "fit", lambda run, request, reporter, to=requests: to.append(request))
            first_report._Making(run, Compute(), share, None, RecordingReporter())._fit(calls)
        (request,) = requests
        spent = KNOTS * request.analytic.n + (head_calls(request.heads.steps) if "nll" in request.what else 0)
        assert list(request.what) == kinds and spent <= max(calls, KNOTS * 16)


def test_dry_run_says_what_it_takes() -> None:
    request = replace(REQUEST, out="new", steps=None, duration="10m")
    estimate = estimate_training(prepare_training(request))
    assert estimate.about["report"].startswith("the last ")
    assert 0.5 * 600 < estimate.steps * estimate.cost.step < 600
    assert estimate_training(prepare_training(REQUEST)).about["report"].startswith("after the last step, about ")


def test_images_are_read_once_inside_and_anew_outside() -> None:
    run = Run.open("digits")
    first = OwnImages(run).train.images
    with kept_in_memory({repr(run.recipe.data): first}):
        assert OwnImages(run).train.images is first and OwnImages(run).test.images is OwnImages(run).test.images  # pyright: ignore[reportOptionalMemberAccess]
    assert OwnImages(run).train.images is not first


def test_how_slow_a_machine_is_counts_by_what_was_seen_of_late() -> None:
    now = {"wall": 0.0, "own": 0.0}
    share = Share(100, torch.device("cuda"), 50, None, 0.4, lambda: now["wall"], lambda: now["own"])
    seen = []
    for k in range(60):
        busy = 1.0 if k < 30 else 4.0
        now["wall"], now["own"] = now["wall"] + busy, now["own"] + 1.0
        seen.append(share.slowness)
    assert seen[:30] == [1.0] * 30 and seen[35] > 2 and seen[-1] == pytest.approx(4.0)


def _making(needs: dict[str, float], left: float) -> list[str]:
    making = first_report._Making(Run.open("digits"), None, Share(100, torch.device("cpu"), 50), None, None)  # pyright: ignore[reportArgumentType]
    parts = {name: replace(part, seconds=needs[name], least=0.0) for name, part in parts_of(50).items()}
    return list(making._in_time(parts, left))


def test_what_matters_most_is_kept_where_not_all_fits() -> None:
    needs = {"fit": 3.0, "samples": 2.0, "page": 2.0, "bits": 4.0, "comparison": 1.0}
    assert _making(needs, 100.0) == list(FIRST)
    assert _making(needs, 8.0) == ["fit", "samples", "page", "comparison"]
    assert _making(needs, 4.0) == ["fit"], "a comparison wants samples"
    assert _making(needs, 2.0) == ["samples"] and _making(needs, 1.0) == []


def test_what_is_said_of_the_time() -> None:
    """Nothing is said to be for a report that is not made; and where there was no time at all, that in a line."""
    pace = Pace(60.0, clock=lambda: 0.0)
    pace.later = 8.0
    settings = replace(digits().training, steps=13, batch=32)
    plan = "about 13 steps of 32 images fit into 1:00 here: the learning rate falls over their last 0:16"
    assert plan_text(settings, pace, report=False) == plan
    assert plan_text(settings, pace, report=True) == f"{plan}, then 0:08 for the report"
    pace.seconds = pace.later = 1.0
    assert plan_text(replace(settings, steps=1), pace, report=False) == "about 1 step of 32 images fit into 0:01 here"
    missing = FirstReport(run="runs/my run", no_time=FIRST)
    assert missing.lines == ["no time for the report: diffprob train 'runs/my run' --report makes it"]
    assert FirstReport(run="x", no_time=("bits/dim",)).lines == [
        "no time for bits/dim: diffprob train x --report makes it"
    ]
