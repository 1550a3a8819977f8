"""Pages, exchange and data checks from Python: the verbs' answers, errors of one line, progress and notes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tasks.recording import RecordingReporter

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.cli.main import main
from diffprob.data import open_data
from diffprob.tasks import exchange
from diffprob.tasks.compute import Compute
from diffprob.tasks.data_check import DataCheckRequest, check_data
from diffprob.tasks.exchange import ExportRequest, ImportRequest, export_run, import_run
from diffprob.tasks.plan import Sampling
from diffprob.tasks.reporting import CompareRequest, ReportRequest, compare, report

LEAST = Sampling(n=2, steps=2, compute=Compute(device="cpu", batch=2))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def verb(capsys: pytest.CaptureFixture, *arguments: str) -> dict:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def without_time(answer: dict) -> dict:
    """What does not depend on the time that a page took."""
    return {name: value for name, value in answer.items() if name not in ("bytes", "out", "report", "dry_run")}


def test_report_matches_the_verb(capsys: pytest.CaptureFixture) -> None:
    run, reporter = dp.Run.open("digits"), RecordingReporter()
    result = report(run, ReportRequest(sampling=LEAST), reporter)
    answer = verb(capsys, "report", "digits", "-n", "2", "--steps", "2", "--batch", "2", "--device", "cpu")
    assert without_time(result.to_json()).items() <= answer.items()
    assert result.page.startswith(b"<!DOCTYPE html>") and repr(result).startswith("a page of ")
    (what, total, bar), *others = reporter.bars
    assert {name for name, _, _ in others} <= {"encoding", "decoding"}
    assert (what, total) == ("sample digits", bar.done)
    drawn = verb(capsys, "compare", "digits", "digits", "-n", "2", "--steps", "2", "--batch", "2", "--device", "cpu")
    assert without_time(compare([run, run], CompareRequest(sampling=LEAST)).to_json()).items() <= drawn.items()


def test_export_and_import_match_the_verbs(capsys: pytest.CaptureFixture) -> None:
    result = export_run(dp.Run.open("digits"), ExportRequest(out="theirs"))
    answer = verb(capsys, "export", "digits", "--out", "again")
    assert {**result.to_json(), "out": "again"} == answer
    ours = import_run(ImportRequest(folder="theirs", out="back", step=7))
    again = verb(capsys, "import", "again", "--out", "back2", "--step", "7")
    assert {**ours.to_json(), "run": "back2", "use": ours.use + "2"} == again
    ours_again, theirs = (dp.Run.open(name).weights() for name in ("back", "back2"))
    assert all(torch.equal(ours_again[name], theirs[name]) for name in theirs)
    assert not dp.Run.open("back").meta["data"] and ours.recipe.network == dp.Run.open("digits").recipe.network


def test_missing_class_names_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter, load = RecordingReporter(), exchange.load_pipeline
    export_run(dp.Run.open("mnist_labels"), ExportRequest(out="theirs"))
    monkeypatch.setattr(exchange, "load_pipeline", lambda folder: load(folder)._replace(condition=None))
    import_run(ImportRequest(folder="theirs", out="back", dry_run=True), reporter)
    (note,) = reporter.notes
    assert note.endswith("if the last stands for no label: null_label") and not Path("back").exists()


def test_data_check_matches_the_verb(capsys: pytest.CaptureFixture) -> None:
    np.save("pictures.npy", np.zeros((3, 8, 8), dtype=np.uint8))
    result = check_data(DataCheckRequest(data=open_data("pictures.npy")))
    assert json.loads(json.dumps(result.to_json())) == verb(capsys, "data-check", "pictures.npy") and result.warnings


REFUSED: dict[str, tuple[Callable, str]] = {
    "many": (lambda: report(dp.Run.open("digits"), ReportRequest(sampling=Sampling(n=2000))), "n=2000: a page takes"),
    "one run": (lambda: compare([dp.Run.open("digits")]), "compare takes 2 to 8 runs, got 1"),
    "no data": (lambda: report(dp.Run.open("digits"), ReportRequest(sampling=LEAST, data="elsewhere")), "elsewhere"),
    "a folder": (lambda: export_run(dp.Run.open("digits"), ExportRequest(out="/")), "choose another out"),
    "no folder": (lambda: import_run(ImportRequest(folder="nothing", out="x")), "nothing"),
    "levels": (lambda: ImportRequest(folder="a", out="b", levels=1), "levels must be at least 2 or None, got 1"),
    "no sampling": (lambda: ReportRequest(sampling=3), "sampling must be a Sampling"),
    "no source": (lambda: DataCheckRequest(data="digits"), "data cannot be 'digits': it has no load()"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_requests_are_one_line_errors(case: str) -> None:
    call, sentence = REFUSED[case]
    with pytest.raises((InputError, ValueError)) as caught:
        call()
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
