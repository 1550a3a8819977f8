"""The latents of a frozen autoencoder as a space: samplers, guidance and conditions work in it unchanged."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Never

import torch
from torch import Tensor

from diffprob.base.checks import able, image_shape
from diffprob.base.errors import InputError, NumericalError
from diffprob.base.levels import check_levels
from diffprob.base.shapes import check_floats
from diffprob.space.pixels import Pixels


@dataclass(frozen=True)
class Latents:
    """Images in grey levels, whose model space are the standardised latents of an autoencoder.

    Its data are those of `Pixels`: images of ``shape`` in so many levels. Model space is z = (E(x) - mean)/std, with
    mean and standard deviation of each channel as the weights of the autoencoder keep them, so that z has second
    moment 1 on the images that it was trained on. Latents have no interval and are never clamped.

    Args:
        shape, levels: of the images, as in `Pixels`.
        autoencoder: the run of an autoencoder, ``PretrainedRun("runs/mine")``.
        latent: (c, h, w) of its latents.

    Reference: Rombach et al., "High-resolution image synthesis with latent diffusion models" (2022), section 3.
    """

    shape: tuple[int, int, int]
    levels: int = 256
    autoencoder: Any = field(kw_only=True)
    latent: tuple[int, int, int] = field(kw_only=True)

    bounded = False
    is_discrete = False

    def __post_init__(self) -> None:
        image_shape("shape", self.shape)
        check_levels(self.levels)
        able("autoencoder", self.autoencoder, "load_autoencoder", "PretrainedRun('runs/mine')")
        image_shape("latent", self.latent)

    @property
    def dimensions(self) -> int:
        """d = C H W of the images."""
        return self.pixels.dimensions

    @property
    def pixels(self) -> Pixels:
        """The space of the images, which the autoencoder sees."""
        return Pixels(self.shape, self.levels)

    @property
    def model_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of the latents."""
        return self.latent

    @torch.no_grad()
    def to_model(self, levels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Integer levels (B, C, H, W) -> latents (B, c, h, w), in network calls of a fixed size.

        Raises:
            ValueError: as `Pixels.to_model`.
            InputError: no such autoencoder, or one of other images or latents.
        """
        return self._opened(levels.device).encode(self.pixels.to_model(levels, dtype))

    @torch.no_grad()
    def to_data(self, x: Tensor) -> Tensor:
        """Latents (B, c, h, w) -> the nearest levels of the decoded images, uint8 (B, C, H, W), in one pass.

        Raises:
            ValueError: another type than a floating one.
            NumericalError: a value that is not a number.
            InputError: as `to_model`.
        """
        check_floats(x)
        if bool(torch.isnan(x).any()):
            raise NumericalError("a latent has values that are not numbers (NaN)")
        return self.pixels.to_data(self._opened(x.device).decode(x))

    def nearest(self, x: Tensor) -> Tensor:
        """As `to_data`, which takes any latents."""
        return self.to_data(x)

    def log_det(self) -> Never:
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError(
            "latents of an autoencoder have no density of the images: it loses something of each, so that no log |det| "
            "makes bits/dim of nats there; a run whose space is Pixels(...) would be right"
        )

    def require_pixels(self, what: str) -> Never:
        """Refuse what works on pixels.

        Raises:
            InputError: always.
        """
        raise InputError(f"{what} works on pixels, and this model on latents; a run of Pixels(...) would be right")

    def require_images(self, what: str) -> None:
        """Nothing: the data are."""

    def of_pixels(self, x: Tensor) -> Never:
        """Not of latents: `require_pixels` says why."""
        return self.require_pixels("this")

    def pixels_of(self, x: Tensor) -> Never:
        """Not of latents: `require_pixels` says why."""
        return self.require_pixels("this")

    @property
    def bin_width(self) -> float:
        """There is none: `log_det` says why."""
        return self.log_det()

    @property
    def bins(self) -> int:
        """There are none: `log_det` says why."""
        return self.log_det()

    def exact(self, x: Tensor) -> Tensor:
        """There are none: `log_det` says why."""
        return self.log_det()

    def bits_per_dim(self, nats: Tensor) -> Tensor:
        """There are none: `log_det` says why."""
        return self.log_det()

    def _opened(self, device: torch.device) -> Any:
        model = _load(self.autoencoder, device)
        made = model.net.latent_shape(self.shape)
        if made != self.latent:
            raise InputError(
                f"the autoencoder {self.autoencoder.run} makes latents {made} of images {self.shape}; space.latent is "
                f"{self.latent}"
            )
        return model


@lru_cache(maxsize=4)
def _load(source: Any, device: torch.device) -> Any:
    """The autoencoder on a device: once, for it is asked in every batch."""
    return source.load_autoencoder().to(device)
