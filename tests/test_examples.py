"""Every script of examples/ runs as it is."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))
SAID = {
    "sample": "64 images 1x8x8 in 17 grey levels of digits",
    "likelihood": "bits/dim (variational bound) of 20 images",
    "outliers": "flagged: [4, 5, 6, 7]",
    "train": "step 20",
    "two_moons": "500 points",
    "own_network": "bits/dim",
    "diffusers_network": "bits/dim",
    "own_sampler": "equal to DDIM: True",
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # notes: what was converted
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_script_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if path.stem == "diffusers_network":
        pytest.importorskip("diffusers")
    assert path.read_text().count("\n") <= 30, "an example has at most 30 lines"
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert SAID[path.stem] in capsys.readouterr().out


def test_code_of_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    (tmp_path / "page.py").write_text("\n".join(blocks))
    monkeypatch.chdir(tmp_path)
    variables = runpy.run_path("page.py")
    assert f"{variables['result'].mean:.4f}" == "1.7438" in page
