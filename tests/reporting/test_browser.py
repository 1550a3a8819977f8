"""Pages in a real browser, where there is one: `tests/browser/README.md` says how to get it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from browser.check_page import check, chromium
from reporting.conftest import HOSTILE, HOSTILE_DATA, HOSTILE_NAME, LOG

from diffprob.data import Digits
from diffprob.reporting.compare import compare_page
from diffprob.reporting.page import report_page
from diffprob.runs.measurements import Measurement

play = pytest.importorskip("playwright.sync_api", reason="the check in a browser needs Playwright")
if chromium() is None:
    pytest.skip("the check in a browser needs Chromium on the path or in $CHROMIUM", allow_module_level=True)
AXE = os.environ.get("AXE")  # axe.min.js


@pytest.fixture(scope="module")
def browser():
    with play.sync_playwright() as started:
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        opened = started.chromium.launch(executable_path=chromium(), args=flags)
        yield opened
        opened.close()


@pytest.mark.slow
def test_page_of_a_hostile_run_executes_nothing(browser, material, tmp_path):
    images = replace(Digits().load(), class_names=(HOSTILE, *"123456789"), notes=(HOSTILE,))
    log = [*LOG, {"step": 100, f"metric/{HOSTILE}": 1.0}]
    report = material(name=HOSTILE_NAME, data=HOSTILE_DATA, images=images, note=HOSTILE, log=log)
    report = replace(report, command_name=HOSTILE)
    report.run.record(Measurement(HOSTILE, 1.0, 5, features=HOSTILE, split=HOSTILE, details={HOSTILE: HOSTILE}))
    axe = None if AXE is None else Path(AXE).read_text("utf-8")
    for name, page in (("report", report_page(report)), ("compare", compare_page([report, report]))):
        path = tmp_path / f"{name}.html"
        path.write_bytes(page)
        problems = check(browser, path, axe, None)
        assert {kind: what for kind, what in problems.items() if isinstance(what, list) and what} == {}
