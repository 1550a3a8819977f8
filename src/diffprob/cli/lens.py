"""``--features``: what images are looked at through when sets of them are compared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from diffprob.base.errors import InputError, did_you_mean
from diffprob.cli.progress import TERMINAL, say

if TYPE_CHECKING:
    import numpy as np
    import torch

    from diffprob.data.images import Images
    from diffprob.evaluation.features import Features

KINDS = ("auto", "classifier", "pixels", "pca", "inception", "dino")
HELP = (
    "auto (a classifier where there are labels, else PCA), classifier, classifier:FILE (diffprob baseline), "
    "inception:FILE, dino:NAME, pca, pca:N or pixels"
)
PCA_AXES = 64


def check_kind(text: str, option: str = "--features") -> None:
    """Refuse features that there are not.

    Raises:
        InputError: with what there is.
    """
    kind = text.partition(":")[0]
    if kind not in KINDS:
        raise InputError(f"{option} {text!r}: one of {', '.join(KINDS)} would be right{did_you_mean(kind, KINDS)}")


def choose_features(
    text: str,
    train: "Images",
    test: "Images | None",
    device: "torch.device",
    accept: str = "",
    option: str = "--features",
) -> "Features":
    """The features that ``text`` names, fitted on ``train`` where they are fitted.

    Args:
        accept: first digits of the digest of Inception weights that are to be used although they are not the published.

    Raises:
        InputError: no such features, or none for these images; ``accept`` for others than Inception's.
    """
    from diffprob.evaluation.features import PcaFeatures, PixelFeatures

    check_kind(text, option)
    kind, _, rest = text.partition(":")
    if accept and kind != "inception":
        raise InputError("--accept-weights goes with --features inception:FILE")
    if kind == "auto":
        kind = "pca" if train.labels is None else "classifier"
    if kind == "classifier":
        return _classifier(rest, train, test, device)
    if kind == "pca":
        size = PixelFeatures(train.event_shape, train.levels).dimension
        most = max(1, min(PCA_AXES, size, len(train) - 1))
        return PcaFeatures.fit(train, _axes(rest, option) if rest else most, train.levels)
    if kind == "pixels":
        return PixelFeatures(train.event_shape, train.levels)
    if not rest:
        what = "inception:FILE, the weights" if kind == "inception" else "dino:NAME, a model's name or folder"
        raise InputError(f"{option} {text}: {what}, would be right")
    if kind == "inception":
        from diffprob.evaluation.inception import InceptionFeatures

        return InceptionFeatures.open(rest, train.levels, device, accept)
    from diffprob.evaluation.dino import DinoFeatures

    return DinoFeatures(rest, train.levels, device)


def class_names(features: "Features", train: "Images") -> tuple[str, ...]:
    """Names of the classes that these features judge, by number; empty where they judge none, or others than these.

    A classifier of old knows no names: its numbers are those of the files.
    """
    from diffprob.evaluation.features import ClassifierFeatures

    if not isinstance(features, ClassifierFeatures) or train.labels is None:
        return ()
    return features.class_names or train.former_names(features.classes)


def judged(images: "Images", names: Sequence[str]) -> "tuple[np.ndarray | None, tuple[str, ...]]":
    """The labels of images in the numbering ``names``, which goes on with the classes that it lacks; None without."""
    from diffprob.data.classes import joint

    if not names or images.labels is None:
        return None, tuple(names)
    called = joint((images,), names)
    return images.aligned(called).labels, called


def renumbered(labels: "np.ndarray | None", names: Sequence[str], wanted: Sequence[str]) -> "np.ndarray | None":
    """Labels that are numbers of ``names`` as numbers of ``wanted``, -1 for what is none; None where nothing is."""
    import numpy as np

    if labels is None or not names or not wanted:
        return None
    place = {name: k for k, name in enumerate(wanted) if name}
    return np.array([place.get(name, -1) for name in names])[labels]


def _axes(text: str, option: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{option} pca:{text}: a number of axes, such as pca:64, would be right")
    return int(text)


def _classifier(path: str, train: "Images", test: "Images | None", device: "torch.device") -> "Features":
    from diffprob.evaluation.classifier import open_classifier
    from diffprob.tasks.classifier import trained_classifier

    if path:
        return open_classifier(path, device).features(device)
    made = trained_classifier(train, test, device=device, reporter=TERMINAL)
    if made.fresh:
        say(f"the classifier is right about {made.accuracy:.2%} of {made.tested:,} images ({made.on}); kept")
    return made.features(device)
