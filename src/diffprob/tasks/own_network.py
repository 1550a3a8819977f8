"""The network for images without a recipe: of a few, the largest that the time for training can teach."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from diffprob.data.check import network_levels
from diffprob.net.mlp import MLPSpec
from diffprob.net.unet import ATTENDED, UNetSpec, attended_levels


@dataclass(frozen=True)
class Candidate:
    """A network, and how it is trained; `docs/results/own-pictures.md` has the measurements behind these.

    Args:
        patch_size: pixels of a side of a position of the first level; halved where it does not divide the sides.
        widths: of the levels; fewer where the image is too small.
        layers: residual blocks a level.
        batch: images a step.
        lr: the largest learning rate.
        images: that it must see in training, or a smaller network learns more in the same time.
    """

    patch_size: int
    widths: tuple[int, ...]
    layers: int = 1
    batch: int = 32
    lr: float = 1e-3
    images: int = 0


# Up to this size of the longer side, from the smallest network to the largest.
CANDIDATES: tuple[tuple[int, tuple[Candidate, ...]], ...] = (
    (
        16,
        (
            Candidate(1, (32, 64)),
            Candidate(1, (64, 128), 2, images=1_000_000),
        ),
    ),
    (
        40,
        (
            Candidate(2, (64, 64)),
            Candidate(2, (96, 192), 2, lr=5e-4, images=1_000_000),
            Candidate(1, (128, 256, 256, 256), 2, batch=128, lr=2e-4, images=10_000_000),
        ),
    ),
    (
        80,
        (
            Candidate(4, (128, 128)),
            Candidate(2, (96, 192, 192), 2, lr=5e-4, images=1_000_000),
            Candidate(1, (64, 128, 128, 256, 256), 2, batch=64, lr=2e-4, images=5_000_000),
        ),
    ),
    (
        160,
        (
            Candidate(4, (96, 192, 192), lr=5e-4),
            Candidate(1, (128, 128, 256, 256, 512), 2, batch=64, lr=1e-4, images=5_000_000),
        ),
    ),
    (
        8192,
        (
            Candidate(8, (128, 256, 256), lr=5e-4),
            Candidate(1, (128, 128, 256, 256, 512, 512), 2, batch=64, lr=5e-5, images=5_000_000),
        ),
    ),
)


# Of vectors a perceptron of this width and so many blocks; of signals and volumes U-Nets up to so many positions.
VECTORS = (Candidate(1, (128,), 3, batch=256), Candidate(1, (256,), 4, batch=256, images=5_000_000))
SIGNALS = (
    (256, (Candidate(1, (32, 64, 64), batch=64), Candidate(1, (64, 128, 128), 2, batch=64, images=2_000_000))),
    (2048, (Candidate(4, (64, 64, 128), batch=64), Candidate(2, (96, 192, 192), 2, batch=64, images=2_000_000))),
    (10**9, (Candidate(8, (64, 128, 128), batch=32), Candidate(4, (96, 192, 192, 192), 2, images=2_000_000))),
)
VOLUMES = (
    (16**3, (Candidate(2, (64, 64)), Candidate(1, (64, 128), 2, images=500_000))),
    (10**9, (Candidate(4, (64, 128)), Candidate(2, (64, 128, 256), 2, images=500_000))),
)


def candidates(shape: tuple[int, ...]) -> tuple[Candidate, ...]:
    """The networks for images (C, H, W), vectors (C,), signals (C, L) or volumes, from the smallest to the largest."""
    if len(shape) == 1:
        return VECTORS
    if len(shape) == 3:
        return next(several for size, several in CANDIDATES if max(shape[1:]) <= size)
    return next(several for size, several in (SIGNALS if len(shape) == 2 else VOLUMES) if math.prod(shape[1:]) <= size)


def choose(several: tuple[Candidate, ...], seen: Callable[[Candidate], float]) -> Candidate:
    """The largest network that sees as many images as it must; the smallest if none does.

    Args:
        several: from the smallest to the largest.
        seen: how many images a network would see; asked from the smallest on, until one sees too few.
    """
    chosen = several[0]
    for candidate in several[1:]:
        if seen(candidate) < candidate.images:
            break
        chosen = candidate
    return chosen


def spec_of(candidate: Candidate, shape: tuple[int, ...]) -> UNetSpec | MLPSpec:
    """The settings of the network for data of that shape, as in `candidates`."""
    channels, *sides = shape
    if not sides:
        return MLPSpec(channels, candidate.widths[0], candidate.layers)
    patch = candidate.patch_size
    while any(side % patch for side in sides):
        patch //= 2
    levels = min(len(candidate.widths), *(network_levels(side // patch, side // patch) for side in sides))
    widths = candidate.widths[:levels]
    return UNetSpec(
        in_channels=channels,
        out_channels=channels,
        widths=widths,
        layers=candidate.layers,
        attention=attended_levels(sides, patch, levels),
        mid_attention=math.prod(sides) // (patch * 2 ** (levels - 1)) ** len(sides) <= 4 * ATTENDED,
        groups=8 if widths[0] < 128 else 32,
        padding=1,
        patch_size=patch,
        dims=len(sides),
    )
