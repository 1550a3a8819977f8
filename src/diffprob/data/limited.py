"""A source of fewer images than another: the first of them, or those of one class."""

from dataclasses import dataclass, replace

import numpy as np

from diffprob.base.checks import MOST, able, listed, text, whole
from diffprob.base.errors import InputError, Missing, did_you_mean
from diffprob.base.text import composed
from diffprob.data.images import Images, Source


@dataclass(frozen=True)
class Subset:
    """The first ``n`` images of a source; with ``label`` the first ``n`` of that class.

    Args:
        source: where they come from.
        n: how many; None takes all.
        label: the only class that is taken, by its name; a number means the label that the files give it, or its place
            among folders sorted as text. None takes every class.

    Raises:
        ValueError: something that is no source, or a number out of range.
    """

    source: Source
    n: int | None = None
    label: int | str | None = None

    def __post_init__(self) -> None:
        able("source", self.source, "load", "Digits()")
        whole("n", self.n, 1, none=True)
        if isinstance(self.label, str):
            text("label", self.label)
        else:
            whole("label", self.label, -MOST, none=True)  # files may number classes from below 0

    def load(self) -> Images:
        """Load the source and copy the chosen images.

        Raises:
            Missing: no image of the class.
            InputError: images without labels where a class is asked for, or fewer than ``n``.
        """
        images = self.source.load()
        chosen = np.arange(len(images))
        if self.label is not None:
            if images.labels is None:
                raise InputError(f"{images.name} has no labels, so no images of label={self.label!r}")
            chosen = np.flatnonzero(_of_class(images, self.label))
        if not len(chosen):
            known = listed([str(label) for label in np.unique(images.former_labels)])
            raise Missing(f"{images.name} has no image of label {self.label}; those that the files give it are {known}")
        of = "" if self.label is None else f" of label {self.label}"
        if len(chosen) < (self.n or 1):
            raise InputError(f"{images.name} has {len(chosen)} images{of}: n={self.n} are too many")
        chosen = chosen[: self.n]
        return replace(images.some(chosen), name=f"{len(chosen)} images{of} of {images.name}")


def _of_class(images: Images, label: int | str) -> np.ndarray:
    """Which images are of the class, bool (N,)."""
    if isinstance(label, int):
        return images.former_labels == label
    label = composed(label)
    if label not in images.class_names:
        near = did_you_mean(label, images.class_names)
        raise Missing(f"{images.name}: there is no class {label!r} among {', '.join(images.class_names)}{near}")
    return images.labels == images.class_names.index(label)
