"""What leaves the program: every stream takes it, nothing in it is obeyed, an optional last step loses no result."""

import errno
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from cli.commands import Done

from diffprob.base.errors import InputError
from diffprob.cli import likelihood, main, output, progress
from diffprob.runs.folder import Run
from diffprob.runs.measurements import Measurement
from diffprob.runs.writer import RunWriter
from diffprob.storage import files
from diffprob.storage.manifest import Manifest
from diffprob.tasks import detection_files

HOSTILE = "\x1b[2J\x07\rforged\n\u202eabc [red]a[/b] <script>x</script> # Injected"
FEW = ("-n", "4", "--terms", "1", "--batch", "4")


@pytest.fixture
def hostile(tiny: Path) -> Path:
    """A run whose measurements are somebody else's."""
    Run.open(tiny).record(
        Measurement(HOSTILE, 1.0, 10, details={HOSTILE: HOSTILE}, features=HOSTILE, split=HOSTILE),
        Measurement(HOSTILE + "2", 1.0, 10, features=HOSTILE),
    )
    return tiny


def test_control_characters_are_escaped_in_text_output(diffprob, hostile) -> None:
    clean: Done = diffprob("show", "digits")
    done: Done = diffprob("show", hostile)
    assert done.code == 0
    assert "forged" in done.out
    assert not [character for character in done.out + done.err if character < " " and character != "\n"]
    assert "\u202e" not in done.out
    assert not [line for line in done.out.splitlines() if line.strip().startswith("forged")], "no line is forged"
    assert clean.out.isprintable() is False  # our own lines are lines still
    assert len(clean.out.splitlines()) > 10


def test_json_output_keeps_control_characters(diffprob, hostile) -> None:
    done: Done = diffprob("show", hostile, "--json")
    assert done.json["measurements"][-1]["features"] == HOSTILE


def test_names_are_not_markup_on_a_terminal(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with progress.Progress("sample a[/b] [red]x\x07", 2) as bar:
        bar.note("[bold]note[/b]\x07")
        bar.update(1, "[/b]")
        bar._bar.refresh()
    assert "a[/b] [red]x\\x07" in sys.stderr.getvalue()
    assert "[bold]note[/b]\\x07" in sys.stderr.getvalue()


def test_card_escapes_markdown_and_html(hostile) -> None:
    text = (hostile / "README.md").read_text()
    assert "<script>" not in text
    assert not [line for line in text.splitlines() if line.startswith("# ")][1:]
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_non_unicode_streams_accept_any_text(encoding, monkeypatch, capsys) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setitem(main.VERBS, "show", ("likelihood", ""))
    monkeypatch.setattr(likelihood, "add_arguments", lambda _: None)
    monkeypatch.setattr(likelihood, "run", lambda _: {"x": 1})
    monkeypatch.setattr(likelihood, "format_result", lambda _: ["写真 28×28"])
    assert main.main(["show"]) == 0
    assert b"\\u5199\\u771f" in out.buffer.getvalue()
    assert "Traceback" not in capsys.readouterr().err


class Gone(io.StringIO):
    """A stream whose reader has left."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("closed", [None, Gone()])
def test_closed_progress_stream_does_not_stop_the_work(closed, trained, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", closed)
    out = tmp_path / "x.png"
    assert main.main(["sample", str(trained), "-n", "1", "--steps", "1", "--batch", "1", "--out", str(out)]) == 0
    assert out.stat().st_size > 0


def test_interruption_is_not_an_error(monkeypatch, capsys) -> None:
    def stop(_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(likelihood, "run", stop)
    assert main.main(["likelihood", "digits"]) == main.INTERRUPTED
    assert capsys.readouterr().err == "diffprob: interrupted\n"


def test_results_are_printed_when_the_run_is_locked(diffprob, tiny) -> None:
    before, writer = Run.open(tiny).measurements, RunWriter(tiny)
    try:
        done: Done = diffprob("likelihood", tiny, *FEW, "--json", "--out", "x.json")
        compared = diffprob("evaluate", tiny, "-n", "16", "--steps", "1", "--json", "--metrics", "sliced")
        page = diffprob("report", tiny, "-n", "1", "--steps", "1", "--out", "page.html", "--json")
        fit = diffprob("fit", tiny, "analytic", "-n", "2", "--times", "2")
        alone = diffprob("report", tiny, "-n", "1", "--steps", "1")
    finally:
        writer.close()
    for run in (done, compared):
        assert run.code == 0, run.err
        assert run.json["recorded"] is False
        assert "is in use" in run.json["not_recorded"]
        assert "note: not recorded" in run.err
    assert json.loads(Path("x.json").read_text())["bits_per_dim"] == done.json["bits_per_dim"]
    assert page.code == 0, page.err
    assert page.json["report"] is None
    assert Path("page.html").exists()
    assert (fit.code, alone.code) == (2, 2), "what can be kept nowhere else is refused"
    assert "analytic" not in fit.err.replace("analytic fit", ""), "and before the work"
    assert Run.open(tiny).measurements == before
    done = diffprob("likelihood", tiny, *FEW, "--json")
    assert done.json["recorded"] is True
    assert done.json["not_recorded"] is None
    assert len(Run.open(tiny).measurements) == len(before) + 1


def test_weights_and_inventory_are_read_once(diffprob, tiny, tmp_path, monkeypatch) -> None:
    other = shutil.copytree(tiny, tmp_path / "other")
    loads, reads = [], []
    load, read = Run.load, Manifest.read.__func__
    monkeypatch.setattr(Run, "load", lambda self, *a, **k: (loads.append(self.path), load(self, *a, **k))[1])
    monkeypatch.setattr(Manifest, "read", classmethod(lambda cls, folder: (reads.append(folder), read(cls, folder))[1]))
    common = ("-n", "1", "--steps", "1", "--batch", "1")
    assert diffprob("report", tiny, *common, "--data", "none").code == 0
    assert loads == [tiny]
    loads.clear()
    assert diffprob("compare", tiny, other, *common).code == 0
    assert loads == [tiny, other]
    reads.clear()
    assert diffprob("likelihood", tiny, *FEW).code == 0
    assert len(reads) <= 2, "once to open it, once to add the number"


@pytest.mark.parametrize(
    ("command", "out"),
    [
        (("likelihood", *FEW), "x.json"),
        (("evaluate", "-n", "16", "--steps", "1", "--metrics", "sliced"), "x.json"),
        (("rate", "-n", "2", "--steps", "2"), "x.png"),
        (("rate", "-n", "2", "--steps", "2"), "x.json"),
        (("detect", "odd.npy", "-n", "60", "--resize", "--map", "AnomalyMap"), "x"),
    ],
)
def test_results_are_printed_when_the_disk_is_full(diffprob, tiny, monkeypatch, command, out) -> None:
    def full(path, _contents) -> None:
        raise InputError(f"cannot write {path}: no space left on device")

    np.save("odd.npy", np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8))
    for module in (output, detection_files):
        monkeypatch.setattr(module, "write_file", full)
    verb, *rest = command
    done: Done = diffprob(verb, tiny, *rest, "--device", "cpu", "--out", out, "--json")
    assert done.code == 2
    assert len(done.json) > 10
    assert done.json["not_written"].endswith("no space left on device")
    assert done.err.splitlines()[-1] == f"diffprob: error: {done.json['not_written']}"
    result = diffprob(verb, tiny, *rest, "--device", "cpu", "--out", out) if out == "x.png" else done
    assert "wrote" not in result.out


def test_failed_sample_images_do_not_lose_the_training(diffprob, tiny, monkeypatch) -> None:
    write = files.write_file

    def full(path, pieces) -> None:
        if Path(path).suffix == ".png":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, pieces)

    monkeypatch.setattr(files, "write_file", full)
    done: Done = diffprob(
        "train", tiny, "--steps", "6", "--set", "training.sample_every=3", "--device", "cpu", "--json"
    )
    assert (done.code, done.json["step"], done.json["samples"]) == (0, 6, None), done.err
    assert "no picture at step 6: cannot write" in done.err


def test_images_are_written_before_the_chain_strip(diffprob, tiny, monkeypatch) -> None:
    write = output.write_file

    def full(path, contents) -> None:
        if "progression" in str(path):
            raise InputError(f"cannot write {path}: no space left on device")
        write(path, contents)

    few = ("-n", "1", "--steps", "1", "--batch", "1", "--progressive", "--device", "cpu", "--out", "x.png")
    monkeypatch.setattr(output, "write_file", full)
    assert diffprob("sample", tiny, *few).code == 2
    assert Path("x.png").exists()
    Path("x.png").unlink()
    Path("x-progression.png").mkdir()
    assert "x-progression.png is a folder, and no file" in diffprob("sample", tiny, *few).error
    assert not Path("x.png").exists()
