"""What holds for the project as a whole: start-up, packaging, and that the pages say what is true."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from diffprob.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(re.findall(r"^([^#=\s]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
HEAVY = ["torch", "numpy", "scipy", "safetensors", "accelerate", "rich", "PIL", "matplotlib"]
EXTRAS = ["torchvision", "diffusers", "datasets", "transformers", "tensorboard", "ot", "sklearn"]


def python(code: str, *arguments: str) -> str:
    """Standard output of a fresh interpreter."""
    command = [sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_no_module_imports_torchvision_or_an_extra() -> None:
    code = """
import importlib, json, pkgutil, sys
import diffprob
names = [m.name for m in pkgutil.walk_packages(diffprob.__path__, "diffprob.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(json.dumps([names, sorted({name.split(".")[0] for name in sys.modules})]))
"""
    names, loaded = json.loads(python(code))
    assert len(names) > 30
    assert not set(EXTRAS) & set(loaded)
    assert not {"matplotlib", "accelerate", "rich", "PIL", "scipy"} & set(loaded), "these are imported inside functions"


def test_help_needs_no_torch() -> None:
    code = """
import json, sys
from diffprob.cli.main import main
sys.argv = ["diffprob", *sys.argv[1:]]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
sys.stdout.flush()
print("\\n" + json.dumps([code or 0, sorted({name.split(".")[0] for name in sys.modules})]))
"""
    for arguments in (["--help"], ["sample", "--help"]):
        status, loaded = json.loads(python(code, *arguments).splitlines()[-1])
        assert status == 0
        assert not set(HEAVY) & set(loaded)


def test_help_is_fast() -> None:
    code = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "diffprob", "--help"], capture_output=True, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""
    assert min(float(python(code)) for _ in range(3)) < 0.4


def test_importing_diffprob_adds_little_to_importing_torch() -> None:
    code = """
import gc, time
gc.disable()  # a collection of all that torch has made takes 0.1 s, and falls in here or does not
start = time.process_time()
import torch, numpy
theirs = time.process_time() - start
start = time.process_time()
import diffprob
lazy = time.process_time() - start
for name in dir(diffprob):
    getattr(diffprob, name)
print(lazy / theirs, (time.process_time() - start) / theirs)
"""
    # In units of torch's own import, which a busy processor slows down alike: about 2 s, and 4 ms for each of our
    # modules, most of it frozen dataclasses. SciPy's statistics or matplotlib would add a tenth or more.
    modules = len(list((ROOT / "src" / "diffprob").rglob("*.py")))
    lazy, full = map(min, zip(*(map(float, python(code).split()) for _ in range(2)), strict=True))
    assert lazy < 0.05
    assert full < 0.0021 * modules


def test_version_matches_pyproject() -> None:
    import diffprob

    assert diffprob.__version__ == PROJECT["version"] == version("diffprob")
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text()


def test_package_is_marked_as_typed() -> None:
    """What `Typing :: Typed` promises: the marker lies in the package, and so in the wheel, which takes it whole."""
    assert "Typing :: Typed" in PROJECT["classifiers"] and (ROOT / "src" / "diffprob" / "py.typed").is_file()
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert tool["targets"]["wheel"]["packages"] == ["src/diffprob"] and "exclude" not in tool["targets"]["wheel"]


def test_every_dependency_is_pinned_within_its_range() -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in (Requirement(text) for group in groups for text in group):
        if requirement.name != "diffprob":
            pin = PINS.get(canonicalize_name(requirement.name))
            assert pin, f"constraints.txt does not pin {requirement.name}"
            assert requirement.specifier.contains(pin), f"{requirement} excludes {pin}"


def test_constraints_choose_no_torch_build() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == len(PINS)
    assert lines[0].startswith("torch==")
    assert not any(re.search(r"\+|--|://|torchvision|nvidia|triton", line) for line in lines)


def test_ci_runs_only_makefile_targets() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    targets = re.findall(r"^make ([a-z-]+)", script.read_text(), re.MULTILINE)
    assert {"lint", "test", "demo-short"} <= set(targets) <= makefile_targets()


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_docs_exist(page: Path) -> None:
    text = page.read_text()
    blocks = "\n".join(
        re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    )
    assert set(re.findall(r"^(?:\$ )?make ([a-z-]+)", blocks, re.MULTILINE)) <= makefile_targets()
    for verb in re.findall(r"^(?:\$ )?(?:\.venv/bin/)?diffprob ([a-z][a-z-]*)", blocks, re.MULTILINE):
        assert verb in VERBS, f"diffprob {verb}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_docs_pages_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
