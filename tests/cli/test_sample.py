"""`sample`, `import`, `export` and `demo`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli.commands import contents
from PIL import Image

import diffprob as dp
from diffprob.base.rng import derive, permutation
from diffprob.cli import demo
from diffprob.tasks.demo import DemoPlan

CPU = ("--device", "cpu")


def arrays(path: Path | str) -> tuple[np.ndarray, np.ndarray, dict]:
    with np.load(path, allow_pickle=False) as stored:
        return stored["images"], stored["seeds"], json.loads(str(stored["metadata"]))


def test_default_is_a_stochastic_solver_with_50_evaluations(diffprob: Callable, trained: Path) -> None:
    result = diffprob("sample", trained, "-n", "2", *CPU, "--json").json
    assert (result["sampler"], result["steps"], result["out"]) == ("DPMppSDE(history=2)", 50, "samples.png")
    with Image.open("samples.png") as picture:
        settings = picture.text
    assert settings["seeds"] == "0..1"
    assert (settings["sampler"], settings["grid"]) == ("DPMppSDE(history=2)", "Trailing(bend=-0.6)")
    assert settings["steps"] == "50"
    assert settings["chunk"] == str(result["chunk"])
    assert settings["Software"] == f"diffprob {dp.__version__}"
    assert settings["model_sha256"] == contents(trained)["model.safetensors"]


def test_ancestral_uses_the_training_steps(diffprob: Callable, trained: Path) -> None:
    for arguments in (["--steps", "1000"], ["--sampler", "Ancestral"]):
        result = diffprob("sample", trained, *arguments, "--dry-run", *CPU, "--json").json
        assert (result["sampler"], result["steps"]) == ("Ancestral()", 1000)
    assert not list(Path().iterdir())


def test_number_of_evaluations_selects_sampler_and_grid(diffprob: Callable, trained: Path) -> None:
    def chosen(*arguments: str) -> tuple[str, str, int]:
        plan = diffprob("sample", trained, *arguments, "--dry-run", *CPU, "--json").json
        return plan["sampler"].partition("(")[0], plan["grid"].partition("(")[0], plan["steps"]

    for steps in (1, 5, 20, 999):
        assert chosen("--steps", str(steps)) == ("DPMppSDE", "Trailing", steps)
    assert chosen("--steps", "1000") == ("Ancestral", "Uniform", 1000)
    assert chosen("--steps", "8", "--grid", "Trailing()") == ("Ancestral", "Trailing", 8)
    assert chosen("--steps", "8", "--variance", "UnitData()") == ("Ancestral", "Uniform", 8)
    assert chosen("--steps", "8", "--sampler", "UniPC(2)") == ("UniPC", "Uniform", 8)


def test_unused_variance_is_noted(diffprob: Callable, trained: Path) -> None:
    plan = diffprob("sample", trained, "--sampler", "DDIM()", "--variance", "UnitData()", "--dry-run", *CPU)
    assert "draws nothing from a variance" in plan.err and plan.code == 0


def test_image_depends_only_on_its_seed(diffprob: Callable, trained: Path) -> None:
    common = (trained, "--steps", "4", "--sampler", "Ancestral", "--batch", "4", *CPU)
    diffprob("sample", *common, "-n", "7", "--seed", "10", "--out", "seven.npz")
    diffprob("sample", *common, "-n", "1", "--seed", "12", "--out", "one.npz")
    (seven, seeds, settings), (one, _, _) = arrays("seven.npz"), arrays("one.npz")
    assert np.array_equal(seven[2:3], one)
    assert seeds.tolist() == list(range(10, 17))
    assert (settings["levels"], settings["chunk"], settings["seeds"]) == (17, 4, "10..16")
    assert seven.dtype == np.uint8
    assert seven.shape == (7, 1, 8, 8)
    assert seven.max() <= 16
    diffprob("sample", *common, "-n", "7", "--seed", "10", "--out", "again.npz")
    assert Path("again.npz").read_bytes() == Path("seven.npz").read_bytes()


def test_folder_output_has_one_file_per_image(diffprob: Callable, trained: Path) -> None:
    diffprob("sample", trained, "-n", "3", "--seed", "5", "--steps", "2", "--out", "a/b/", *CPU)
    diffprob("sample", trained, "-n", "3", "--seed", "5", "--steps", "2", "--out", "x.npz", *CPU)
    assert sorted(path.name for path in Path("a/b").iterdir()) == [
        "facts.json",
        *(f"seed-{k:08d}.png" for k in (5, 6, 7)),
    ]
    with Image.open("a/b/seed-00000006.png") as picture:
        assert picture.text["seeds"] == "6"
        levels = np.round(np.asarray(picture) / 255 * 16).astype(np.uint8)
    assert np.array_equal(levels, arrays("x.npz")[0][1, 0])


def test_folder_output_replaces_only_its_own_images(diffprob: Callable, trained: Path) -> None:
    few = ("sample", trained, "--steps", "1", "--out", "pics/", *CPU)
    assert diffprob(*few, "-n", "3", "--progressive").code == 0
    (Path("pics") / "notes.txt").write_text("mine")
    assert diffprob(*few, "-n", "1", "--seed", "2").code == 0
    assert sorted(path.name for path in Path("pics").iterdir()) == ["facts.json", "notes.txt", "seed-00000002.png"]
    settings = json.loads((Path("pics") / "facts.json").read_text())
    (Path("pics") / "facts.json").write_text(json.dumps({**settings, "pictures": ["notes.txt", "../x.png"]}))
    (Path("pics") / "seed-00000002.png").rename(Path("pics") / "mine.PNG")
    assert "mine.PNG is there already" in diffprob(*few, "-n", "1").error
    (Path("pics") / "mine.PNG").unlink()
    Path("x.png").write_text("mine")
    assert diffprob(*few, "-n", "1").code == 0
    assert (Path("x.png").read_text(), (Path("pics") / "notes.txt").read_text()) == ("mine", "mine")


def test_every_option_changes_the_samples(diffprob: Callable, trained: Path) -> None:
    common = ("sample", trained, "-n", "4", "--steps", "5", *CPU)
    choices = {
        "plain": (),
        "no clip": ("--sampler", "DDIM(eta=1)", "--no-clip"),
        "grid": ("--grid", "Karras(rho=7)"),
        "eta": ("--sampler", "DDIM(eta=1)"),
        "variance": ("--sampler", "DDIM(eta=1, spread=True)", "--variance", "UnitData()"),
        "seed": ("--seed", "1"),
    }
    drawn = {}
    for name, arguments in choices.items():
        assert diffprob(*common, *arguments, "--out", f"{name}.npz").code == 0
        drawn[name] = arrays(f"{name}.npz")[0].tobytes()
    same = [(a, b) for a in drawn for b in drawn if a < b and drawn[a] == drawn[b]]
    assert not same


def test_adaptive_samplers_report_their_evaluations(diffprob: Callable, trained: Path) -> None:
    common = ("sample", trained, "-n", "5", "--sampler", "AdaptiveODE(rtol=0.1, atol=0.1)", "--batch", "2", *CPU)
    plan = diffprob(*common, "--dry-run", "--json").json
    assert (plan["steps"], plan["network_calls"], plan["evaluations"]) == (None, None, None)
    result = diffprob(*common, "--out", "x.npz", "--json").json
    assert result["steps"] is None
    assert result["evaluations"] > 4
    # Chunks of two, the last one of an evaluation padded.
    assert 5 * result["evaluations"] / 2 <= result["network_calls"] < 5 * result["evaluations"]
    assert "steps by tolerance" in diffprob(*common, "--out", "x.npz").out


def test_dpm_fast_takes_its_total_from_the_steps(diffprob: Callable, trained: Path) -> None:
    result = diffprob("sample", trained, "-n", "2", "--sampler", "DPMFast", "--steps", "9", *CPU, "--json").json
    assert (result["sampler"], result["steps"], result["evaluations"]) == ("DPMFast(total=8)", 9, 9)
    assert result["network_calls"] == 9


def test_dynamic_clipping_is_recorded(diffprob: Callable, trained: Path) -> None:
    common = ("sample", trained, "-n", "2", "--steps", "3", *CPU)
    drawn = {}
    for name, options in {"plain": (), "dynamic": ("--dynamic-clip",), "whole": ("--dynamic-clip", "1")}.items():
        assert diffprob(*common, *options, "--out", f"{name}.npz").code == 0
        drawn[name] = arrays(f"{name}.npz")
    assert [settings["clip"] for _, _, settings in drawn.values()] == [True, "dynamic 0.995", "dynamic 1"]
    assert not np.array_equal(drawn["whole"][0], drawn["plain"][0])
    assert "clipped (dynamic 1)" in diffprob(*common, "--dynamic-clip", "1").out


def test_progressive_output_shows_the_chain(diffprob: Callable, trained: Path) -> None:
    result = diffprob(
        "sample", trained, "-n", "3", "--steps", "20", "--progressive", "--out", "x.png", *CPU, "--json"
    ).json
    assert result["progression"] == "x-progression.png"
    with Image.open("x-progression.png") as strip:
        assert strip.width > 2 * strip.height, "ten times, three images"
    few = diffprob("sample", trained, "-n", "1", "--steps", "3", "--progressive", "--out", "y.png", *CPU)
    assert few.code == 0


def test_invalid_outputs_are_errors_before_sampling(diffprob: Callable, trained: Path) -> None:
    Path("file").write_text("")
    Path("folder.png").mkdir()
    for out, message in (
        ("x.jpg", "x.npz"),
        ("file", "cannot be written"),
        ("folder.png", "a folder"),
        ("file/x.png", "not a folder"),
    ):
        done = diffprob("sample", trained, "--out", out, *CPU)
        assert (done.code, message in done.error) == (2, True), done.err


def test_export_and_import_give_the_same_model(diffprob: Callable, trained: Path) -> None:
    assert diffprob("export", trained, "--out", "exported").code == 0
    assert Path("exported/model_index.json").exists()
    result = diffprob("import", "exported", "--out", "back", "--levels", "17", "--json").json
    assert result["shape"] == [1, 8, 8]
    old, new = dp.Run.open(trained), dp.Run.open("back")
    assert new.space == old.space
    for what in ("network", "process", "prediction", "clock", "variance"):
        assert getattr(new.recipe, what) == getattr(old.recipe, what)
    for run in (trained, "back"):
        diffprob("sample", run, "-n", "2", "--steps", "3", "--out", f"{Path(run).name}.npz", *CPU)
    assert np.array_equal(arrays("tiny.npz")[0], arrays("back.npz")[0])
    for verb, thing in (("export", trained), ("import", "exported")):
        before = contents(Path("back"))
        done = diffprob(verb, thing, "--out", "back")
        assert (done.code, "not an empty folder" in done.error) == (2, True)
        assert contents(Path("back")) == before


def test_import_dry_run_writes_nothing(diffprob: Callable, trained: Path) -> None:
    diffprob("export", trained, "--out", "exported")
    assert diffprob("import", "exported", "--out", "back", "--dry-run").code == 0
    assert diffprob("export", trained, "--out", "other", "--dry-run").code == 0
    assert [path.name for path in Path().iterdir()] == ["exported"]
    done = diffprob("import", "exported", "--out", "back", "--size", "9")
    assert (done.code, "images are 8x8" in done.error) == (2, True)


def test_demo_trains_samples_and_writes_a_report(diffprob: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    short = DemoPlan(2, 600.0, ddim=2, ancestral=1, untrained=1, measured=5, terms=3, fit_images=2, fit_times=8)
    monkeypatch.setattr("diffprob.tasks.demo.SHORT", short)
    assert "would train" in diffprob("demo", "--short", *CPU, "--dry-run").out
    assert not list(Path().iterdir())
    done = diffprob("demo", "--short", *CPU, "--json")
    result = done.json
    assert result["step"] == 2
    assert [row["ratio"] for row in result["table"]][2] == 1
    assert all(0 < row["distance"] < 20 for row in result["table"])
    assert set(result["pictures"]) == {
        "samples beside real digits",
        "from noise to digits",
        "digits as bytes arrive",
    }, "no loss curve in the tests"
    assert all(Path(path).exists() for path in result["pictures"].values())
    run = dp.Run.open("runs/demo-short")
    assert [m.n for m in run.measurements] == [360, 360, 5, 5]
    assert run.measurements[0].value == pytest.approx(result["table"][0]["ratio"])
    text, page = "\n".join(demo.format_result(result)), Path(result["report"]).read_text()
    for row, measured in zip(result["bits_per_dim"], run.measurements[2:], strict=True):
        assert row["value"] == measured.value
        assert f"{row['value']:.3f}" in text
        assert f"{row['value']:.4g}" in page and measured.name in page
    train, held = dp.Digits("train").load(), dp.Digits("test").load()
    chosen = sorted(permutation(derive(0, "images"), 0, 360)[:5])
    counts = [(train.take(range(len(train))) == level).sum(0) + 1 for level in range(17)]
    cost = -np.log2(np.stack(counts) / (len(train) + 17))
    expected = np.take_along_axis(cost, held.take(chosen).astype(int), 0).mean()
    assert result["bits_per_dim"][1]["value"] == pytest.approx(expected, rel=1e-12)
    assert all(path in text for path in result["pictures"].values())
    before = contents(Path("runs/demo-short"))["model.safetensors"]
    again = diffprob("demo", "--short", *CPU, "--json").json
    assert again["finished_before"]
    assert again["table"] == result["table"]
    assert contents(Path("runs/demo-short"))["model.safetensors"] == before


def test_demo_stops_at_the_time_limit_and_resumes(diffprob: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffprob.tasks.demo.SHORT", DemoPlan(steps=3, seconds=0.0, ddim=1, ancestral=1))
    monkeypatch.setattr("diffprob.tasks.demo.compare_samples", lambda *_: ([], {}))
    monkeypatch.setattr("diffprob.tasks.demo.compare_bits", lambda *_: [])
    monkeypatch.setattr("diffprob.tasks.demo.detect_turned", lambda *_: [])
    coded = {"n": 4, "bytes": 300, "bits_per_dim": 9.4, "seconds": 1.0}
    monkeypatch.setattr("diffprob.tasks.demo.code_digits", lambda *_: (coded, "arriving.png"))
    result = diffprob("demo", "--short", *CPU, "--json").json
    assert (result["step"], result["timed_out"]) == (1, True)
    assert "goes on" in "\n".join(demo.format_result(result))
    assert diffprob("demo", "--short", *CPU, "--json").json["step"] == 2
    assert diffprob("demo", "--short", *CPU, "--json").json["step"] == 3
    fresh = diffprob("demo", "--short", "--fresh", *CPU, "--json").json
    assert fresh["step"] == 1
