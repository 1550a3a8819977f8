"""Classifiers as files: trained once for a data set, with what they were trained on and how often they are right."""

import ast
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.rng import derive, permutation
from diffprob.base.single import single
from diffprob.base.text import one_line
from diffprob.evaluation.classify import FitProgress, FitSettings, fit_classifier, judge
from diffprob.evaluation.features import ClassifierFeatures
from diffprob.net.classifier import Classifier, ClassifierSpec
from diffprob.storage.files import expanded, followed, kind_of, write_file
from diffprob.storage.folders import cache_folder
from diffprob.storage.tensors import read_all

_FEWEST = 20
_HELD = 0.1  # of the images, where there is no test split


class Labelled(Protocol):
    """Images with their labels, such as `diffprob.data.images.Images`."""

    @property
    def pixels(self) -> np.ndarray:
        """uint8 levels (N, C, H, W)."""
        ...

    @property
    def labels(self) -> np.ndarray | None:
        """Integers (N,), or None."""
        ...

    @property
    def levels(self) -> int:
        """Number of grey levels."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of class k at position k."""
        ...

    @property
    def label_values(self) -> tuple[int, ...]:
        """What the digest calls class k, at position k; empty where it is k."""
        ...

    @property
    def occurring(self) -> tuple[str, ...]:
        """Names of the classes that images have."""
        ...

    def aligned(self, names: Sequence[str]) -> "Labelled":
        """The same images with the classes numbered as in ``names``."""
        ...

    def __len__(self) -> int: ...

    def digest(self) -> str:
        """SHA-256 over shape, pixels and labels."""
        ...


@dataclass(frozen=True)
class Plan:
    """What decides a classifier's weights (on one device).

    Args:
        spec: of the network.
        settings: of the training.
        data: digest of the training images and labels.
        levels: grey levels of the images.
        held: share of the images that are held back to measure the accuracy; 0 where there is a test split.
        names: of the classes, where their numbers are not those that the digest knows; else empty.
    """

    spec: ClassifierSpec
    settings: FitSettings
    data: str
    levels: int
    held: float
    names: tuple[str, ...] = ()

    @property
    def statement(self) -> dict[str, str]:
        """The plan as text, all but the spec."""
        settings = {
            "data": self.data,
            "settings": repr(self.settings),
            "levels": str(self.levels),
            "held": str(self.held),
        }
        return {**settings, "class_names": json.dumps(self.names)} if self.names else settings

    @property
    def path(self) -> Path:
        """Where this classifier is kept unless told."""
        key = hashlib.sha256(repr((self.spec, sorted(self.statement.items()))).encode()).hexdigest()[:16]
        return cache_folder() / f"classifier-{key}.safetensors"


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier with what is known of it.

    Args:
        net: the network.
        levels: grey levels of the images it takes.
        accuracy: share of right labels among images that were not trained on.
        tested: number of these images; on: what they are.
        class_names: name of class k at position k; empty in files of old, which number classes as data files do.
        path: its file; None if it could not be kept.
        fresh: whether it was trained just now.
        notes: what there is to say about the file, one sentence each.
    """

    net: Classifier
    levels: int
    accuracy: float
    tested: int
    on: str
    class_names: tuple[str, ...] = ()
    path: Path | None = None
    fresh: bool = False
    notes: tuple[str, ...] = ()

    def features(self, device: str | torch.device = "cpu") -> ClassifierFeatures:
        """Its features."""
        return ClassifierFeatures(self.net, self.levels, device, self.class_names)


def plan(train: Labelled, test: Labelled | None = None, settings: FitSettings | None = None) -> Plan:
    """The classifier for these images.

    The network has widths 16, 32, 64 and, until 8x8 pixels or fewer are left, more, each twice the one before and at
    most 256. Unless told, training sees at least 3 epochs and 60,000 images, but not more than 60 epochs.

    Raises:
        InputError: no labels, too few images or classes, or a test split of other images.
    """
    if train.labels is None:
        raise InputError("the images have no labels, and a classifier learns from labels")
    train, test = _together(train, test)
    if len(train) < _FEWEST:
        raise InputError(f"{len(train)} images are too few for a classifier; at least {_FEWEST} would be right")
    if len(train.occurring) < 2:
        only = ", ".join(train.occurring)
        raise InputError(f"all images are of class {only}; a classifier needs two classes")
    shapes = [part.pixels.shape[1:] for part in (train, test) if part is not None]
    if test is not None and (shapes[0] != shapes[1] or test.levels != train.levels):
        raise InputError(
            f"the test images are {shapes[1]} of {test.levels} levels, the others {shapes[0]} of {train.levels}"
        )
    channels, height, width = shapes[0]
    widths = [16, 32, 64]
    while max(height, width) > 8 << (len(widths) - 1):
        widths.append(min(256, 2 * widths[-1]))
    spec = ClassifierSpec(channels, len(train.class_names), tuple(widths))
    if settings is None:
        settings = FitSettings(epochs=default_epochs(len(train)))
    if test is not None and test.labels is not None and not _known(train, test.labels).any():
        raise InputError("no test image is of a class that was trained; test images of these would be right")
    held = 0.0 if test is not None and test.labels is not None else _HELD
    names = tuple(train.class_names) if train.label_values else ()
    return Plan(spec, settings, train.digest(), train.levels, held, names)


def default_epochs(count: int) -> int:
    """Epochs for ``count`` images: enough to see 60,000, at least 3 and at most 60."""
    return max(3, min(60, math.ceil(60_000 / count)))


def classifier_for(
    train: Labelled,
    test: Labelled | None = None,
    settings: FitSettings | None = None,
    device: str | torch.device = "cpu",
    path: str | Path | None = None,
    progress: Callable[[FitProgress], None] | None = None,
) -> TrainedClassifier:
    """The classifier of `plan`: the kept one, or a new one, which is then kept and its accuracy measured.

    Args:
        test: images to measure the accuracy on, without those of classes that ``train`` has none of, which are
            counted in the notes; without labelled ones a tenth of ``train`` is held back for that.
        path: the file; by default one in the cache folder.
        progress: called after every training step.

    Raises:
        InputError: as `plan`; or ``path`` holds another classifier, is damaged or cannot be written.
        NumericalError: the training diverged.
    """
    wanted, notes = plan(train, test, settings), []
    train, test = _together(train, test)
    file = wanted.path if path is None else Path(path)
    if file.exists():
        try:
            _compare(file, wanted)
            kept = open_classifier(file, device)
            return replace(kept, class_names=tuple(train.class_names), notes=_strangers(train, test))
        except InputError as error:
            if path is not None:
                raise
            notes.append(f"{error}; trained again")
    assert train.labels is not None
    pixels, labels, on = np.asarray(train.pixels), train.labels, "the test split"
    if test is not None and test.labels is not None:
        known = _known(train, test.labels)
        judged = np.asarray(test.pixels)[known], test.labels[known]
        notes += _strangers(train, test)
    else:
        order = permutation(derive(wanted.settings.seed, "accuracy") >> 1, 0, len(train))
        aside = np.sort(order[: round(wanted.held * len(train))])
        used = np.sort(order[len(aside) :])
        judged, on = (pixels[aside], labels[aside]), "images held back"
        pixels, labels = pixels[used], labels[used]
    net = fit_classifier(pixels, labels, wanted.spec, wanted.settings, wanted.levels, device, progress)
    accuracy = judge(net, *judged, levels=wanted.levels).accuracy
    assert accuracy is not None
    made = TrainedClassifier(net, wanted.levels, accuracy, len(judged[0]), on, tuple(train.class_names), file, True)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_classifier(net, file, {**wanted.statement, **_facts(made)})
    except (InputError, OSError) as error:
        if path is not None:
            raise
        made = replace(made, path=None)
        notes.append(f"the classifier is not kept: {error}")
    return replace(made, notes=tuple(notes))


def open_classifier(path: str | Path, device: str | torch.device = "cpu") -> TrainedClassifier:
    """Read a file that `classifier_for` wrote.

    Raises:
        InputError: no such file, or not such a file.
    """
    spec, notes, tensors = _read(Path(path))
    try:
        with single():
            net = spec.build()
        net.load_state_dict(tensors)
        names = tuple(str(name) for name in json.loads(notes["class_names"]))
        measured = int(notes["levels"]), float(notes["accuracy"]), int(notes["tested"]), notes["on"]
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{path} does not hold a classifier that `diffprob baseline classifier` wrote") from error
    return TrainedClassifier(net.eval().requires_grad_(False).to(device), *measured, names, Path(path))


def save_classifier(net: Classifier, path: str | Path, notes: Mapping[str, str] | None = None) -> None:
    """Write weights, spec and notes (such as settings and data digest) to a safetensors file, whole or not at all."""
    from safetensors.torch import save

    metadata = {"spec": repr(net.spec), "notes": json.dumps(dict(notes or {}), sort_keys=True)}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()}
    try:
        write_file(expanded(path), [save(tensors, metadata)])
    except OSError as error:
        raise InputError(f"cannot write the classifier {path}: {error.strerror}") from error


def load_classifier(path: str | Path, spec: ClassifierSpec, notes: Mapping[str, str] | None = None) -> Classifier:
    """Read what `save_classifier` wrote, for exactly this spec and these notes.

    Raises:
        InputError: no such file, not a safetensors file, or written for another spec or other notes.
    """
    stored_spec, stored_notes, tensors = _read(Path(path))
    if (stored_spec, stored_notes) != (spec, dict(notes or {})):
        raise InputError(
            f"{path} holds another classifier: {stored_spec} {stored_notes}, not {spec} {dict(notes or {})}"
        )
    with single():
        net = spec.build()
    net.load_state_dict(tensors)
    return net.eval().requires_grad_(False)


def _together(train: Labelled, test: Labelled | None) -> tuple[Labelled, Labelled | None]:
    """Both with one numbering of classes, by name: those of ``train``, then what ``test`` has besides."""
    if test is None or test.labels is None:
        return train, test
    names = (*train.class_names, *(name for name in test.occurring if name not in set(train.class_names)))
    return train.aligned(names), test.aligned(names)


def _known(train: Labelled, labels: np.ndarray) -> np.ndarray:
    """Which labels, numbered as those of ``train``, are of a class that it has images of, bool (N,)."""
    return np.isin(labels, np.unique(np.asarray(train.labels)))


def _strangers(train: Labelled, test: Labelled | None) -> tuple[str, ...]:
    """A sentence for test images of classes that ``train``, which numbers them alike, has no image of."""
    if test is None or test.labels is None:
        return ()
    others = ~_known(train, test.labels)
    if not others.any():
        return ()
    names = one_line(", ".join(test.class_names[k] for k in np.unique(test.labels[others])), 120)
    return (f"{others.sum():,} test images of classes that it was not trained on are left out: {names}",)


def _facts(made: TrainedClassifier) -> dict[str, str]:
    names = json.dumps(made.class_names)
    return {"accuracy": repr(made.accuracy), "tested": str(made.tested), "on": made.on, "class_names": names}


def _compare(path: Path, wanted: Plan) -> None:
    """Raise an `InputError` unless the file holds the classifier of the plan."""
    spec, notes, _ = _read(path)
    theirs, ours = {"spec": repr(spec), **notes}, {"spec": repr(wanted.spec), **wanted.statement}
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise InputError(f"{path} holds another classifier: its {name} is {theirs.get(name)}, not {value}")


def _read(path: Path) -> tuple[ClassifierSpec, dict[str, str], dict[str, Tensor]]:
    place = followed(path)
    if kind_of(place) is None:
        raise InputError(f"there is no classifier at {path}")
    tensors, metadata = read_all(place)
    try:
        call = ast.parse(metadata["spec"], mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError(metadata["spec"])
        spec = ClassifierSpec(**{str(word.arg): ast.literal_eval(word.value) for word in call.keywords})
        return spec, dict(json.loads(metadata["notes"])), tensors
    except (KeyError, ValueError, TypeError, SyntaxError) as error:
        raise InputError(f"{path} does not hold a classifier of diffprob's") from error
