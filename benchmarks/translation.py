"""SDEdit against EGSDE: what a translation gains in likeness to the target's kind, and what it keeps of the source.

    python benchmarks/translation.py prepare data/fashion-mnist pictures    # shirts and dresses as folders of PNGs
    diffprob train fashion --set 'data=Folder("pictures/dresses", channels=1)' ... --out runs/dresses
    diffprob noisy-classifier runs/dresses pictures/shirts pictures/dresses
    python benchmarks/translation.py measure runs/dresses pictures --classifier runs/dresses-noisy-classifier \
        --data data/fashion-mnist --kept translation.jsonl --figure docs/images/translation.png

Every row is a translation of the same test images, -n of them from --first on. The classifier of all ten kinds
of clothes, trained on the real training images, gives the Frechet distance to the real dresses and the share that it
reads as a dress. L2 and SSIM are between each image and its source. Rows that are in --kept are not drawn again, and
all of them that have this -n, --first and --steps are shown. Weights of "invert" are for going through the noise by
DDIM, up as an image of --source-model.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from quality import answer, finish

from diffprob.base.errors import InputError
from diffprob.data.sources import Folder, Idx
from diffprob.evaluation.classifier import classifier_for
from diffprob.evaluation.classify import classify
from diffprob.evaluation.features import extract
from diffprob.evaluation.frechet import Statistics, frechet
from diffprob.evaluation.image_quality import ssim
from diffprob.runs.folder import Run
from diffprob.tasks.compute import Compute
from diffprob.tasks.plan import Sampling
from diffprob.tasks.translation import DDIB, EGSDE, SDEdit, TranslateRequest, TranslationMethod, translate

SHIRT, DRESS = 6, 3
PLAIN = "0,0"  # SDEdit
WEIGHTS = (PLAIN, "100,2")  # realistic, faithful


def main() -> int:
    """Make the folders, or draw, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("prepare")
    making.add_argument("data")
    making.add_argument("folder", type=Path)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("run")
    measuring.add_argument("folder", type=Path)
    measuring.add_argument("--classifier", required=True)
    measuring.add_argument("--data", required=True)
    measuring.add_argument("--source-model", default="fashion", help="for weights of invert")
    measuring.add_argument("-n", type=int, default=500)
    measuring.add_argument("--first", type=int, default=0, help="shirts of the test split to pass over")
    measuring.add_argument("--steps", type=int, default=25)
    measuring.add_argument("--seeds", nargs="+", type=int, default=(0, 1))
    measuring.add_argument("--starts", nargs="+", type=float, default=(0.5, 0.6, 0.7))
    measuring.add_argument("--weights", nargs="+", default=WEIGHTS)
    measuring.add_argument("--kept", type=Path, required=True)
    measuring.add_argument("--figure", type=Path)
    measuring.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.verb == "prepare":
        return _prepare(arguments.data, arguments.folder)
    shown = {name: getattr(arguments, name) for name in ("n", "first", "steps")}
    _measure(arguments, shown)
    rows = [row for row in _kept(arguments.kept) if shown.items() <= row.items()]
    means = _means(rows)
    if arguments.figure:
        _draw(means, arguments.figure)
    gained = [row["ahead"] for row in means if row.get("ahead") is not None]
    settings = {"run": arguments.run, **shown, "data": arguments.data, "each": rows}
    return finish(means, bool(gained) and max(gained) > 0, settings, arguments.out)


def _prepare(data: str, folder: Path) -> int:
    for split in ("train", "test"):
        images = Idx(data, split).load()
        if images.labels is None:
            raise InputError(f"{data}: no labels")
        for name, label in (("shirts", SHIRT), ("dresses", DRESS)):
            _save(images.take(np.flatnonzero(images.labels == label)), folder / name / split)
    return 0


def _save(pixels: np.ndarray, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(pixels):
        Image.fromarray(image[0]).save(folder / f"{k:05d}.png")


class Judge:
    """The classifier, and the real images that translations are compared with."""

    def __init__(self, data: str, folder: Path, first: int, n: int) -> None:
        made = classifier_for(Idx(data, "train").load(), Idx(data, "test").load())
        self.net, self.features = made.net, made.features()
        self.sources = Folder(str(folder / "shirts"), channels=1, split="test").load().take(range(first, first + n))
        self.dresses = Folder(str(folder / "dresses"), channels=1, split="test").load()
        self.real = Statistics.of(extract(self.features, self.dresses))

    def judged(self, images: np.ndarray) -> dict[str, float]:
        """The numbers of one translation, with standard errors (of the Frechet distance: the jackknife's)."""
        n = len(images)
        distance = frechet(extract(self.features, images), self.real)
        dress = float((classify(self.net, images).argmax(1) == DRESS).double().mean())
        apart = (images.astype(float) - self.sources.astype(float)) / 255
        length, alike = np.sqrt((apart**2).sum((1, 2, 3))), ssim(images, self.sources, 256)
        assert distance.high is not None and distance.low is not None
        return {
            "Frechet": distance.value,
            "Frechet error": (distance.high - distance.value) / 2.093,  # Student's t with 19 degrees of freedom
            "dress": dress,
            "dress error": (dress * (1 - dress) / n) ** 0.5,
            "L2": float(length.mean()),
            "L2 error": float(length.std(ddof=1) / n**0.5),
            "SSIM": float(alike.mean()),
            "SSIM error": float(alike.std(ddof=1) / n**0.5),
        }


def _measure(arguments: argparse.Namespace, same: dict[str, int]) -> None:
    """Add a row to ``--kept`` for each way, start and seed that it lacks."""
    there, judge = _kept(arguments.kept), None
    for seed, start, weights in product(arguments.seeds, arguments.starts, arguments.weights):
        way = {"weights": weights, "start": start, "seed": seed, **same}
        if any(way.items() <= each.items() for each in there):
            continue
        judge = judge or Judge(arguments.data, arguments.folder, arguments.first, arguments.n)
        row = {**way, **judge.judged(_translated(arguments, way, judge.sources))}
        with arguments.kept.open("a") as file:
            file.write(json.dumps(row) + "\n")


def _kept(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _translated(arguments: argparse.Namespace, way: dict[str, Any], sources: np.ndarray) -> np.ndarray:
    request = TranslateRequest(
        images=sources,
        method=_method(arguments, way["weights"], way["start"]),
        split="all",
        sampling=Sampling(steps=way["steps"], seed=1000 * way["seed"], compute=Compute(device="cpu")),
    )
    return translate(Run.open(arguments.run), request).images


def _method(arguments: argparse.Namespace, weights: str, start: float) -> TranslationMethod:
    if weights == "invert":
        return DDIB(source_model=arguments.source_model, start=start)
    if weights == PLAIN:
        return SDEdit(start=start)
    realistic, faithful = map(float, weights.split(","))
    return EGSDE(classifier=arguments.classifier, realistic=realistic, faithful=faithful, start=start)


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds; ``ahead``: by how much the Frechet distance is below that of SDEdit at the same L2."""
    ways = list(dict.fromkeys((row["weights"], row["start"]) for row in rows))
    means = []
    for weights, start in ways:
        same = [row for row in rows if (row["weights"], row["start"]) == (weights, start)]
        mean: dict[str, Any] = {"weights": weights, "start": start}
        for name in ("Frechet", "dress", "L2", "SSIM"):
            mean[name] = float(np.mean([row[name] for row in same]))
            mean[f"{name} error"] = float(np.sqrt(np.sum([row[f"{name} error"] ** 2 for row in same])) / len(same))
        means.append(mean)
    plain = sorted((row for row in means if row["weights"] == PLAIN), key=lambda row: row["L2"])
    lengths = [row["L2"] for row in plain]
    for row in means:
        if row["weights"] != PLAIN and plain and lengths[0] <= row["L2"] <= lengths[-1]:
            row["ahead"] = float(np.interp(row["L2"], lengths, [each["Frechet"] for each in plain])) - row["Frechet"]
    return means


def _draw(means: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    pairs = (("L2", "Frechet"), ("L2", "dress"), ("SSIM", "Frechet"))
    figure, axes = plt.subplots(1, len(pairs), figsize=(12, 3.6), layout="constrained")
    for axis, (x, y) in zip(axes, pairs, strict=True):
        for weights in dict.fromkeys(row["weights"] for row in means):
            line = sorted((row for row in means if row["weights"] == weights), key=lambda row: row["start"])
            name = {PLAIN: "SDEdit", "invert": "DDIM inversion"}.get(weights) or f"EGSDE {weights.replace(',', ', ')}"
            errors = {"xerr": [row[f"{x} error"] for row in line], "yerr": [row[f"{y} error"] for row in line]}
            axis.errorbar([row[x] for row in line], [row[y] for row in line], fmt="o-", ms=3, label=name, **errors)
        axis.set_xlabel(f"{x} to the source")
        axis.set_ylabel({"Frechet": "Frechet distance to dresses", "dress": "read as a dress"}[y])
    axes[0].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(answer(main))
