"""Every argument of every registered component: what is wrong is refused by name, and what is taken can be used.

A new component takes part by its entry in `diffprob.recipe.tables`. What a family has to be good for is in ``USES``.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conform.components import REQUIRED, example

from diffprob.base.errors import DiffprobError, InputError
from diffprob.base.rng import Rng
from diffprob.denoise.ideal import TwoPoint
from diffprob.likelihood.flow import Exact
from diffprob.net.energy import EnergySpec
from diffprob.net.epsilon_theta import EpsilonThetaSpec
from diffprob.net.limits import MOST_WEIGHTS
from diffprob.net.unet import UNetSpec
from diffprob.process.grids import Karras, Uniform
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine
from diffprob.recipe.recipe import Recipe, parameter_count
from diffprob.recipe.spec import is_literal, parse
from diffprob.recipe.tables import ALL, FAMILIES
from diffprob.sample.ancestral import DDIM
from diffprob.sample.simulate import plan, simulate

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
T, PROCESS = torch.tensor(0.5, dtype=torch.float64), LinearProcess()
IMAGES = torch.zeros(2, 1, 4, 4)


def finite(*found: Any) -> None:
    assert all(bool(torch.isfinite(torch.as_tensor(each)).all()) for each in found)


def use_schedule(schedule: Any) -> None:
    process = LinearProcess(schedule)
    finite(schedule.logsnr(T), *process.coefficients(T))
    if getattr(schedule, "table", True) is not None:  # one that is learned has no inverse before it is trained
        finite(schedule.time(schedule.logsnr(T)), Uniform()(process, 2))


def use_grid(grid: Any) -> None:
    times = grid(PROCESS, 5)
    assert times.shape == (5,) and bool((times.diff() < 0).all()) and float(times[-1]) > 0 and float(times[0]) <= 1


def use_sampler(sampler: Any) -> None:
    model = TwoPoint(PROCESS)
    chosen, n = plan(sampler, 4)
    times = Uniform()(PROCESS, max(2, min(n, 5)))
    *_, last = simulate(model, chosen, torch.ones(1, 1), times, Rng.of(0, 1))
    finite(last.x)


def use_network(spec: Any) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in spec.build().parameters()) <= 4 * MOST_WEIGHTS


def use_recipe(recipe: Any) -> None:
    assert 0 < parameter_count(recipe) <= 4 * MOST_WEIGHTS


def use_variance(variance: Any) -> None:
    finite(variance.posterior(PROCESS, T, IMAGES, IMAGES + 0.5).mean)


def use_proxy(proxy: Any) -> None:
    if not hasattr(proxy, "divergence"):  # those follow paths
        finite(proxy.statistics(TwoPoint(PROCESS), torch.zeros(1, 1), Rng.of(0, 1)))
    assert proxy.columns


USES: dict[str, Callable[[Any], Any]] = {
    "schedule": use_schedule,
    "scaling": lambda scaling: finite(*scaling.coefficients(T)),
    "law": lambda law: finite(law.sample(Rng.of(0, 2), (3,), torch.float32)),
    "process": lambda process: finite(*process.coefficients(T)),
    "grid": use_grid,
    "prediction": lambda prediction: finite(*prediction.coefficients(PROCESS, T)),
    "clock": lambda clock: finite(clock(T)),
    "variance": use_variance,
    "condition": lambda condition: finite(condition.null()),
    "sampler": use_sampler,
    "divergence": lambda divergence: finite(divergence.directions(Rng.of(0, 2), IMAGES[:, :, :1, :1])),
    "proxy": use_proxy,
    "map": lambda found: (found.sampler.step, found.noise),
    "pixel noise": lambda noise: finite(noise(Rng.of(0, 2), IMAGES)),
    "network": use_network,
    "text": use_network,
    "space": lambda space: space.dimensions,
    "source": lambda source: source.load,
    "augmentation": lambda augmentation: finite(augmentation(IMAGES, Rng.of(0, 2))),
    "objective": lambda objective: objective.__call__,
    "training": lambda training: training.steps,
    "monitor": lambda monitor: monitor.steps,
    "part": lambda part: part.start,
    "trained": lambda trained: trained.load,
    "recipe": use_recipe,
}
SMALL = {"UNetSpec": REQUIRED["body"], "EpsilonThetaSpec": EpsilonThetaSpec(1, 1, 8, (1, 2), groups=4)}
CASES = [(family, name) for family, table in FAMILIES.items() for name in table]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_an_argument_is_refused_in_one_short_line_or_can_be_used(family: str, name: str) -> None:
    maker = ALL[name]
    base = SMALL.get(name) or example(maker)
    given = {key: getattr(base, key) for key in inspect.signature(maker).parameters}
    said: list[tuple[str, str]] = []
    for field in given:
        for value in HOSTILE:
            try:
                made = maker(**{**given, field: value})
            except ValueError as error:
                said.append((field, str(error)))
                continue
            try:
                USES[family](made)
            except (DiffprobError, ValueError) as error:  # where one component does not go with another
                said.append((field, str(error)))
            if is_literal(value) and value == value:
                assert parse(repr(made), ALL) == made
                hash(made)
    for field, words in said:
        assert len(words) <= 250 and words.isprintable(), (field, words)


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
        "First(Digits(), n=True)",
        "Training(steps=10, betas=('a', 'b'))",
        "LinearProcess(schedule=3)",
        "LinearProcess(scaling=Cosine())",
        "AnomalyMap(sampler=Cosine())",
        "Heun(churn='a')",
        "UniPC(True)",
        "LearnedRange(1)",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text, ALL)
    assert len(str(caught.value)) <= 250


def test_a_network_of_another_kind_is_refused_by_a_recipe() -> None:
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


def test_what_the_largest_and_smallest_settings_make_is_finite() -> None:
    use_schedule(Cosine(10**6))
    for rho in (0.1, 1000.0):
        use_grid(Karras(rho))
    assert Exact().directions(Rng.of(0, 2), IMAGES).shape[0] == 16
