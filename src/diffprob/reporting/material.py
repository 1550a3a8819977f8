"""What a page is made of: a run as it was read, samples as they were drawn, data as far as it is here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffprob.data.images import Images
from diffprob.runs.folder import Run

Log = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples with everything that decided them.

    Args:
        levels: (N, C, H, W); image i has the seed ``seed`` + i.
        step, model_sha256: of the weights.
        sampler, grid, variance: as text.
        steps: network evaluations for each image, None where a tolerance decides.
        clip: True, False, or the quantile of each image that it was clipped at.
        chunk, precision, device: how they were evaluated.
        seconds: how long drawing took.
        evaluations: of the network for each image, on average.
        condition, guidance: of the network, as text; None where there was none.
        best: whether the weights are the best ones by the metric that the training watched.
        options: those of `sample` that ask for that.
        classes: the name of the class that each was drawn for; empty where there are none.
        frames: predicted x_0 of the first images along the chain, each (rows, C, H, W).
        times: t of each frame.
    """

    levels: np.ndarray
    seed: int
    step: int
    model_sha256: str
    sampler: str
    steps: int | None
    grid: str
    variance: str
    clip: bool | float
    chunk: int | None
    precision: str
    device: str
    seconds: float
    evaluations: float
    condition: str | None = None
    guidance: str | None = None
    best: bool = False
    options: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    frames: list[np.ndarray] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def seeds(self) -> str:
        """ "0 to 63"."""
        return f"{self.seed} to {self.seed + len(self) - 1}" if len(self) > 1 else str(self.seed)

    @property
    def captions(self) -> list[str]:
        """Under each image: its class, or else its seed."""
        return list(self.classes) or [str(self.seed + k) for k in range(len(self))]

    def called(self, k: int) -> str:
        """Image k in words: its seed, and its class if it has one."""
        return f"seed {self.seed + k}" + (f", class {self.classes[k]}" if self.classes else "")

    @property
    def how(self) -> str:
        """How they were drawn: the sampler, its steps and grid, the condition and the guidance."""
        steps = "to a tolerance" if self.steps is None else f"{self.steps} steps"
        parts = [self.sampler, f"{steps} on {self.grid}"]
        parts += [] if self.condition is None else [f"told {self.condition}"]
        parts += [] if self.guidance is None else [f"guidance {self.guidance}"]
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class CodedImages:
    """Images as bytes.

    Args:
        frames: the images after `shares` of their bytes, each (n, C, H, W).
        shares: of the bytes, the last one 1.
        bytes: of an image, at each of them.
        size: of the file, bytes.
        n: images.
        dimensions: of an image.
        bits: of all images, by what they are spent on: "steps", "levels", "rest".
        coder: of the steps, as text.
        steps: times of the chain.
        seconds: of encoding and decoding, by "encode" and "decode".
    """

    frames: Sequence[np.ndarray]
    shares: Sequence[float]
    bytes: Sequence[float]
    size: int
    n: int
    dimensions: int
    bits: Mapping[str, float]
    coder: str
    steps: int
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that the sections of a report are made from.

    Args:
        run: the run.
        command_name: what stands for the run in commands: the name of a packaged run, or a path without folders that
            mean nothing elsewhere.
        log: the records of its training.
        samples: drawn for this page.
        images: the data, or None where it is not here.
        data_note: why it is not here, or what was said on loading it.
        verbs: of the command line: only these are proposed.
        coded: images as bytes, or why there are none, in a line; None: nothing is said of them.
    """

    run: Run
    command_name: str
    log: Log
    samples: Samples
    images: Images | None = None
    data_note: str = ""
    verbs: tuple[str, ...] = ()
    coded: CodedImages | str | None = None
