"""The log of a training for TensorBoard, beside log.jsonl."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.runs.writer import RunWriter
from diffprob.storage.files import PICTURE_LIMIT, is_file, read_bytes, saying, subfolder
from diffprob.tasks.options import option
from diffprob.training.store import Snapshot

FOLDER = "tensorboard"  # in the run's folder


class Board:
    """A store that keeps what the run keeps and writes its log, and the pictures, to TensorBoard as well.

    Args:
        store: the run.

    Raises:
        InputError: ``tensorboard`` is not installed.
    """

    def __init__(self, store: RunWriter) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            needs = "needs tensorboard: pip install 'diffprob[tensorboard]'"
            raise InputError(f"{option('tensorboard')} {needs}") from error
        subfolder(store.folder, FOLDER)  # a link to another folder is found before the training
        self.store, self._make, self._writer = store, SummaryWriter, None
        self._first = 0

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.store.folder

    def load(self) -> Snapshot | None:
        """The newest snapshot; what TensorBoard was told of later steps is taken back."""
        snapshot = self.store.load()
        self._first = 0 if snapshot is None else snapshot.step
        return snapshot

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, and show its picture if there is one."""
        self.store.save(snapshot)
        picture = self.store.sample_path(snapshot.step)
        if is_file(picture):
            from PIL import Image

            with Image.open(BytesIO(read_bytes(picture, PICTURE_LIMIT)), formats=("PNG",)) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._board().add_image("samples", pixels, snapshot.step, dataformats="HWC")
        self._board().flush()

    def append(self, record: dict[str, Any]) -> None:
        """Add one line to the log, and its numbers to the curves."""
        self.store.append(record)
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float):
                self._board().add_scalar(name if "/" in name else f"train/{name}", value, record["step"])

    def keep_best(self, step: int, ema: Mapping[str, Tensor], metric: str, value: float) -> None:
        """Keep the best weights."""
        self.store.keep_best(step, ema, metric, value)

    def sample_path(self, step: int) -> Path:
        """Where the picture of this step goes."""
        return self.store.sample_path(step)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()

    def _board(self) -> Any:
        if self._writer is None:
            # purge_step hides what an earlier, stopped training wrote after the checkpoint that this one goes on from.
            with saying(f"write to {self.folder / FOLDER}"):
                subfolder(self.folder, FOLDER, make=True)
            self._writer = self._make(str(self.folder / FOLDER), purge_step=self._first + 1)
        return self._writer
