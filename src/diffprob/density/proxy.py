"""Density proxies: one number for each image, higher where the model's distribution is denser.

A proxy measures statistics of an image under a model; most have one, which is the answer. Others compare theirs with
those of images that belong, and are fitted to them first.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from diffprob.base.checks import shown
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.space.space import Space

LEAST = 50  # images that a fit, or a comparison, should rest on

Fitted = Mapping[str, Tensor]


class Proxy(ABC):
    """A density proxy: a frozen dataclass of literals, so that its repr is its configuration.

    Higher is denser, always; that direction is decided by what the proxy means, never by looking at outside data.
    """

    needs_fit: ClassVar[bool] = False
    of_levels: ClassVar[bool] = False  # whether it takes models of levels, which have no signal and no noise
    nats: ClassVar[bool] = False  # whether the only column is log p in nats, up to a constant of the space

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the statistics."""
        return ("value",)

    @property
    def measured(self) -> "Proxy":
        """The proxy whose statistics these are: what was measured for it serves all that say so."""
        return self

    def bind(self, space: Space) -> Self:
        """The proxy with what it has to know of the pixel space."""
        return self

    @abstractmethod
    def statistics(self, model: Any, x: Tensor, rng: Rng) -> Tensor:
        """What is measured of each image, float64 (B, len(columns)).

        Args:
            model: a `Denoiser`, unless the proxy says otherwise.
            x: images in model space, (B, *event).
            rng: one stream per image: its numbers depend on no other image.
        """

    def complete(self, measured: Tensor, x: Tensor) -> Tensor:
        """The statistics, from those of ``measured`` and the images themselves."""
        return measured

    def fit(self, statistics: Tensor) -> dict[str, Tensor]:
        """What `score` compares with, from the statistics (n, k) of images that belong.

        Raises:
            InputError: fewer than 50 images, or values that are not finite.
        """
        return {}

    def score(self, statistics: Tensor, fitted: Fitted | None = None) -> Tensor:
        """The answer, float64 (B,), from statistics (B, k); by default the only column.

        Raises:
            InputError: the proxy has to be fitted, and was not.
        """
        return statistics[:, 0]

    def __call__(self, model: Any, x: Tensor, rng: Rng, fitted: Fitted | None = None) -> Tensor:
        """The answer for images in model space, float64 (B,)."""
        return self.score(self.statistics(model, x, rng), fitted)


def enough(statistics: Tensor, proxy: Proxy, columns: int | None = None) -> Tensor:
    """The statistics (n, k), looked at before a fit; k is that of the proxy's columns, unless another is given.

    Raises:
        InputError: fewer than 50 images, or values that are not finite.
        ValueError: another shape.
    """
    _check_columns(statistics, proxy, len(proxy.columns) if columns is None else columns)
    if len(statistics) < LEAST:
        raise InputError(f"{proxy!r} is fitted to at least {LEAST} images that belong, got {len(statistics)}")
    if not bool(torch.isfinite(statistics).all()):
        raise InputError(f"{proxy!r}: statistics of the images that belong are not finite")
    return statistics.double()


def present(fitted: Fitted | None, proxy: Proxy, statistics: Tensor) -> Fitted:
    """What was fitted, to be compared with statistics (B, k).

    Raises:
        InputError: nothing was.
        ValueError: statistics of another shape than the proxy's columns.
    """
    _check_columns(statistics, proxy, len(proxy.columns))
    if not fitted:
        raise InputError(f"{proxy!r} has to be fitted to images that belong first")
    return fitted


def _check_columns(statistics: Tensor, proxy: Proxy, columns: int) -> None:
    if statistics.ndim != 2 or statistics.shape[1] != columns:
        raise ValueError(f"{shown(proxy)}: statistics must be (n, {columns}), got {tuple(statistics.shape)}")
