"""`diffprob show RUN`: a page for people whose commands work, and a recipe that trains again."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli.commands import TINY, Done
from PIL import Image

import diffprob as dp
from diffprob.config.recipe import build_model
from diffprob.runs.folder import Run
from diffprob.runs.measurements import Measurement
from diffprob.runs.publish import write_run
from diffprob.tasks.run_summary import describe_run, quality
from diffprob.tasks.training import set_fields

SMALL = ("--steps", "2", *TINY)


def pictures(folder: Path, side: int = 8) -> Path:
    """Sixty grey pictures in two folders, whose names need quotes in a shell."""
    for name, grey in (("a b", 60), ("it's", 180)):
        (folder / name).mkdir(parents=True)
        for k in range(30):
            noise = np.random.default_rng([grey, k]).integers(0, 20, (side, side))
            Image.fromarray((grey + noise).astype(np.uint8)).save(folder / name / f"{k}.png")
    return folder


def proposals(done: Done) -> list[str]:
    """The commands on a page."""
    return [command["text"] for command in done.json["next"]]


def check(diffprob: Callable, run: str | Path, **places: str) -> list[str]:
    """Every command that is proposed passes its checks, in a dry run; returns them."""
    page = diffprob("show", run)
    assert page.code == 0
    lines = page.out.splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 100, page.out
    commands = proposals(diffprob("show", run, "--json"))
    assert commands and all(any(command in line for line in lines) for command in commands)
    for command in commands:
        words = [places.get(word, word) for word in shlex.split(command)]
        assert words[0] == "diffprob"
        done = diffprob(*words[1:], "--dry-run")
        assert done.code == 0, (command, done.err)
    return commands


def test_page_says_what_to_do_next_by_commands_that_work(diffprob: Callable, tiny: Path) -> None:
    commands = check(diffprob, tiny.name, PICTURES=str(pictures(tiny.parent / "odd")))
    verbs = [command.split()[1] for command in commands]
    assert verbs == ["sample", "likelihood", "detect", "evaluate", "fit", "train", "report"]
    assert "--for 20m" in commands[5]
    out = diffprob("show", "tiny").out
    assert "a diffusion model of 8x8 grey images, 17 grey levels" in out and "about 1,400 images" in out
    assert "4 of 4 steps of 8 images" in out and "nothing measured yet" in out and "Recipe(" not in out


def test_commands_of_runs_with_labels_work(diffprob: Callable, tmp_path: Path) -> None:
    pictures(tmp_path / "my pictures")
    made = ("--data", "my pictures", "--labels", "--held-out", "none", "--out", "a run")
    assert diffprob("train", *made, *SMALL).code == 0
    places = {"PICTURES": str(pictures(tmp_path / "odd", 9)), "GOOD-PICTURES": str(pictures(tmp_path / "good", 10))}
    commands = check(diffprob, "a run", **places)
    assert "diffprob sample 'a run' --label 'a b' --guidance 1" in commands
    assert "classes  2: a b, it's" in diffprob("show", "a run").out
    assert "classes a b, it's" in repr(dp.load("a run")).replace("2: ", "")
    Path("my pictures").rename("moved")
    moved = proposals(diffprob("show", "a run", "--json"))
    assert "diffprob likelihood 'a run' --data 'path/to/my pictures'" in moved
    there = [word.replace("path/to/my pictures", "moved") for word in shlex.split(moved[2])]
    assert there[:3] == ["diffprob", "likelihood", "a run"]
    assert diffprob(*there[1:], "--dry-run").code == 0


@pytest.mark.parametrize("name", ["captioned_digits", "digits_superresolution"])
def test_commands_of_runs_with_other_conditions_work(diffprob: Callable, name: str) -> None:
    recipe = dp.named(name)
    if name == "captioned_digits":
        small = {"network.body.widths": (8, 8), "network.body.groups": 4, "network.heads": 2, "network.text.width": 8}
        recipe = set_fields(recipe, {**small, "data.count": 50})
    write_run("run", recipe, build_model(recipe).state_dict(), digest=recipe.data.load().digest(), step=1)
    commands = check(diffprob, "run", IMAGES="digits", FOLDER="enlarged")
    assert any("restore" in text or "--caption" in text for text in commands)


def test_commands_of_unfinished_and_other_runs_work(diffprob: Callable, tiny: Path) -> None:
    assert diffprob("train", "digits", "--out", "stopped", *SMALL[:1], "4", *TINY).code == 0
    write_run("half", Run.open("stopped").recipe, Run.open("stopped").weights(), step=3, digest=None)
    assert "diffprob train half" in check(diffprob, "half", PICTURES=str(pictures(tiny.parent / "more")))
    settings = ("--set", "network.depth=1", "--set", "network.width=8", "--device", "cpu")
    glow = ("baseline", "glow", "digits", "--steps", "1", "--set", "training.batch=8", "--out", "glow", *settings)
    assert diffprob(*glow).code == 0
    check(diffprob, "glow", RUN=str(tiny), IMAGES=str(pictures(tiny.parent / "odd")))
    assert "a baseline of 8x8 grey images" in diffprob("show", "glow").out


def test_recipe_of_a_run_trains_again(diffprob: Callable, trained: Path) -> None:
    text = diffprob("show", trained, "--recipe").out
    Path("mine.txt").write_text(text)
    assert diffprob("train", "mine.txt", "--out", "again", "--device", "cpu").code == 0
    assert Run.open("again").weights().keys() == Run.open(trained).weights().keys()
    weights = Run.open(trained).weights()
    assert all((value == weights[name]).all() for name, value in Run.open("again").weights().items())
    assert diffprob("show", trained, "--recipe", "--json").json == {"kind": "text", "text": text.rstrip("\n")}
    assert "--recipe is part of a run" in diffprob("show", "samplers", "--recipe").error
    assert "--measurements is part of a run" in diffprob("show", "cifar10", "--measurements").error


def test_measurements_that_say_most_come_first(diffprob: Callable, tiny: Path) -> None:
    many = [Measurement(f"number {k}", k + 1.0, 10) for k in range(9)]
    good = [
        Measurement("Frechet distance, class cat", 9.0, 10),
        Measurement("memorisation ratio (nearest training image, pixels)", 1.1, 30, low=1.0, high=1.2),
        Measurement("Frechet distance", 2.0, 40, low=1.5, high=2.5, reference=0.5),
        Measurement("bits/dim (variational bound)", 2.5, 20, low=2.25, high=2.75, step=2),
    ]
    Run.open(tiny).record(*many, *good)
    rows = quality(Run.open(tiny).measurements, 4)
    names = [row[0] for row in rows]
    assert names[:3] == ["bits/dim (variational bound)", "Frechet distance", "memorisation ratio"]
    assert len(rows) == 5 and names[3] == "number 0"
    assert rows[0][1:] == ("2.5", "2.25 to 2.75", "-", "lower", "20, at step 2")
    assert rows[1][1:] == ("2", "1.5 to 2.5", "0.5", "lower", "40")
    out = diffprob("show", tiny).out
    assert "8 more: diffprob show" in out and "number 8" not in out
    assert "number 8" in diffprob("show", tiny, "--measurements").out
    assert len(diffprob("show", tiny, "--measurements", "--json").json["measurements"]) == 13
    assert "bits/dim (variational bound) 2.5 (2.25 to 2.75)" in repr(dp.load(tiny))


def test_long_log_is_read_from_its_end(diffprob: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200,000 lines: of the log's 20 MB no more than a block goes through the reader of JSON."""
    line = '{"step": 4, "epoch": 0.02, "loss": 0.25, "gradient_norm": 1.0, "lr": 0.001, "seconds": 3.5, "more": "%s"}\n'
    with (tiny / "log.jsonl").open("a") as file:
        file.write(line % ("x" * 20) * 200_000)
    parsed = []
    original = json.loads

    def loads(text: bytes, **how: object) -> object:
        parsed.append(len(text))
        return original(text, **how)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("diffprob.storage.records.json.loads", loads)
    summary = describe_run(tiny)
    assert (summary.loss, summary.seconds) == (0.25, 3.5)
    assert sum(parsed) < 100_000


def test_show_has_all_that_it_had(diffprob: Callable, trained: Path) -> None:
    result = diffprob("show", trained, "--json").json
    before = ("path", "name", "shape", "parameters", "step", "steps", "loss", "library", "data_sha256", "classes")
    assert set(before) | {"kind", "fits", "measurements", "text"} <= set(result)
