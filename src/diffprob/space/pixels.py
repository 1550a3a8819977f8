"""Pixel space: K grey levels on [-1, 1]."""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import image_shape
from diffprob.base.distributions import bin_width
from diffprob.base.errors import NumericalError
from diffprob.base.levels import BYTE_LEVELS, check_levels
from diffprob.base.shapes import check_floats

ON_LEVEL = 1e-3  # by so much of a level an image may miss it, for rounding in its dtype

Numbers = TypeVar("Numbers", Tensor, np.ndarray)


@dataclass(frozen=True)
class Pixels:
    """Levels 0..K-1 as x = 2k/(K-1) - 1, bins of width 2/(K-1) centred on them.

    Args:
        shape: (C, H, W).
        levels: K, 2 to 65,536.
    """

    shape: tuple[int, int, int]
    levels: int = 256

    def __post_init__(self) -> None:
        image_shape("shape", self.shape)
        check_levels(self.levels)

    @property
    def dimensions(self) -> int:
        """d = C H W."""
        return math.prod(self.shape)

    is_discrete = False
    bounded = True  # what lies outside the interval of the levels is no image

    @property
    def model_shape(self) -> tuple[int, int, int]:
        """Of a point of model space: that of the images."""
        return self.shape

    @property
    def bins(self) -> int:
        """K: those that a density is summed over."""
        return self.levels

    def log_det(self) -> float:
        """log |det| of the map from levels to model space, nats: d log(2/(K-1))."""
        return self.dimensions * math.log(bin_width(self.levels))

    def require_pixels(self, what: str) -> None:
        """Nothing, for model space has them; a space without pixels refuses ``what``."""

    def require_images(self, what: str) -> None:
        """Nothing: these are."""

    @property
    def bin_width(self) -> float:
        """Width of a grey level's bin in model space, 2/(K-1)."""
        return bin_width(self.levels)

    def to_model(self, levels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Integer levels (B, C, H, W) -> [-1, 1].

        Raises:
            ValueError: not whole numbers in an integer dtype, or (looked at on the CPU only) outside 0..K-1; or a
                ``dtype`` that is not a floating one.
        """
        if not dtype.is_floating_point:
            raise ValueError(f"points are of a floating type, got {dtype}")
        if levels.is_floating_point() or levels.dtype == torch.bool:
            most = self.levels - 1
            raise ValueError(
                f"levels must be whole numbers 0..{most} such as uint8, got {levels.dtype}: those of values in [0, 1] "
                f"are (x * {most}).round().to({level_type(self.levels)}); values in [-1, 1] are in model space already"
            )
        if levels.is_cpu and levels.numel() and (self.levels < 256 or levels.dtype != torch.uint8):
            # torch compares no uint16
            low, high = (int(end) for end in torch.aminmax(levels.int() if levels.dtype == torch.uint16 else levels))
            if low < 0 or high >= self.levels:
                wrong = low if low < 0 else high
                raise ValueError(f"levels must lie in 0..{self.levels - 1}, got {wrong}")
        return levels.to(dtype) * bin_width(self.levels) - 1

    def to_data(self, x: Tensor) -> Tensor:
        """[-1, 1] -> the nearest level (B, C, H, W), uint8 or of K > 256 uint16; values outside are clamped.

        Raises:
            ValueError: another type than a floating one: levels already, say.
            NumericalError: a value is not a number; it would be drawn as black.
        """
        check_floats(x)
        if bool(torch.isnan(x).any()):
            raise NumericalError("an image has values that are not numbers (NaN), which are no grey levels")
        return ((x.double() + 1) / bin_width(self.levels)).round().clamp(0, self.levels - 1).to(level_type(self.levels))

    def of_pixels(self, x: Tensor) -> Tensor:
        """They are its points."""
        return x

    def pixels_of(self, x: Tensor) -> Tensor:
        """They are its points."""
        return x

    def nearest(self, x: Tensor) -> Tensor:
        """As `to_data`, which takes any points."""
        return self.to_data(x)

    def exact(self, x: Tensor) -> Tensor:
        """The levels that images are made of, as `to_data` has them, for what is measured of the levels.

        Raises:
            ValueError: whole numbers, or a value between two levels or outside of them.
            NumericalError: a value that is not a number.
        """
        levels = self.to_data(x)
        if (wrong := off_levels(x, self.levels)) is not None:
            raise ValueError(f"an image has the value {wrong:g}, none of {self.levels} levels on [-1, 1]")
        return levels

    def bits_per_dim(self, nats: Tensor) -> Tensor:
        """-log p of a density in model space, in nats, as bits/dim: nats/(d ln 2) - log2(bin width).

        A uniform density on the K bins gives log2 K.
        """
        return bits_per_dim(nats, self.dimensions) - math.log2(self.bin_width)


def bits_per_dim(nats: Numbers, dimensions: int) -> Numbers:
    """-log P of a discrete law over images of d numbers, in nats, as bits/dim: nats/(d ln 2)."""
    return nats / (dimensions * math.log(2))


def level_type(levels: int) -> torch.dtype:
    """The type of a tensor of K levels: uint8 of at most 256, uint16 of more."""
    return torch.uint8 if levels <= BYTE_LEVELS else torch.uint16


def off_levels(x: Tensor, levels: int) -> float | None:
    """The first value that is none of K levels on [-1, 1], by more than `ON_LEVEL` of one; None: there is none.

    Of more than 256 levels rounding in the dtype of x is let pass, 2 eps (K - 1)/2 of a level, but no quarter of one.
    """
    k = (x.double() + 1) * (levels - 1) / 2
    rounding = min(torch.finfo(x.dtype).eps * (levels - 1), 0.25) if levels > BYTE_LEVELS else 0.0
    allowed = max(ON_LEVEL, rounding)
    off = ~((k - k.round().clamp(0, levels - 1)).abs() <= allowed)
    return float(x[off][0]) if bool(off.any()) else None
