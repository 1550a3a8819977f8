"""The numbers of one training."""

import math
from dataclasses import dataclass
from typing import Any

from diffprob.base.checks import MOST_STEPS, able, instance, one_of, real, several, shown, text, whole
from diffprob.base.errors import FieldError
from diffprob.training.averages import check_width

SNAPSHOTS = 16  # of the averages that a training keeps, evenly spaced
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
        steps: network evaluations for each sample, by DDIM; at most as many as the schedule has times.
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
        several("metrics", self.metrics, text, 1, 100, "('frechet',)")
        real("epochs", self.epochs, "(0, inf)")
        whole("n", self.n, 2, 10**6)
        whole("steps", self.steps, 1, MOST_STEPS)
        text("features", self.features)
        text("best", self.best, 0)
        if self.best and self.best not in self.metrics:
            raise FieldError("best", f"must be one of the metrics {shown(self.metrics)}, got {shown(self.best)}")


@dataclass(frozen=True)
class ParameterGroup:
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
        text("prefix", self.prefix, 0)
        whole("start", self.start)
        real("rate", self.rate, "(0, inf)")


@dataclass(frozen=True)
class Training:
    """How long, how fast and how carefully to train; the defaults are those of Ho et al. 2020, appendix B.

    Args:
        steps: optimiser steps in all.
        batch: images per optimiser step, over all processes and accumulated parts together.
        lr: learning rate of AdamW after ``warmup`` steps of linear rise.
        cooldown: steps at the end over which the learning rate falls linearly towards 0; it may change when a run is
            gone on with, as ``steps`` may.
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
        averages: relative widths of averages that are kept besides, such as ``(0.05, 0.1)``, of which one of any width
            can be put together after the training (`diffprob.training.averages`); each is as large as the weights, in
            memory and in about 16 files of the run.

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
    parts: tuple[ParameterGroup, ...] = ()
    averages: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every"):
            whole(name, getattr(self, name), 1)
        for name in ("batch", "accumulate", "samples"):
            whole(name, getattr(self, name), 1, 10**6)
        for name in ("warmup", "cooldown", "sample_every"):
            whole(name, getattr(self, name))
        whole("seed", self.seed, 0, 2**62)
        real("lr", self.lr, "(0, inf)")
        real("clip", self.clip, "(0, inf]")
        several("betas", self.betas, lambda name, b: real(name, b, "[0, 1)"), 2, 2, "(0.9, 0.999)")
        real("weight_decay", self.weight_decay, "[0, inf)")
        real("ema", self.ema, "[0, 1)")
        one_of("precision", self.precision, PRECISIONS)
        instance("monitor", self.monitor, Monitor, none=True)
        several(
            "parts",
            self.parts,
            lambda name, part: instance(name, part, ParameterGroup),
            0,
            1000,
            "(ParameterGroup('net.mid_block', start=1000),)",
        )
        several("averages", self.averages, check_width, 0, 10, "(0.05, 0.1)")
        if len(set(self.averages)) < len(self.averages):
            raise FieldError("averages", f"must be different widths, got {shown(self.averages)}")
        several("augment", self.augment, lambda name, item: able(name, item, "__call__"), 0, 100, "(HorizontalFlip(),)")
        if self.batch % self.accumulate:
            raise FieldError("accumulate", f"must divide batch={self.batch}, got {self.accumulate}")

    def keeps_averages(self, step: int) -> bool:
        """Whether a checkpoint at ``step`` leaves a snapshot of the averages: about `SNAPSHOTS` do, and the last."""
        every = self.checkpoint_every * math.ceil(self.steps / (SNAPSHOTS * self.checkpoint_every))
        return bool(self.averages) and (step % every == 0 or step >= self.steps)


def _integer(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise FieldError(name, f"must be a whole number of at least {least}, got {value!r}")
