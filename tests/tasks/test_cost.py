"""Estimates never build what they are about, and advise what helps."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from diffprob.cli.text import cost_rows
from diffprob.config.recipe import AnyRecipe, Baseline
from diffprob.net.glow import GlowSpec
from diffprob.net.unet import UNetSpec
from diffprob.recipes.digits import digits
from diffprob.tasks import cost
from diffprob.tasks.cost import estimate_cost
from diffprob.training.maximum import MaximumLikelihood

GIB = 2**30


def huge() -> AnyRecipe:
    """1.4e9 parameters, on images so small that few operations are to be done."""
    network = UNetSpec(1, 1, widths=(2048, 3072), layers=2, attention=(False, False), groups=32)
    return replace(digits(), network=network)


def glow() -> AnyRecipe:
    plain = digits()
    return Baseline(
        name="glow",
        data=plain.data,
        space=plain.space,
        network=GlowSpec((1, 8, 8), width=4096),
        objective=MaximumLikelihood(),
        training=plain.training,
    )


@pytest.mark.parametrize("make", [huge, glow])
def test_huge_network_is_not_built(monkeypatch: pytest.MonkeyPatch, make: Callable[[], AnyRecipe]) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("it was built")

    monkeypatch.setattr(cost, "measured_seconds", refuse)
    monkeypatch.setattr(cost, "matmul_rate", lambda *_: 1e9)
    estimate = estimate_cost(make(), torch.device("cpu"))
    assert estimate.parameters > (1.4e9 if make is huge else cost.MOST_BUILT)
    assert estimate.memory["weights"] == 4 * estimate.parameters
    assert estimate.flop and estimate.step == pytest.approx(64 * estimate.flop[1] / 1e9)
    assert "estimated at 1 GFLOP/s" in estimate.how


@pytest.mark.parametrize(
    ("memory", "images", "message"),
    [
        (9 * GIB, 8, "only a smaller network helps"),
        (11 * GIB, 8, "raise training.accumulate"),
        (10.1 * GIB, 8, "for one image: only a smaller network or image helps"),
        (11 * GIB, 1, "only a smaller network or image helps"),
        (13 * GIB, 8, ""),
        (None, 8, ""),
    ],
)
def test_advice_names_what_saves_memory(memory: int | None, images: int, message: str) -> None:
    """10 GiB that do not depend on the batch, and 2 GiB that do."""
    result = {
        "parameters": 1,
        "device": "cpu",
        "precision": "fp32",
        "images_per_network_call": images,
        "memory_bytes": {"weights": 10 * GIB, "activations": 2 * GIB},
        "memory_bytes_total": 12 * GIB,
        "device_memory_bytes": memory,
        "seconds_per_step": 1.0,
        "seconds": 1.0,
        "time_is": "measured",
    }
    text = dict(cost_rows(result, 1, 1))["memory"]
    assert text.endswith(message) if message else "; " not in text
