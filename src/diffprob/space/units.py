"""In which unit a space tells -log p: one place, whatever prints or keeps it."""

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

Numbers = TypeVar("Numbers", Tensor, np.ndarray, float)


@dataclass(frozen=True)
class Unit:
    """Of -log p for each element of a datum.

    Args:
        name: as it is printed, "bits/dim".
        key: as JSON has it, "bits_per_dim".
        nats: in one of it.
    """

    name: str
    key: str
    nats: float

    def of(self, nats: Numbers, dimensions: int) -> Numbers:
        """-log p in nats, of data of d numbers, in this unit: nats/(d log 2) as bits/dim."""
        return nats / (dimensions * self.nats)


BITS = Unit("bits/dim", "bits_per_dim", math.log(2))
CHARACTERS = Unit("bits/character", "bits_per_dim", math.log(2))
NATS = Unit("nats/dim", "nats_per_dim", 1.0)  # of a density: it depends on the user's units, and is no code length


def unit_of(space: Any) -> Unit:
    """The unit of a space: a density of real numbers has nats, a law of levels bits, one of characters bits for each.

    Args:
        space: a `diffprob.space.space.Space`.
    """
    if space.levels is None:
        return NATS
    return CHARACTERS if getattr(space, "characters", "") else BITS
