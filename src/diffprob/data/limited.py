"""A source of fewer images than another: the first of them, or those of one class."""

from dataclasses import dataclass, replace

import numpy as np

from diffprob.base.checks import able, whole
from diffprob.base.errors import InputError, Missing
from diffprob.data.images import Images, Source


@dataclass(frozen=True)
class First:
    """The first ``n`` images of a source; with ``label`` the first ``n`` of that class.

    Args:
        source: where they come from.
        n: how many; None takes all.
        label: the only class that is taken; None takes every one.

    Raises:
        ValueError: something that is no source, or a number out of range.
    """

    source: Source
    n: int | None = None
    label: int | None = None

    def __post_init__(self) -> None:
        able("source", self.source, "load", "Digits()")
        whole("n", self.n, 1, none=True)
        whole("label", self.label, none=True)

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
                raise InputError(f"{images.name} has no labels, so no images of label={self.label}")
            chosen = np.flatnonzero(images.labels == self.label)
        if not len(chosen):
            raise Missing(f"{images.name} has no image of label {self.label}")
        of = "" if self.label is None else f" of label {self.label}"
        if len(chosen) < (self.n or 1):
            raise InputError(f"{images.name} has {len(chosen)} images{of}: n={self.n} are too many")
        chosen = chosen[: self.n]
        return replace(
            images,
            pixels=images.take(chosen),
            labels=None if images.labels is None else images.labels[chosen],
            name=f"{len(chosen)} images{of} of {images.name}",
            captions=None if images.captions is None else tuple(images.captions[i] for i in chosen),
        )
