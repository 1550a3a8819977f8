"""`distill` and the baselines of a density: runs like any other."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli.commands import TINY, contents

from diffprob.base.errors import InputError
from diffprob.data import Array
from diffprob.net.potential import Potential
from diffprob.runs.folder import BaselineRun, Run, open_run
from diffprob.runs.publish import write_run
from diffprob.space.pixels import Pixels
from diffprob.tasks import distillation

SMALL = ("--set", "training.batch=4", "--set", "training.sample_every=0", "--device", "cpu")


def losses(folder: str) -> list[float]:
    return [json.loads(line)["loss"] for line in (Path(folder) / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the figure of both fields, which takes longer than the training; a test has it."""
    monkeypatch.setattr(distillation, "_fields", lambda *_: None)


def test_field_plot_is_written(diffprob: Callable, tiny: Path) -> None:
    done = diffprob("distill", tiny, "--method", "gradient", "--steps", "1", "--out", "p", "--json", *SMALL).json
    assert done["fields"] == str(Path("p/fields.png")) and Path("p/fields.png").read_bytes().startswith(b"\x89PNG")


def test_images_other_than_the_teachers_are_an_error(diffprob: Callable) -> None:
    for name in ("own", "other"):
        np.save(f"{name}.npy", np.random.default_rng(len(name)).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    made = diffprob("train", "--data", "own.npy", "--out", "teacher", "--steps", "1", *TINY)
    assert made.code == 0, made.err
    common = ("distill", "teacher", "--method", "gradient", "--dry-run", "--device", "cpu")
    refused = diffprob(*common, "--data", "other.npy")
    assert (refused.code, "not the images that teacher was trained on" in refused.error) == (2, True)
    Path("own.npy").rename("moved.npy")
    assert diffprob(*common, "--data", "moved.npy").code == 0


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("method", ["gradient", "scalar", "full"])
def test_distilled_potential_is_a_run(diffprob: Callable, tiny: Path, method: str) -> None:
    out = f"runs/tiny-{method}"  # named after the folder, as a run of the recipe digits elsewhere is another
    done = diffprob("distill", tiny, "--method", method, "--steps", "4", "--json", *SMALL)
    assert done.json["run"] == out and done.json["step"] == 4 and done.json["denoises"]
    run = Run.open(out)
    assert isinstance(run.load().net, Potential) and run.meta["step"] == 4
    teacher = Run.open(tiny)
    assert run.recipe.process == teacher.recipe.process and run.recipe.space == teacher.recipe.space
    drawn = diffprob("sample", out, "-n", "2", "--steps", "2", "--out", "x.png", "--device", "cpu")
    assert drawn.code == 0, drawn.err
    # The same command is finished; a longer one goes on; another run's teacher is another recipe.
    before = contents(Path(out))
    assert diffprob("distill", tiny, "--method", method, "--steps", "4", "--json", *SMALL).json["finished_before"]
    assert contents(Path(out)) == before


@pytest.mark.usefixtures("bare")
def test_frozen_body_keeps_the_teachers_weights(diffprob: Callable, tiny: Path) -> None:
    common = ("--method", "scalar", "--steps", "4", "--json", *SMALL)
    for name, more in (("frozen", ("--frozen",)), ("free", ())):
        assert diffprob("distill", tiny, *common, "--out", name, *more).code == 0
    theirs, free = Run.open(tiny).weights(), Run.open("free").weights()
    body = {
        name: value for name, value in Run.open("frozen").weights().items() if "body" in name and "head" not in name
    }
    same = [name for name, value in body.items() if value.equal(theirs[name.replace("net.body.", "net.")])]
    assert len(same) == len(body) > 10
    changed = [name for name in body if not free[name].equal(body[name])]
    assert changed and all("mid_block" in name or "down_blocks" in name for name in changed)


def test_baseline_is_a_run(diffprob: Callable) -> None:
    for kind, setting in (("glow", "network.width=4"), ("ebm", "objective.steps=2")):
        common = ("baseline", kind, "digits", "--set", setting, *SMALL, "--json")
        first = diffprob(*common, "--steps", "2").json
        assert first["run"] == f"runs/digits-{kind}" and not first["denoises"]
        assert diffprob(*common, "--steps", "3").json["resumed_at"] == 2
        assert isinstance(open_run(first["run"]), BaselineRun)
        assert diffprob("train", first["run"], "--steps", "4", "--device", "cpu", "--json").json["step"] == 4
        planned = diffprob(*common, "--steps", "9", "--dry-run").json
        assert planned["parameters"] > 0 and planned["seconds"] > 0
        assert "would resume at step 4" in planned["about"]["run"]
        card = (Path(first["run"]) / "README.md").read_text()
        assert "baseline" in card and "diffprob sample" not in card


@pytest.mark.usefixtures("bare")
def test_invalid_input_is_a_one_line_error(diffprob: Callable, tiny: Path) -> None:
    for arguments, message in (
        (("distill", tiny, "--method", "gradeint"), "gradient"),
        (("distill", tiny, "--method", "gradient", "--frozen"), "--frozen belongs to --method scalar"),
        (("distill", tiny, "--method", "scalar", "--set", "network.body.norm=x"), "norm"),
        (("distill", "nowhere", "--method", "gradient"), "no run at"),
        (("baseline", "glwo", "digits"), "glow"),
        (("baseline", "glow", "digits", "--epochs", "2"), "--epochs is not for"),
        (("baseline", "classifier", "digits", "--steps", "2"), "--steps is not for"),
        (("baseline", "glow", "digits", "--set", "network.scales=9"), "scales"),
    ):
        done = diffprob(*arguments)
        assert done.code == 2 and message in done.error, (arguments, done.err)
    assert diffprob("distill", tiny, "--method", "gradient", "--steps", "1", "--out", "p", *SMALL).code == 0
    assert "cannot be distilled" in diffprob("distill", "p", "--method", "gradient").error


def test_images_named_only_by_a_foreign_run_are_not_plotted(
    diffprob: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a digest nothing says that what lies at the place is the run's data; weights may be trained on it."""
    pictures = np.random.default_rng(0).integers(0, 17, (40, 8, 8), dtype=np.uint8)
    for name in ("private", "other"):
        np.save(f"{name}.npy", pictures + len(name))
    run = Run.open(tiny)
    recipe = replace(run.recipe, data=Array("private.npy"), space=Pixels((1, 8, 8), 256))
    write_run("stranger", recipe, run.weights())
    write_run("known", recipe, run.weights(), Array("other.npy").load().digest())
    common = ("--method", "gradient", "--steps", "1", "--json", *SMALL)
    drawn = []
    monkeypatch.setattr(distillation, "fields_figure", lambda *_: drawn.append(1) or b"a picture")
    done = diffprob("distill", "stranger", "--out", "p", *common)
    assert (done.json["fields"], Path("p/fields.png").exists(), drawn) == (None, False, [])
    assert "note: no fields.png, which shows an image: stranger does not say which it was trained on" in done.err
    assert "not the images that digits was trained on" in diffprob("distill", "known", "--out", "q", *common).error
    assert not Path("q").exists()
    named = diffprob("distill", "stranger", "--data", "private.npy", "--out", "p2", *common)
    assert (named.json["fields"], drawn) == ("p2/fields.png", [1]), named.err
    set_ = ("--set", "data=Array('other.npy')")
    assert diffprob("distill", "stranger", *set_, "--out", "p3", *common).json["fields"] == "p3/fields.png"


def test_failed_plot_does_not_lose_the_training(
    diffprob: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise InputError("cannot write fields.png: no space left on device")

    monkeypatch.setattr(distillation, "fields_figure", lambda *_: b"a picture")
    monkeypatch.setattr(Run, "add", full)
    done = diffprob("distill", tiny, "--method", "gradient", "--steps", "1", "--out", "p", "--json", *SMALL)
    assert (done.code, done.json["step"], done.json["fields"]) == (0, 1, None), done.err
    assert "note: not recorded in the run: cannot write fields.png" in done.err
