"""How near images come back from an autoencoder: what bounds everything that is made in its latents."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffprob.base.rng import increasing_subset
from diffprob.config.recipe import AutoencoderRecipe
from diffprob.data.combined import held_out_source
from diffprob.data.for_run import TEST, TRAIN, Selection
from diffprob.data.images import Images
from diffprob.data.places import without_folders
from diffprob.denoise.autoencoder import Autoencoder
from diffprob.reporting.artifacts import grid_png
from diffprob.runs.measurements import Measurement
from diffprob.storage import files
from diffprob.tasks.compute import choose_device
from diffprob.tasks.images import held_out, recorded_images
from diffprob.tasks.recording import recorded
from diffprob.tasks.reporter import SILENT, Reporter

TESTED = 2000  # images
NAME = "PSNR of reconstructions"
_BATCH = 250


@dataclass(frozen=True)
class ReconstructionResult:
    """How near held-out images come back, or training images where the data has no others.

    Args:
        psnr: 10 log10(4 / mean squared error), in decibels, over all pixels of all images; model space is 2 wide.
        low, high: a 95% interval of it, of the error's mean over images.
        tested: images.
        on: which, in words.
        recorded: "recorded", whether the run keeps the number, and "not_recorded", why not.
    """

    psnr: float
    low: float
    high: float
    tested: int
    on: str
    recorded: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON literals by name; "line": in words."""
        return {**asdict(self), "line": repr(self)}

    def __repr__(self) -> str:
        interval = f"(95%: {self.low:.2f} to {self.high:.2f})"
        return f"{self.tested:,} images of {self.on} come back with a PSNR of {self.psnr:.2f} dB {interval}"


def measure_reconstruction(run: Any, train: Images, device: str, reporter: Reporter = SILENT) -> ReconstructionResult:
    """Measure an autoencoder's run, and put the number down in it.

    Args:
        run: an `AutoencoderRun`.
        train: its training images, which stand in where no images are held out.
        device: "auto", "cpu", "cuda" or "cuda:1".
        reporter: hears why the run does not keep the number.

    Raises:
        InputError: a run without weights.
    """
    test = held_out(run.recipe.data)
    images, on = (train, "the training data") if test is None else (test, "the test split")
    split, source = (TRAIN, run.recipe.data) if test is None else (TEST, held_out_source(run.recipe.data))
    chosen = increasing_subset(len(images), TESTED, 0, "reconstruction")
    errors = squared_errors(run.load(choose_device(device)), run.space, images, chosen)
    mean, half = float(errors.mean()), 1.96 * float(errors.std()) / math.sqrt(len(errors))
    psnr, low, high = (_decibels(value) for value in (mean, mean + half, mean - half))
    details = recorded_images(Selection(images, repr(without_folders(source)), split, split, images.digest()))
    measurement = Measurement(NAME, psnr, len(chosen), 0, low=low, high=high, **details)
    kept = recorded(run, lambda: run.record(measurement), reporter)
    return ReconstructionResult(psnr, low, high, len(chosen), on, kept)


@torch.no_grad()
def squared_errors(model: Autoencoder, space: Any, images: Images, chosen: np.ndarray) -> np.ndarray:
    """The mean squared error of each image in model space, where all that lies outside [-1, 1] is clamped; (n,)."""
    device, parts = next(model.parameters()).device, []
    for first in range(0, len(chosen), _BATCH):
        x = space.to_model(torch.from_numpy(images.take(chosen[first : first + _BATCH]))).to(device)
        parts.append((model(x).clamp(-1, 1) - x).double().square().flatten(1).mean(1).cpu().numpy())
    return np.concatenate(parts)


def draw_reconstructions(model: Autoencoder, recipe: AutoencoderRecipe, images: Images, path: Path) -> None:
    """Training images, evenly spaced, each with its reconstruction beside it, as a picture."""
    count = min(max(1, recipe.training.samples // 2), len(images))
    levels = torch.from_numpy(images.take(np.linspace(0, len(images) - 1, count).astype(np.int64)))
    with torch.no_grad():
        returned = model(recipe.space.to_model(levels).to(next(model.parameters()).device))
    pairs = torch.stack([levels, recipe.space.to_data(returned).cpu()], dim=1).flatten(0, 1)
    settings = {"run": recipe.name, "shown": "image, reconstruction"}
    files.check_replaceable(path)
    with files.saying(f"write {path}", "; what existed before is intact"):
        files.write_file(path, [grid_png(pairs.numpy(), recipe.space.levels, settings)])


def _decibels(error: float) -> float:
    """Finite where nothing is lost: a float32 has no smaller error."""
    return 10 * math.log10(4 / max(error, 1e-14))
