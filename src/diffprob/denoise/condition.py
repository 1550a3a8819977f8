"""What a network is told beside x_t and t: which rows the data gives, and which value stands for none."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.base.shapes import per_sample
from diffprob.net.limits import MOST_CLASSES


class Condition(Protocol):
    """A kind of condition (frozen dataclass: its repr is its configuration); one row of a tensor for each sample."""

    @property
    def drop(self) -> float:
        """Probability that training tells the network the null condition instead, in [0, 1); 0: it has none."""
        ...

    def read(self, images: Any) -> np.ndarray | None:
        """A row for each image of a data set; None where `of` makes them from the images themselves.

        Raises:
            InputError: the data has none, or others than these.
        """
        ...

    def of(self, x0: Tensor) -> Tensor:
        """The conditions of images in model space (B, C, H, W); only where `read` gives none."""
        ...

    def check(self, rows: Tensor) -> None:
        """Refuse rows that are none of this kind.

        Raises:
            InputError: what is wrong with them.
        """
        ...

    def some(self, n: int) -> Tensor:
        """Rows (n, ...) of different conditions in turn, for pictures; where there is no such choice, the null."""
        ...

    def null(self) -> Tensor:
        """The row (1, ...) that stands for no condition; the network then models all data.

        Raises:
            InputError: the network has never been told it.
        """
        ...


@dataclass(frozen=True)
class Labels:
    """A class 0..classes - 1, int64 (B,); the label ``classes`` stands for none of them.

    Args:
        classes: how many there are.
        drop: probability that training replaces the label by the null one, so that one network models p(x|c) and p(x);
            0: there is no null label.

    Exact when: always.

    Reference: Ho & Salimans, "Classifier-free diffusion guidance" (2022), algorithm 1.
    """

    classes: int = 10
    drop: float = 0.1

    def __post_init__(self) -> None:
        whole("classes", self.classes, 1, MOST_CLASSES)
        real("drop", self.drop, "[0, 1)")

    @property
    def rows(self) -> int:
        """Values that the network must know: the classes, and the null label where there is one."""
        return self.classes + (self.drop > 0)

    def read(self, images: Any) -> np.ndarray:
        """The labels of the images, int64 (N,).

        Raises:
            InputError: the data has none, or one outside the range.
        """
        labels = getattr(images, "labels", None)
        name = getattr(images, "name", "the data")
        if labels is None:
            raise InputError(f"{name} has no labels, and {self!r} needs one for every image")
        if len(labels) and not (labels.min() >= 0 and labels.max() < self.classes):
            raise InputError(
                f"{name}: labels run from {labels.min()} to {labels.max()}, {self!r} takes 0 to {self.classes - 1}"
            )
        return labels

    def of(self, x0: Tensor) -> Tensor:
        """Labels come from the data alone.

        Raises:
            TypeError: always.
        """
        raise TypeError("labels are read from the data, not from the images")

    def check(self, rows: Tensor) -> None:
        """Refuse what is not int64 (B,) in 0..classes - 1, or the null label where there is one.

        Raises:
            InputError: another shape, type or range.
        """
        if rows.dtype != torch.int64 or rows.ndim != 1:
            raise InputError(f"labels must be int64 (B,), got {rows.dtype} {tuple(rows.shape)}")
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < self.rows):
            least, most = int(rows.min()), int(rows.max())
            raise InputError(f"label {least if least < 0 else most} is not one of 0 to {self.classes - 1}")

    def some(self, n: int) -> Tensor:
        """0, 1, ..., classes - 1, 0, ..., int64 (n,)."""
        return torch.arange(n) % self.classes

    def null(self) -> Tensor:
        """The label ``classes``, int64 (1,).

        Raises:
            InputError: training never dropped a label.
        """
        if not self.drop:
            raise InputError(
                f"{self!r} has no null label: a network trained with drop above 0 also models images of any label"
            )
        return torch.full((1,), self.classes)


def told(condition: Condition, rows: Tensor | None, x0: Tensor, rng: Rng) -> Tensor:
    """What training tells the network about the images (B, C, H, W): their rows, some of them replaced by the null.

    Args:
        condition: which kind.
        rows: what the data says, or None: it is made from the images.
        x0: the images in model space.
        rng: one stream for each; the stream "drop" decides.
    """
    rows = condition.of(x0) if rows is None else rows
    if not condition.drop:
        return rows
    dropped = rng.fold("drop").uniform((), torch.float64) < condition.drop
    return torch.where(per_sample(dropped, rows).bool(), condition.null().to(rows), rows)
