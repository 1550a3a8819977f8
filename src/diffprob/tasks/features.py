"""What images are looked at through when sets of them are compared: the choice of features, and their classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from diffprob.base import checks
from diffprob.base.errors import InputError, did_you_mean
from diffprob.data.classes import joint
from diffprob.data.fields import Fields
from diffprob.data.images import Images
from diffprob.evaluation.classifier import open_classifier
from diffprob.evaluation.dino import DinoFeatures
from diffprob.evaluation.features import ClassifierFeatures, Features, NumberFeatures, PcaFeatures, PixelFeatures
from diffprob.evaluation.inception import InceptionFeatures
from diffprob.space.real_numbers import Reals
from diffprob.tasks.classifier import trained_classifier
from diffprob.tasks.options import option
from diffprob.tasks.reporter import SILENT, Reporter

KINDS = ("auto", "classifier", "pixels", "pca", "inception", "dino")
PCA_AXES = 64


class FeatureChoice(Protocol):
    """Features that are still to be fitted, or loaded."""

    @property
    def text(self) -> str:
        """As `parse_features` takes it."""
        ...

    def fit(
        self, train: Images, test: Images | None, device: str | torch.device = "cpu", reporter: Reporter = SILENT
    ) -> Features:
        """The features, fitted on ``train`` where they are fitted; a classifier is tested on ``test``.

        Raises:
            InputError: none for these images, or no such weights.
        """
        ...


def _points(train: Images) -> PixelFeatures | NumberFeatures:
    """The pixels themselves; real numbers standardised by the mean and scale of ``train``."""
    if isinstance(train, Fields):
        return NumberFeatures(Reals(train.event_shape, *train.moments()))
    return PixelFeatures(train.event_shape, train.levels)


def _require_levels(train: Images, text: str) -> None:
    """Refuse features of pictures for real numbers.

    Raises:
        InputError: with what would be right.
    """
    if train.levels is None:
        right = f"{option('features', 'pca')} or {option('features', 'pixels')}, of such numbers, would be right"
        raise InputError(f"{option('features', text)} looks at grey levels, and these are real numbers; {right}")


@dataclass(frozen=True)
class RawPixels:
    """The pixels themselves, or standardised numbers."""

    text = "pixels"

    def fit(
        self, train: Images, test: Images | None, device: str | torch.device = "cpu", reporter: Reporter = SILENT
    ) -> Features:
        """See `FeatureChoice`."""
        return _points(train)


@dataclass(frozen=True)
class Pca:
    """Coordinates along the principal axes of the pixels, or of standardised numbers.

    Args:
        axes: how many; None: 64, or as many as there can be.

    Raises:
        ValueError: no axes.
    """

    axes: int | None = None

    def __post_init__(self) -> None:
        checks.whole("axes", self.axes, 1, none=True)

    @property
    def text(self) -> str:
        """As `parse_features` takes it."""
        return "pca" if self.axes is None else f"pca:{self.axes}"

    def fit(
        self, train: Images, test: Images | None, device: str | torch.device = "cpu", reporter: Reporter = SILENT
    ) -> Features:
        """See `FeatureChoice`."""
        points = _points(train)
        axes = max(1, min(PCA_AXES, points.dimension, len(train) - 1)) if self.axes is None else self.axes
        of = points if isinstance(points, NumberFeatures) else None
        return PcaFeatures.fit(train, axes, train.levels, of)


@dataclass(frozen=True)
class LabelClassifier:
    """What a classifier of the labels sees before its last layer.

    Args:
        path: its file, of `diffprob baseline classifier`; None: one is trained on the training images, once.
    """

    path: str | None = None

    def __post_init__(self) -> None:
        if self.path is not None:
            checks.text("path", self.path)

    @property
    def text(self) -> str:
        """As `parse_features` takes it."""
        return "classifier" if self.path is None else f"classifier:{self.path}"

    def fit(
        self, train: Images, test: Images | None, device: str | torch.device = "cpu", reporter: Reporter = SILENT
    ) -> Features:
        """See `FeatureChoice`."""
        _require_levels(train, self.text)
        if self.path is not None:
            return open_classifier(self.path, device).features(device)
        made = trained_classifier(train, test, device=device, reporter=reporter)
        if made.fresh:
            right = f"{made.accuracy:.2%} of {made.tested:,} images ({made.on})"
            reporter.note(f"the classifier is right about {right}; kept")
        return made.features(device)


@dataclass(frozen=True)
class Auto:
    """Those of a classifier where the training images have labels, else PCA."""

    text = "auto"

    def fit(
        self, train: Images, test: Images | None, device: str | torch.device = "cpu", reporter: Reporter = SILENT
    ) -> Features:
        """See `FeatureChoice`."""
        plain = train.labels is None or train.levels is None
        return (Pca() if plain else LabelClassifier()).fit(train, test, device, reporter)


@dataclass(frozen=True)
class Inception:
    """The features of the published Frechet inception distance.

    Args:
        path: of the weights, which are the user's to bring.
        accept: first digits of the digest of weights that are to be used although they are not the published.
    """

    path: str
    accept: str = ""

    def __post_init__(self) -> None:
        checks.text("path", self.path)
        checks.text("accept", self.accept, 0)

    @property
    def text(self) -> str:
        """As `parse_features` takes it."""
        return f"inception:{self.path}"

    def fit(
        self, train: Images, test: Images | None, device: str | torch.device = "cpu", reporter: Reporter = SILENT
    ) -> Features:
        """See `FeatureChoice`."""
        _require_levels(train, self.text)
        return InceptionFeatures.open(self.path, train.levels, device, self.accept)


@dataclass(frozen=True)
class Dino:
    """The features of a DINOv2 model.

    Args:
        name: of the model, or its folder.
    """

    name: str

    def __post_init__(self) -> None:
        checks.text("name", self.name)

    @property
    def text(self) -> str:
        """As `parse_features` takes it."""
        return f"dino:{self.name}"

    def fit(
        self, train: Images, test: Images | None, device: str | torch.device = "cpu", reporter: Reporter = SILENT
    ) -> Features:
        """See `FeatureChoice`."""
        _require_levels(train, self.text)
        return DinoFeatures(self.name, train.levels, device)


def parse_features(text: str, accept: str = "", name: str | None = None) -> FeatureChoice:
    """The features that a text such as "pca:16" names, as the command line and recipes have them.

    Args:
        text: one of `KINDS`, a colon and what it needs.
        accept: of `Inception`.
        name: what a message calls the text, if not the option for features.

    Raises:
        InputError: no such features, or a part is missing; ``accept`` for others than Inception's.
    """
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS)
        raise InputError(f"{_option_text(name, repr(text))}: one of {', '.join(KINDS)} would be right{near}")
    if accept and kind != "inception":
        raise InputError(f"{option('accept_weights')} goes with {option('features', 'inception:FILE')}")
    try:
        return _choice(kind, rest, accept, text, name)
    except ValueError as error:
        raise InputError(f"{_option_text(name, text)}: {error}") from error


def class_names(features: Features, train: Images) -> tuple[str, ...]:
    """Names of the classes that these features judge, by number; empty where they judge none, or others than these.

    A classifier of old knows no names: its numbers are those of the files.
    """
    if not isinstance(features, ClassifierFeatures) or train.labels is None:
        return ()
    return features.class_names or train.former_names(features.classes)


def judged(images: Images, names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The labels of images in the numbering ``names``, which goes on with the classes that it lacks; None without."""
    if not names or images.labels is None:
        return None, tuple(names)
    called = joint((images,), names)
    return images.aligned(called).labels, called


def renumbered(labels: np.ndarray | None, names: Sequence[str], wanted: Sequence[str]) -> np.ndarray | None:
    """Labels that are numbers of ``names`` as numbers of ``wanted``, -1 for what is none; None where nothing is."""
    if labels is None or not names or not wanted:
        return None
    place = {name: k for k, name in enumerate(wanted) if name}
    return np.array([place.get(name, -1) for name in names])[labels]


def _choice(kind: str, rest: str, accept: str, text: str, name: str | None) -> FeatureChoice:
    if kind == "pca":
        if rest and not (rest.isdecimal() and int(rest) > 0):
            raise InputError(f"{_option_text(name, text)}: a number of axes, such as pca:64, would be right")
        return Pca(int(rest) if rest else None)
    if kind == "classifier":
        return LabelClassifier(rest or None)
    if kind in ("inception", "dino"):
        if not rest:
            what = "inception:FILE, the weights" if kind == "inception" else "dino:NAME, a model's name or folder"
            raise InputError(f"{_option_text(name, text)}: {what}, would be right")
        return Inception(rest, accept) if kind == "inception" else Dino(rest)
    return RawPixels() if kind == "pixels" else Auto()


def _option_text(name: str | None, text: str) -> str:
    return option("features", text) if name is None else f"{name} {text}"
