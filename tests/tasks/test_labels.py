"""Runs with labels from Python and from the command line: classes by name wherever images are shown or measured."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli.test_classes import FRUIT, pictures, recipe
from truth.page import Page

from diffprob.config.recipe import build_model
from diffprob.data import Folder
from diffprob.runs.folder import Run
from diffprob.runs.publish import write_run
from diffprob.tasks.compute import Compute
from diffprob.tasks.conditioning import Conditioning
from diffprob.tasks.plan import Sampling
from diffprob.tasks.reporting import CompareRequest, ReportRequest, compare, report

LEAST = Sampling(n=4, steps=2, compute=Compute(device="cpu", batch=4))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was told which fruit it sees, of random weights that depend on the fruit."""
    folder = tmp_path_factory.mktemp("labels")
    pictures(folder / "data" / "train", FRUIT)
    pictures(folder / "data" / "test", FRUIT, 5)
    torch.manual_seed(0)
    of = recipe(Folder(str(folder / "data"), None, 1), "fruit")
    weights = {name: value + 0.1 * torch.randn_like(value) for name, value in build_model(of).state_dict().items()}
    write_run(folder / "run", of, weights, digest=Folder(str(folder / "data"), None, 1).load().digest(), step=1)
    return folder / "run"


@pytest.fixture
def run(place: Path) -> Run:
    return Run.open(place)


def test_pages_call_samples_by_their_class(run: Run) -> None:
    page = Page(report(run, ReportRequest(sampling=LEAST)).page)
    assert page.problems == [] and "told apple, banana, cherry in turn" in page.text
    alts = [image["alt"] for image in page.all("img")]
    names = ["apple", "banana", "cherry", "apple"]
    assert alts[:4] == [f"Sample of seed {k}, class {name}" for k, name in enumerate(names)]
    assert "Predicted image of seed 1, class banana at t = 1" in alts
    assert any(alt.startswith("Noised copy of image ") and ", class " in alt for alt in alts)
    one = replace(LEAST, conditioning=Conditioning(label=("cherry",)))
    page = Page(compare([run, run], CompareRequest(sampling=one)).page)
    assert sum("sample of seed 3, class cherry" in image["alt"] for image in page.all("img")) == 2
    any_class = replace(LEAST, conditioning=Conditioning(label=("none",)))
    page = Page(report(run, ReportRequest(sampling=any_class)).page)
    assert "told none" in page.text and page.all("img")[0]["alt"] == "Sample of seed 0"
