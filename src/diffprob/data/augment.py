"""Random changes of training images; all randomness comes from each sample's own stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.rng import Rng
from diffprob.base.shapes import check_floats, per_sample


class Augmentation(Protocol):
    """A random map of images to images of the same shape (frozen dataclass: its repr is its configuration)."""

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """Change x (B, C, H, W) in [-1, 1]; sample i depends on its own image and stream alone."""
        ...


def _check(x: Tensor, rng: Rng) -> None:
    if x.ndim != 4 or len(rng) != len(x):
        raise ValueError(f"expected images (B, C, H, W) and B random streams, got {tuple(x.shape)} and {len(rng)}")


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left and right with probability p.

    Args:
        p: probability of a flip.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        real("p", self.p, "[0, 1]")

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """x (B, C, H, W), mirrored where the sample's stream says so."""
        _check(x, rng)
        flipped = rng.fold("flip").uniform(()) < self.p
        return torch.where(per_sample(flipped, x).bool(), x.flip(-1), x)


@dataclass(frozen=True)
class Elastic:
    """Smooth random deformation: y(p) = x(p + u(p)), u from random vectors on a coarse grid of nodes over the image.

    The vectors are N(0, magnitude^2) in each direction, in pixels; between the nodes, the outer of which lie on the
    corner pixels, u is bicubic (Ronneberger et al. 2015, section 3.1, with a 3x3 grid). x is sampled bicubically and
    clamped to [-1, 1]; outside, its border is continued. Results lie between grey levels: training only.

    Args:
        magnitude: standard deviation of the vectors in pixels.
        nodes: nodes per side.

    Exact when: magnitude is 0 (the identity), and where u is a whole number of pixels (a shift).
    """

    magnitude: float = 1.0
    nodes: int = 3

    def __post_init__(self) -> None:
        real("magnitude", self.magnitude, "[0, 1000]")
        whole("nodes", self.nodes, 2, 64)

    def displacement(self, height: int, width: int, rng: Rng) -> Tensor:
        """The field u in pixels, float32 (B, 2, H, W): first along the width, then along the height."""
        vectors = self.magnitude * rng.fold("elastic").normal((2, self.nodes, self.nodes))
        rows, columns = (_spread(self.nodes, n).to(vectors.device) for n in (height, width))
        # Sums of elementwise products instead of a matrix product: its bits would depend on the batch size.
        along = sum((vectors[..., k, None] * columns[:, k] for k in range(self.nodes)), torch.zeros(()))
        return sum((along[..., k, None, :] * rows[:, k, None] for k in range(self.nodes)), torch.zeros(()))

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """x (B, C, H, W) in [-1, 1], deformed, in the same dtype."""
        _check(x, rng)
        return warp(x, self.displacement(x.shape[2], x.shape[3], rng).to(x.device))


def _spread(nodes: int, n: int) -> Tensor:
    """(n, nodes) weights of bicubic interpolation from ``nodes`` points to n pixels, corners on corners."""
    eye = torch.eye(nodes)[None, None]
    return F.interpolate(eye, size=(n, nodes), mode="bicubic", align_corners=True)[0, 0]


def warp(x: Tensor, displacement: Tensor) -> Tensor:
    """Sample x (B, C, H, W) at pixel + displacement (B, 2, H, W), bicubic, border continued, clamped to [-1, 1]."""
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device, dtype=displacement.dtype)[:, None]
    columns = torch.arange(width, device=x.device, dtype=displacement.dtype)
    # grid_sample counts from -1 to 1 between the centres of the corner pixels
    across = (columns + displacement[:, 0]) * (2 / max(width - 1, 1)) - 1
    down = (rows + displacement[:, 1]) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([across, down], -1).to(x)
    return F.grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=True).clamp(-1, 1)


def augment(x: Tensor, rng: Rng, augmentations: Sequence[Augmentation]) -> Tensor:
    """Apply the augmentations in order; each has its own stream by position, so that two of a kind differ.

    Raises:
        ValueError: images that are not (B, C, H, W) of a floating type, or no stream for each of them.
    """
    check_floats(x)
    for k, change in enumerate(augmentations):
        x = change(x, rng.fold(f"augment {k}"))
    return x
