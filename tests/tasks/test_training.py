"""Training, fitting and what compares, asked from Python: the same numbers as the verbs, to the bit."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli.commands import TINY
from PIL import Image
from tasks.recording import RecordingReporter

from diffprob.base.errors import InputError
from diffprob.cli.main import main
from diffprob.config.recipe import resumable
from diffprob.recipes.digits import digits
from diffprob.recipes.distilled import distilled
from diffprob.runs.files import read_recipe
from diffprob.runs.folder import BaselineRun, NoisyClassifierRun, Run, open_run
from diffprob.runs.images import OwnImages
from diffprob.tasks import distillation, training_run
from diffprob.tasks import images as tasks_images
from diffprob.tasks.baselines import BaselineRequest, train_baseline
from diffprob.tasks.classifier import ClassifierRequest, classifier
from diffprob.tasks.compute import Compute
from diffprob.tasks.distillation import DistillRequest, distill
from diffprob.tasks.fitting import AnalyticFit, FitRequest, fit
from diffprob.tasks.noisy_classifier import NoisyClassifierRequest, train_noisy_classifier
from diffprob.tasks.training import TrainRequest, prepare_training, train
from diffprob.tasks.training_plan import estimate_training
from diffprob.tasks.training_run import Halted

SMALL = {
    "network.widths": (8, 8),
    "network.groups": 4,
    "training.batch": 8,
    "training.samples": "2",
    "training.checkpoint_every": 2,
    "training.sample_every": 0,
    "training.precision": "fp32",
}
CPU = {"device": "cpu"}
CLOCKS = {"seconds", "seconds_training"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFPROB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(training_run, "PREVIEW_STEPS", 2)
    monkeypatch.setattr(training_run, "_loss_curve", lambda *_: None)
    monkeypatch.setattr(distillation, "_fields", lambda *_: None)


def verb(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def same(one: dict[str, Any], other: dict[str, Any], names: tuple[str, str]) -> None:
    """Equal but for clocks and the folders' names."""
    texts = (json.dumps({k: v for k, v in record.items() if k not in CLOCKS}) for record in (one, other))
    first, second = (text.replace(f"runs/{name}", "RUN") for text, name in zip(texts, names, strict=True))
    assert first == second


def ended(reporter: RecordingReporter) -> dict[str, int]:
    """Where each bar ended."""
    return {what: bar.done for what, _, bar in reporter.bars}


def weights(run: str) -> dict[str, torch.Tensor]:
    return open_run(run).weights()


def equal(one: str, other: str) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "teacher"
    train(TrainRequest(recipe="digits", out=out, steps=2, overrides=SMALL, **CPU))
    return Run.open(out)


def test_train_matches_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    answer = verb(capsys, "train", "digits", "--steps", "3", "--out", "runs/verb", *TINY)
    reporter = RecordingReporter()
    result = train(TrainRequest(recipe="digits", out="runs/here", steps=3, overrides=SMALL, **CPU), reporter)
    assert result is not None
    same(answer, result.to_json(), ("verb", "here"))
    assert equal("runs/verb", "runs/here") and isinstance(result.folder, Run)
    assert repr(result).startswith("runs/here: step 3 of 3") and ended(reporter) == {"train": 3}


def test_images_in_memory_become_a_run_that_resumes(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("mine.npy", np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    answer = verb(capsys, "train", "--data", "mine.npy", "--steps", "4", "--out", "runs/verb", *TINY)
    reporter, known = RecordingReporter(), {"overrides": SMALL, "out": "runs/here", **CPU}
    request = TrainRequest.of("mine.npy", steps=2, **known)
    assert request == TrainRequest(data="mine.npy", steps=2, **known)
    assert train(request, reporter) is not None
    assert any("20 grey images of 8x8" in note for note in reporter.notes)
    assert any(note.endswith("as by overrides={'training.lr': '1e-4'}") for note in reporter.notes)
    result = train(TrainRequest.of("mine.npy", steps=4, **known), reporter)
    assert result is not None and (result.resumed_at, result.step) == (2, 4)
    assert equal("runs/verb", "runs/here") and answer["step"] == result.step
    assert train(TrainRequest.of("runs/here", device="cpu")).finished_before  # pyright: ignore[reportOptionalMemberAccess]
    assert TrainRequest.of("digits").recipe == "digits" and TrainRequest.of("runs/here").recipe == "runs/here"
    assert TrainRequest.of(digits()).recipe == digits()


def test_stop_request_ends_training_with_a_checkpoint() -> None:
    calls = 0

    @contextmanager
    def halt() -> Iterator[Any]:
        def soon() -> bool:
            nonlocal calls
            calls += 1
            return calls > 1

        yield soon

    request = TrainRequest(recipe="digits", out="runs/here", steps=9, overrides=SMALL, **CPU)
    with pytest.raises(Halted, match="stopped at step 1; the same request resumes") as halted:
        train(request, halt=halt)
    assert halted.value.step == 1 and Run.open("runs/here").meta["step"] == 1


def test_estimate_matches_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    answer = verb(capsys, "train", "digits", "--dry-run", "--out", "runs/verb", *TINY)
    request = TrainRequest(recipe="digits", out="runs/here", overrides=SMALL, **CPU)
    estimate = estimate_training(prepare_training(request)).to_json()
    measured = {"seconds", "seconds_per_step"}
    same(*({k: v for k, v in record.items() if k not in measured} for record in (answer, estimate)), ("verb", "here"))
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "train needs a recipe .* or data=PATH"),
        ({"recipe": "digitz"}, "did you mean 'digits'"),
        (
            {"recipe": "digits", "size": 8},
            "size, channels, levels, dims, held_out are for data without a recipe; with one",
        ),
        ({"recipe": "digits", "overrides": {"training.lrr": 1}}, "no field 'lrr'"),
        ({"recipe": "digits", "overrides": {"training.lr": "x"}}, "training.lr takes float"),
        ({"recipe": "digits", "device": "cpux"}, 'device="cpux"'),
    ],
)
def test_invalid_request_is_a_one_line_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as wrong:
        train(TrainRequest(**{**CPU, **fields}))
    assert "\n" not in str(wrong.value) and not Path("runs").exists()


def test_invalid_numbers_are_errors() -> None:
    for fields in ({"steps": 0}, {"size": 1}, {"channels": 17}, {"seed": -1}, {"processes": 0}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            TrainRequest(recipe="digits", **fields)
    with pytest.raises(ValueError, match="kind must be one of glow, ebm"):
        BaselineRequest(kind="glov", data="digits")
    with pytest.raises(ValueError, match="what must be a tuple"):
        FitRequest(what="analytic")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="data must be a tuple"):
        NoisyClassifierRequest(data="digits")  # pyright: ignore[reportArgumentType]


def test_fit_matches_the_verb(teacher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    reporter, compute = RecordingReporter(), Compute(device="cpu")
    analytic = AnalyticFit(n=4, times=5)
    result = fit(teacher, FitRequest(what=("analytic", "steps"), analytic=analytic, compute=compute), reporter)
    kept = {path.name: path.read_bytes() for path in teacher.path.glob("fit-*")}
    answer = verb(capsys, "fit", str(teacher.path), "analytic", "steps", "-n", "4", "--times", "5", "--device", "cpu")
    assert len(kept) == 2 and kept == {path.name: path.read_bytes() for path in teacher.path.glob("fit-*")}
    numbers = result.to_json()
    for fits in (answer["fits"], numbers["fits"]):
        for about in fits.values():
            del about["seconds"]
    assert answer == numbers and ended(reporter) == {"analytic": 5}
    assert result.fits["steps"]["longest"] == 256, "the path goes through all times, not the five"
    with pytest.raises(InputError, match=r"nothing to fit is called 'analytics'.*did you mean"):
        fit(teacher, FitRequest(what=("analytics",), compute=compute))
    with pytest.raises(InputError, match="digits comes with the library and is only read: record would"):
        fit(Run.open("digits"), FitRequest(what=("analytic",), compute=compute))


def test_distillation_and_noisy_classifier_match_the_verbs(teacher: Run, capsys: pytest.CaptureFixture[str]) -> None:
    few = {"training.batch": 4, "training.sample_every": 0}
    sets = [word for path, value in few.items() for word in ("--set", f"{path}={value}")]
    common = ("--steps", "1", "--device", "cpu", *sets)
    answer = verb(capsys, "distill", str(teacher.path), "--method", "gradient", "--out", "runs/verb", *common)
    request = DistillRequest(method="gradient", out="runs/here", steps=1, overrides=few, **CPU)
    result = distill(teacher, request)
    assert result is not None
    same(answer, result.to_json(), ("verb", "here"))
    assert equal("runs/verb", "runs/here")
    answer = verb(capsys, "noisy-classifier", str(teacher.path), "digits", "--out", "runs/verb2", *common)
    classified = train_noisy_classifier(
        teacher, NoisyClassifierRequest(data=("digits",), out="runs/here2", steps=1, overrides=few, **CPU)
    )
    assert classified is not None
    same(answer, classified.to_json(), ("verb2", "here2"))
    assert equal("runs/verb2", "runs/here2") and isinstance(open_run("runs/here2"), NoisyClassifierRun)
    with pytest.raises(InputError, match='frozen belongs to method="scalar", not to method="gradient"'):
        distill(teacher, DistillRequest(method="gradient", frozen=True))


def test_baselines_match_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    few = {"network.depth": 1, "network.width": 4, "training.batch": 4}
    sets = [word for path, value in few.items() for word in ("--set", f"{path}={value}")]
    answer = verb(capsys, "baseline", "glow", "digits", "--steps", "1", "--out", "runs/verb", "--device", "cpu", *sets)
    request = BaselineRequest(kind="glow", data="digits", out="runs/here", steps=1, overrides=few, **CPU)
    result = train_baseline(request)
    assert result is not None
    mine = {"kind": "glow", **result.to_json()}
    same({**answer, "recipe": ""}, {**mine, "recipe": ""}, ("verb", "here"))  # each is called by its folder
    assert equal("runs/verb", "runs/here") and isinstance(open_run("runs/here"), BaselineRun)
    reporter = RecordingReporter()
    fresh = classifier(ClassifierRequest(data="digits", epochs=1, **CPU), reporter)
    answer = verb(capsys, "baseline", "classifier", "digits", "--epochs", "1", "--device", "cpu")
    known = {**fresh.to_json(), "fresh": False, "next": answer["next"]}
    assert {k: v for k, v in answer.items() if k != "seconds"} == {k: v for k, v in known.items() if k != "seconds"}
    assert ended(reporter) == {"classifier": 11}
    with pytest.raises(InputError, match=r"out=\"x.png\": a name that ends in \.safetensors"):
        classifier(ClassifierRequest(data="digits", out="x.png"))


def _pictures(folder: Path, n: int = 40) -> None:
    """PNG files of n different smooth pictures."""
    folder.mkdir(exist_ok=True)
    for k, coarse in enumerate(np.random.default_rng(0).integers(0, 256, (n, 3, 3, 3), dtype=np.uint8)):
        Image.fromarray(coarse).resize((12, 12)).save(folder / f"{k:03d}.png")


def test_a_tenth_of_ones_own_pictures_is_held_out_and_kept_when_resuming(tmp_path: Path) -> None:
    _pictures(tmp_path / "pictures", 120)
    reporter = RecordingReporter()
    request = TrainRequest(data="pictures", size=8, out="mine", steps=1, overrides=SMALL, **CPU)
    assert train(request, reporter) is not None
    assert any("held out: 40 images, chosen by their pixels" in note for note in reporter.notes)
    own = OwnImages(Run.open("mine"))
    assert own.test is not None and (len(own.train), len(own.test)) == (80, 40)
    rows = [{row.tobytes() for row in part.images.pixels} for part in (own.train, own.test)]
    assert not rows[0] & rows[1]
    for k, path in enumerate(sorted((tmp_path / "pictures").iterdir())):
        path.rename(path.with_name(f"{(7 * k) % 120:03d}-renamed.png"))
    shuffled = OwnImages(Run.open("mine")).source.load()
    assert {row.tobytes() for row in shuffled.pixels} == rows[0]


@pytest.mark.parametrize("held_out", ["none", 0.25, "others"])
def test_held_out_images_as_requested(held_out: float | str, tmp_path: Path) -> None:
    _pictures(tmp_path / "pictures")
    _pictures(tmp_path / "others", 7)
    prepared = prepare_training(TrainRequest(data="pictures", size=8, out="mine", held_out=held_out, overrides=SMALL))
    assert prepared.images is not None
    test = tasks_images.held_out(prepared.recipe.data)
    assert (len(prepared.images), 0 if test is None else len(test)) == {
        "none": (40, 0), 0.25: (30, 10), "others": (40, 7),
    }[held_out]  # fmt: skip


def test_a_run_begun_without_held_out_images_resumes_without(tmp_path: Path) -> None:
    _pictures(tmp_path / "pictures")
    request = TrainRequest(data="pictures", size=8, out="mine", held_out="none", steps=1, overrides=SMALL, **CPU)
    train(request)
    again = prepare_training(replace(request, held_out=None, steps=2))
    assert again.images is not None and len(again.images) == 40


def test_held_out_share_out_of_range_is_an_error() -> None:
    for share in (0.0, 1.0, 2):
        with pytest.raises(ValueError, match="held_out"):
            TrainRequest(data="x", held_out=share)


def test_training_for_a_time_ends_goes_on_and_resumes(tmp_path: Path) -> None:
    request = TrainRequest(recipe="digits", out="timed", duration="2s", overrides=SMALL, **CPU)
    reporter = RecordingReporter()
    began = time.monotonic()
    first = train(request, reporter)
    assert first is not None and time.monotonic() - began < 30  # itself 2 s; opening, loss curve and a busy machine
    assert first.step == first.steps == read_recipe(tmp_path / "timed").training.steps
    assert not first.timed_out and reporter.bars[0][2].total == first.steps
    last = [json.loads(line) for line in (tmp_path / "timed/log.jsonl").read_text().splitlines()][-1]
    assert last["lr"] == pytest.approx(1e-3 / read_recipe(tmp_path / "timed").training.cooldown)  # the last of the fall
    again = train(request)
    assert again is not None and again.step > first.step and again.resumed_at == first.step
    estimate = estimate_training(prepare_training(replace(request, duration=60.0)))
    assert estimate.cost.seconds == 60 and estimate.steps >= 1


def test_images_without_a_recipe_have_an_hour_unless_told_otherwise(tmp_path: Path) -> None:
    _pictures(tmp_path / "pictures")
    request = TrainRequest(data="pictures", size=8, out="mine", overrides=SMALL)
    assert prepare_training(request).duration == 3600
    assert prepare_training(replace(request, steps=5)).duration is None
    assert prepare_training(replace(request, overrides={**SMALL, "training.steps": 5})).duration is None
    assert prepare_training(TrainRequest(recipe="digits")).duration is None
    with pytest.raises(ValueError, match="duration and steps both say when to end"):
        TrainRequest(recipe="digits", steps=5, duration=5)


def test_a_run_of_ones_own_pictures_goes_on_with_its_recipe_whatever_the_defaults_are_now(tmp_path: Path) -> None:
    _pictures(tmp_path / "pictures")
    request = TrainRequest(data="pictures", size=8, out="mine", steps=1, overrides=SMALL, **CPU)
    train(request)
    result = train(replace(request, steps=2, overrides={}))
    assert result is not None and result.resumed_at == 1
    assert read_recipe(tmp_path / "mine").network.widths == (8, 8)


def _fall(run: str) -> list[float]:
    """Learning rate of each step in units of the largest, by the recipe; the log's last one is that."""
    settings = read_recipe(Path(run)).training
    fall = [min(1.0, (settings.steps - step + 1) / max(1, settings.cooldown)) for step in range(1, settings.steps + 1)]
    last = [json.loads(line) for line in Path(run, "log.jsonl").read_text().splitlines()][-1]
    assert (last["step"], last["lr"]) == (settings.steps, pytest.approx(settings.lr * fall[-1]))
    return fall


def _after(steps: int) -> Any:
    """Who asks a training to stop after so many steps."""

    @contextmanager
    def halt() -> Iterator[Any]:
        calls = iter(range(10**6))
        yield lambda: next(calls) >= steps

    return halt


def _own(out: str, steps: int, **fields: Any) -> TrainRequest:
    np.save("mine.npy", np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    few = {**SMALL, "training.checkpoint_every": 100}
    return TrainRequest(out=out, steps=steps, **({"data": "mine.npy", "overrides": few} | fields), **CPU)


def test_the_rate_falls_over_the_last_steps_of_ones_own_images(capsys: pytest.CaptureFixture[str]) -> None:
    request, reporter = _own("here", 10), RecordingReporter()
    verb(capsys, "train", "--data", "mine.npy", "--steps", "10", "--out", "verb", *TINY)
    assert _fall("verb") == [1.0] * 8 + [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    with pytest.raises(Halted):
        train(request, reporter, _after(9))
    assert any("10 steps, over the last 3 of which the learning rate falls" in note for note in reporter.notes)
    assert train(request) is not None and equal("verb", "here")

    def fall(overrides: dict[str, Any]) -> int:
        return prepare_training(TrainRequest(data="mine.npy", overrides=overrides)).recipe.training.cooldown

    with pytest.raises(InputError, match="a training for a time plans that by the clock; steps=N would be right"):
        fall({"training.cooldown": 10})
    assert (fall({"training.steps": 100}), fall({"training.steps": "100", "training.cooldown": 0})) == (30, 0)


def test_more_steps_raise_the_rate_again_and_move_its_fall() -> None:
    halted, reporter = _own("short", 5), RecordingReporter()
    with pytest.raises(Halted):
        train(halted, halt=_after(3))
    train(replace(halted, steps=10), reporter)  # the fall had not begun: as if 10 had been said at once
    assert "short: from step 3 on the learning rate falls over the last 3 of 10 steps" in reporter.notes
    train(_own("whole", 10))
    assert equal("short", "whole") and _fall("whole")[7:] == [pytest.approx(k / 3) for k in (3, 2, 1)]
    train(replace(halted, steps=16, overrides={}), reporter)
    note = "short: from step 10 on the learning rate rises again, and falls over the last 5 of 16 steps"
    assert note in reporter.notes
    with pytest.raises(Halted):  # by the other door, and killed
        train(TrainRequest(recipe="whole", steps=16, **CPU), halt=_after(4))
    train(_own("whole", 16))
    assert equal("short", "whole")
    assert train(_own("whole", 12)).finished_before  # pyright: ignore[reportOptionalMemberAccess]
    assert (read_recipe(Path("whole")).training.steps, read_recipe(Path("whole")).training.cooldown) == (16, 5)


def test_a_distillation_goes_on_with_more_steps(teacher: Run) -> None:
    recipes = [distilled(teacher, "gradient", steps) for steps in (2000, 4000)]
    assert [recipe.training.cooldown for recipe in recipes] == [400, 800] and resumable(*recipes) is None
