"""Every request refuses a field of its own with a short `ValueError`; the command line names the option instead."""

import importlib
import inspect
import pkgutil
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffprob as dp
from diffprob import tasks
from diffprob.cli.main import main

NAN, INF = float("nan"), float("inf")
HOSTILE: list[Any] = [
    *(None, True, "x", "", -1, 0, 1, 7, 1.5, -0.5, 1e300, NAN, INF, 10**400, (), ("a",), (1, 2), [1], {"a": 1}),
    *(object(), np.int64(3), np.float64(0.5), torch.zeros(2), dp.DDIM(), dp.DDIM, Path("x"), "y" * 10_000),
]


def requests() -> dict[str, type]:
    """The classes of `diffprob.tasks` that check their fields."""
    modules = [
        importlib.import_module(f"diffprob.tasks.{entry.name}") for entry in pkgutil.iter_modules(tasks.__path__)
    ]
    return {
        name: kind
        for module in modules
        for name, kind in vars(module).items()
        if inspect.isclass(kind)
        and kind.__module__ == module.__name__
        and is_dataclass(kind)
        and "__post_init__" in vars(kind)
    }


@pytest.mark.parametrize("name", sorted(requests()))
def test_any_field_is_taken_or_a_short_value_error(name: str) -> None:
    kind = requests()[name]
    parameters = inspect.signature(kind).parameters
    required = {key: object() for key, parameter in parameters.items() if parameter.default is parameter.empty}
    for field in parameters:
        for value in HOSTILE:
            try:
                kind(**{**required, field: value})
            except ValueError as error:
                message = str(error)
                assert len(message) <= 300 and message.isprintable(), (field, message)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--for", "soon"), "--for must be a time such as 30s, 20m, 2h or 1h30m, got 'soon'"),
        (("--for", "0s"), "--for must be above 0, got 0.0"),
        (("--for", "20m", "--steps", "3"), "--for and --steps both say when to end"),
    ],
)
def test_refused_field_of_a_request_names_the_option(
    options: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", *options, "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith(f"diffprob: error: {line}")
