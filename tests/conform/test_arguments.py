"""Every argument of every registered component: what is wrong is refused by name, and what is taken can be used.

A new component takes part by its entry in `diffprob.config.registry`. `conform.uses` says what a
family has to be good for.
"""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from conform.components import REQUIRED, example
from conform.uses import IMAGES, USES, use_grid, use_schedule

from diffprob.base.errors import DiffprobError, InputError
from diffprob.base.rng import Rng
from diffprob.config.recipe import Recipe
from diffprob.config.registry import ALL, FAMILIES
from diffprob.config.spec import is_literal, parse
from diffprob.likelihood.flow import Exact
from diffprob.net.energy import EnergySpec
from diffprob.net.epsilon_theta import EpsilonThetaSpec
from diffprob.net.unet import UNetSpec
from diffprob.process.grids import Karras
from diffprob.process.schedule import Cosine
from diffprob.sampling.ancestral import DDIM

NAN, INF = float("nan"), float("inf")
HOSTILE: list[Any] = [
    *(None, True, "x", "", -1, 0, 1, 7, 1.5, -0.5, 1e-300, 1e300, NAN, INF, -INF, 10**5, 10**9, 10**400),
    *((), ("a",), (1, 2, 3), (-1, 0), ((1, 2), (3,)), (10**9,) * 3, (0.5,), [1, 2], {"a": 1}, "y" * 100_000),
    *(
        np.float64(0.5),
        np.int64(3),
        Cosine(),
        UNetSpec(),
        EnergySpec(),
        DDIM(),
        DDIM,
        UNetSpec,
        torch.zeros(2),
        object(),
    ),
]
SMALL = {"UNetSpec": REQUIRED["body"], "EpsilonThetaSpec": EpsilonThetaSpec(1, 1, 8, (1, 2), groups=4)}
OUTSIDE = {"dataset": (InputError,)}  # what a field holds came from outside
CASES = [(family, name) for family, table in FAMILIES.items() for name in table]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_any_argument_is_usable_or_a_short_error(family: str, name: str) -> None:
    maker = ALL[name]
    base = SMALL.get(name) or example(maker)
    arguments = {key: getattr(base, key) for key in inspect.signature(maker).parameters}
    errors: list[tuple[str, str]] = []
    for field in arguments:
        for value in HOSTILE:
            try:
                made = maker(**{**arguments, field: value})
            except (ValueError, *OUTSIDE.get(field, ())) as error:
                errors.append((field, str(error)))
                continue
            try:
                USES[family](made)
            except (DiffprobError, ValueError) as error:  # where one component does not go with another
                errors.append((field, str(error)))
            if is_literal(value) and value == value:
                assert parse(repr(made), ALL) == made
                hash(made)
    for field, message in errors:
        assert len(message) <= 250 and message.isprintable(), (field, message)


@pytest.mark.parametrize(
    "text",
    [
        "Cosine(1000000000)",
        "UNetSpec(layers=100000)",
        "UNetSpec(layers=1.5)",
        "UNetSpec(widths=(16384,)*12)",
        "UNetSpec(widths=(16384, 16384, 16384, 16384))",
        "UNetSpec(widths=(128, 128, True, 128))",
        "EnergySpec(widths=(100000,))",
        "GlowSpec((1, 4096, 4096), depth=64, scales=12)",
        "EpsilonThetaSpec(multipliers=(64, 64, 64))",
        "Karras(rho=inf)",
        "Karras(rho=1e300)",
        "GrainGrid(extent=1e300)",
        "Learned(most=inf)",
        "Pixels((1, 8, 8), levels=2.0)",
        "Pixels((1000000, 8, 8))",
        "Labels(classes=1.5)",
        "Captions(words=('a', 1))",
        "SimplexNoise(octaves=True)",
        "CaptionedDigits(count=1000000000)",
        "Subset(Digits(), n=True)",
        "Training(steps=10, betas=('a', 'b'))",
        "LinearProcess(schedule=3)",
        "LinearProcess(scaling=Cosine())",
        "AnomalyMap(sampler=Cosine())",
        "Heun(churn='a')",
        "UniPC(True)",
        "LearnedRange(1)",
    ],
)
def test_invalid_settings_are_short_errors(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text, ALL)
    assert len(str(caught.value)) <= 250


def test_recipe_with_a_network_of_another_kind_is_an_error() -> None:
    base = example(Recipe)
    for field, value in (
        ("network", EnergySpec()),
        ("process", Cosine()),
        ("space", 3),
        ("name", 4),
        ("clock", DDIM()),
    ):
        with pytest.raises(ValueError, match=f"^{field} "):
            Recipe(**{**vars(base), field: value})


def test_extreme_settings_give_finite_results() -> None:
    use_schedule(Cosine(10**6))
    for rho in (0.1, 1000.0):
        use_grid(Karras(rho))
    assert Exact().directions(Rng.of(0, 2), IMAGES).shape[0] == 16
