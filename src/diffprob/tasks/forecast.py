"""How long something will take on this machine, said before it begins: network calls, times what a first one takes."""

import time
from collections.abc import Sequence

import torch

from diffprob.denoise.denoiser import NetworkModel, first_weight
from diffprob.tasks.progress import duration
from diffprob.tasks.reporter import Reporter

NOTABLE = 10.0  # seconds from which on a line is worth reading
FEW = 20  # network calls up to which measuring two would be a part of it
PROBES = 2  # calls that are measured, after one that warms up
SECONDS = 1.0  # and so long at least where calls are short, for a shared machine gives its time in slices


def call_seconds(model: NetworkModel, shape: Sequence[int], size: int) -> float:
    """Seconds of a network call of ``size`` images of a shape (C, H, W), on average over a few."""
    rows, x = model.condition_rows, torch.zeros((size, *shape), device=next(model.parameters()).device)
    if rows is not None and len(rows) > 1:
        model = model.condition_on(rows[:1].expand(size, *rows.shape[1:]))
    t, count = torch.tensor(0.5, dtype=torch.float64), 0

    def call() -> None:
        with torch.no_grad():
            float(model.raw(x, t).main.flatten()[0])  # waits for the device

    call()
    began = time.monotonic()
    while count < PROBES or (time.monotonic() - began < SECONDS and count < FEW):
        call()
        count += 1
    return (time.monotonic() - began) / count


def forecast(
    reporter: Reporter, what: str, model: NetworkModel, shape: Sequence[int], calls: int | None, size: int | None = None
) -> float | None:
    """Say in a line how long so many network calls will take; what is done beside them is not counted.

    Args:
        reporter: who hears it, from `NOTABLE` seconds on.
        what: is done, such as ``"100 images x 51 evaluations"``.
        model: whose network is called.
        shape: of an image.
        calls: of the network; None: a tolerance decides.
        size: images in a call; None: those of the model's chunk.

    Returns:
        Seconds; None where nothing was measured: `FEW` calls, nobody knows how many, or no network.
    """
    size = size or model.evaluation.chunk
    if calls is None or calls <= FEW or size is None or first_weight(model.net) is None:
        return None
    seconds = calls * call_seconds(model, shape, size)
    if seconds >= NOTABLE:
        reporter.note(f"{what}, {calls:,} network calls: about {duration(seconds)}")
    return seconds
