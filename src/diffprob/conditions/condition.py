"""The condition of a network, beside x_t and t: which rows the data gives, and which value stands for none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import real, several, text, whole
from diffprob.base.errors import FieldError, InputError, did_you_mean
from diffprob.base.limits import MOST_CLASSES
from diffprob.base.rng import Rng
from diffprob.base.text import all_composed, composed, one_line


class Condition(Protocol):
    """A kind of condition (frozen dataclass: its repr is its configuration); one row of a tensor for each sample."""

    @property
    def drop(self) -> float:
        """Probability that training replaces the condition by the null one, in [0, 1); 0: it has none."""
        ...

    def from_dataset(self, images: Any) -> np.ndarray | None:
        """A row for each image of a data set; None where `from_images` makes them from the images themselves.

        Raises:
            InputError: the data has none, or others than these.
        """
        ...

    def from_images(self, x0: Tensor) -> Tensor:
        """The conditions of images in model space (B, C, H, W); only where `from_dataset` gives none."""
        ...

    def check(self, rows: Tensor) -> None:
        """Refuse rows that are none of this kind.

        Raises:
            InputError: what is wrong with them.
        """
        ...

    def example_rows(self, n: int) -> Tensor:
        """Rows (n, ...) of different conditions in turn, for pictures; where there is no such choice, the null."""
        ...

    def null(self) -> Tensor:
        """The row (1, ...) that stands for no condition; the network then models all data.

        Raises:
            InputError: the network was never trained with it.
        """
        ...


@dataclass(frozen=True)
class Labels:
    """A class 0..classes - 1, int64 (B,); the label ``classes`` stands for none of them.

    Args:
        classes: how many there are.
        drop: probability that training replaces the label by the null one, so that one network models p(x|c) and p(x);
            0: there is no null label.
        names: name of class k at position k, by which the classes of images are found; "" where training had none.
            Without names class k is what files call k, or the k-th folder by the order of the text.

    Exact when: always.

    Reference: Ho & Salimans, "Classifier-free diffusion guidance" (2022), algorithm 1.
    """

    classes: int = 10
    drop: float = 0.1
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole("classes", self.classes, 1, MOST_CLASSES)
        real("drop", self.drop, "[0, 1)")
        several("names", self.names, lambda name, value: text(name, value, 0), 0, MOST_CLASSES, "('cat', 'dog')")
        object.__setattr__(self, "names", all_composed(self.names))  # so that equal names are equal recipes
        named = [name for name in self.names if name]
        if self.names and (len(self.names) != self.classes or len(set(named)) < len(named) or not named):
            raise FieldError(
                "names",
                f"must be {self.classes} different ones, one for each class, got {len(set(named))} in "
                f"{len(self.names)}",
            )

    def __repr__(self) -> str:
        """Without names as it was before there were any."""
        names = f", names={self.names!r}" if self.names else ""
        return f"Labels(classes={self.classes!r}, drop={self.drop!r}{names})"

    def name(self, label: int) -> str:
        """What class ``label`` is called: its name, or its number where classes have no names."""
        return self.names[label] if self.names else str(label)

    def number(self, text: str) -> int:
        """The class that is called so; its number only where classes have no names.

        Raises:
            InputError: there is no such class, with those that there are.
        """
        if text and (name := composed(text)) in self.names:
            return self.names.index(name)
        if self.names:
            known = [name for name in self.names if name]
            near = "" if text.isdecimal() else did_you_mean(text, known)
            raise InputError(f"no class {text!r} among {', '.join(known)}{near}")
        if not (text.isascii() and text.isdecimal() and int(text[:9]) < self.classes and len(text) <= 9):
            raise InputError(f"no class {text!r}: the classes have no names, only the numbers 0 to {self.classes - 1}")
        return int(text)

    @property
    def rows(self) -> int:
        """Values that the network must know: the classes, and the null label where there is one."""
        return self.classes + (self.drop > 0)

    def from_dataset(self, images: Any) -> np.ndarray:
        """The labels of the images, int64 (N,): those of their classes' names, where this has names.

        Raises:
            InputError: the data has none, or one that is none of these classes.
        """
        labels = getattr(images, "labels", None)
        name = getattr(images, "name", "the data")
        if labels is None:
            raise InputError(f"{name} has no labels, and {self!r} needs one for every image")
        if self.names:
            return images.aligned(self.names).labels
        labels = getattr(images, "former_labels", labels)
        if len(labels) and not (labels.min() >= 0 and labels.max() < self.classes):
            raise InputError(
                f"{name}: labels run from {labels.min()} to {labels.max()}, {self!r} takes 0 to {self.classes - 1}"
            )
        return labels

    def from_images(self, x0: Tensor) -> Tensor:
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

    def example_rows(self, n: int) -> Tensor:
        """All classes in turn, int64 (n,): 0, 1, ..., classes - 1, 0, ..., without those that training had none of."""
        whole("n", n)
        present = [k for k in range(self.classes) if not self.names or self.names[k]]
        return torch.tensor(present)[torch.arange(n) % len(present)]

    def in_shares(self, counts: Sequence[int], n: int) -> Tensor:
        """Classes in the shares of ``counts``, one for each class, int64 (n,); see `in_shares`.

        Raises:
            ValueError: as many counts as there are no classes, or none above 0.
        """
        if len(counts) != self.classes:
            raise ValueError(f"counts must be {self.classes}, one for each class, got {len(counts)}")
        return in_shares(counts, n)

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


def in_shares(counts: Sequence[int], n: int) -> Tensor:
    """Numbers of classes, int64 (n,), so that of any first i of them class k has c_k i / (c_1 + ... + c_K), within 1.

    Nothing is random: item i depends on the counts alone. With equal counts it is 0, 1, ..., K - 1, 0, ... .

    Args:
        counts: whole numbers c_k of at least 0, not all 0.
        n: how many.

    Raises:
        ValueError: a negative count, or nothing above 0.

    Exact when: always within 1 - 1/(2K - 2) for K classes with shares.

    Reference: Tijdeman, "The chairman assignment problem" (1980), the algorithm of section 2.
    """
    whole("n", n)
    shares = np.asarray(counts)
    if shares.size and shares.dtype.kind not in "iu":
        raise ValueError(f"counts must be whole numbers, got {one_line(shares.tolist(), 100)}")
    shares = shares.astype(np.int64)
    if shares.ndim != 1 or not len(shares) or shares.min() < 0 or not shares.max():
        raise ValueError(f"counts must be at least 0 and not all 0, got {one_line(shares.tolist(), 100)}")
    classes = np.flatnonzero(shares)
    if len(classes) == 1:
        return torch.full((n,), int(classes[0]))
    shares = shares[classes]
    total, room = int(shares.sum()), 2 * len(shares) - 2
    owed = np.zeros(len(shares), dtype=np.int64)  # total times what a class has too few
    chosen = np.empty(n, dtype=np.int64)
    for i in range(n):
        owed += shares
        # Of the classes that may be taken now, the one that must be taken soonest.
        slack = np.where(room * owed >= total, (total * (room - 1) - room * owed) / shares, np.inf)
        chosen[i] = taken = int(np.argmin(slack))
        owed[taken] -= total
    return torch.from_numpy(classes[chosen])


def with_dropout(condition: Condition, rows: Tensor | None, x0: Tensor, rng: Rng) -> Tensor:
    """The conditions that training gives the network with images (B, C, H, W), some of them replaced by the null.

    Args:
        condition: which kind.
        rows: what the data says, or None: it is made from the images.
        x0: the images in model space.
        rng: one stream for each; the stream "drop" decides.
    """
    rows = condition.from_images(x0) if rows is None else rows
    if not condition.drop:
        return rows
    dropped = rng.fold("drop").uniform((), torch.float64) < condition.drop
    mask = dropped.to(rows.device).reshape(len(dropped), *(1,) * (rows.ndim - 1))  # rows are whole numbers or images
    return torch.where(mask, condition.null().to(rows), rows)
