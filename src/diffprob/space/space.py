"""What everything above asks of a space: how data become points of a model, and back."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Space(Protocol):
    """The map between data and model space (frozen dataclass: its repr is its configuration).

    `Pixels` has grey levels on [-1, 1], `Latents` what an autoencoder makes of them, `Tokens` levels as they are.
    """

    @property
    def shape(self) -> Any:
        """Of one datum, (C, H, W) of images."""
        ...

    @property
    def levels(self) -> Any:
        """K values of an element, 0..K-1; None: the data are points, and no images."""
        ...

    @property
    def dimensions(self) -> int:
        """d, the number of elements of a datum."""
        ...

    @property
    def model_shape(self) -> Any:
        """Of a point of model space, whole numbers."""
        ...

    @property
    def bounded(self) -> bool:
        """Whether model space is [-1, 1], so that what a network predicts may be clamped."""
        ...

    @property
    def is_discrete(self) -> bool:
        """Whether the points are levels themselves, which cannot be added or multiplied."""
        ...

    @property
    def bins(self) -> int | None:
        """K bins that a density in model space is summed over; None: it has no bins, or its laws are of levels."""
        ...

    @property
    def bin_width(self) -> float:
        """Of a level in model space."""
        ...

    def log_det(self) -> float:
        """log |det| of the map from levels to model space, d log(bin width), nats.

        Raises:
            InputError: there is none.
        """
        ...

    def require_pixels(self, what: str) -> None:
        """Nothing where an element of model space is one of the data; otherwise refuse ``what``.

        Raises:
            InputError: it is none.
        """
        ...

    def require_images(self, what: str) -> None:
        """Nothing where the data are images or points; otherwise refuse ``what``.

        Raises:
            InputError: they are texts.
        """
        ...

    def to_model(self, levels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Data (B, *shape) -> points (B, *model_shape)."""
        ...

    def to_data(self, x: Tensor) -> Tensor:
        """Points of the data (B, *model_shape) -> data (B, *shape), levels as `Pixels.to_data` has them."""
        ...

    def of_pixels(self, x: Tensor) -> Tensor:
        """Points from images in [-1, 1], (B, *shape), of however many grey levels."""
        ...

    def pixels_of(self, x: Tensor) -> Tensor:
        """Images in [-1, 1], (B, *shape), from points of the data (B, *model_shape)."""
        ...

    def nearest(self, x: Tensor) -> Tensor:
        """The data that any points (B, *model_shape) are shown as, such as means of several: (B, *shape)."""
        ...
