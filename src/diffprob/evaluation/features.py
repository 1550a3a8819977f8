"""Features of images: the vectors that are compared in their place, with a name and a digest for every number."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from diffprob.base.checks import positions, whole
from diffprob.base.errors import InputError, NumericalError
from diffprob.base.levels import TYPES, are_images
from diffprob.base.text import all_composed
from diffprob.net.classifier import Classifier
from diffprob.space.pixels import Pixels
from diffprob.space.real_numbers import Reals

_EXACT = 4096  # values an image may have for the PCA of all images
_ROOM = 1 << 25  # float64 values (256 MiB) that the PCA of larger ones holds


class ImageSet(Protocol):
    """Images by index."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Images as levels (len(indices), C, H, W)."""
        ...


@runtime_checkable
class Features(Protocol):
    """A map from images to vectors."""

    @property
    def name(self) -> str:
        """For people, such as "classifier"."""
        ...

    @property
    def dimension(self) -> int:
        """d, the length of a vector."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over all that decides the vectors: weights, settings, preparation."""
        ...

    @property
    def resize(self) -> str:
        """How images are brought to the size that the map takes; "none" when they are not."""
        ...

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """Images as levels (B, C, H, W) -> float32 (B, d) on the CPU."""
        ...


@runtime_checkable
class Judge(Features, Protocol):
    """Features that also decide class probabilities, so that one pass over the images gives both."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        ...

    def probabilities(self, features: Tensor) -> Tensor:
        """Features (n, d), as `extract` gives them -> float64 (n, classes), rows sum to 1."""
        ...


def describe(features: Features) -> str:
    """One line for tables and model cards: name, dimension, first digits of the digest, resize."""
    resize = "" if features.resize == "none" else f", resized to {features.resize}"
    return f"{features.name}, {features.dimension}-d, sha256 {features.digest[:8]}{resize}"


def extract(
    features: Features,
    images: ImageSet | np.ndarray,
    indices: np.ndarray | None = None,
    batch: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Features of images, a batch at a time: float32 (N, d) on the CPU.

    Args:
        images: a set with ``take``, or levels (N, C, H, W).
        indices: which images, in this order; all by default.
        batch: images a call; decides memory and speed, and the last bits of a network's features.
        progress: called with the number of finished images after every batch.

    Raises:
        ValueError: batch below 1, or an index that is no whole number of an image's place.
        InputError: no images, or images that the features do not take.
        NumericalError: a feature that is not finite.
    """
    whole("batch", batch, 1)
    chosen = np.arange(len(images)) if indices is None else positions(indices, len(images))
    if len(chosen) == 0:
        raise InputError("there are no images to compute features of")
    computed = torch.empty(len(chosen), features.dimension)
    for first in range(0, len(chosen), batch):
        index = chosen[first : first + batch]
        computed[first : first + len(index)] = features(_take(images, index))
        if not bool(torch.isfinite(computed[first : first + len(index)]).all()):
            raise NumericalError(
                f"{features.name}: features of images {first} to {first + len(index) - 1} are not finite"
            )
        if progress is not None:
            progress(first + len(index))
    return computed


def digest_of(tensors: Mapping[str, Tensor], *statements: str) -> str:
    """SHA-256 over statements and, in the order of their names, name, dtype, shape and bytes of tensors."""
    sha = hashlib.sha256(repr(statements).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def checked(pixels: np.ndarray, levels: int, channels: int | None = None) -> Tensor:
    """levels (B, C, H, W) as a tensor.

    Raises:
        InputError: another type or shape, another number of channels, or a level that there is not.
    """
    if not are_images(pixels):
        raise InputError(f"features take {TYPES} (B, C, H, W), got {pixels.dtype} {tuple(pixels.shape)}")
    if channels is not None and pixels.shape[1] != channels:
        raise InputError(f"the images have {pixels.shape[1]} channels, these features take {channels}")
    if (most := int(pixels.max())) >= levels:
        raise InputError(f"a pixel has level {most}, but the images are said to have {levels} levels (0..{levels - 1})")
    return torch.from_numpy(np.array(pixels))


def colour(pixels: np.ndarray, levels: int) -> Tensor:
    """levels (B, 1 or 3, H, W) -> float32 (B, 3, H, W) in [0, 1]; grey becomes three equal channels."""
    channels = pixels.shape[1] if pixels.ndim == 4 and pixels.shape[1] == 1 else 3
    return (checked(pixels, levels, channels).float() / (levels - 1)).expand(-1, 3, -1, -1)


@dataclass(frozen=True)
class PixelFeatures:
    """The pixels themselves, 2k/(K-1) - 1 in [-1, 1], flattened: d = C H W.

    Args:
        shape: (C, H, W).
        levels: K.
    """

    shape: tuple[int, int, int]
    levels: int = 256
    name: str = field(default="pixels", init=False, repr=False)
    resize: str = field(default="none", init=False, repr=False)

    what = "images"  # are compared

    def __post_init__(self) -> None:
        Pixels(self.shape, self.levels)

    @property
    def dimension(self) -> int:
        """C H W."""
        return math.prod(self.shape)

    @property
    def digest(self) -> str:
        """SHA-256 of name, shape and levels."""
        return digest_of({}, repr(self))

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """See `Features`."""
        levels = checked(pixels, self.levels)
        if tuple(pixels.shape[1:]) != tuple(self.shape):
            raise InputError(f"the images have the shape {tuple(pixels.shape[1:])}, these features take {self.shape}")
        return Pixels(self.shape, self.levels).to_model(levels).flatten(1)


@dataclass(frozen=True)
class NumberFeatures:
    """Real numbers standardised by channel, (x - mean)/scale, flattened: distances know no units.

    Args:
        space: shape, mean and scale.

    Exact when: always, in float64 up to the last rounding to float32.
    """

    space: Reals
    name: str = field(default="standardised numbers", init=False, repr=False)
    resize: str = field(default="none", init=False, repr=False)

    @property
    def what(self) -> str:
        """Are compared: vectors, signals, images or volumes."""
        return self.space.kind

    @property
    def dimension(self) -> int:
        """d, how many numbers a datum has."""
        return self.space.dimensions

    @property
    def digest(self) -> str:
        """SHA-256 of name, shape, mean and scale."""
        return digest_of({}, repr(self))

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """Numbers (B, *shape) -> float32 (B, d) on the CPU."""
        if tuple(pixels.shape[1:]) != self.space.shape:
            raise InputError(f"the data have shape {tuple(pixels.shape[1:])}, these features take {self.space.shape}")
        return self.space.to_model(torch.from_numpy(np.array(pixels))).flatten(1)


@dataclass(frozen=True, eq=False)
class PcaFeatures:
    """Coordinates of the pixels, or numbers, along their principal axes: (x - mean) axes, not whitened.

    The axes are those of the images it was fitted on, by falling variance; the coordinate of largest size of every axis
    is positive, so that two fits agree in sign.

    Args:
        pixels: the features x that are projected.
        mean: float64 (C H W,).
        axes: float64 (C H W, d), orthonormal columns.
        explained: share of the variance of the fitted images that the axes hold.
        fitted: number of images of the fit.

    Exact when: d = C H W; then all distances are those of the pixels.
    """

    pixels: PixelFeatures | NumberFeatures
    mean: Tensor
    axes: Tensor
    explained: float
    fitted: int
    resize: str = field(default="none", init=False)

    @classmethod
    def fit(
        cls, images: ImageSet | np.ndarray, dimension: int = 64, levels: int = 256, of: NumberFeatures | None = None
    ) -> "PcaFeatures":
        """Fit on images, which should be the reference's; ``of``: on real numbers, and what is projected of them.

        Images of up to 4,096 values are all used; of larger ones, evenly spaced ones that fit 256 MiB.

        Raises:
            InputError: a single image, or fewer values in an image, or fewer images less one, than ``dimension``.
        """
        whole("dimension", dimension, 1)
        if len(images) == 0:
            raise InputError("there are no images to fit a PCA on")
        features = of or PixelFeatures(tuple(_take(images, np.arange(1)).shape[1:]), levels)
        size = features.dimension
        count = len(images) if size <= _EXACT else min(len(images), _ROOM // size)
        most = min(size, count - 1)
        if most < 1:
            raise InputError("a PCA of one image has no axes; more images, or the pixels as they are, would be right")
        if dimension > most:
            raise InputError(
                f"a PCA of {count} images of {size} values has no {dimension} axes; at most {most} would be right"
            )
        index = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
        blocks = [index[first : first + 1024] for first in range(0, count, 1024)]
        mean = torch.stack([features(_take(images, block)).double().sum(0) for block in blocks]).sum(0) / count
        if size <= _EXACT:
            scatter = torch.zeros(size, size, dtype=torch.float64)
            for block in blocks:
                centred = features(_take(images, block)).double() - mean
                scatter += centred.T @ centred
            values, vectors = torch.linalg.eigh(scatter)
            axes, total = vectors.flip(1)[:, :dimension], float(scatter.trace())
        else:
            centred = torch.cat([features(_take(images, block)).double() for block in blocks]) - mean
            values, vectors = torch.linalg.eigh(centred @ centred.T)
            axes, total = centred.T @ vectors.flip(1)[:, :dimension], float(centred.square().sum())
            axes = axes / axes.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        explained = float(values.flip(0)[:dimension].sum()) / total if total > 0 else 1.0
        return cls(features, mean, axes * largest.sign(), explained, count)

    @property
    def name(self) -> str:
        """Says what it was fitted on."""
        return f"PCA of {self.fitted:,} reference {self.pixels.what}"

    @property
    def dimension(self) -> int:
        """Number of axes."""
        return self.axes.shape[1]

    @property
    def digest(self) -> str:
        """SHA-256 over mean, axes and the pixels' statement."""
        return digest_of({"mean": self.mean, "axes": self.axes}, "pca", repr(self.pixels))

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """See `Features`."""
        return ((self.pixels(pixels).double() - self.mean) @ self.axes).float()


class ClassifierFeatures:
    """What the last layer of a trained classifier sees, and the class probabilities that follow from it.

    Args:
        net: trained, for instance by `diffprob.evaluation.classify.fit_classifier`.
        levels: grey levels K of the images.
        device: where the network is moved to and computes; the features come back to the CPU.
        class_names: name of class k at position k; empty where they are not known.
    """

    name = "classifier"
    resize = "none"

    def __init__(
        self,
        net: Classifier,
        levels: int = 256,
        device: str | torch.device = "cpu",
        class_names: tuple[str, ...] = (),
    ) -> None:
        self.net, self.levels, self.class_names = net.to(device).eval(), levels, all_composed(class_names)
        self.dimension, self.classes = net.dimension, net.spec.classes
        self.digest = digest_of(net.state_dict(), "classifier", repr(net.spec), f"{levels} levels on [-1, 1]")

    @torch.no_grad()
    def __call__(self, pixels: np.ndarray) -> Tensor:
        """See `Features`."""
        levels = checked(pixels, self.levels, self.net.spec.in_channels)
        _, channels, height, width = pixels.shape
        x = Pixels((channels, height, width), self.levels).to_model(levels)
        return self.net.features(x.to(self.net.head.weight.device)).float().cpu()

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """See `Judge`; calibrated as the classifier is."""
        head = self.net.head
        return (features.double() @ head.weight.cpu().double().T + head.bias.cpu().double()).softmax(1)


def _take(images: ImageSet | np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.asarray(images[indices] if isinstance(images, np.ndarray) else images.take(indices))
