"""Where and how precisely the network is computed, and with which of its weights."""

import re
from dataclasses import dataclass, replace
from typing import Self

import torch

from diffprob.base.checks import flag, one_of, whole
from diffprob.base.errors import InputError, did_you_mean
from diffprob.config.recipe import Recipe, parameter_count
from diffprob.denoise.denoiser import NetworkModel
from diffprob.denoise.variance import Variance
from diffprob.runs.folder import Run, auto_chunk
from diffprob.tasks.options import option
from diffprob.training.optimise import choose_precision

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
BULK = 8  # times as many images in a network call where many are scored: a fifth of the time is saved (docs/results)
LARGE = 1_000_000  # parameters: the smallest network that was measured to be faster in bf16 (docs/results/speed.md)


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where the network is evaluated, and how.

    Args:
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda" or "cuda:1".
        precision: "fp32", "bf16" or "fp16", of the network; "auto": fp32, but for images that are drawn, or told apart,
            by a large network on a processor that is fast in bf16 (`for_images`).
        batch: images per network call, which decides speed and the last bits; None: `diffprob.runs.folder.auto_chunk`.
        best: the best averaged weights by the metric that the training watched, instead of the last.

    Raises:
        ValueError: a precision that there is not, or a batch below 1.
    """

    device: str = "auto"
    precision: str = "auto"
    batch: int | None = None
    best: bool = False

    def __post_init__(self) -> None:
        one_of("precision", self.precision, PRECISIONS)
        flag("best", self.best)
        if self.batch is not None:
            whole("batch", self.batch, 1)

    def on(self) -> torch.device:
        """The device.

        Raises:
            InputError: no such device, not on this machine, or one without float64.
        """
        return choose_device(self.device)

    @property
    def exact(self) -> str:
        """The precision for what is a number of the network itself, such as a likelihood or a fit: "auto" is fp32."""
        return "fp32" if self.precision == "auto" else self.precision

    def for_images(self, run: Run) -> Self:
        """The same, "auto" resolved for images that are drawn or told apart, whose numbers bf16 does not change.

        bf16 where `choose_precision` says that it is fast, for a run of images of `LARGE` parameters or more; else
        fp32. It depends on machine and run alone, so that the same seed has the same image on one machine.
        """
        if self.precision != "auto":
            return self
        large = run.space.levels is not None and isinstance(run.recipe, Recipe) and parameter_count(run.recipe) >= LARGE
        return replace(self, precision=choose_precision("auto", self.on()) if large else "fp32")

    def in_bulk(self, run: Run) -> Self:
        """The same with larger network calls on a CPU, where ``batch`` does not say how large."""
        device = self.on()
        if self.batch is not None or device.type != "cpu" or not isinstance(run.recipe, Recipe):
            return self
        return replace(self, batch=BULK * auto_chunk(device, run.space))

    def load(self, run: Run, variance: Variance | None = None) -> NetworkModel:
        """The run's denoiser in the precision `exact`, with another variance if one is given.

        Raises:
            InputError: as `Run.load`.
        """
        return run.load(self.on(), self.batch or "auto", self.exact, self.best, variance)


def choose_device(device: str | torch.device) -> torch.device:
    """The device that a text names, or torch does.

    Raises:
        InputError: no such device, not on this machine, or one without float64: Apple's GPU.
    """
    text, here = str(device), ["cpu"]
    if torch.cuda.is_available():
        here = [*(f"cuda:{k}" for k in range(torch.cuda.device_count())), *here]
    if text == "auto":
        return torch.device(here[0].partition(":")[0])
    if text in here or (text == "cuda" and here[0].startswith("cuda")):
        return torch.device(text)
    argument = option("device", text)
    if re.fullmatch(r"mps(:\d+)?", text):
        raise InputError(f"{argument}: Apple's GPU has no float64, which times and noise are computed in; use cpu")
    if re.fullmatch(r"cuda(:\d+)?", text):
        raise InputError(f"{argument}: this machine has {', '.join(here)}; diffprob doctor says why")
    raise InputError(
        f"{argument}: no such device (auto, {', '.join(here)}){did_you_mean(text, ['auto', 'cuda', *here])}"
    )
