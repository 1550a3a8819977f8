"""A classifier trained on real images, and its judgement on others: a clear example of a class, and of which?"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffprob.base.checks import one_of, real, whole
from diffprob.base.errors import InputError, NumericalError
from diffprob.base.levels import TYPES, are_images
from diffprob.base.rng import Rng, derive, permutation
from diffprob.base.single import single
from diffprob.net.classifier import Classifier, ClassifierSpec
from diffprob.space.pixels import Pixels


@dataclass(frozen=True)
class FitSettings:
    """How `fit_classifier` trains: AdamW, linear warm-up over a tenth of the steps, then a cosine to zero.

    Args:
        epochs: passes over the data.
        batch: images a step.
        lr: the highest learning rate.
        weight_decay: of AdamW.
        shift: images are moved by up to this many pixels each way; the edge is repeated.
        calibration: share of the images held back for the temperature.
        precision: "fp32" or "bf16" (autocast); the judgement itself is always fp32.
        seed: of weights, order and shifts.
    """

    epochs: int = 3
    batch: int = 128
    lr: float = 3e-3
    weight_decay: float = 1e-2
    shift: int = 2
    calibration: float = 0.05
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, 1)
        whole("batch", self.batch, 1)
        real("lr", self.lr, "(0, inf)")
        real("weight_decay", self.weight_decay, "[0, inf)")
        whole("shift", self.shift)
        real("calibration", self.calibration, "(0, 1)")
        one_of("precision", self.precision, ("fp32", "bf16"))
        whole("seed", self.seed, 0, 2**63 - 1)


class FitProgress(NamedTuple):
    """What the callback of `fit_classifier` is told after every step."""

    epoch: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Judgement:
    """What a classifier says of a set of images.

    Confidence alone is no measure of quality: a classifier may be sure of noise or of a black image. Such samples pile
    up in few classes, so the histogram belongs to the judgement.

    Args:
        n: number of images.
        threshold: a label is confident when its probability is at least this.
        confident: share of the images with a confident label.
        histogram: share of the images given to each class; sums to 1.
        confidence: mean probability of the label; on real images a calibrated classifier has it equal to ``accuracy``.
        accuracy: share of right labels, None when the labels are not known.
    """

    n: int
    threshold: float
    confident: float
    histogram: tuple[float, ...]
    confidence: float
    accuracy: float | None


def fit_classifier(
    pixels: np.ndarray,
    labels: np.ndarray,
    spec: ClassifierSpec,
    settings: FitSettings = FitSettings(),
    levels: int = 256,
    device: str | torch.device = "cpu",
    progress: Callable[[FitProgress], None] | None = None,
) -> Classifier:
    """Train a classifier on real images and calibrate its confidence on a slice held back from them.

    The weights are a function of the data and the settings: order of (seed, epoch), shift of (seed, image, epoch). The
    calibration divides the logits by the temperature of least negative log-likelihood, folded into the last layer.

    Args:
        pixels: (N, C, H, W), levels 0 .. ``levels`` - 1.
        labels: integers (N,) in [0, classes).
        progress: called after every step.

    Raises:
        InputError: pixels or labels that do not fit each other or the spec.
        NumericalError: the loss left the finite numbers.

    Reference: Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks" (2017), section 4.2.
    """
    _check(pixels, labels, spec)
    everyone = permutation(derive(settings.seed, "calibration") >> 1, 0, len(pixels))
    held = max(1, round(settings.calibration * len(pixels)))
    # Sorted, so that a memory-mapped data set is read in the order of the file.
    aside, used = np.sort(everyone[:held]), np.sort(everyone[held:])
    with single(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(settings.seed, "weights"))
        net = spec.build().to(device)
    _train(net, pixels, labels, used, settings, levels, progress)
    net.eval().requires_grad_(False)
    logits = classify(net, pixels[aside], levels)
    inverse = _inverse_temperature(logits, torch.from_numpy(labels[aside]).long())
    net.head.weight.mul_(inverse)
    net.head.bias.mul_(inverse)
    return net


@torch.no_grad()
def classify(net: Classifier, pixels: np.ndarray, levels: int = 256, batch: int = 256) -> Tensor:
    """Logits of images (N, C, H, W): float64 (N, classes) on the CPU, computed in float32."""
    space = _space(pixels, levels)
    device = net.head.weight.device
    parts = [
        net(space.to_model(torch.from_numpy(np.array(pixels[first : first + batch]))).to(device)).double().cpu()
        for first in range(0, len(pixels), batch)
    ]
    return torch.cat(parts)


def judge(
    net: Classifier, pixels: np.ndarray, labels: np.ndarray | None = None, levels: int = 256, threshold: float = 0.9
) -> Judgement:
    """Judge images (N, C, H, W); see `Judgement` for the numbers.

    Raises:
        InputError: no images, or labels that do not fit.
    """
    _check(pixels, labels, net.spec)
    top, label = classify(net, pixels, levels).softmax(1).max(1)
    counts = torch.bincount(label, minlength=net.spec.classes)
    return Judgement(
        n=len(pixels),
        threshold=threshold,
        confident=float((top >= threshold).double().mean()),
        histogram=tuple((counts.double() / len(pixels)).tolist()),
        confidence=float(top.mean()),
        accuracy=None if labels is None else float((label.numpy() == labels).mean()),
    )


def _space(pixels: np.ndarray, levels: int) -> Pixels:
    _, channels, height, width = pixels.shape
    return Pixels((channels, height, width), levels)


def _check(pixels: np.ndarray, labels: np.ndarray | None, spec: ClassifierSpec) -> None:
    if not are_images(pixels):
        raise InputError(f"expected {TYPES} (N, C, H, W), got {pixels.dtype} {tuple(pixels.shape)}")
    if pixels.shape[1] != spec.in_channels:
        raise InputError(f"the images have {pixels.shape[1]} channels, the classifier takes {spec.in_channels}")
    if labels is None:
        return
    if labels.shape != (len(pixels),):
        raise InputError(f"{len(pixels)} images need {len(pixels)} labels, got shape {tuple(labels.shape)}")
    if labels.min() < 0 or labels.max() >= spec.classes:
        raise InputError(f"labels must lie in [0, {spec.classes}), got {labels.min()} to {labels.max()}")


def _train(
    net: Classifier,
    pixels: np.ndarray,
    labels: np.ndarray,
    used: np.ndarray,
    settings: FitSettings,
    levels: int,
    progress: Callable[[FitProgress], None] | None,
) -> None:
    """Train on the images with the indices ``used``."""
    device = net.head.weight.device
    space = _space(pixels, levels)
    shifts = Rng.of(derive(settings.seed, "shift") >> 1, len(pixels))
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    steps = settings.epochs * math.ceil(len(used) / settings.batch)
    step = 0
    for epoch in range(settings.epochs):
        order = used[permutation(settings.seed, epoch, len(used))]
        for first in range(0, len(order), settings.batch):
            index = order[first : first + settings.batch]
            images = space.to_model(torch.from_numpy(pixels[index]))
            images = _shifted(images, settings.shift, shifts.select(torch.from_numpy(index)).at(epoch)).to(device)
            optimiser.param_groups[0]["lr"] = settings.lr * _rate(step, steps)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                logits = net(images)
            loss = F.cross_entropy(logits.float(), torch.from_numpy(labels[index]).long().to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            if not math.isfinite(value := float(loss.detach())):
                raise NumericalError(f"the classifier's loss is {value} at step {step}")
            if progress is not None:
                progress(FitProgress(epoch, step, steps, value))


def _rate(step: int, steps: int) -> float:
    """Learning rate as a share of the highest: up over a tenth of the steps, then half a cosine down."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _shifted(images: Tensor, reach: int, rng: Rng) -> Tensor:
    """Move every image by its own whole number of pixels, at most ``reach`` each way."""
    if reach == 0:
        return images
    count, _, height, width = images.shape
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    offset = rng.fold("shift").integers((2,), 2 * reach + 1)
    rows = (offset[:, :1] + torch.arange(height))[:, None, :, None]
    columns = (offset[:, 1:] + torch.arange(width))[:, None, None, :]
    sample = torch.arange(count)[:, None, None, None]
    channel = torch.arange(images.shape[1])[None, :, None, None]
    return padded[sample, channel, rows, columns]


def _inverse_temperature(logits: Tensor, labels: Tensor) -> float:
    """The b in [1/20, 20] of least mean cross-entropy of b * logits, by bisection: it is convex in b."""
    right = logits.gather(1, labels[:, None])[:, 0]
    low, high = math.log(1 / 20), math.log(20)
    for _ in range(50):
        middle = 0.5 * (low + high)
        slope = ((math.exp(middle) * logits).softmax(1) * logits).sum(1).sub(right).mean()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return math.exp(0.5 * (low + high))
