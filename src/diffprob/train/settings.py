"""The numbers of one training."""

import math
from dataclasses import dataclass
from typing import Any

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Monitor:
    """What to measure on the averaged weights while training goes on; the numbers go into ``log.jsonl``.

    Samples of the seeds 0, ..., n - 1 are compared with held-out images where the data has some, else with the training
    images. The numbers depend on (recipe, step) alone, so a resumed run has the same.

    Args:
        metrics: names of metrics (``diffprob show metrics``).
        epochs: passes over the data between two measurements.
        n: samples to draw, and real images to compare with.
        steps: network evaluations for each sample, by DDIM.
        features: as for ``diffprob evaluate --features``.
        best: the metric, one of ``metrics``, by which the best averaged weights are kept (``best.safetensors``); ""
            keeps none.

    Raises:
        ValueError: a field is out of its range; the message names the field and its value.
    """

    metrics: tuple[str, ...] = ("frechet",)
    epochs: float = 1.0
    n: int = 1000
    steps: int = 20
    features: str = "auto"
    best: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.metrics, tuple) or not self.metrics or not all(isinstance(m, str) for m in self.metrics):
            raise ValueError(f"metrics must be a tuple of names such as ('frechet',), got {self.metrics!r}")
        if not 0 < self.epochs < math.inf:
            raise ValueError(f"epochs must be above 0, got {self.epochs!r}")
        _integer("n", self.n, 2)
        _integer("steps", self.steps, 1)
        if not isinstance(self.features, str) or not self.features:
            raise ValueError(f"features must be a name such as 'auto', got {self.features!r}")
        if self.best and self.best not in self.metrics:
            raise ValueError(f"best must be one of the metrics {self.metrics}, got {self.best!r}")


@dataclass(frozen=True)
class Part:
    """Parameters that are trained later, or more slowly, than the others.

    Args:
        prefix: how their names begin, as in the state dict of the model (``net.`` and on).
        start: steps during which they stay as they were.
        rate: their learning rate in units of the common one.

    Raises:
        ValueError: a field is out of its range; the message names the field and its value.
    """

    prefix: str
    start: int = 0
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str):
            raise ValueError(f"prefix must be the beginning of a parameter's name, got {self.prefix!r}")
        _integer("start", self.start, 0)
        if not 0 < self.rate < math.inf:
            raise ValueError(f"rate must be above 0, got {self.rate!r}")


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
        betas: AdamW's decay of the first and second moments.
        weight_decay: decoupled decay per step, in units of the learning rate.
        ema: decay d of the averaged weights; after n steps it is min(d, (1 + n)/(10 + n)): short runs average too.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16`` for the network; the state is float32 in any case.
        accumulate: parts into which a batch is cut to save memory.
        seed: decides the weights at the start, the order of the images and all noise.
        augment: augmentations such as ``HorizontalFlip()``, applied in this order.
        sample_every: steps between two grids of samples; 0 draws none.
        checkpoint_every: steps between two checkpoints; the last step always has one.
        samples: images in a grid.
        monitor: what to measure meanwhile; None measures nothing.
        parts: parameters that begin later or learn more slowly; the first whose prefix fits counts.

    Raises:
        ValueError: a field is out of its range; the message names the field and its value.
    """

    steps: int
    batch: int = 128
    lr: float = 2e-4
    warmup: int = 500
    cooldown: int = 0
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    ema: float = 0.9999
    precision: str = "auto"
    accumulate: int = 1
    seed: int = 0
    augment: tuple[Any, ...] = ()
    sample_every: int = 1000
    checkpoint_every: int = 1000
    samples: int = 64
    monitor: Monitor | None = None
    parts: tuple[Part, ...] = ()

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
        if not isinstance(self.betas, tuple) or len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay!r}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), got {self.ema!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.monitor is not None and not isinstance(self.monitor, Monitor):
            raise ValueError(f"monitor must be a Monitor(...) or None, got {self.monitor!r}")
        if not isinstance(self.parts, tuple) or not all(isinstance(part, Part) for part in self.parts):
            raise ValueError(f"parts must be a tuple such as (Part('net.mid_block', start=1000),), got {self.parts!r}")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate must divide batch={self.batch}, got {self.accumulate}")
        if not isinstance(self.augment, tuple) or not all(callable(item) for item in self.augment):
            raise ValueError(
                f"augment must be a tuple of augmentations such as (HorizontalFlip(),), got {self.augment!r}"
            )


def _integer(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
