"""The figures of the thesis from what was measured: curves over the epochs, and samples above real images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from thesis_measure import RUN, picture_path, rows, test_images

from diffprob.config.recipe import Recipe
from diffprob.data.images import Images
from diffprob.reporting.figures import save_grid
from diffprob.runs.folder import Run

GRID = 4  # rows of samples, and as many of real images
COLUMNS = 10


def draw(out: Path, figures: Path, name: str) -> list[Path]:
    """Draw what there is: ``NAME-curves.png``, and ``NAME-W.png`` for each w with samples of the last weights."""
    recipe, found = Run.open(out / RUN, verify=False).recipe, rows(out)
    log = [json.loads(line) for line in (out / RUN / "log.jsonl").read_text().splitlines()]
    figures.mkdir(parents=True, exist_ok=True)
    drawn = [figures / f"{name}-curves.png"]
    length = recipe.training.checkpoint_every
    curves(epoch_losses(log, length), found, drawn[0])
    for row in found:
        if row["kind"] == "last" and row["sampler"] == "ancestral":
            w, path = row["w"], figures / (f"{name}.png" if row["w"] is None else f"{name}-w{row['w']:g}.png")
            levels = np.load(picture_path(out, "ancestral", w))[: GRID * COLUMNS]
            save_grid(np.concatenate([levels, beside(recipe, len(levels))]), path, COLUMNS, 2)
            drawn.append(path)
    return drawn


def epoch_losses(log: Sequence[dict[str, Any]], length: int) -> list[float]:
    """The mean loss of each whole epoch of ``length`` steps, from a log whose records are means since the last one."""
    steps: list[float] = []
    for record in log:
        if "loss" in record:
            steps += [record["loss"]] * (record["step"] - len(steps))
    return [float(np.mean(steps[first : first + length])) for first in range(0, len(steps) - length + 1, length)]


def by_guidance(found: Sequence[dict[str, Any]]) -> dict[float | None, list[dict[str, Any]]]:
    """The rows of epochs by w, each in the order of the epochs; of two of one epoch the later one."""
    series: dict[float | None, dict[int, dict[str, Any]]] = {}
    for row in found:
        if row["kind"] == "epoch":
            series.setdefault(row["w"], {})[row["epoch"]] = row
    return {w: [each[epoch] for epoch in sorted(each)] for w, each in series.items()}


def beside(recipe: Recipe, n: int) -> np.ndarray:
    """Test images (n, C, H, W) of the labels 0, 1, ... in turn; without labels to be told the first ones."""
    images = test_images(recipe)
    return images.take(np.arange(n) if recipe.condition is None else in_turn(images, n))


def in_turn(images: Images, n: int) -> np.ndarray:
    """Indices (n,) of different images of the labels 0, 1, ..., K - 1, 0, ..."""
    assert images.labels is not None
    of = [np.flatnonzero(images.labels == label) for label in range(int(images.labels.max()) + 1)]
    return np.array([of[k % len(of)][k // len(of)] for k in range(n)])


def curves(losses: Sequence[float], found: Sequence[dict[str, Any]], path: Path) -> None:
    """Loss, Frechet distance with its interval, and sliced Wasserstein distance against the epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, distance, transport = figure.subplots(1, 3)
    loss.plot(range(1, len(losses) + 1), losses, ".-", color="black")
    loss.set(title="training loss", xlabel="epoch", yscale="log")
    for colour, (w, series) in zip(("C0", "C1", "C2"), by_guidance(found).items(), strict=False):
        label, at = "samples" if w is None else f"w = {w:g}", [row["epoch"] for row in series]
        distance.plot(at, [row["frechet"] for row in series], ".-", color=colour, label=label)
        distance.fill_between(
            at, [row["low"] for row in series], [row["high"] for row in series], color=colour, alpha=0.2, linewidth=0
        )
        transport.plot(at, [row["sliced"] for row in series], ".-", color=colour, label=label)
    for row in found:
        if row["kind"] == "real":
            distance.axhline(row["frechet"], color="grey", linestyle=":", label="real images")
            transport.axhline(row["sliced"], color="grey", linestyle=":", label="real images")
    distance.set(title="Frechet distance", xlabel="epoch", yscale="log")
    transport.set(title="sliced Wasserstein distance", xlabel="epoch", ylim=(0, None))
    for axes in (loss, distance):
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())
        axes.tick_params(axis="y", which="minor", labelsize=8)
    for axes in (loss, distance, transport):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    distance.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100)
