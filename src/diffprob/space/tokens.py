"""The space of discrete data: levels as they are, held in a floating type, as absorbing processes take them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import MOST, MOST_TEXT, several, text, whole
from diffprob.base.errors import FieldError, InputError, NumericalError
from diffprob.base.shapes import check_floats
from diffprob.space.pixels import bits_per_dim


@dataclass(frozen=True)
class Tokens:
    """Levels 0..K-1 as x = k: of images (C, H, W), or of sequences (L,).

    Args:
        shape: of an event.
        levels: K, 2 to 256.
        characters: K different ones that the levels stand for, where the data are texts; "": the levels are numbers.

    Exact when: always; a law of tokens is one of the levels, without bins.
    """

    shape: tuple[int, ...]
    levels: int = 256
    characters: str = ""

    def __post_init__(self) -> None:
        several("shape", self.shape, lambda name, side: whole(name, side, 1), 1, 3, "(1, 28, 28) or (64,)")
        whole("levels", self.levels, 2, 256)
        whole("the number of tokens of an event", self.dimensions, 1, MOST)
        text("characters", self.characters, 0, MOST_TEXT)
        if self.characters and len(set(self.characters)) != self.levels:
            raise FieldError("characters", f"must be {self.levels} different ones, got {len(set(self.characters))}")

    @property
    def dimensions(self) -> int:
        """d, the number of tokens of an event."""
        return math.prod(self.shape)

    is_discrete = True
    bounded = False  # a level is no number that could be clamped
    bin_width = 1.0  # from level to level
    bins = None  # a law of tokens is one of the levels

    @property
    def model_shape(self) -> tuple[int, ...]:
        """Of a state: that of the data."""
        return self.shape

    def log_det(self) -> float:
        """0: a level is its own state."""
        return 0.0

    def require_pixels(self, what: str) -> None:
        """Nothing: an element of a state is one of the data."""

    def require_images(self, what: str) -> None:
        """Nothing, unless the data are texts.

        Raises:
            InputError: they are.
        """
        if self.characters:
            raise InputError(f"{what} looks at images, and this model writes text")

    def text(self, levels: Tensor | np.ndarray) -> list[str]:
        """The texts that levels (B, *shape) stand for.

        Raises:
            InputError: the levels are numbers, and stand for no characters.
        """
        if not self.characters:
            raise InputError("these levels stand for no characters: a space Tokens(shape, levels, characters) has text")
        rows = levels.reshape(len(levels), -1).tolist()
        return ["".join(self.characters[int(level)] for level in row) for row in rows]

    def to_model(self, levels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Whole numbers (B, ...) of d for each event -> the same numbers in ``dtype``, (B, *shape).

        Raises:
            ValueError: another type than that of whole numbers or for states, outside 0..K-1, or another number of
                tokens.
        """
        if not dtype.is_floating_point:
            raise ValueError(f"states are held in a floating type, got {dtype}")
        if levels.is_floating_point() or levels.dtype == torch.bool:
            raise ValueError(f"levels must be whole numbers 0..{self.levels - 1} such as uint8, got {levels.dtype}")
        if not levels.ndim or levels.numel() != len(levels) * self.dimensions:
            raise ValueError(f"expected {self.dimensions} tokens for each event, got {tuple(levels.shape)}")
        if levels.numel() and not (int(levels.min()) >= 0 and int(levels.max()) < self.levels):
            low, high = int(levels.min()), int(levels.max())
            raise ValueError(f"levels must lie in 0..{self.levels - 1}, got {low if low < 0 else high}")
        return levels.to(dtype).reshape(len(levels), *self.shape)

    def to_data(self, x: Tensor) -> Tensor:
        """States (B, *shape) -> levels, uint8; nothing is rounded.

        Raises:
            ValueError: another type than a floating one, a value that is no level, or one that is still masked.
            NumericalError: a value that is not a number.
        """
        check_floats(x)
        if bool(torch.isnan(x).any()):
            raise NumericalError("a state has values that are not numbers (NaN), which are no levels")
        off = (x != x.floor()) | (x < 0) | (x >= self.levels)
        if bool(off.any()):
            wrong = float(x[off][0])
            what = "a token that is still masked" if wrong == self.levels else f"the value {wrong:g}"
            raise ValueError(f"a state has {what}: levels 0..{self.levels - 1} would be right")
        return x.to(torch.uint8)

    def of_pixels(self, x: Tensor) -> Tensor:
        """The levels nearest to (x + 1)(K - 1)/2, in the dtype of x (B, *shape)."""
        return ((x.double() + 1) * (self.levels - 1) / 2).round().clamp(0, self.levels - 1).to(x.dtype)

    def pixels_of(self, x: Tensor) -> Tensor:
        """2k/(K - 1) - 1 for the level k, (B, *shape)."""
        return x * (2 / (self.levels - 1)) - 1

    def nearest(self, x: Tensor) -> Tensor:
        """The levels nearest to any numbers (B, *shape), such as means of a law, uint8.

        Raises:
            ValueError, NumericalError: as `to_data`.
        """
        return self.to_data(x.round().clamp(0, self.levels - 1))

    def bits_per_dim(self, nats: Tensor) -> Tensor:
        """-log P in nats as bits for each token: nats/(d ln 2); the uniform law has log2 K."""
        return bits_per_dim(nats, self.dimensions)
