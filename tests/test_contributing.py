"""The sampler that CONTRIBUTING.md shows is complete and is what it says: of second order."""

import importlib.util
import math
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conform import components

from diffprob.base.rng import Rng
from diffprob.denoise.ideal import GaussianData
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import VPSDE
from diffprob.sampling.ancestral import DDIM
from diffprob.sampling.simulate import State, simulate

ROOT = Path(__file__).resolve().parents[1]


def test_sampler_in_contributing_has_its_declared_order(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert max(map(len, code.splitlines())) <= 120, "it has to pass the linter where it is put"
    path = tmp_path / "midpoint.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("midpoint", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    # Gaussian data: the flow is x_s = x_t sqrt(S_s / S_t) with S the variance of x_t.
    process = LinearProcess(VPSDE())
    model = GaussianData(torch.zeros(1).double(), torch.full((1, 1), 0.09).double(), process)
    x, first, last = torch.ones(1, 1).double(), 0.6, 0.1
    exact = (model.marginal_cov(torch.tensor(last)) / model.marginal_cov(torch.tensor(first))).sqrt().item()
    errors = []
    for n in (16, 32, 64):
        times = torch.linspace(first, last, n + 1, dtype=torch.float64)
        *_, state, _ = simulate(model, module.Midpoint(), x, times, Rng.of(0, 1))
        errors.append(abs(state.x.item() - exact))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert errors[-1] < 1e-3
    assert all(abs(slope - module.Midpoint.order) < 0.15 for slope in slopes), (errors, slopes)
    for upwards in (0.7, 0.6, math.nan):  # what `tests/sampling` asks of every sampler in the tables
        state = State(x, torch.tensor(0.6, dtype=torch.float64))
        with pytest.raises(ValueError, match="a step goes down in time"):
            module.Midpoint().step(model, state, torch.tensor(upwards, dtype=torch.float64), Rng.of(0, 1))


@dataclass(frozen=True)
class Demanding(DDIM):
    """A sampler whose argument has no default."""

    def __init__(self, p: int) -> None:
        super().__init__(eta=p)


def test_component_without_defaults_takes_part_by_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="Demanding has no defaults: it needs settings in MORE"):
        components.instances({"Demanding": Demanding})
    monkeypatch.setitem(components.MORE, "Demanding", [{"p": 1}])
    assert components.instances({"Demanding": Demanding}) == [Demanding(1)]
