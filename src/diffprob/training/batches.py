"""Which images a step sees: a function of (seed, step), so that resuming needs no stored generator."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.options import option
from diffprob.base.rng import Rng, derive, permutation
from diffprob.conditions.condition import Condition, with_dropout
from diffprob.training.settings import Training

MEASURED = 1000  # training images by which the latents of an autoencoder are standardised


class ImageSet(Protocol):
    """Images that can be taken by index."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> np.ndarray:
        """uint8 levels (len(indices), C, H, W)."""
        ...


class ToModel(Protocol):
    """The map from levels to the model's space."""

    def to_model(self, levels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Integer levels -> model space."""
        ...


def order(seed: int, first: int, count: int, n: int) -> np.ndarray:
    """Items first .. first + count - 1 of the endless stream of shuffled epochs over n images, int64 (count,)."""
    positions = np.arange(first, first + count)
    return np.array([permutation(seed, int(p) // n, n)[int(p) % n] for p in positions])


def check_shares(settings: Training, processes: int) -> None:
    """Look whether so many processes can share the work; nothing needs to exist yet.

    Raises:
        InputError: a batch that cannot be cut evenly, or parts, which one process trains.
    """
    if settings.parts and processes > 1:
        raise InputError(f"training.parts are trained by one process; give no {option('processes')}, or no parts")
    pieces = settings.accumulate * processes
    if settings.batch % pieces:
        nearest = max(1, settings.batch // pieces) * pieces
        raise InputError(
            f"training.batch={settings.batch} cannot be cut evenly among accumulate x processes = "
            f"{settings.accumulate} x {processes}; {option('overrides', {'training.batch': nearest})} would be right"
        )


class MicroBatch(NamedTuple):
    """What one backward pass sees: x_0 in model space (B, C, H, W), its streams, what the network is told (or None)."""

    x0: Tensor
    rng: Rng
    rows: Tensor | None


class Batches:
    """The training batches of one process.

    A global batch has the slots 0..batch-1; they are cut into ``accumulate`` parts and each part among the processes.
    Slot j of step n sees the same image, augmentation, condition and noise, whatever the number of processes.

    Raises:
        InputError: the images lack what the condition needs, or `check_shares`.
    """

    def __init__(
        self,
        images: ImageSet,
        space: ToModel,
        settings: Training,
        rank: int = 0,
        world: int = 1,
        condition: Condition | None = None,
    ) -> None:
        check_shares(settings, world)
        self.images, self.space, self.settings = images, space, settings
        self.size = settings.batch // (settings.accumulate * world)
        self.offsets = [(part * world + rank) * self.size for part in range(settings.accumulate)]
        self.condition = condition
        self.rows = None if condition is None else condition.from_dataset(images)
        self.rng = Rng.of(derive(settings.seed, "train") >> 1, settings.batch)

    def __call__(self, step: int, device: torch.device, dtype: torch.dtype) -> list[MicroBatch]:
        """The parts of step ``step`` (counted from 0)."""
        rng = self.rng.at(step)
        parts = []
        for offset in self.offsets:
            local = rng.select(slice(offset, offset + self.size)).to(device)
            chosen = order(self.settings.seed, step * self.settings.batch + offset, self.size, len(self.images))
            x0 = self.space.to_model(torch.from_numpy(self.images.take(chosen)).to(device), dtype)
            for index, augment in enumerate(self.settings.augment):
                x0 = augment(x0, local.fold(f"augment-{index}"))
            parts.append(MicroBatch(x0, local, self._condition(chosen, x0, local)))
        return parts

    def examples(self, device: torch.device, dtype: torch.dtype) -> Iterator[Tensor]:
        """At most `MEASURED` images, evenly spaced, without augmentation: x_0 in model space, in parts (B, C, H, W)."""
        n = len(self.images)
        chosen = np.unique(np.linspace(0, n - 1, min(MEASURED, n)).astype(np.int64))
        for first in range(0, len(chosen), self.settings.batch):
            part = self.images.take(chosen[first : first + self.settings.batch])
            yield self.space.to_model(torch.from_numpy(part).to(device), dtype)

    def _condition(self, chosen: np.ndarray, x0: Tensor, rng: Rng) -> Tensor | None:
        if self.condition is None:
            return None
        rows = None if self.rows is None else torch.from_numpy(self.rows[chosen]).to(x0.device)
        return with_dropout(self.condition, rows, x0, rng)
