"""Simplex noise: smooth random images of a chosen roughness, as noise in place of independent pixels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffprob.base.checks import real, whole
from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, one_for_each
from diffprob.base.shapes import check_floats

_SKEW, _UNSKEW = (math.sqrt(3) - 1) / 2, (3 - math.sqrt(3)) / 6
_RADIUS = 0.5  # squared: beyond it a corner has no say
_DIRECTIONS = 16
# Every corner adds (1/2 - r^2)^4 g.r within its disc, g one of 16 unit vectors: with a lattice point on every sqrt(1/3)
# of the plane the variance is sqrt(3) times the integral of (1/2 - r^2)^8 r^2/2.
_STD = math.sqrt(math.sqrt(3) * math.pi / 184320)


@dataclass(frozen=True)
class SimplexNoise:
    """sum_k p^k n_k / (sum_k p^2k)^(1/2), k < octaves, n_k simplex noise whose cells are wavelength/2^k pixels wide.

    n_k = sum over the corners of a triangle of (1/2 - r^2)^4 g.r, r from the corner and g its random unit vector, over
    its standard deviation. The lattice is shifted at random, so that every pixel has mean 0 and variance 1, and
    correlations depend on distances alone. Channels are independent. The default is that of the paper, 64 pixels and
    six octaves, which does not normalise.

    Exact when: always; moments to 4 standard errors. Its law is not normal.

    Reference: Perlin, "Noise hardware" (2001); Gustavson, "Simplex noise demystified" (2005); Wyatt et al., "AnoDDPM"
    (2022).
    """

    octaves: int = 6
    persistence: float = 0.8
    wavelength: float = 64.0

    def __post_init__(self) -> None:
        whole("octaves", self.octaves, 1, 16)
        real("persistence", self.persistence, "[1e-9, 1e9]")
        # The last octave has cells of at least a pixel.
        real("wavelength", self.wavelength, f"[{2 ** (self.octaves - 1)}, 1e9]")

    def __call__(self, rng: Rng, like: Tensor) -> Tensor:
        """Noise with the shape, dtype and device of ``like`` (B, C, H, W), one stream per image.

        Raises:
            InputError: not images.
            ValueError: whole numbers, or another number of streams than of images.
        """
        if like.ndim != 4:
            raise InputError(f"{self!r} is noise for images (B, C, H, W), got {tuple(like.shape)}")
        check_floats(like)
        one_for_each(rng, like)
        weights = [float(self.persistence) ** k for k in range(self.octaves)]
        field = torch.zeros(like.shape, dtype=torch.float64, device=rng.seeds.device)
        for k, weight in enumerate(weights):
            field += weight * _octave(rng.fold(f"octave {k}"), like.shape[1:], self.wavelength / 2**k)
        return (field / math.hypot(*weights)).to(like)


def _octave(rng: Rng, shape: torch.Size, wavelength: float) -> Tensor:
    """Simplex noise of variance 1, float64 (B, *shape)."""
    channels, height, width = shape
    device = rng.seeds.device
    y = torch.arange(height, dtype=torch.float64, device=device)[:, None] / wavelength
    x = torch.arange(width, dtype=torch.float64, device=device)[None, :] / wavelength
    skew = _SKEW * (x + y)
    # In skewed coordinates the lattice is that of whole numbers.
    shift = rng.fold("shift").uniform((channels, 2, 1, 1), torch.float64)
    place = torch.stack([(x + skew).expand(height, width), (y + skew).expand(height, width)]) + shift
    corner = place.floor()
    inner = place - corner
    inner = inner - _UNSKEW * inner.sum(2, keepdim=True)  # (B, C, 2, H, W), from the triangle's first corner
    corner = corner.long()
    size = [math.floor(float(axis.max())) + 3 for axis in (x + skew, y + skew)]  # a shift below 1, a corner above
    kinds = rng.fold("gradients").integers((channels, size[0] * size[1]), _DIRECTIONS)
    first = inner[:, :, 0] > inner[:, :, 1]
    middle = torch.stack([first, ~first], 2).double()  # whole numbers, float64 like what they are multiplied with
    noise = torch.zeros(len(rng), channels, height, width, dtype=torch.float64, device=device)
    for step in (torch.zeros_like(middle), middle, torch.ones_like(middle)):
        r = inner - step + _UNSKEW * step.sum(2, keepdim=True)
        at = corner + step.long()
        kind = kinds.gather(2, (at[:, :, 0] * size[1] + at[:, :, 1]).flatten(2)).reshape(noise.shape)
        near = (_RADIUS - r[:, :, 0] * r[:, :, 0] - r[:, :, 1] * r[:, :, 1]).clamp_min(0)
        near = near * near
        along = _table(0, device)[kind] * r[:, :, 0] + _table(1, device)[kind] * r[:, :, 1]
        noise += near * near * along
    return noise / _STD


def _table(axis: int, device: torch.device) -> Tensor:
    """One coordinate of the unit vectors, from the standard library: the same bits everywhere."""
    turn = (2 * math.pi * k / _DIRECTIONS - axis * math.pi / 2 for k in range(_DIRECTIONS))
    return torch.tensor([math.cos(angle) for angle in turn], dtype=torch.float64, device=device)
