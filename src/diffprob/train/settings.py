"""The numbers of one training."""

import math
from dataclasses import dataclass
from typing import Any

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Training:
    """How long, how fast and how carefully to train; the defaults are those of Ho et al. 2020, appendix B.

    Args:
        steps: optimiser steps in all.
        batch: images per optimiser step, over all processes and accumulated parts together.
        lr: learning rate of AdamW after ``warmup`` steps of linear rise.
        cooldown: steps at the end over which the learning rate falls linearly towards 0; resuming with more ``steps``
            moves the fall, it does not repeat it.
        clip: largest gradient norm; ``inf`` never clips.
        weight_decay: decoupled decay per step, in units of the learning rate.
        ema: decay d of the averaged weights; after n steps it is min(d, (1 + n)/(10 + n)): short runs average too.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16`` for the network; the state is float32 in any case.
        accumulate: parts into which a batch is cut to save memory.
        seed: decides the weights at the start, the order of the images and all noise.
        augment: augmentations such as ``HorizontalFlip()``, applied in this order.
        sample_every: steps between two grids of samples; 0 draws none.
        checkpoint_every: steps between two checkpoints; the last step always has one.
        samples: images in a grid.

    Raises:
        ValueError: a field is out of its range; the message names the field and its value.
    """

    steps: int
    batch: int = 128
    lr: float = 2e-4
    warmup: int = 500
    cooldown: int = 0
    clip: float = 1.0
    weight_decay: float = 0.0
    ema: float = 0.9999
    precision: str = "auto"
    accumulate: int = 1
    seed: int = 0
    augment: tuple[Any, ...] = ()
    sample_every: int = 1000
    checkpoint_every: int = 1000
    samples: int = 64

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "checkpoint_every", "samples"):
            _integer(name, getattr(self, name), 1)
        for name in ("warmup", "cooldown", "seed", "sample_every"):
            _integer(name, getattr(self, name), 0)
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")
        if not math.isfinite(self.lr):
            raise ValueError(f"lr must be finite, got {self.lr!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay!r}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), got {self.ema!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate must divide batch={self.batch}, got {self.accumulate}")
        if not isinstance(self.augment, tuple) or not all(callable(item) for item in self.augment):
            raise ValueError(
                f"augment must be a tuple of augmentations such as (HorizontalFlip(),), got {self.augment!r}"
            )


def _integer(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
