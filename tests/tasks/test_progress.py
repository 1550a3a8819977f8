"""How far things are, in a notebook, on a terminal and in a file; notes are lines where lines are seen."""

import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from diffprob.tasks import progress
from diffprob.tasks.model import load
from diffprob.tasks.progress import Session
from diffprob.tasks.reporter import Silent


class Clock:
    """A second for every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """An IPython that keeps what it shows: (which, forms)."""
    shown: list[tuple[str, dict[str, str]]] = []

    def display(data: dict[str, str], raw: bool, display_id: bool = False) -> Any:
        assert raw
        shown.append(("new" if display_id else "line", data))
        return SimpleNamespace(update=lambda data, raw: shown.append(("again", data))) if display_id else None

    python, module = ModuleType("IPython"), ModuleType("IPython.display")
    python.get_ipython = lambda: SimpleNamespace(kernel=object())  # pyright: ignore[reportAttributeAccessIssue]
    module.display = display  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(progress, "time", Clock())
    return shown


def work(session: Session) -> None:
    with session.progress("train", 4, "step") as bar:
        for done in range(1, 5):
            bar.update(done, "loss <0.5")
            if done == 2:
                bar.note("resuming")


def test_a_notebook_has_one_bar_that_is_drawn_anew(
    notebook: list[tuple[str, dict[str, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session()
    work(session)
    session.note("read as grey")
    assert [which for which, _ in notebook] == ["new", "again", "line", "again", "again", "again", "line"]
    html = notebook[1][1]["text/html"]
    assert '<progress value="2" max="4"' in html and "loss &lt;0.5" in html and "steps/s" in html and " left" in html
    assert notebook[5][1]["text/plain"].startswith("train: step 4 of 4, loss <0.5, ")
    assert notebook[2][1]["text/plain"] == "resuming" and notebook[6][1]["text/plain"] == "note: read as grey"
    assert capsys.readouterr() == ("", "")


def test_a_notebook_shows_no_bar_where_none_is_wanted(notebook: list[tuple[str, dict[str, str]]]) -> None:
    work(Session(progress=False))
    assert [data["text/plain"] for _, data in notebook] == ["resuming"]


def test_a_terminal_has_one_line_that_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    monkeypatch.setattr(progress, "time", Clock())
    session = Session()
    work(session)
    session.note("read \x1b[2J")
    lines = stream.getvalue().split("\n")
    assert lines[0].startswith("\rtrain: step 1 of 4") and lines[0].endswith("\rresuming") and "step 2" in lines[0]
    assert "\rtrain: step 4 of 4" in lines[1] and lines[2:] == ["note: read \\x1b[2J", ""]


def test_a_file_has_nothing_unless_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="^resuming$"):
        work(Session())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "time", Clock())
    monkeypatch.setattr(progress, "EVERY", 1.0)
    with pytest.warns(UserWarning, match="^resuming$"):
        work(Session(progress=True))
    assert capsys.readouterr().err.startswith("train: step 1 of 4")


def test_models_have_a_session_unless_they_are_given_a_reporter() -> None:
    assert isinstance(load("digits").reporter, Session)
    assert load("digits", progress=False).reporter.wanted is False  # pyright: ignore[reportAttributeAccessIssue]
    mine = Silent()
    assert load("digits", reporter=mine).reporter is mine
