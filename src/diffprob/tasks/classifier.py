"""The classifier of labelled images: trained once and kept; it judges samples and gives features for them."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffprob.base.checks import whole
from diffprob.base.errors import InputError, Missing
from diffprob.base.levels import MOST_BANDS, check_levels
from diffprob.data.images import Images
from diffprob.data.kinds import open_data
from diffprob.evaluation.classifier import Plan, TrainedClassifier, classifier_for, default_epochs, plan
from diffprob.evaluation.classify import FitProgress, FitSettings
from diffprob.evaluation.features import describe
from diffprob.storage.files import expanded
from diffprob.tasks.compute import choose_device
from diffprob.tasks.options import option
from diffprob.tasks.own_recipe import opened
from diffprob.tasks.reporter import SILENT, Progress, Reporter, when_interrupted

_LOST = "interrupted: nothing of the classifier is kept, and it begins anew"


@dataclass(frozen=True, kw_only=True)
class ClassifierRequest:
    """What is to be trained, or found where it was trained before.

    Args:
        data: labelled images: a folder, a file, "digits" or "hf:NAME".
        size: scale and crop pictures to size x size.
        channels: read pictures as grey (1) or in colour (3), or say which axis of an array has the channels; None: as
            they are.
        levels: K, where fewer grey levels occur than the type of an array or picture holds; None: as many as that.
        epochs: passes over the images; None: as many as suit their number.
        seed: decides weights at the start, order and shifts.
        out: the file, a name that ends in ``.safetensors``; None: one in the cache folder.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda" or "cuda:1".

    Raises:
        ValueError: a number outside its domain.
    """

    data: str
    size: int | None = None
    channels: int | None = None
    levels: int | None = None
    epochs: int | None = None
    seed: int = 0
    out: str | Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        whole("size", self.size, 2, none=True)
        whole("channels", self.channels, 1, MOST_BANDS, none=True)
        check_levels(self.levels)
        whole("epochs", self.epochs, 1, none=True)
        whole("seed", self.seed, 0, 2**62)


@dataclass(frozen=True)
class PreparedClassifier:
    """A classifier that is about to be trained.

    Args:
        request: what is to be trained.
        train: labelled images.
        test: those to measure its accuracy on; None: some of the others.
        plan: what decides its weights.
        device: where it computes.
    """

    request: ClassifierRequest
    train: Images
    test: Images | None
    plan: Plan
    device: torch.device

    @property
    def path(self) -> Path:
        """Its file."""
        return self.plan.path if self.request.out is None else expanded(self.request.out)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides it, JSON literals by name."""
        spec = self.plan.spec
        with torch.device("meta"):
            parameters = sum(weight.numel() for weight in spec.build().parameters())
        return {
            "kind": "classifier",
            "data": self.request.data,
            "images": len(self.train),
            "classes": spec.classes,
            "network": repr(spec),
            "parameters": parameters,
            "settings": repr(self.plan.settings),
            "data_sha256": self.plan.data,
            "held_back": self.plan.held,
            "device": str(self.device),
        }


@dataclass(frozen=True)
class ClassifierResult:
    """A classifier that was trained, or was so before.

    Args:
        classifier: the network, what it was trained on, and how often it is right.
        settings: all that decides it, JSON literals by name.
        seconds: that this took.
    """

    classifier: TrainedClassifier
    settings: dict[str, Any]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name."""
        features, path = self.classifier.features(), self.classifier.path
        return {
            **self.settings,
            "accuracy": self.classifier.accuracy,
            "tested": self.classifier.tested,
            "on": self.classifier.on,
            "class_names": list(self.classifier.class_names),
            "features": describe(features),
            "features_sha256": features.digest,
            "path": None if path is None else str(path),
            "fresh": self.classifier.fresh,
            "seconds": self.seconds,
            "dry_run": False,
        }

    def __repr__(self) -> str:
        right = f"{self.classifier.accuracy:.2%} of {self.classifier.tested:,} images ({self.classifier.on})"
        return f"{self.classifier.path or 'not kept'}: right about {right}"


def classifier(request: ClassifierRequest, reporter: Reporter = SILENT) -> ClassifierResult:
    """Train a classifier, or find what was trained before.

    Raises:
        InputError: images that no classifier can be trained on, or another classifier in its place.
        NumericalError: the training diverged.
    """
    return train_classifier(prepare_classifier(request, reporter), reporter)


def prepare_classifier(request: ClassifierRequest, reporter: Reporter = SILENT) -> PreparedClassifier:
    """Read the images and check them, without training.

    Raises:
        InputError: images that no classifier can be trained on, or a file of another name.
    """
    if request.out is not None and not str(request.out).endswith(".safetensors"):
        raise InputError(f"{option('out', request.out)}: a name that ends in .safetensors would be right")
    device = choose_device(request.device)
    _, train, chosen = opened(request.data, request.size, request.channels, request.levels)
    for note in (*train.notes, *chosen):
        reporter.note(f"{train.name}: {note}")
    channels = request.channels or (train.event_shape[0] if chosen else None)
    test = labelled_test(train, request.data, request.size, channels, request.levels, reporter)
    settings = FitSettings(epochs=request.epochs or default_epochs(len(train)), seed=request.seed)
    return PreparedClassifier(request, train, test, plan(train, test, settings), device)


def train_classifier(prepared: PreparedClassifier, reporter: Reporter = SILENT) -> ClassifierResult:
    """Train, or find.

    Raises:
        InputError: another classifier in its place.
        NumericalError: the training diverged.
    """
    began = time.monotonic()
    where = (prepared.device, prepared.request.out, reporter)
    trained = trained_classifier(prepared.train, prepared.test, prepared.plan.settings, *where)
    return ClassifierResult(trained, prepared.settings, round(time.monotonic() - began, 1))


def labelled_test(
    train: Images,
    data: str,
    size: int | None = None,
    channels: int | None = None,
    levels: int | None = None,
    reporter: Reporter = SILENT,
) -> Images | None:
    """The labelled test split of ``data``, whose training split is ``train``; None, and a note, without one.

    Raises:
        InputError: it has one that cannot be read.
    """
    try:
        test = open_data(data, size=size, channels=channels, levels=levels, split="test").load()
    except Missing as error:
        reporter.note(f"no test split ({error}): a tenth of the images is held back to measure the accuracy")
        return None
    if test.labels is None or test.digest() == train.digest():  # one file is all splits
        reporter.note("no labelled test split: a tenth of the images is held back to measure the accuracy")
        return None
    return test


def trained_classifier(
    images: Images,
    test: Images | None = None,
    settings: FitSettings | None = None,
    device: str | torch.device = "cpu",
    path: str | Path | None = None,
    reporter: Reporter = SILENT,
) -> TrainedClassifier:
    """`diffprob.evaluation.classifier.classifier_for`, whose progress and notes the reporter hears.

    Raises:
        InputError: no labels, too few images or classes, or a file of another classifier at ``path``.
    """
    bars: list[Progress] = []
    with ExitStack() as stack:
        stack.enter_context(when_interrupted(lambda: _LOST))

        def tell(progress: FitProgress) -> None:
            if not bars:  # what was trained before needs no bar
                bars.append(stack.enter_context(reporter.progress("classifier", progress.steps)))
            rate = f", {bars[0].rate:.3g} steps/s" if bars[0].rate > 0 else ""
            bars[0].update(progress.step, f"epoch {progress.epoch + 1}, loss {progress.loss:.3f}{rate}")

        made = classifier_for(images, test, settings, device, path, tell)
    for note in made.notes:
        reporter.note(note)
    return made
