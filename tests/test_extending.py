"""The page on components of one's own: every example runs, is known afterwards, and is as short as it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text()
BLOCKS = dict(
    zip(
        re.findall(r"^## A (.*)$", PAGE, re.MULTILINE), re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), strict=True
    )
)
AFTER = {
    "sampler": """
x = dp.draw(dp.GaussianData(torch.zeros(2), torch.eye(2), dp.LinearProcess()), dp.EulerFlow(),
            dp.Uniform()(dp.LinearProcess(), 9), dp.Rng.of(0, 4), (2,))
assert torch.isfinite(x).all() and dp.samplers.EulerFlow is EulerFlow
assert main(["show", "EulerFlow"]) == main(["sample", "digits", "--sampler", "EulerFlow()", "--dry-run"]) == 0
assert main(["sample", "digits", "--sampler", "EulerFlwo", "--dry-run"]) == 2
""",
    "proxy": """
from diffprob.cli.parser import component
assert component("Stillness(t=0.2)", "--proxy", "proxy") == Stillness(0.2) and main(["show", "proxies"]) == 0
""",
    "data source": """
from dataclasses import replace
from diffprob.runs.publish import write_run
recipe = replace(dp.named("digits"), data=Stripes(50), space=dp.Pixels((1, 8, 8), 256))
write_run("mine", recipe, dp.build_model(recipe).state_dict(), Stripes(50).load().digest())
assert dp.Run.open("mine").recipe.data == Stripes(50) and main(["show", "mine"]) == 0
""",
    "network": """
from diffprob.runs.publish import write_run
write_run("mine", recipe, dp.build_model(recipe).state_dict())
assert dp.Run.open("mine").recipe == recipe
assert main(["sample", "mine", "-n", "2", "--steps", "2", "--out", "mine.png", "--device", "cpu"]) == 0
""",
}


@pytest.mark.parametrize("what", BLOCKS)
def test_extension_example_runs_and_is_registered(what: str, tmp_path: Path) -> None:
    head = (
        "import sys, torch\nfrom diffprob.cli.main import main\nTWO = ['--inside', 'digits', '--outside', 'digits']\n"
    )
    (tmp_path / "example.py").write_text(head + BLOCKS[what] + AFTER[what])
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert what != "sampler" or "did you mean 'EulerFlow'?" in done.stderr
    body = [line for line in BLOCKS[what].splitlines() if line.strip() and "import" not in line]
    assert len(body) <= 21
