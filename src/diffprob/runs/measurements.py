"""What was measured on a run: one number with all that it takes to understand it, and tables of them for people.

Tables are grouped by what was measured in, so that unlike numbers never meet.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diffprob.base.errors import InputError
from diffprob.storage.files import kind_of
from diffprob.storage.records import read_json, record

MEASURED = "measured.json"
NOTHING = "-"  # what stands in an empty cell
# Details with a column of their own; every other one stands in the last column.
_SAMPLER, _EVALUATIONS, _BIAS = "sampler", "evaluations", "bias"
_ENDLESS = ("extrapolated", "low_inf", "high_inf")
_OWN = {_SAMPLER, _EVALUATIONS, _BIAS, *_ENDLESS}
HEAD = (
    "what",
    "value",
    "95% interval",
    "real images",
    "estimated bias",
    "n to infinity",
    "n",
    "against",
    "drawn with",
    "seed",
    "at step",
    "details",
)
ALWAYS = {"what", "value", "n"}
LIFTED = ("against", "drawn with", "seed", "at step")  # said once for a table where all rows agree
NUMBERS = {"value", "95% interval", "real images", "estimated bias", "n to infinity", "n", "seed", "at step"}


@dataclass(frozen=True)
class Measurement:
    """One number about a model, with what it takes to understand it.

    Args:
        name: what was measured, for instance "sliced W2 to held-out digits".
        value: the number.
        n: how many samples or images it rests on.
        seed: the seed of the samples, or None where no randomness was involved.
        step: training step of the weights; filled in when it is recorded.
        details: everything else (sampler, evaluations, unit, estimated bias, ...), JSON literals by name.
        low, high: ends of a 95% interval, or None where none is known.
        features: what the number was measured in, with its hash; "" where no features are involved. Numbers in
            different features are not comparable and never share a column.
        split: the part of the data that it was measured against, such as "test".
        reference: the same number for real images in the place of samples, or None.
        role: what that data is to the run: "train", "test" (its own held-out images) or "other data"; "" where no data
            is involved, and in records of older versions, whose split says it.
        data: which data it is, without private folders.
        digest: SHA-256 of these images.
        converted: what was done to bring them into the run's shape, or "".

    Raises:
        ValueError: no name, a value that is not finite, an empty interval, or n below 1.
    """

    name: str
    value: float
    n: int
    seed: int | None = None
    step: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    features: str = ""
    split: str = ""
    reference: float | None = None
    role: str = ""
    data: str = ""
    digest: str = ""
    converted: str = ""

    def __post_init__(self) -> None:
        numbers = [x for x in (self.value, self.low, self.high, self.reference) if x is not None]
        if not self.name or not all(math.isfinite(x) for x in numbers):
            raise ValueError(f"a measurement needs a name and finite numbers, got {self.name!r} = {numbers}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval of {self.name!r} is empty: {self.low} to {self.high}")
        if self.n < 1:
            raise ValueError(f"n must be at least 1, got {self.n!r}")


def read_measurements(folder: Path) -> list[Measurement]:
    """What was measured on the run in ``folder``; empty when nothing was.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / MEASURED
    if kind_of(path) is None:
        return []
    records = read_json(path)
    if not isinstance(records, list):
        raise InputError(f"{path} is damaged: it is not a list of measurements")
    return [record(Measurement, entry, path) for entry in records]


def dump_measurements(measurements: Sequence[Measurement]) -> bytes:
    """The contents of ``measured.json``."""
    return (json.dumps([asdict(item) for item in measurements], indent=1, allow_nan=False) + "\n").encode()


def add_measurement(measurements: Sequence[Measurement], new: Measurement) -> list[Measurement]:
    """The list with ``new`` in it, in place of an older one made in the same way."""
    return [*(item for item in measurements if _way(item) != _way(new)), new]


def _way(item: Measurement) -> tuple[Any, ...]:
    """What tells one measurement from another; its value and the step of the weights do not."""
    drawn = tuple(item.details.get(name) for name in ("sampler", "evaluations", "grid", "variance", "clip", "guidance"))
    drawn = (*drawn, item.details.get("told") or "none")  # of records without it, too
    against = (item.split, "") if item.role in ("", item.split) else (item.role, item.digest)
    return item.name, item.n, item.seed, item.features, *against, *drawn


@dataclass(frozen=True)
class Table:
    """The measurements that share one kind of features.

    Args:
        features: what they were measured in, with its hash; "" where no features are involved.
        head: names of the columns; one that would be empty in every row is left out.
        rows: a cell for each column.
        common: (name, value) of what holds for every row, of which there are two at least.
    """

    features: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    common: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """For a heading."""
        return f"Measured in {self.features}" if self.features else "Measured without features"

    @property
    def summary(self) -> str:
        """What holds for every row, in a sentence, or ""."""
        return "Every row: " + "; ".join(f"{name} {value}" for name, value in self.common) + "." if self.common else ""


def grouped(measurements: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """Measurements by their features, as they first appear; those without features come last."""
    groups: dict[str, list[Measurement]] = {}
    for item in measurements:
        groups.setdefault(item.features, []).append(item)
    return dict(sorted(groups.items(), key=lambda group: not group[0]))


def tables(measurements: Sequence[Measurement]) -> list[Table]:
    """One table for each kind of features: numbers in different features never share a column."""
    return [_table(features, items) for features, items in grouped(measurements).items()]


def _table(features: str, items: Sequence[Measurement]) -> Table:
    details = [_details(item) for item in items]
    common = dict(set.intersection(*(set(own.items()) for own in details))) if len(items) > 1 else {}
    rows = []
    for item, own in zip(items, details, strict=True):
        rest = [f"{name} {value}" for name, value in own.items() if name not in common]
        rows.append((*_cells(item), ", ".join(rest) or NOTHING))
    same = {name: rows[0][k] for k, name in enumerate(HEAD) if len(rows) > 1 and len({row[k] for row in rows}) == 1}
    lifted = {name: same[name] for name in LIFTED if same.get(name, NOTHING) != NOTHING}
    used = [
        k
        for k, name in enumerate(HEAD)
        if name in ALWAYS or (name not in lifted and any(row[k] != NOTHING for row in rows))
    ]
    shared = (*lifted.items(), *((name, value) for name, value in details[0].items() if name in common))
    return Table(features, tuple(HEAD[k] for k in used), tuple(tuple(row[k] for k in used) for row in rows), shared)


def _details(item: Measurement) -> dict[str, str]:
    """The details without a column of their own, as text."""
    kept = {name: value for name, value in item.details.items() if name not in _OWN and value is not None}
    return {name.replace("_", " "): plain(value) for name, value in kept.items()}


def _cells(item: Measurement) -> tuple[str, ...]:
    """The cells of every column but the last."""
    bias = item.details.get(_BIAS)
    return (
        item.name,
        number(item.value),
        interval(item) or NOTHING,
        NOTHING if item.reference is None else number(item.reference),
        NOTHING if bias is None else plain(bias),
        _endless(item) or NOTHING,
        f"{item.n:,}",
        against(item) or NOTHING,
        drawn_with(item) or NOTHING,
        NOTHING if item.seed is None else str(item.seed),
        NOTHING if item.step is None else f"{item.step:,}",
    )


def against(item: Measurement) -> str:
    """What a measurement was made against: the run's own split, or other data, which is named."""
    if item.role in ("", item.split):
        return item.split
    how = f", {item.converted}" if item.converted else ""
    return f"{item.role}: {item.data}{how} (sha256 {item.digest[:8]})"


def number(value: float) -> str:
    """Four significant digits: 0.1235, 12.35, 12,346, 1.235e-05."""
    if value == 0 or 1e-3 <= abs(value) < 1e9:
        return f"{value:,.4g}" if abs(value) < 9999.5 else f"{value:,.0f}"
    return f"{value:.4g}"


def interval(item: Measurement) -> str:
    """ "1.2 to 1.4", "at least 1.2", "at most 1.4", or nothing where no interval is known."""
    if item.low is not None and item.high is not None:
        return f"{number(item.low)} to {number(item.high)}"
    if item.low is not None:
        return f"at least {number(item.low)}"
    return "" if item.high is None else f"at most {number(item.high)}"


def drawn_with(item: Measurement) -> str:
    """The sampler and its network evaluations for each sample, as far as they are known."""
    sampler, evaluations = item.details.get(_SAMPLER), item.details.get(_EVALUATIONS)
    parts = [] if sampler is None else [plain(sampler)]
    if evaluations is not None:
        parts.append(f"{plain(evaluations)} evaluation{'' if evaluations == 1 else 's'}")
    return ", ".join(parts)


def _endless(item: Measurement) -> str:
    """What the value would be for endlessly many samples, where that has been extrapolated."""
    value, low, high = (item.details.get(name) for name in _ENDLESS)
    if value is None:
        return ""
    return plain(value) + ("" if low is None or high is None else f" ({plain(low)} to {plain(high)})")


def plain(value: Any) -> str:
    """A JSON literal in words: no quotes, numbers to four digits."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name}: {plain(item)}" for name, item in value.items()) + ")"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(plain(item) for item in value) + ")"
    return str(value)
