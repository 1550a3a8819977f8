"""The condition of an image: what is left of it at a lower resolution, for a network that restores the rest."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffprob.base.checks import MOST_SIDE, image_shape, real, whole
from diffprob.base.errors import FieldError, InputError
from diffprob.base.shapes import check_floats


@dataclass(frozen=True)
class LowResolution:
    """The image averaged over blocks of factor x factor pixels, each mean in the place of its block, (B, C, H, W).

    Training makes them from the images themselves, in model space. A network with this condition models p(x|c), from
    which super-resolution samples; a sample's own blocks need not have those means, for it is no constraint.

    Args:
        shape: of the images, (C, H, W).
        factor: divides height and width.
        drop: probability that training takes zeros instead, the grey between black and white; 0: never.

    Exact when: always.

    Reference: Saharia et al., "Image super-resolution via iterative refinement" (2021), section 2.
    """

    shape: tuple[int, int, int]
    factor: int = 2
    drop: float = 0.0

    def __post_init__(self) -> None:
        image_shape("shape", self.shape)
        whole("factor", self.factor, 2, MOST_SIDE)
        if self.shape[1] % self.factor or self.shape[2] % self.factor:
            size = f"{self.shape[1]}x{self.shape[2]}"
            raise FieldError("factor", f"must be at least 2 and divide {size}, got {self.factor}")
        real("drop", self.drop, "[0, 1)")

    def from_dataset(self, images: Any) -> None:
        """None: `from_images` makes them from the images."""
        return

    def from_images(self, x0: Tensor) -> Tensor:
        """The block means of images in model space (B, C, H, W), repeated to their size.

        Raises:
            ValueError: images of another shape, or of whole numbers.
        """
        check_floats(x0)
        if tuple(x0.shape[1:]) != self.shape:
            raise ValueError(f"expected images of shape {self.shape}, got {tuple(x0.shape[1:])}")
        return self.spread(F.avg_pool2d(x0, self.factor))

    def spread(self, small: Tensor) -> Tensor:
        """Small images (B, C, H/factor, W/factor), each pixel repeated over its block, (B, C, H, W)."""
        return small.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)

    def check(self, rows: Tensor) -> None:
        """Refuse what is no finite image of this shape, constant on every block.

        Raises:
            InputError: another shape or type, or an image that was not degraded; `from_images` does that.
        """
        if not rows.is_floating_point() or rows.ndim != 4 or tuple(rows.shape[1:]) != self.shape:
            raise InputError(f"expected degraded images (B, *{self.shape}), got {rows.dtype} {tuple(rows.shape)}")
        blocks = self.spread(rows[:, :, :: self.factor, :: self.factor])
        if not bool(torch.isfinite(rows).all()) or not torch.equal(blocks, rows):
            side = f"{self.factor}x{self.factor}"
            raise InputError(f"a degraded image has one finite value in each block of {side} pixels, got others")

    def example_rows(self, n: int) -> Tensor:
        """Flat images from black to white, (n, C, H, W): they are what they are at any resolution."""
        whole("n", n)
        return torch.linspace(-1, 1, n)[:, None, None, None].expand(n, *self.shape)

    def null(self) -> Tensor:
        """Zeros (1, C, H, W).

        Raises:
            InputError: training never dropped a condition.
        """
        if not self.drop:
            raise InputError(
                f"{self!r} has no null condition: a network trained with drop above 0 also models images of any other"
            )
        return torch.zeros(1, *self.shape)
