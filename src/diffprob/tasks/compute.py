"""Where and how precisely the network is computed, and with which of its weights."""

import re
from dataclasses import dataclass

import torch

from diffprob.base.checks import flag, one_of, whole
from diffprob.base.errors import InputError, did_you_mean
from diffprob.denoise.denoiser import NetDenoiser
from diffprob.denoise.variance import Variance
from diffprob.runs.folder import Run
from diffprob.tasks.options import option

PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where the network is evaluated, and how.

    Args:
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda" or "cuda:1".
        precision: "fp32", "bf16" or "fp16", of the network.
        batch: images per network call, which decides speed and the last bits; None: `diffprob.runs.folder.auto_chunk`.
        best: the best averaged weights by the metric that the training watched, instead of the last.

    Raises:
        ValueError: a precision that there is not, or a batch below 1.
    """

    device: str = "auto"
    precision: str = "fp32"
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

    def load(self, run: Run, variance: Variance | None = None) -> NetDenoiser:
        """The run's denoiser, with another variance if one is given.

        Raises:
            InputError: as `Run.load`.
        """
        return run.load(self.on(), self.batch or "auto", self.precision, self.best, variance)


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
