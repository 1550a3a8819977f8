"""What every check is made of: an expectation with its sentence, and comparisons with a tolerance from theory."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.errors import ConformanceError, DiffprobError
from diffprob.base.text import one_line

STANDARD_ERRORS = 4.0  # the seeds are fixed, so what passes keeps passing


def expect(condition: object, sentence: str) -> None:
    """Refuse in one sentence unless ``condition`` holds.

    Raises:
        ConformanceError: the sentence.
    """
    if not bool(condition):
        raise ConformanceError(sentence)


def made(component: Any) -> Any:
    """The component; a class is made with its defaults.

    Raises:
        ConformanceError: it has fields without defaults.
    """
    if not isinstance(component, type):
        return component
    try:
        return component()
    except Exception as error:
        why = one_line(error, 160)
        raise ConformanceError(
            f"{component.__name__} cannot be made with its defaults, give an instance: {why}"
        ) from error


def run_checks(component: Any, checks: Sequence[Callable[[Any], None]]) -> None:
    """Run one check after the other; whatever else they raise becomes a sentence as well.

    Raises:
        ConformanceError: the first that fails.
    """
    for check in checks:
        with said_of(component, check.__name__.strip("_").replace("_", " ")):
            check(component)


@contextmanager
def said_of(component: Any, what: str) -> Iterator[None]:
    """Turn an error that a component raises into a `ConformanceError` that says what it was asked for."""
    try:
        yield
    except ConformanceError:
        raise
    except Exception as error:
        why = one_line(error, 120)
        raise ConformanceError(f"{shown(component)}, {what}: raised {type(error).__name__}: {why}") from error


def refuses(component: Any, call: Callable[[], object], what: str) -> None:
    """Expect a ValueError, or an error of ours.

    Raises:
        ConformanceError: nothing was raised.
    """
    try:
        call()
    except (ValueError, DiffprobError):
        return
    raise ConformanceError(f"{shown(component)} takes {what}; a ValueError would be right")


def check_frozen(component: Any) -> None:
    """A frozen dataclass, equal to its copy and with the same hash: its repr is its configuration."""
    who = shown(component)
    expect(
        dataclasses.is_dataclass(component) and not isinstance(component, type),
        f"{who} is no dataclass, whose repr is its configuration: @dataclass(frozen=True)",
    )
    copy = dataclasses.replace(component)  # pyright: ignore[reportArgumentType, reportCallIssue]
    expect(component == copy and hash(component) == hash(copy), f"{who} does not equal its copy, or hashes differently")
    names = [field.name for field in dataclasses.fields(component)]
    name = names[0] if names else "anything"
    try:
        setattr(component, name, getattr(component, name, None))
    except dataclasses.FrozenInstanceError:
        return
    raise ConformanceError(f"{who} can be changed: @dataclass(frozen=True) would be right")


def slopes(steps: Sequence[int], errors: Sequence[float]) -> np.ndarray:
    """Local orders log(e_i/e_{i+1}) / log(n_{i+1}/n_i)."""
    return -np.diff(np.log(errors)) / np.diff(np.log(steps))


def check_order(order: float, steps: Sequence[int], errors: Sequence[float], slack: float = 0.25) -> None:
    """Errors fall, and between the two finest step counts the slope is at least ``order - slack``.

    Raises:
        ConformanceError: they do not.
    """
    few = ", ".join(f"{error:.3g}" for error in errors)
    expect(all(np.isfinite(errors)), f"the errors are not finite: {few}")
    expect(all(np.diff(errors) < 0), f"the errors do not fall with more steps: {few}")
    finest = slopes(steps, errors)[-1]
    expect(finest >= order - slack, f"the order is {finest:.2f}, not the declared {order:g} (errors {few})")


def z_scores(values: Tensor, expected: Tensor | float) -> Tensor:
    """(mean over the first axis - expected) in standard errors of that mean."""
    values = values.detach().double()
    error = values.std(0) / len(values) ** 0.5
    return (values.mean(0) - expected) / error.clamp_min(1e-300)


def check_mean(values: Tensor, expected: Tensor | float, limit: float = STANDARD_ERRORS) -> None:
    """The mean over the first axis lies within ``limit`` standard errors of what is expected, everywhere.

    Raises:
        ConformanceError: it does not.
    """
    worst = float(z_scores(values, expected).abs().max())
    expect(worst < limit, f"a mean is {worst:.2f} standard errors off")
