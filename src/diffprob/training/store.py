"""What training hands out to be kept, and the interface of whatever keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

AVERAGES = "averages."  # how the names of kept averages begin among the optimiser's tensors


@dataclass
class Snapshot:
    """Everything that resuming needs, at the end of one step.

    Args:
        step: optimiser steps done.
        raw: the weights, named as in ``model.state_dict()`` of the `NetDenoiser`.
        ema: the averaged weights, under the same names.
        optimiser: the tensors of the optimiser and of an objective that remembers, by names of the trainer's choice.
        meta: JSON literals (precision, number of processes, ...).
    """

    step: int
    raw: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    meta: dict[str, Any] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors beside the optimiser's own whose names begin so, without the prefix."""
        names = [name for name in self.optimiser if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.optimiser[name] for name in names}


class Store(Protocol):
    """Where a training leaves its checkpoints, its log and its pictures."""

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot: whole or not at all, whatever happens meanwhile.

        Raises:
            InputError: it cannot be written (a full disk, say); what was kept before is intact.
        """
        ...

    def load(self) -> Snapshot | None:
        """The newest snapshot, or None at the start; also takes the log back to it.

        Raises:
            InputError: what is kept is damaged; the message names the file.
        """
        ...

    def append(self, record: dict[str, Any]) -> None:
        """Add one line to the log."""
        ...

    def keep_best(self, step: int, ema: Mapping[str, Tensor], metric: str, value: float) -> None:
        """Keep these averaged weights as the best so far, in place of earlier ones: whole or not at all."""
        ...

    def sample_path(self, step: int) -> Path:
        """Where the picture of this step goes; write it before the `save` of this step, which takes it in."""
        ...
