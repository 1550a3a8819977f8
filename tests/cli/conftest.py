"""Commands run inside the test's process, and one tiny trained run that all tests share."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.commands import TINY, Done

from diffprob.cli.main import main
from diffprob.tasks import training_run


@pytest.fixture
def diffprob(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """``diffprob("sample", run)`` runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Done:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures cost more than the training of the tiny run; `trained` has them all."""
    monkeypatch.setattr(training_run, "PREVIEW_STEPS", 2)
    monkeypatch.setattr(training_run, "_loss_curve", lambda *_: None)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps; not to be changed."""
    out = tmp_path_factory.mktemp("trained") / "tiny"
    assert main(["train", "digits", "--steps", "4", "--out", str(out), *TINY]) == 0
    return out


@pytest.fixture
def tiny(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed at will."""
    return Path(shutil.copytree(trained, tmp_path / "tiny"))
