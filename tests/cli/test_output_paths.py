"""Where results cannot go is found before the work, in every verb; and so is what cannot be measured."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffprob.base.errors import InputError
from diffprob.cli.main import VERBS
from diffprob.cli.output import check_writable, write_file
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.training.loop import Trainer

FEW = [*("-n", "2"), *("--device", "cpu")]
COMMANDS = {
    "sample": (["digits", *FEW], "x.png"),
    "interpolate": (["digits", "digits:3", "digits:14", "--device", "cpu"], "x.png"),
    "restore": (["digits", "digits", *FEW], "x"),
    "evaluate": (["digits", *FEW], "x.json"),
    "likelihood": (["digits", *FEW], "x.csv"),
    "rate": (["digits", *FEW], "x.png"),
    "encode": (["digits", *FEW], "x.dfp"),
    "decode": (["digits", "x.dfp", "--device", "cpu"], "x.png"),
    "detect": (["digits", "digits", "--device", "cpu"], "x"),
    "distill": (["digits", "--method", "gradient", "--device", "cpu"], "x"),
    "baseline": (["classifier", "digits", "--device", "cpu"], "x.safetensors"),
    "noisy-classifier": (["digits", "digits", "--device", "cpu"], "x"),
    "translate": (["digits", "digits", "--device", "cpu"], "x"),
    "report": (["digits", *FEW], "x.html"),
    "compare": (["digits", "mnist", *FEW], "x.html"),
    "export": (["digits"], "x"),
    "import": (["nowhere"], "x"),
    "average": (["digits", "--length", "0.1"], "x"),
    "train": (["digits", "--device", "cpu"], "x"),
    "demo": (["--device", "cpu"], "x"),
}


def takes_out(verb: str) -> bool:
    import argparse
    from importlib import import_module

    parser = argparse.ArgumentParser()
    import_module(f"diffprob.cli.{VERBS[verb][0]}").add_arguments(parser)
    return any("--out" in action.option_strings for action in parser._actions)


def test_every_verb_with_an_output_is_tested() -> None:
    assert {verb for verb in VERBS if takes_out(verb)} == set(COMMANDS)


@pytest.mark.parametrize("verb", COMMANDS)
def test_unwritable_output_is_an_error_before_computing(
    diffprob: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def computed(*_: Any, **__: Any) -> None:
        raise AssertionError("it was computed first")

    monkeypatch.setattr(NetDenoiser, "forward", computed)
    monkeypatch.setattr(Trainer, "advance", computed)
    (tmp_path / "file").write_text("a file")
    arguments, name = COMMANDS[verb]
    done = diffprob(verb, *arguments, "--out", f"file/{name}")
    assert (done.code, done.error) == (2, f"--out file/{name}: file is a file, not a folder")
    assert os.listdir(tmp_path) == ["file"]


def test_output_check_accepts_and_rejects_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.png").write_bytes(b"old")
    for out in ("x.png", "old.png", "new/deep/x.png", str(tmp_path / "runs/x"), ".", "new/../x.png", tmp_path):
        check_writable(out)
    assert os.listdir(tmp_path) == ["old.png"], "nothing is left behind"
    for out in ("x" * 300 + ".png", "new/" + "x" * 300, "a\0b.png"):
        with pytest.raises(InputError, match="cannot be written"):
            check_writable(out)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to, root neither")
def test_unwritable_folder_is_an_error() -> None:
    with pytest.raises(InputError, match=r"^--out /proc/self/x.png cannot be written: .*; another place"):
        check_writable("/proc/self/x.png")
    with pytest.raises(InputError, match=r"^the run /proc/self cannot be written"):
        check_writable("/proc/self", "the run")


def test_few_samples_give_the_computable_metrics(diffprob: Callable, tiny: Path) -> None:
    options = ["evaluate", tiny, "--device", "cpu", "--features", "pixels", "--steps", "2"]
    for n in (1, 2, 5):
        done = diffprob(*options, "-n", str(n), "--json")
        assert done.code == 0, done.err
        metrics = {row["details"].get("metric") for row in done.json["rows"]}
        assert metrics >= ({"sliced"} if n == 1 else {"frechet", "kid", "sliced"}) and "manifold" not in metrics
        assert f"manifold is left out: it needs 6 images a side, there are {n}" in done.json["notes"]
    assert "precision" in {row["title"] for row in diffprob(*options, "-n", "6", "--json").json["rows"]}


def test_impossible_metrics_are_an_error_before_sampling(
    diffprob: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NetDenoiser, "forward", None)
    done = diffprob("evaluate", tiny, "--metrics", "frechet,manifold", "-n", "5", "--device", "cpu")
    assert (done.code, "manifold is left out: it needs 6 images a side, there are 5" in done.error) == (2, True)
    done = diffprob("train", tiny, "--set", 'training.monitor=Monitor(metrics=("manifold",), n=5)', "--device", "cpu")
    assert (done.code, "training.monitor.n: 5 images are too few for manifold" in done.error) == (2, True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("verb", ["sample", "evaluate", "likelihood", "rate", "baseline", "report", "compare"])
def test_pipe_as_output_is_an_error(
    diffprob: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(NetDenoiser, "forward", None)
    arguments, name = COMMANDS[verb]
    os.mkfifo(tmp_path / name)
    (tmp_path / f"link-{name}").symlink_to(name)
    for out in (name, f"link-{name}"):
        done = diffprob(verb, *arguments, "--out", out)
        place = tmp_path / name
        message = f"--out {out}: {place} is a pipe, and no file is put in its place; another name would be right"
        assert (done.code, done.error) == (2, message)
    with pytest.raises(InputError, match="is a pipe, and no file is put in its place"):
        write_file(tmp_path / name, b"x")
    assert (tmp_path / name).is_fifo()
