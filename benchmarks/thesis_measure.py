"""What the samples of each epoch's weights are worth: Frechet and Wasserstein distances, as lines of JSON."""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.rng import Rng
from diffprob.conditions.condition import Labels
from diffprob.config.recipe import Recipe
from diffprob.data.combined import Subset
from diffprob.data.images import Images
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.variance import UnitData
from diffprob.evaluation.classifier import classifier_for
from diffprob.evaluation.features import Features, Judge, PcaFeatures, describe, extract
from diffprob.evaluation.frechet import Statistics, frechet, frechet_distance
from diffprob.evaluation.transport import sliced_wasserstein2, wasserstein_1d
from diffprob.guidance.classifier_free import ClassifierFree
from diffprob.process.grids import Trailing, Uniform
from diffprob.runs.folder import Run
from diffprob.sampling.ancestral import Ancestral
from diffprob.sampling.exponential import DPMppSDE
from diffprob.storage import tensors
from diffprob.tasks.drawing import draw

RUN, WEIGHTS, MEASURED = "run", "weights", "measured.jsonl"
GUIDANCE = (0.0, 0.5, 2.0)
FEW = 40  # images of an evaluation in the code that the thesis stands on
FAST, SLOW = DPMppSDE(2), Ancestral()
PIXELS = 1000  # real images whose pixels are compared


@dataclass(frozen=True)
class Settings:
    """How many samples, of how many evaluations of the network, computed how and where; ``steps`` of the ancestral
    chain, None for all there are."""

    n: int = 300
    evaluations: int = 15
    steps: int | None = None
    precision: str = "fp32"
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Real:
    """Held-out images, through the features in which samples are compared with them."""

    images: Images
    train: Images
    features: Features
    statistics: Statistics


def real_images(recipe: Recipe) -> Real:
    """Test images, of the one class if training saw one, in the features of a classifier of all training images.

    Without labels to be told, those are the principal axes of the pixels of the training images.
    """
    source, _ = whole(recipe)
    test, train = test_images(recipe), recipe.data.load()
    if recipe.condition is None:
        features: Features = PcaFeatures.fit(train, 64)
    else:
        features = classifier_for(source.load(), test).features()
    return Real(test, train, features, Statistics.of(extract(features, test)))


def whole(recipe: Recipe) -> tuple[Any, int | None]:
    """The source that the training images are the first ones of, and the one class that is taken."""
    data = recipe.data
    return (data.source, data.label) if isinstance(data, Subset) else (data, None)


def test_images(recipe: Recipe) -> Images:
    """The test images, of the one class if training saw one."""
    source, label = whole(recipe)
    return Subset(replace(source, split="test"), None, label).load()


def epochs(recipe: Recipe, out: Path, settings: Settings, every: int = 1) -> None:
    """Measure the weights of every ``every``-th epoch and the last, for each w; what is measured already is kept."""
    real, length = real_images(recipe), recipe.training.checkpoint_every
    total = recipe.training.steps // length
    model = Run.open(out / RUN, verify=False).load(settings.device, 64, settings.precision)
    for epoch in [each for each in range(1, total + 1) if each == total or each % every == 0]:
        path = weights_path(out, epoch * length)
        if not path.exists():
            say(f"epoch {epoch}: no weights at {path}")
            continue
        model.load_state_dict(tensors.read(path))
        for w in _weights(recipe):
            key = {"kind": "epoch", "epoch": epoch, "w": w, "n": settings.n, "evaluations": settings.evaluations}
            if not known(out, key):
                levels = samples(model, recipe, w, settings, fast=True)
                append(out, {**key, **measured(levels, real, asked(recipe, settings.n))})
    if not known(out, {"kind": "real", "n": settings.n}):
        levels = real.train.take(np.arange(settings.n))
        labels = real.train.labels
        append(
            out,
            {
                "kind": "real",
                "n": settings.n,
                **measured(levels, real, None if labels is None else labels[: settings.n]),
                "features": describe(real.features),
            },
        )


def last(recipe: Recipe, out: Path, settings: Settings) -> list[dict[str, Any]]:
    """The last weights by the thesis's ancestral steps and by the fast sampler, with the same seeds and labels; and
    their Frechet distance as float32 has it.

    Samples are kept in ``OUT/ancestral-W.npy`` and ``OUT/fast-W.npy``.
    """
    real = real_images(recipe)
    model = Run.open(out / RUN, verify=False).load(settings.device, 64, settings.precision, variance=UnitData())
    for w in _weights(recipe):
        for name in ("fast", "ancestral"):
            key = {"kind": "last", "sampler": name, "w": w, "n": settings.n, "steps": settings.steps}
            if known(out, key):
                continue
            levels = samples(model, recipe, w, settings, fast=name == "fast")
            np.save(picture_path(out, name, w), levels)
            row = measured(levels, real, asked(recipe, settings.n))
            append(out, {**key, **row, **naive(levels[:FEW], real.images.take(np.arange(FEW)))})
    return [row for row in rows(out) if row["kind"] == "last"]


def samples(model: NetDenoiser, recipe: Recipe, w: float | None, settings: Settings, fast: bool) -> np.ndarray:
    """Levels (n, C, H, W) with the seeds 0, 1, ... and the labels in turn.

    The fast sampler clips its predicted images; the published steps do not.
    """
    guided: Any = model
    if recipe.condition is not None and w is not None:
        guided = ClassifierFree(model, recipe.condition.example_rows(settings.n).to(settings.device), w)
    grid: Any = Trailing(bend=-0.6) if fast else Uniform()
    all_steps = settings.steps or recipe.process.schedule.steps or settings.evaluations
    times = grid(recipe.process, settings.evaluations if fast else all_steps)
    rng = Rng.of(0, settings.n, device=settings.device)
    return draw(guided, FAST if fast else SLOW, times, rng, recipe.space, clip=fast).levels


def measured(levels: np.ndarray, real: Real, labels: np.ndarray | None) -> dict[str, Any]:
    """Distances of images (n, C, H, W) from the real ones; those of pixels in units of the whole range, 0 to 1."""
    seen = extract(real.features, levels)
    found = frechet(seen, real.statistics)
    others = real.images.take(np.arange(min(PIXELS, len(real.images))))
    row: dict[str, Any] = {
        "frechet": found.value,
        "low": found.low,
        "high": found.high,
        "frechet_of_perfect": found.details["expected_bias"],
        "frechet_extrapolated": found.details["extrapolated"],
        "sliced": sliced_wasserstein2(levels, others) / 255,
        "grey": wasserstein_1d(levels.reshape(-1), others.reshape(-1)) / 255,
    }
    if isinstance(real.features, Judge) and labels is not None:
        row["label_accuracy"] = float((real.features.probabilities(seen).argmax(1).numpy() == labels).mean())
    return row


def naive(levels: np.ndarray, others: np.ndarray) -> dict[str, float]:
    """The Frechet distance of few images in their pixels, 0 to 1, as float32 computes it from the root of the product.

    ``naive_self`` is that of the real images from themselves, which is 0; ``stable`` and ``stable_self`` are the same
    numbers without a root of a singular matrix.
    """
    x, y = (torch.from_numpy(each).flatten(1).float() / 255 for each in (levels, others))
    first, second = Statistics.of(x), Statistics.of(y)
    return {
        "naive": root_of_product(x, y),
        "naive_self": root_of_product(y, y),
        "stable": frechet_distance(first, second),
        "stable_self": frechet_distance(second, second),
    }


def root_of_product(x: Tensor, y: Tensor) -> float:
    """|m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)) of x (n, d) and y (m, d) by scipy's ``sqrtm``, in their own
    precision."""
    from scipy.linalg import sqrtm

    means, (a, b) = (
        (x.mean(0) - y.mean(0)).numpy(),
        (np.cov(each.numpy().T, dtype=each.numpy().dtype) for each in (x, y)),
    )
    root = np.real(np.asarray(sqrtm(a @ b)))
    return float(means @ means + np.trace(a) + np.trace(b) - 2 * np.trace(root))


def asked(recipe: Recipe, n: int) -> np.ndarray | None:
    """The labels that n samples are drawn for."""
    return recipe.condition.example_rows(n).numpy() if isinstance(recipe.condition, Labels) else None


def weights_path(out: Path, step: int) -> Path:
    """Where the weights after a step lie."""
    return out / WEIGHTS / f"step-{step:06d}.safetensors"


def picture_path(out: Path, sampler: str, w: float | None) -> Path:
    """Where the samples of `last` lie."""
    return out / (f"{sampler}.npy" if w is None else f"{sampler}-{w:g}.npy")


def rows(out: Path) -> list[dict[str, Any]]:
    """All that is measured; a line that was cut off is left out."""
    path, found = out / MEASURED, []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            say(f"{path}: left out {line[:40]!r}")
    return found


def known(out: Path, key: dict[str, Any]) -> bool:
    """Whether a row with all of ``key`` is there."""
    return any(key.items() <= {name: row.get(name) for name in key}.items() for row in rows(out))


def append(out: Path, row: dict[str, Any]) -> None:
    """Add a line, and say it."""
    with (out / MEASURED).open("a") as file:
        file.write(json.dumps(row) + "\n")
    kept = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
    say(f"{time.strftime('%H:%M:%S')} {kept}")


def say(text: str) -> None:
    """Tell people."""
    print(text, file=sys.stderr, flush=True)


def _weights(recipe: Recipe) -> tuple[float | None, ...]:
    return (None,) if recipe.condition is None else GUIDANCE
