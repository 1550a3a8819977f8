"""Runs side by side: what differs, the curves in one figure, samples of the same seeds, and what can be compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffprob import __version__
from diffprob.reporting import pictures, summary
from diffprob.reporting.curves import chart, series
from diffprob.reporting.html import RenderedSection, document, fill
from diffprob.reporting.material import Material
from diffprob.runs.measurements import Measurement, drawn_with, interval, number

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_RUNS = 8  # colours of the curves
REFERENCE = "reference images"  # how many real images a measurement was compared with


@dataclass(frozen=True)
class Value:
    """One measurement in the row of a comparison.

    Args:
        value: with four digits.
        made: how, in a few words.
    """

    value: str
    made: str


@dataclass(frozen=True)
class Row:
    """What was measured in the same way on several runs.

    Args:
        name: what was measured.
        n: samples it rests on.
        split: real images that it was measured against.
        cells: the values of each run; empty where it has none.
    """

    name: str
    n: str
    split: str
    cells: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Comparison:
    """Measurements of several runs, sorted.

    Args:
        rows: comparable ones by their features.
        apart: (what, why) of the others.
    """

    rows: dict[str, tuple[Row, ...]]
    apart: tuple[tuple[str, str], ...]


def compare(runs: Sequence[tuple[str, str | None, Sequence[Measurement]]]) -> Comparison:
    """Sort measurements into those that can be compared, and those that cannot, with the reason.

    Comparable is what has the same name, features, n, split and number of real images, on runs of the same data.

    Args:
        runs: (label, digest of the data, measurements) of each.
    """
    by_key: dict[tuple[str, ...], list[list[Measurement]]] = {}
    for k, (_, digest, items) in enumerate(runs):
        for item in items:
            by_key.setdefault(_comparison_key(item, digest, k), [[] for _ in runs])[k].append(item)
    rows: dict[str, list[Row]] = {}
    apart = []
    for key, cells in by_key.items():
        if sum(bool(cell) for cell in cells) > 1:
            first = next(item for cell in cells for item in cell)
            values = tuple(tuple(_value(item) for item in cell) for cell in cells)
            rows.setdefault(first.features, []).append(Row(first.name, f"{first.n:,}", first.split, values))
        else:
            alone = [(k, item) for k, cell in enumerate(cells) for item in cell]
            apart += [(f"{runs[k][0]}: {_one(item)}", _reason(key, item, k, runs)) for k, item in alone]
    groups = sorted(rows.items(), key=lambda group: not group[0])  # without features comes last
    return Comparison({name: tuple(group) for name, group in groups}, tuple(apart))


def _comparison_key(item: Measurement, digest: str | None, k: int) -> tuple[str, ...]:
    """Equal for measurements that can be compared; without a digest nobody knows what was compared with."""
    real = str(item.details.get(REFERENCE, ""))
    return item.name, item.features, str(item.n), item.split, real, digest or f"not known, run {k}"


def _reason(
    key: tuple[str, ...], item: Measurement, k: int, runs: Sequence[tuple[str, str | None, Sequence[Measurement]]]
) -> str:
    """Why a measurement stands alone: the first difference from the most similar one of another run."""
    others = [
        (_comparison_key(other, digest, j), other, label, digest)
        for j, (label, digest, items) in enumerate(runs)
        for other in items
        if j != k and other.name == item.name
    ]
    if not others:
        return "measured on this run only"
    theirs, other, label, digest = max(
        others, key=lambda candidate: sum(a == b for a, b in zip(key, candidate[0], strict=True))
    )
    reasons = (
        (1, f"features: {item.features or 'none'} here, {other.features or 'none'} in {label}"),
        (5, f"data: {_short(runs[k][1])} here, {_short(digest)} in {label}"),
        (3, f"split: {item.split or 'none'} here, {other.split or 'none'} in {label}"),
        (2, f"n: {item.n:,} here, {other.n:,} in {label}"),
        (4, f"real images: {key[4] or 'not known'} here, {theirs[4] or 'not known'} in {label}"),
    )
    return next(text for place, text in reasons if key[place] != theirs[place])


def _short(digest: str | None) -> str:
    return f"sha256 {digest[:12]}" if digest else "not known"


def _one(item: Measurement) -> str:
    seed = "" if item.seed is None else f" (seed {item.seed})"
    return f"{item.name} = {number(item.value)}{seed}"


def _value(item: Measurement) -> Value:
    parts = [f"95%: {interval(item)}"] if interval(item) else []
    parts += [] if item.reference is None else [f"real images {number(item.reference)}"]
    parts += [drawn_with(item)] if drawn_with(item) else []
    parts += [] if item.seed is None else [f"seed {item.seed}"]
    parts += [] if item.step is None else [f"step {item.step:,}"]
    return Value(number(item.value), "; ".join(parts))


def compare_page(materials: Sequence[Material]) -> bytes:
    """Runs side by side as one self-contained HTML page in UTF-8, under the same rules as a report.

    Raises:
        ValueError: fewer than two runs, or more than there are colours for.
        InputError: jinja2 is missing, or measurements are damaged.
    """
    if not 2 <= len(materials) <= MOST_RUNS:
        raise ValueError(f"a comparison takes 2 to {MOST_RUNS} runs, got {len(materials)}")
    labels = _labels(materials)
    builders = (
        ("runs", "Runs", _runs),
        ("differences", "What differs", _differences),
        ("training", "Training", _training),
        ("samples", "Samples of the same seeds", _samples),
        ("measurements", "Measurements", _measurements),
    )
    parts = [RenderedSection(name, title, build(materials, labels)) for name, title, build in builders]
    title = " and ".join([", ".join(labels[:-1]), labels[-1]])
    values = {"name": title, "version": __version__, "verdict": _verdict(materials, labels)}
    return document("compare", f"{title}: diffprob comparison", values, parts)


def _labels(materials: Sequence[Material]) -> list[str]:
    """The recipes' names; runs of one name go by their folders, and by number where even these are the same."""
    names = [summary.without_paths(material.run.recipe.name) for material in materials]
    labels: list[str] = []
    for name, material in zip(names, materials, strict=True):
        wanted = name if names.count(name) == 1 else material.command_name
        label, k = wanted, 2
        while label in labels:
            label, k = f"{wanted} ({k})", k + 1
        labels.append(label)
    return labels


def _verdict(materials: Sequence[Material], labels: Sequence[str]) -> str:
    recipes = [summary.without_paths(material.run.recipe) for material in materials]
    count = sum(not same for path, _, same in summary.fields_of(recipes) if path != "name")
    comparison = compare(_listed(materials, labels))
    shared = sum(map(len, comparison.rows.values()))
    settings = f"{count} setting{'' if count == 1 else 's'} differ{'s' if count == 1 else ''}"
    return f"{settings}; {shared or 'no'} measurement{'' if shared == 1 else 's'} can be compared."


def _listed(materials: Sequence[Material], labels: Sequence[str]) -> list[tuple[str, str | None, list[Measurement]]]:
    return [
        (label, material.run.meta["data"], summary.public(material.run.measurements))
        for label, material in zip(labels, materials, strict=True)
    ]


def _runs(materials: Sequence[Material], labels: Sequence[str]) -> "Markup":
    columns = [dict(summary.overview(material)) for material in materials]
    for column, material in zip(columns, materials, strict=True):
        column["Data"] = _short(material.run.meta["data"])
        column["Made with"] = f"diffprob {material.run.meta['library']}"
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [(name, [column.get(name, "") for column in columns]) for name in names]
    return fill("runs", {"labels": labels, "rows": rows})


def _differences(materials: Sequence[Material], labels: Sequence[str]) -> "Markup":
    rows = [
        row
        for row in summary.fields_of([summary.without_paths(material.run.recipe) for material in materials])
        if row[0] != "name"
    ]
    values = {"labels": labels, "rows": rows, "different": [row for row in rows if not row[2]]}
    return fill("differences", values)


def _training(materials: Sequence[Material], labels: Sequence[str]) -> "Markup":
    curves = {
        label: [series(material.log, key) for key in ("loss", "gradient_norm", "lr")]
        for label, material in zip(labels, materials, strict=True)
    }
    drawn = [
        chart(title, {label: logged[k] for label, logged in curves.items()}, smoothed=k < 2)
        for k, title in enumerate(("Loss", "Gradient norm", "Learning rate"))
    ]
    objectives = {repr(material.run.recipe.objective) + repr(material.run.recipe.prediction) for material in materials}
    spaces = {repr(material.run.space) + str(material.run.meta["data"]) for material in materials}
    values = {"charts": [item for item in drawn if item], "objectives": len(objectives), "spaces": len(spaces)}
    return fill("compare_training", values)


def _samples(materials: Sequence[Material], labels: Sequence[str]) -> "Markup":
    groups = []
    for label, material in zip(labels, materials, strict=True):
        drawn = material.samples
        alts = [f"{label}, sample of {drawn.called(k)}" for k in range(len(drawn))]
        tiles = pictures.tiles(drawn.levels, material.run.space.levels, alts, drawn.captions)
        groups.append((label, drawn, tiles, max(material.run.space.shape[1:], default=0) > 48))
    return fill("compare_samples", {"groups": groups})


def _measurements(materials: Sequence[Material], labels: Sequence[str]) -> "Markup":
    comparison = compare(_listed(materials, labels))
    return fill("compare_measurements", {"labels": labels, "comparison": comparison})
