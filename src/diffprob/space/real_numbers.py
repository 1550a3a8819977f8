"""Real numbers as points of a model: each channel, or column of a table, with mean 0 and standard deviation 1."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Never

import torch
from torch import Tensor

from diffprob.base.checks import MOST_CHANNELS, MOST_SIDE, MOST_VALUES, real, several, shown, whole
from diffprob.base.errors import FieldError, InputError, NumericalError
from diffprob.base.shapes import check_floats

_KINDS = ("vectors", "signals", "images", "volumes")  # by how many spatial dimensions there are


@dataclass(frozen=True)
class Reals:
    """Real numbers x, in the user's own units, as z = (x - mean)/scale, by channel.

    A density of z is one of x by the logarithm of the map's determinant, log p(x) = log p(z) - n sum_c log scale_c,
    with n places of a channel: data times 1000 has d log 1000 less. Nothing is rounded, and nothing clamped.

    Args:
        shape: (C,) of vectors, (C, L) of signals, (C, H, W) of images, (C, D, H, W) of volumes.
        mean: of each channel, (C,); (): all 0.
        scale: standard deviation of each channel, (C,); (): all 1.

    Exact when: always, in float64; float32 data of a mean far larger than the scale has lost digits before it came.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    levels = None  # the data are points
    bounded = False
    is_discrete = False
    bins = None
    bin_width = 1.0

    def __post_init__(self) -> None:
        several("shape", self.shape, lambda name, side: whole(name, side, 1, MOST_SIDE), 1, 4, "(2,) or (1, 16, 16)")
        whole("shape[0]", self.shape[0], 1, MOST_CHANNELS)
        if math.prod(self.shape) > MOST_VALUES:
            raise FieldError("shape", f"must have at most {MOST_VALUES} values in all, got {shown(self.shape)}")
        for name, interval in (("mean", "(-inf, inf)"), ("scale", "(0, inf)")):
            _check(name, getattr(self, name), self.shape[0], lambda field, x, within=interval: real(field, x, within))

    @property
    def dimensions(self) -> int:
        """d, how many numbers a datum has."""
        return math.prod(self.shape)

    @property
    def model_shape(self) -> tuple[int, ...]:
        """Of a point: that of the data."""
        return self.shape

    @property
    def kind(self) -> str:
        """What the data are called: vectors, signals, images or volumes."""
        return _KINDS[len(self.shape) - 1]

    @property
    def text(self) -> str:
        """In words: "16x16 real numbers in 2 channels", "3 real numbers"."""
        channels, *sides = self.shape
        if not sides:
            return f"{channels} real number{'s' if channels > 1 else ''}"
        within = "" if channels == 1 else f" in {channels} channels"
        return f"{'x'.join(map(str, sides))} real numbers{within}"

    def log_det(self) -> float:
        """log |det| of the map from the data to model space, -(d/C) sum_c log scale_c, nats."""
        return -(self.dimensions // self.shape[0]) * math.fsum(map(math.log, self.scale))

    def require_pixels(self, what: str) -> Never:
        """Refuse what works on grey levels.

        Raises:
            InputError: always.
        """
        raise InputError(f"{what} works on grey levels, and this model on real numbers; a run of Pixels(...) has them")

    def require_images(self, what: str) -> Never:
        """Refuse what looks at pictures, as `require_pixels`."""
        return self.require_pixels(what)

    def to_model(self, levels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Numbers (B, *shape) -> standardised ones; the differences are taken in float64.

        Raises:
            ValueError: another shape, complex numbers or bool.
            NumericalError: a value that is not finite (looked at on the CPU only).
        """
        x = levels
        if x.dtype == torch.bool or x.is_complex() or not dtype.is_floating_point:
            raise ValueError(f"numbers must be real, got {x.dtype} as {dtype}")
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"expected numbers of shape (B, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        if x.is_cpu and x.is_floating_point() and not bool(torch.isfinite(x).all()):
            raise NumericalError("a datum has values that are not finite")
        mean, scale = self._of(x)
        return ((x.double() - mean) / scale).to(dtype)

    def to_data(self, x: Tensor) -> Tensor:
        """Points (B, *shape) -> numbers in the user's units, float32, or float64 of float64.

        Raises:
            ValueError: another type than a floating one.
            NumericalError: a value that is not a number.
        """
        check_floats(x)
        if bool(torch.isnan(x).any()):
            raise NumericalError("a point has values that are not numbers (NaN)")
        mean, scale = self._of(x)
        return (x.double() * scale + mean).to(torch.float64 if x.dtype == torch.float64 else torch.float32)

    def nearest(self, x: Tensor) -> Tensor:
        """As `to_data`, which takes any points."""
        return self.to_data(x)

    def of_pixels(self, x: Tensor) -> Tensor:
        """The points themselves."""
        return x

    def pixels_of(self, x: Tensor) -> Tensor:
        """The points themselves."""
        return x

    def _of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale, float64 (C, 1, ...)."""
        ones, channels = (1,) * (len(self.shape) - 1), self.shape[0]
        values: list[Any] = [self.mean or (0.0,) * channels, self.scale or (1.0,) * channels]
        mean, scale = (torch.tensor(part, dtype=torch.float64, device=x.device).reshape(-1, *ones) for part in values)
        return mean, scale


def _check(name: str, values: object, channels: int, check: Callable[[str, Any], object]) -> None:
    """Refuse what is no number for each channel.

    Raises:
        FieldError: the field and the value.
    """
    several(name, values, check, 0, MOST_CHANNELS, "(0.0, 1.5)")
    assert isinstance(values, tuple)
    if len(values) not in (0, channels):
        raise FieldError(name, f"must have {channels} numbers, one for each channel, or none, got {len(values)}")
