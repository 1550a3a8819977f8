"""What holds for every verb: help, errors, exit codes, JSON; and the package's own names."""

import ast
import gc
import io
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import diffprob as dp
from diffprob.base.errors import NumericalError
from diffprob.cli import doctor, show, train
from diffprob.cli.main import BEGAN, VERBS, main
from diffprob.cli.progress import Progress
from diffprob.runs.folder import PRETRAINED
from diffprob.tasks import machine
from diffprob.tasks.progress import duration

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> str:
    """Standard output of a fresh interpreter."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_help_of_every_verb_has_examples_and_needs_no_torch() -> None:
    code = """
import contextlib, io, json, sys
from diffprob.cli.main import VERBS, main
texts = {}
for verb in VERBS:
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main([verb, "--help"])
    texts[verb] = text.getvalue()
print(json.dumps([texts, [name for name in ("torch", "numpy", "rich", "PIL") if name in sys.modules]]))
"""
    texts, loaded = json.loads(python(code))
    assert not loaded
    for verb, text in texts.items():
        usage, examples = text.split("examples:\n")
        assert "--json" in usage
        assert all(re.match(r"  (torchrun \S+ \d+ -m )?diffprob ", line) for line in examples.strip("\n").splitlines())
        assert f"diffprob {verb}" in examples


def test_old_verb_still_works_but_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recognise", "--help"]) == 0
    assert "diffprob noisy-classifier" in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert "recognise " not in capsys.readouterr().out


def test_examples_parse() -> None:
    """Every example of every --help is a command that the parser takes."""
    import importlib
    import shlex

    from diffprob.cli.parser import Parser, add_json

    for module in {module for module, _ in VERBS.values()}:
        for example in importlib.import_module(f"diffprob.cli.{module}").EXAMPLES:
            command = shlex.split(example, comments=True)
            command = command[command.index("diffprob") + 1 :]
            used = importlib.import_module(f"diffprob.cli.{VERBS[command[0]][0]}")
            parser = Parser("diffprob", "", ())
            used.add_arguments(parser)
            add_json(parser)
            parser.read(command[1:])


def test_bare_command_and_help_list_the_verbs(diffprob: Callable) -> None:
    for arguments in ([], ["--help"]):
        done = diffprob(*arguments)
        assert done.code == 0
        assert all(f"  {verb} " in done.out for verb in VERBS)
    assert diffprob("--version").out == f"diffprob {dp.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smaple"], "no verb 'smaple'.*did you mean 'sample'"),
        (["sample", "x", "--smapler", "DDIM"], "has no option --smapler; did you mean '--sampler'"),
        (["sample"], "required: RUN; see diffprob sample --help"),
        (["sample", "x", "y"], "further argument 'y'"),
        (["sample", "x", "--seed", "-1"], "--seed: must be at least 0"),
        (["sample", "x", "--seed", "1.5"], "--seed: must be a whole number"),
        (["sample", "x", "-n", "0"], "-n: must be at least 1"),
        (["sample", "x", "--steps", "0"], "--steps: must be at least 1, got 0"),
        (["train", "digits", "--steps", "-1"], "--steps: must be at least 1, got -1"),
        (["train", "digits", "--steps", "0"], "--steps: must be at least 1, got 0"),
        (["train", "--seed"], "--seed: expected one argument"),
        (["train"], "needs a recipe"),
        (["train", "minst"], "no recipe 'minst'.*did you mean 'mnist'"),
        (["train", "./nowhere/recipe.txt"], "no recipe at nowhere/recipe.txt"),
        (["train", "digits", "--data", "x"], "digits uses embedded data"),
        (["train", "digits", "--size", "8"], "--data without a recipe"),
        (["train", "digits", "--device", "gpu", "--dry-run"], "--device gpu: no such device"),
        (["train", "digits", "--device", "cuda:7", "--dry-run"], "--device cuda:7: this machine has"),
        (["show", "sampler_"], "nothing called 'sampler_' to show; did you mean 'samplers'"),
        (["show", "nowhere/run"], "no run at nowhere/run"),
        (["data-check", "digitz"], "no such file.*did you mean 'digits'"),
        (["import", "nowhere", "--out", "x"], "nowhere is not a folder"),
        (["export", "nowhere", "--out", "x"], "no run at nowhere"),
    ],
    ids=" ".join,
)
def test_invalid_usage_is_a_one_line_error_with_code_2(diffprob: Callable, arguments: list[str], message: str) -> None:
    done = diffprob(*arguments)
    assert done.code == 2
    assert re.search(message, done.error), done.error
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NumericalError("the loss is not finite at step 7"), 3),
        (OSError(28, "No space left on device", "a/file"), 2),
        (MemoryError(), 2),
    ],
    ids=repr,
)
def test_exit_code_depends_on_the_error(
    diffprob: Callable, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(doctor, "run", fail)
    done = diffprob("doctor")
    assert done.code == code
    assert done.error


def test_unexpected_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(doctor, "run", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["doctor"])


def test_closed_pipe_is_not_an_error() -> None:
    command = f"(sleep 0.3; exec {sys.executable} -m diffprob sample --help) | true; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_json_output_is_one_object_whatever_a_library_prints(
    diffprob: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chatty(_: object) -> dict:
        print("a library's banner")
        return {"answer": 42}

    monkeypatch.setattr(doctor, "run", chatty)
    done = diffprob("doctor", "--json")
    assert done.json == {"answer": 42}
    assert "banner" in done.err


def test_show_lists_recipes_and_describes_runs(diffprob: Callable) -> None:
    everything = diffprob("show", "--json").json
    assert "digits" in everything["recipes"]
    for family, names in everything["components"].items():
        assert list(diffprob("show", family, "--json").json["components"]) == names
    assert diffprob("show", "sampler").out == diffprob("show", "samplers").out
    assert "DDIM(eta=0.0, spread=False)" in diffprob("show", "samplers").out
    assert "Song et al. 2021" in diffprob("show", "DDIM").out
    recipes = diffprob("show", "recipes", "--json").json["recipes"]
    assert recipes["cifar10"]["parameters"] == 35_746_307
    assert dp.named("digits") == _parsed(diffprob("show", "digits", "--json").json["text"])
    assert "35,746,307" in "\n".join(show.format_result({"kind": "recipes", "recipes": recipes}))


def _parsed(text: str) -> dp.Recipe:
    from diffprob.config.registry import ALL
    from diffprob.config.spec import parse

    return parse(text, ALL)


def test_doctor_reports_and_writes_nothing(diffprob: Callable, tmp_path: Path) -> None:
    done = diffprob("doctor", "--json")
    report = done.json
    assert report["torch"]["version"].startswith("2.")
    assert report["torch"]["matmul_gflops"]["fp32"] > 0
    assert report["packages"]["numpy"]
    assert "1,797 images" in report["digits"]
    assert list(tmp_path.iterdir()) == []
    assert "this machine is usable" in "\n".join(doctor.format_result(report))


def test_doctor_warns_of_torchvision(diffprob: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    real = machine.find_spec
    monkeypatch.setattr(machine, "find_spec", lambda name: object() if name == "torchvision" else real(name))
    monkeypatch.setattr(machine, "_torch", lambda _: {})
    warnings = diffprob("doctor", "--json").json["warnings"]
    assert any("torchvision" in warning for warning in warnings)


def test_data_check_reports_the_digits(diffprob: Callable) -> None:
    report = diffprob("data-check", "digits", "--split", "test", "--json").json
    assert (report["images"], report["levels"], report["digest"]) == (360, 17, dp.Digits("test").load().digest())
    assert "360 of 8x8" in diffprob("data-check", "digits", "--split", "test").out


def test_progress_without_a_terminal_prints_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 4)
    monkeypatch.setattr("diffprob.tasks.progress.time.monotonic", lambda: next(clock))
    text = io.StringIO()
    monkeypatch.setattr(sys, "stderr", text)
    with Progress("train", 100, "step", 10) as progress:
        for step in range(11, 101):
            progress.update(step, "loss 1.0")
    lines = text.getvalue().splitlines()
    assert 10 < len(lines) < 90
    assert re.fullmatch(r"train: step \d+ of 100, loss 1\.0, \d+:\d\d left", lines[0])
    assert re.fullmatch(r"train: step 100 of 100, loss 1\.0, took \d+:\d\d", lines[-1])


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (65, "1:05"), (7200, "2:00:00"), (3 * 86400, "3.0 days")])
def test_duration_is_formatted_for_reading(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_progress_on_a_terminal_draws_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    text = Terminal()
    monkeypatch.setattr(sys, "stderr", text)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("train", 10, "step") as progress:
        for step in range(1, 11):
            progress.update(step, "loss 1.0")
        progress.note("a note")
    assert "a note" in text.getvalue()
    assert "10 of 10" in text.getvalue()


def test_package_imports_lazily_and_exports_every_name() -> None:
    loaded = "import sys, diffprob; print([m for m in ('torch', 'numpy', 'argparse') if m in sys.modules])"
    assert python(loaded) == "[]\n"
    from diffprob import api
    from diffprob.config.registry import ALL

    assert list(api.__all__) == sorted(set(api.__all__))
    assert set(api.FACE) < set(dir(dp)) and len(api.FACE) <= 45 and set(api.FACE) <= set(api.__all__)
    assert dp.samplers.DDIM is dp.DDIM and "DDIM" in dir(dp.samplers) and "DDIM" in repr(dp.samplers)
    with pytest.raises(AttributeError, match="did you mean 'DDIM'"):
        _ = dp.samplers.DDMI
    assert all(getattr(dp, name) is maker for name, maker in ALL.items() if name not in api.IN_FAMILIES)
    for name, family in api.IN_FAMILIES.items():
        assert getattr(getattr(dp, family), name) is ALL[name] and name not in dir(dp)
        with pytest.raises(AttributeError, match=rf"dp\.{family}\.{name} would be right"):
            getattr(dp, name)
    imported = {
        alias.name for node in ast.parse(Path(api.__file__).read_text()).body
        if isinstance(node, ast.ImportFrom) for alias in node.names
    }  # fmt: skip
    assert imported - {"families", "reserve"} == set(api.__all__)  # what the face itself calls
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dp.nothing
    with pytest.raises(ImportError):
        from diffprob import nothing  # noqa: F401


def test_component_added_to_the_registry_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffprob.config import registry as tables

    class Unheard:
        """What nobody adds: the sampler of CONTRIBUTING.md may be there."""

    with pytest.raises(AttributeError):
        _ = dp.Unheard
    monkeypatch.setitem(tables.ALL, "Unheard", Unheard)
    assert dp.Unheard is Unheard


def test_example_in_the_package_docstring_runs() -> None:
    assert dp.__doc__
    code = "\n".join(line.strip() for line in dp.__doc__.splitlines() if line.startswith("    "))
    output = python(code)
    assert "bits/dim (variational bound) of 20 images" in output and output.startswith("1.")


def test_output_does_not_reveal_the_installation_path(diffprob: Callable) -> None:
    for command in (
        ["show", "digits"],
        ["sample", "digits", "--dry-run", "--json"],
        ["sample", "digits", "--best"],
        ["likelihood", "digits", "--dry-run", "--json"],
        ["report", "digits", "--dry-run", "--json"],
        ["fit", "digits", "steps"],
        ["fit", "digits", "steps", "--dry-run", "--json"],
    ):
        done = diffprob(*command)
        assert str(PRETRAINED.parent) not in done.out + done.err and "digits" in done.out + done.err, command


def test_control_characters_in_names_are_escaped(diffprob: Callable, trained: Path) -> None:
    done = diffprob("export", trained, "--dry-run", "--out", "a\u202e\x1b[31mb")
    assert done.code == 0 and "a\\u202e\\x1b[31mb" in done.out
    assert (done.out + done.err).replace("\n", "").isprintable()


def test_a_process_of_ones_own_ends_without_collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Walking over what torch's import made takes a second of the processor, after the last line."""
    registered = []
    monkeypatch.setattr("atexit.register", registered.append)
    monkeypatch.setattr("gc.set_threshold", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["diffprob", "--version"])
    assert main(["--version"]) == 0 and not registered
    assert main() == 0 and registered == [gc.freeze]


def test_the_time_of_a_training_begins_with_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports take seconds, more of them on a busy machine; inside another process it begins with the call."""
    began: list[float] = []
    monkeypatch.setattr(train, "run", lambda args: began.append(args.began))
    monkeypatch.setattr("atexit.register", lambda *_: None)
    monkeypatch.setattr("gc.set_threshold", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["diffprob", "train", "digits"])
    now = time.monotonic()
    assert main(["train", "digits"]) == main() == 0
    assert began[0] >= now > began[1] == BEGAN
