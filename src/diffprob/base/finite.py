"""Whether numbers are finite: tensors by name, and the numbers of a nested result."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import NumericalError

if TYPE_CHECKING:  # the command line checks results without importing torch
    from torch import Tensor


def not_finite(tensors: Mapping[str, "Tensor"]) -> str | None:
    """What the first tensor holds that is not finite ("NAME holds NaN"), or None where all are finite."""
    for name, tensor in tensors.items():
        if (tensor.is_floating_point() or tensor.is_complex()) and not bool(tensor.isfinite().all()):
            return f"{name} holds {'NaN' if bool(tensor.isnan().any()) else 'infinity'}"
    return None


def check_tensors(tensors: Mapping[str, "Tensor"], what: str) -> None:
    """Refuse to keep or use numbers that are none.

    Raises:
        NumericalError: "``what`` not finite: NAME holds NaN".
    """
    problem = not_finite(tensors)
    if problem is not None:
        raise NumericalError(f"{what} not finite: {problem}")


def check_numbers(value: Any, name: str = "") -> None:
    """The same for dictionaries and lists of JSON literals; infinities that are meant stand there as text or None.

    Raises:
        NumericalError: the field is named by its path ("rows.3.rate").
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise NumericalError(f"{name or 'the result'} is not finite ({value}): no result to give")
    if isinstance(value, Mapping):
        items = value.items()
    else:
        items = enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        check_numbers(item, f"{name}.{key}" if name else str(key))
