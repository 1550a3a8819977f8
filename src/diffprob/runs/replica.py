"""The run as the other processes of one training hold it: a `Store` that reads states and writes nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diffprob.runs import states
from diffprob.runs.files import SAMPLES
from diffprob.runs.states import STATE
from diffprob.training.store import Snapshot


class Replica:
    """What the other processes of one training hold: it reads the states of a run and writes nothing."""

    def __init__(self, path: str | Path) -> None:
        self.folder = Path(path)

    def save(self, snapshot: Snapshot) -> None:
        """Nothing: the main process saves."""

    def load(self) -> Snapshot | None:
        """The newest intact snapshot."""
        found = states.newest(self.folder / STATE)
        return found[0] if found else None

    def append(self, record: dict[str, Any]) -> None:
        """Nothing: the main process logs."""

    def keep_best(self, step: int, ema: Mapping[str, Tensor], metric: str, value: float) -> None:
        """Nothing: the main process measures."""

    def sample_path(self, step: int) -> Path:
        """Where the main process puts the picture."""
        return self.folder / SAMPLES / f"step-{step:08d}.png"
