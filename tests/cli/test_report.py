"""`report` and `compare`: where pages go, what they were drawn from, what is refused."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli.commands import contents
from PIL import Image
from truth.page import Page

import diffprob as dp
from diffprob.data import Array
from diffprob.runs.folder import PRETRAINED
from diffprob.runs.measurements import Measurement
from diffprob.runs.publish import write_run
from diffprob.runs.writer import RunWriter
from diffprob.tasks.reporting import command_name

QUICK = ("-n", "3", "--batch", "3", "--steps", "2", "--device", "cpu")
LEAST = ("-n", "1", "--batch", "1", "--steps", "1", "--device", "cpu")


def test_report_is_written_to_the_run_and_to_out(diffprob: Callable, tiny: Path) -> None:
    result = diffprob("report", tiny, *QUICK, "--seed", "5", "--out", "a/page.html", "--json").json
    assert (result["report"], result["out"]) == (str(tiny / "report.html"), "a/page.html")
    assert (result["seeds"], result["steps"], result["sampler"]) == ("5..7", 2, "DPMppSDE(history=2)")
    page = Path("a/page.html").read_bytes()
    assert page == (tiny / "report.html").read_bytes()
    assert len(page) == result["bytes"]
    seen = Page(page)
    assert seen.problems == []
    assert "Trained to the end: 4 steps of 8 images" in seen.text
    assert "1,437 of 8×8" in seen.text, "the digits are always here"
    dp.Run.open(tiny)  # the page is in the inventory


def test_report_shows_the_samples_of_the_verb_sample(diffprob: Callable, tiny: Path) -> None:
    options = ("--batch", "4", "--steps", "4", "--seed", "9", "--sampler", "DDIM(eta=1)", "--device", "cpu")
    assert diffprob("report", tiny, *options, "-n", "5").code == 0
    assert diffprob("sample", tiny, *options, "-n", "5", "--out", "x.npz").code == 0
    with np.load("x.npz", allow_pickle=False) as stored:
        drawn = stored["images"]
    sources = [
        a["src"] for a in Page((tiny / "report.html").read_bytes()).all("img") if a["alt"].startswith("Sample of")
    ]
    assert len(sources) == 5
    for image, source in zip(drawn, sources, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as tile:
            shown = np.asarray(tile)[6::12, 6::12]  # 8x8 enlarged twelve times
        assert np.array_equal(np.round(shown / 255 * 16), image[0])


def test_packaged_run_is_not_changed(diffprob: Callable) -> None:
    before = contents(PRETRAINED / "digits")
    done = diffprob("report", "digits", *LEAST)
    assert "wrote report-digits.html" in done.out
    assert contents(PRETRAINED / "digits") == before
    page = Page(Path("report-digits.html").read_bytes())
    assert page.problems == []
    assert "diffprob sample digits -n 1 --seed 0" in page.text


def test_dry_run_reports_and_writes_nothing(diffprob: Callable, tiny: Path) -> None:
    before = contents(tiny)
    done = diffprob("report", tiny, *QUICK, "--dry-run", "--out", "x.html")
    assert f"would write {tiny}/report.html and x.html" in done.out
    assert diffprob("report", "digits", *QUICK, "--dry-run", "--json").json["report"] is None
    assert "would write compare.html" in diffprob("compare", tiny, "digits", *QUICK, "--dry-run").out
    assert contents(tiny) == before
    assert [path.name for path in Path().iterdir()] == ["tiny"]


def test_invalid_input_is_an_error_before_sampling(
    diffprob: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffprob.tasks.reporting.draw_samples", lambda *_: pytest.fail("drew"))
    Path("file").write_text("")
    for arguments, message in (
        (("--out", "x.pdf"), "a page ends in .html"),
        (("--out", "tiny"), "is a folder"),
        (("--out", "file/x.html"), "file is a file"),
        (("-n", "5000"), "at most 1024"),
        (("--data", "elsewhere"), "no such file"),
        (("--sampler", "DDMI"), "did you mean 'DDIM'"),
    ):
        done = diffprob("report", tiny, *arguments)
        assert (done.code, message in done.error) == (2, True), done.err
    for arguments, message in (
        (("digits",), "2 to 8 runs, got 1"),
        (("digits", tiny, "--out", "x.pdf"), "ends in .html"),
    ):
        done = diffprob("compare", *arguments)
        assert (done.code, message in done.error) == (2, True), done.err
    writer = RunWriter(tiny)
    try:
        assert "in use" in diffprob("report", tiny, *QUICK).error
    finally:
        writer.close()


def test_data_is_searched_for_by_digest(diffprob: Callable, trained: Path) -> None:
    known, pixels = dp.Run.open(trained), dp.Digits("train").load().pixels
    for name, levels in (("here.npy", pixels), ("other.npy", pixels[::-1]), ("small.npy", pixels[:, :, :4])):
        np.save(name, levels)
    array, space = Array("here.npy"), dp.Pixels((1, 8, 8), 256)
    recipe = replace(known.recipe, data=array, space=space)
    write_run("run", recipe, known.weights(), array.load().digest(), 10)

    def shown(*arguments: str) -> str:
        done = diffprob("report", "run", *LEAST, *arguments)
        return Page(Path("run/report.html").read_bytes()).text if done.code == 0 else done.error

    assert "1,437 of 8×8" in shown()
    assert "not shown: not looked for" in shown("--data", "none")
    Path("here.npy").rename("there.npy")
    assert "not shown: not on this machine" in shown()
    assert "1,437 of 8×8" in shown("--data", "there.npy")
    assert "not the images that digits was trained on (sha256 " in shown("--data", "other.npy")
    assert "not the images that digits" in shown("--data", "small.npy")
    Path("other.npy").rename("here.npy")
    assert "not shown: what lies there" in shown()


def test_images_named_only_by_a_foreign_run_are_not_shown(
    diffprob: Callable, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dp.Run.open(trained)
    np.save("private.npy", dp.Digits("train").load().pixels)
    recipe = replace(known.recipe, data=Array("private.npy"), space=dp.Pixels((1, 8, 8), 256))
    write_run("stranger", recipe, known.weights())
    load, read = Array.load, []
    monkeypatch.setattr(Array, "load", lambda self: (read.append(self), load(self))[1])
    done = diffprob("report", "stranger", *LEAST, "--json")
    assert (done.json["data_here"], read) == (False, []), done.err
    page = Page(Path("stranger/report.html").read_bytes())
    assert "not looked for: the run does not say which images it was trained on" in page.text
    alone = len(page.all("img"))
    assert diffprob("report", "stranger", *LEAST, "--data", "private.npy", "--json").json["data_here"] is True
    assert len(Page(Path("stranger/report.html").read_bytes()).all("img")) > alone


def test_verbs_without_measurements_read_no_images(
    diffprob: Callable, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SECURITY.md says of opening a stranger's run: `--data` or a verb that measures reads, no other."""
    known, pixels = dp.Run.open(trained), dp.Digits("train").load().pixels
    np.save("private.npy", pixels)
    np.save("mine.npy", pixels[:1])
    recipe = replace(known.recipe, data=Array("private.npy"), space=dp.Pixels((1, 8, 8), 256))
    write_run("stranger", recipe, known.weights(), Array("private.npy").load().digest())
    load, read = Array.load, []
    monkeypatch.setattr(Array, "load", lambda self: (read.append(self.path), load(self))[1])
    few = ("--steps", "1", "--batch", "1", "--device", "cpu")
    for command in (
        ("sample", "stranger", "-n", "1", *few, "--out", "x.png"),
        ("show", "stranger"),
        ("export", "stranger", "--out", "diffusers"),
        ("compare", "stranger", "digits", "-n", "1", *few, "--out", "x.html"),
        ("report", "stranger", *LEAST, "--data", "none"),
    ):
        done = diffprob(*command)
        assert (done.code, read) == (0, []), done.err
    assert diffprob("likelihood", "stranger", "-n", "1", "--terms", "1", "--device", "cpu").code == 0
    assert "private.npy" in read


def test_compare_shows_runs_side_by_side(diffprob: Callable, tiny: Path) -> None:
    run = dp.Run.open(tiny)
    run.record(Measurement("KID", 0.5, 100, features="classifier", split="test"))
    result = diffprob("compare", tiny, "digits", *QUICK, "--out", "side.html", "--json").json
    assert [run["run"] for run in result["runs"]] == [str(tiny), "digits"]
    page = Page(Path("side.html").read_bytes())
    assert page.problems == []
    assert "network.widths (8, 8) (32, 32)" in page.text
    assert "measured on this run only" in page.text
    assert not (tiny / "report.html").exists()


def test_proposed_commands_omit_foreign_folders(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.parent)
    assert command_name(dp.Run.open(tiny)) == "tiny"
    assert command_name(dp.Run.open("tiny")) == "tiny"
    assert command_name(dp.Run.open("digits")) == "digits"
