"""What scores say: how sets separate, how proxies go together, how single images rank; in numbers and pictures."""

import csv
import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprob.base.errors import InputError
from diffprob.cli import output
from diffprob.cli.scoring import ImageSet, Scores
from diffprob.cli.text import table

if TYPE_CHECKING:
    import numpy as np

    from diffprob.evaluation.estimate import Estimate

COMPLEXITY = "complexity"
SHOWN = 8  # images at either end
FLAGGED = 20  # flagged images that are named on a screen
JSON, CSV = "detect.json", "scores.csv"


def compare(scores: Scores, inside: ImageSet, outside: Sequence[ImageSet]) -> dict[str, Any]:
    """How each proxy tells the sets apart, and how the proxies go together on the inside images.

    Raises:
        InputError: an inside score is not finite.
    """
    import numpy as np

    from diffprob.evaluation.detection import auroc, average_precision, fpr_at_tpr

    rows = []
    for label, sets in scores.items():
        own = sets[inside.name]
        for each in outside:
            other = sets[each.name]
            rows.append(
                {
                    "proxy": label,
                    "outside": each.name,
                    "auroc": _facts(auroc(own, other)),
                    "aupr_inside": _facts(average_precision(own, other, "inside")),
                    "aupr_outside": _facts(average_precision(own, other, "outside")),
                    "fpr95": _facts(fpr_at_tpr(own, other)),
                    "mean_inside": float(np.mean(own)),
                    "std_inside": float(np.std(own, ddof=1)),
                    "mean_outside": float(np.mean(other)),
                    "std_outside": float(np.std(other, ddof=1)),
                }
            )
    return {"separation": rows, "correlations": _correlations(scores, inside)}


def _facts(found: "Estimate") -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high}


@lru_cache(maxsize=8)
def complexity(images: ImageSet) -> "np.ndarray":
    """Bits of each image under a lossless compressor, (n,)."""
    import torch

    from diffprob.density.complexity import code_length

    return code_length(torch.from_numpy(images.levels)).numpy()


def _correlations(scores: Scores, inside: ImageSet) -> list[dict[str, Any]]:
    """Of every pair of proxies on the inside images; pairs with a constant one are left out."""
    from diffprob.evaluation.correlation import partial, pearson, spearman

    bits, found = complexity(inside), []
    for one, two in combinations(scores, 2):
        a, b = scores[one][inside.name], scores[two][inside.name]
        try:
            row = {"pearson": pearson(a, b), "spearman": spearman(a, b), "partial": partial(a, b, bits)}
        except InputError:  # a constant column correlates with nothing
            continue
        found.append({"one": one, "two": two, **{name: _full(estimate) for name, estimate in row.items()}})
    return found


def _full(found: "Estimate") -> dict[str, Any]:
    return {**_facts(found), "p": found.details["p"]}


def rank(scores: Scores, inside: ImageSet, judged: ImageSet, alarms: float) -> dict[str, Any]:
    """Where every judged image stands among the inside ones, and which are flagged, by each proxy.

    The conformal p-value of an image is (k + 1) / (n + 1), where k of the n inside images score no higher. If it is
    exchangeable with them, p <= a has a probability of at most a (Vovk, Gammerman & Shafer 2005, proposition 4.1): the
    rate of false alarms.
    """
    import numpy as np

    rows = []
    for label, sets in scores.items():
        ordered, own = np.sort(sets[inside.name]), sets[judged.name]
        below = np.searchsorted(ordered, own, "right")
        order = np.argsort(own, kind="stable")
        p = (below + 1) / (len(ordered) + 1)
        rows.append(
            {
                "proxy": label,
                "scores": [float(value) for value in own],
                "quantiles": [float(value) for value in below / len(ordered)],
                "p_values": [float(value) for value in p],
                "flagged": [int(judged.index[k]) for k in order if p[k] <= alarms],
                "least": [int(judged.index[k]) for k in order[:SHOWN]],
                "most": [int(judged.index[k]) for k in order[::-1][:SHOWN]],
            }
        )
    images = [int(k) for k in judged.index]
    return {"images": images, "image_files": list(judged.files), "false_alarms": alarms, "ranks": rows}


def compared(result: dict[str, Any]) -> Iterator[str]:
    """The tables of `compare` for people."""
    names = [each["name"] for each in result["outside"]]
    by = {(row["proxy"], row["outside"]): row for row in result["separation"]}
    for name in names:
        yield f"inside against {name}; higher scores are denser, nothing was turned round:"
        rows = [
            (
                label,
                *(_interval(by[label, name][column]) for column in ("auroc", "aupr_inside", "aupr_outside", "fpr95")),
            )
            for label in result["proxies"]
        ]
        yield from table(rows, ("proxy", "AUROC", "AUPR inside", "AUPR outside", "FPR95"))
    first = result["proxies"][0]
    near = [row for row in result["correlations"] if first in (row["one"], row["two"])]
    if near:
        yield f"correlation with {first} on the inside images:"
        rows = [
            (row["two"] if row["one"] == first else row["one"], *(f"{row[k]['value']:+.3f}" for k in _WAYS))
            for row in near
        ]
        yield from table(rows, ("proxy", "Pearson", "Spearman", "given complexity"))


_WAYS = ("pearson", "spearman", "partial")


def integrable(result: dict[str, Any]) -> Iterator[str]:
    """How far the run's own noise prediction is from a gradient, for people."""
    yield "how far the noise prediction is from a gradient field (rho: 0 a gradient, 0.5 a random matrix):"
    rows = [
        (f"{row['t']:g}", f"{row['rho']:.4f} +- {row['rho_error']:.4f}", f"{row['loop']:.2e}")
        for row in result["integrability"]
    ]
    yield from table(rows, ("t", "rho", "loop integral / length"))


def _interval(cell: dict[str, Any]) -> str:
    return f"{cell['value']:.3f} ({cell['low']:.3f} to {cell['high']:.3f})"


def ranked(result: dict[str, Any]) -> Iterator[str]:
    """The tables of `rank` for people."""
    alarms, n = result["false_alarms"], result["inside"]["n"]
    yield f"flagged: a conformal p-value (k + 1) / (n + 1) of at most {alarms:g}, where k of the n = {n} inside score"
    yield f"no higher; of images that belong, {alarms:.0%} at most are flagged"
    names = dict(zip(result["images"], result["image_files"] or map(str, result["images"]), strict=True))
    for row in result["ranks"]:
        flagged, total = row["flagged"], len(result["images"])
        p = dict(zip(result["images"], row["p_values"], strict=True))
        yield f"{row['proxy']}: {len(flagged)} of {total} image{'s' if total > 1 else ''} flagged"
        shown = [(names[k], f"{p[k]:.4f}") for k in row["least"] if k not in flagged] if not flagged else []
        shown += [(names[k], f"{p[k]:.4f} flagged") for k in flagged[:FLAGGED]]
        yield from table(shown, ("least typical", "p-value"))
        if len(flagged) > FLAGGED:
            yield f"... and {len(flagged) - FLAGGED} more in {CSV}"


def write(folder: Path, result: dict[str, Any], scores: Scores, sets: Sequence[ImageSet], levels: int) -> None:
    """Put everything into the folder: numbers, a row for each image, pictures; ``result["files"]`` names them.

    Raises:
        InputError: the disk refuses.
    """
    output.write_file(folder / CSV, _rows(scores, sets))  # which makes the folder
    pictures = _pictures(folder, scores, sets) if "separation" in result else _ends(folder, result, sets[1], levels)
    result["files"] = [JSON, CSV, *pictures, *(["maps.png"] if "map" in result else [])]
    output.write_file(folder / JSON, output.json_bytes(result))


def _rows(scores: Scores, sets: Sequence[ImageSet]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    named = any(each.files for each in sets)
    writer.writerow(["set", "image", *(["file"] if named else []), *scores, COMPLEXITY])
    for each in sets:
        columns = [scores[label][each.name] for label in scores]
        for k, (place, bits) in enumerate(zip(each.index, complexity(each), strict=True)):
            file = [each.files[k] if each.files else ""] if named else []
            numbers = (repr(float(column[k])) for column in columns)
            writer.writerow([each.name, int(place), *file, *numbers, float(bits)])
    return text.getvalue().encode()


def _pictures(folder: Path, scores: Scores, sets: Sequence[ImageSet]) -> list[str]:
    from diffprob.evaluation.correlation import matrix
    from diffprob.reporting.detection import correlation_map, histogram_grid, roc, scatter

    inside, outside = sets[0].name, [each.name for each in sets[1:]]
    groups = {label: {each.name: found[each.name] for each in sets} for label, found in scores.items()}
    histogram_grid(folder / "histograms.png", groups, f"{inside} (inside) and what is outside")
    names = ["histograms.png"]
    for k, other in enumerate(outside):
        name = "roc.png" if len(outside) == 1 else f"roc-{k + 1}.png"
        curves = {label: (found[inside], found[other]) for label, found in scores.items()}
        roc(folder / name, curves, f"{inside} against {other}")
        names.append(name)
    labels = list(scores)
    if len(labels) > 1:
        varying = {label: scores[label][inside] for label in labels if len(set(scores[label][inside].tolist())) > 1}
        if len(varying) > 1:
            found = matrix(varying, ranks=True)
            correlation_map(folder / "correlations.png", found, f"rank correlations on {inside}")
            names.append("correlations.png")
        for k, label in enumerate(labels[1:]):
            pairs = {each.name: (scores[labels[0]][each.name], scores[label][each.name]) for each in sets}
            scatter(folder / f"scatter-{k + 1}.png", pairs, f"{label} beside {labels[0]}", labels[0], label)
            names.append(f"scatter-{k + 1}.png")
    return names


def _ends(folder: Path, result: dict[str, Any], judged: ImageSet, levels: int) -> list[str]:
    """The least typical images over the most typical ones, by the first proxy."""
    import numpy as np

    row = result["ranks"][0]
    order = np.argsort(np.array(row["scores"]), kind="stable")
    shown = min(SHOWN, len(order))
    places = np.r_[order[:shown], order[::-1][:shown]]
    names = [judged.called(int(place)) for place in places]
    facts = {"proxy": row["proxy"], "above": "least typical", "below": "most typical"}
    output.write_file(folder / "extremes.png", output.named_png(judged.levels[places], levels, names, facts, shown))
    return ["extremes.png"]


def maps_png(images: "np.ndarray", maps: "np.ndarray", levels: int, name: str, names: Sequence[str]) -> bytes:
    """Images uint8 (N, C, H, W), with their names, above their maps (N, C, H, W), grey: white is the 99.5% point of all
    maps."""
    import numpy as np

    means = maps.mean(1, keepdims=True)
    top = np.quantile(means, 0.995) or 1.0
    shown = np.rint((means / top).clip(0, 1) * (levels - 1)).astype(np.uint8)
    both = np.concatenate([images, np.broadcast_to(shown, images.shape)])
    facts = {"map": name, "white": float(top)}
    return output.named_png(both, levels, [*names, *[""] * len(names)], facts, len(images))
