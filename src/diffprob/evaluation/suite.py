"""All metrics by name, on two sets of images: what `diffprob evaluate` and the measurements of a training call."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from diffprob.base.errors import InputError, did_you_mean
from diffprob.base.options import option
from diffprob.base.rng import subset
from diffprob.evaluation.diversity import class_histogram_distance, inception_score
from diffprob.evaluation.estimate import Estimate, wilson
from diffprob.evaluation.features import Features, Judge, extract
from diffprob.evaluation.frechet import frechet, per_class_frechet
from diffprob.evaluation.kernel import kid
from diffprob.evaluation.manifold import precision_recall
from diffprob.evaluation.transport import sliced_wasserstein2, wasserstein2_exact, wasserstein_1d

Better = Literal["lower", "higher"]
LEAST_CLASS = 30  # generated images that a class needs for a Frechet distance of its own
MOST_EXACT = 2000  # images that exact optimal transport takes


@dataclass(frozen=True)
class View:
    """A set of images, as metrics see it.

    Args:
        pixels: uint8 levels (n, C, H, W).
        features: (n, d).
        probabilities: (n, classes), where the features come from a classifier.
        labels: true classes (n,), where they are known.
        requested: labels that the images were drawn for (n,), where there are any; for real images the true ones.
        names: of the classes, for titles; empty where they have only numbers.

    All labels are in the numbering of the classifier.
    """

    pixels: np.ndarray
    features: Tensor
    probabilities: Tensor | None = None
    labels: np.ndarray | None = None
    requested: np.ndarray | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def classes(self) -> np.ndarray | None:
        """The true classes, or else those that the classifier takes the images for."""
        if self.labels is not None:
            return self.labels
        return None if self.probabilities is None else self.probabilities.argmax(1).numpy()


def view(
    features: Features,
    pixels: np.ndarray,
    labels: np.ndarray | None = None,
    known: Tensor | None = None,
    progress: Callable[[int], None] | None = None,
    names: Sequence[str] = (),
) -> View:
    """Look at images (n, C, H, W) through ``features``.

    Args:
        labels: their classes, in the numbering of the features where these are of a classifier.
        known: their features, where they are computed already.
        names: of the classes, in that order.
    """
    if known is None:
        known = extract(features, pixels, progress=progress)
    probabilities = features.probabilities(known) if isinstance(features, Judge) else None
    return View(pixels, known, probabilities, labels, names=tuple(names))


@dataclass(frozen=True)
class Metric:
    """One entry of `METRICS`.

    Args:
        title: of its own number among the estimates; "" where it has none.
        about: what it measures, in a few words.
        better: whether a lower or a higher value is better.
        space: what it is computed in.
        compute: (generated, reference, seed) -> estimates by title.
        least: images that it needs on either side.
    """

    title: str
    about: str
    better: Better
    space: Literal["features", "probabilities", "pixels"]
    compute: Callable[[View, View, int], dict[str, Estimate]]
    least: int = 1


def _frechet(x: View, y: View, seed: int) -> dict[str, Estimate]:
    return {"Frechet distance": frechet(x.features, y.features, seed)}


def _per_class(x: View, y: View, seed: int) -> dict[str, Estimate]:
    if x.classes is None or y.classes is None:
        raise InputError("a Frechet distance for each class needs labels or a classifier")
    estimates = per_class_frechet(x.features, x.classes, y.features, y.classes, seed)
    names = {k: y.names[k] if k < len(y.names) else str(k) for k in estimates}
    return {
        f"Frechet distance, class {names[k]}": estimate
        for k, estimate in estimates.items()
        if estimate.n >= LEAST_CLASS
    }


def _kid(x: View, y: View, seed: int) -> dict[str, Estimate]:
    return {"KID": kid(x.features, y.features, seed=seed)}


def _manifold(x: View, y: View, seed: int) -> dict[str, Estimate]:
    return precision_recall(x.features, y.features, seed=seed)


def _inception(x: View, _: View, seed: int) -> dict[str, Estimate]:
    assert x.probabilities is not None
    return {"Inception Score": inception_score(x.probabilities, seed=seed)}


def _classes(x: View, y: View, _: int) -> dict[str, Estimate]:
    assert x.probabilities is not None and y.probabilities is not None
    own, real = x.probabilities.argmax(1), y.probabilities.argmax(1)
    return {"distance of the class histograms": class_histogram_distance(own, real, x.probabilities.shape[1])}


def _obedience(x: View, _: View, __: int) -> dict[str, Estimate]:
    requested = x.labels if x.requested is None else x.requested
    assert x.probabilities is not None
    if requested is None:
        raise InputError("metric 'labels' needs the labels that the images were drawn for")
    hits, n = int((x.probabilities.argmax(1).numpy() == requested).sum()), len(x)
    return {"label accuracy": Estimate(hits / n, n, None, *wilson(hits, n))}


def _confidence(x: View, _: View, __: int) -> dict[str, Estimate]:
    assert x.probabilities is not None
    top = x.probabilities.max(1).values
    return {"mean confidence of the classifier": Estimate(float(top.mean()), len(x))}


def _sliced(x: View, y: View, seed: int) -> dict[str, Estimate]:
    value = sliced_wasserstein2(x.pixels, y.pixels, 500, seed)
    return {"sliced Wasserstein-2 distance of pixels": Estimate(value, len(x), len(y), details={"directions": 500})}


def _grey(x: View, y: View, _: int) -> dict[str, Estimate]:
    value = wasserstein_1d(x.pixels.reshape(-1), y.pixels.reshape(-1))
    return {"Wasserstein-1 distance of grey-level histograms": Estimate(value, len(x), len(y))}


def _exact(x: View, y: View, seed: int) -> dict[str, Estimate]:
    n = min(len(x), len(y), MOST_EXACT)
    # At random: images may come ordered by class.
    a, b = (side.features[subset(len(side), n, seed, "transport").copy()] for side in (x, y))
    return {"exact Wasserstein-2 distance": Estimate(wasserstein2_exact(a, b), n, n)}


METRICS: dict[str, Metric] = {
    "frechet": Metric(
        "Frechet distance", "distance of Gaussians fitted to the features", "lower", "features", _frechet, 2
    ),
    "kid": Metric("KID", "squared kernel distance, unbiased", "lower", "features", _kid, 2),
    "manifold": Metric("precision", "precision, recall, density, coverage", "higher", "features", _manifold, 6),
    "classes": Metric(
        "distance of the class histograms",
        "how far the class histogram is from the real one",
        "lower",
        "probabilities",
        _classes,
    ),
    "labels": Metric(
        "label accuracy",
        "share that the classifier reads as the label asked for",
        "higher",
        "probabilities",
        _obedience,
    ),
    "confidence": Metric(
        "mean confidence of the classifier", "how sure the classifier is", "higher", "probabilities", _confidence
    ),
    "inception": Metric(
        "Inception Score", "Inception Score, by this classifier", "higher", "probabilities", _inception, 20
    ),
    "per-class": Metric("", "Frechet distance within each class", "lower", "probabilities", _per_class),
    "sliced": Metric(
        "sliced Wasserstein-2 distance of pixels",
        "sliced Wasserstein-2 distance of pixels, in grey levels",
        "lower",
        "pixels",
        _sliced,
    ),
    "grey": Metric(
        "Wasserstein-1 distance of grey-level histograms",
        "Wasserstein-1 distance of grey levels",
        "lower",
        "pixels",
        _grey,
    ),
    "transport": Metric(
        "exact Wasserstein-2 distance", f"exact optimal transport, n <= {MOST_EXACT:,}", "lower", "features", _exact
    ),
}
DEFAULT = ("frechet", "kid", "manifold", "classes", "confidence", "sliced")


def check_names(names: Sequence[str]) -> None:
    """Refuse a metric that there is not.

    Raises:
        InputError: with what there is.
    """
    for name in names:
        if name not in METRICS:
            raise InputError(f"no metric {name!r} (metrics: {', '.join(METRICS)}){did_you_mean(name, METRICS)}")


def usable(names: Sequence[str], features: Features) -> list[str]:
    """Those of the metrics that these features allow: class probabilities need a classifier."""
    check_names(names)
    judged = isinstance(features, Judge)
    return [name for name in names if judged or METRICS[name].space != "probabilities"]


def with_enough(names: Sequence[str], n: int) -> list[str]:
    """Those of the metrics that ``n`` images on the smaller side are enough for."""
    check_names(names)
    return [name for name in names if METRICS[name].least <= n]


def chosen(names: Sequence[str] | None, n: int, of_levels: bool = True) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The metrics that the data allow and n images on the smaller side are enough for; a sentence for each other one.

    Args:
        names: asked for; None: those of `DEFAULT` that the data allow.
        n: images on the smaller side.
        of_levels: whether the data have grey levels, which metrics of pixels are of.

    Raises:
        InputError: one that was asked for is left out, or all are.
    """
    check_names(names or ())
    allowed = [name for name in METRICS if of_levels or METRICS[name].space != "pixels"]
    for name in names or ():
        if name not in allowed:
            right = ", ".join(name for name in allowed if METRICS[name].space == "features")
            raise InputError(f"metric {name!r} is of grey levels, and these are real numbers; {right} would be right")
    wanted = [name for name in DEFAULT if name in allowed] if names is None else names
    kept = tuple(with_enough(wanted, n))
    left_out = tuple(
        f"{name} is left out: it needs {METRICS[name].least} images a side, there are {n}"
        for name in wanted
        if name not in kept
    )
    if left_out and (names is not None or not kept):
        raise InputError(f"{left_out[0]}; a larger {option('n')}, or other {option('metrics')}, would be right")
    return kept, left_out


def assess(generated: View, reference: View, names: Sequence[str] = DEFAULT, seed: int = 0) -> dict[str, Estimate]:
    """Every metric that is named: estimates by title, details saying which metric each belongs to.

    Raises:
        InputError: an unknown metric, or one that these views do not allow.
    """
    check_names(names)
    estimates: dict[str, Estimate] = {}
    for name in names:
        if METRICS[name].space == "probabilities" and generated.probabilities is None:
            raise InputError(f"metric {name!r} needs the features of a classifier")
        for title, estimate in METRICS[name].compute(generated, reference, seed).items():
            estimates[title] = replace(estimate, details={"metric": name, **estimate.details})
    return estimates


def leading(estimates: Mapping[str, Estimate], name: str) -> float:
    """The number of metric ``name`` itself."""
    return estimates[METRICS[name].title].value
