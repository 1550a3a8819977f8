"""Whether data is usable: every image is read once, and nothing is written."""

from dataclasses import dataclass
from typing import Any

from diffprob.base.checks import able
from diffprob.data import Report, check
from diffprob.data.images import Source


@dataclass(frozen=True, kw_only=True)
class DataCheckRequest:
    """Which data.

    Args:
        data: where the images come from (`diffprob.data.open_data`).

    Raises:
        ValueError: what has no ``load()``.
    """

    data: Source

    def __post_init__(self) -> None:
        able("data", self.data, "load", "open_data(...)")


@dataclass(frozen=True)
class DataCheckResult:
    """What was found.

    Args:
        report: counts, levels, moments, classes, duplicates, notes and warnings.
    """

    report: Report

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may be wrong, a sentence each."""
        return self.report.warnings

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        return self.report.to_dict()


def check_data(request: DataCheckRequest) -> DataCheckResult:
    """Look at every image once.

    Raises:
        InputError: data that is not there or cannot be read.
    """
    return DataCheckResult(check(request.data))
