"""diffusers' AutoencoderTiny: a small autoencoder that imitates a large one, under its state-dict names."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import several, shown, whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_BLOCKS, check_channels, check_weights, check_widths
from diffprob.net.autoencoder import AutoencoderSpec, Coded

_MAGNITUDE = 3.0  # latents are bent into this interval before they are decoded


@dataclass(frozen=True)
class TinyAutoencoderSpec:
    """The settings of a `TinyAutoencoder`, all literals. It makes images smaller by the factor 2^(levels - 1).

    Args:
        in_channels: channels of the images.
        latent_channels: channels of the latents.
        widths: channels at each resolution, all the same.
        encoder_blocks: residual blocks at each resolution of the encoder, from the full one down.
        decoder_blocks: likewise of the decoder, from the smallest one up.

    Raises:
        ValueError: a field is out of range, or fields do not fit together; the message has its name and value.
    """

    in_channels: int = 3
    latent_channels: int = 4
    widths: tuple[int, ...] = (64, 64, 64, 64)
    encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)

    def __post_init__(self) -> None:
        check_channels(("in_channels", self.in_channels), ("latent_channels", self.latent_channels))
        check_widths("widths", self.widths)
        if len(set(self.widths)) > 1:
            raise FieldError("widths", f"must all be the same, got {shown(self.widths)}")
        for name in ("encoder_blocks", "decoder_blocks"):
            value, levels = getattr(self, name), len(self.widths)
            several(name, value, lambda entry, count: whole(entry, count, 0, MOST_BLOCKS), levels, levels, "(1, 3)")
        blocks = 3 * (sum(self.encoder_blocks) + sum(self.decoder_blocks)) + 4 * len(self.widths)
        check_weights("TinyAutoencoderSpec", [(self.widths[0], self.widths[0], blocks)])

    @property
    def divisor(self) -> int:
        """What height and width must be divisible by: the factor by which the latents are smaller."""
        return 2 ** (len(self.widths) - 1)

    def latent_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(c, h, w) of the latents of images (C, H, W)."""
        return self.latent_channels, shape[1] // self.divisor, shape[2] // self.divisor

    def build(self) -> "TinyAutoencoder":
        """A network with random weights from torch's global generator."""
        return TinyAutoencoder(self)


AnyAutoencoderSpec = AutoencoderSpec | TinyAutoencoderSpec


class TinyAutoencoder(nn.Module):
    """Images (B, C, H, W) in [-1, 1] -> latents (B, c, h, w), nearly within (-3, 3) -> images.

    Reference: Bohan, "Tiny autoencoder for Stable Diffusion" (2023), as AutoencoderTiny of diffusers has it.
    """

    def __init__(self, spec: TinyAutoencoderSpec) -> None:
        super().__init__()
        self.spec, width = spec, spec.widths[0]
        down: list[nn.Module] = []
        for level, blocks in enumerate(spec.encoder_blocks):
            stride = {"stride": 2, "bias": False} if level else {}
            down.append(nn.Conv2d(width if level else spec.in_channels, width, 3, padding=1, **stride))
            down += [_Block(width) for _ in range(blocks)]
        up: list[nn.Module] = [nn.Conv2d(spec.latent_channels, width, 3, padding=1), nn.ReLU()]
        for level, blocks in enumerate(spec.decoder_blocks):
            last = level == len(spec.decoder_blocks) - 1
            up += [_Block(width) for _ in range(blocks)]
            up += [] if last else [nn.Upsample(scale_factor=2.0, mode="nearest")]
            up.append(nn.Conv2d(width, spec.in_channels if last else width, 3, padding=1, bias=last))
        self.encoder = _Layers([*down, nn.Conv2d(width, spec.latent_channels, 3, padding=1)])
        self.decoder = _Layers(up)

    def latent_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(c, h, w) of the latents of images (C, H, W)."""
        return self.spec.latent_shape(shape)

    def encode(self, x: Tensor) -> Tensor:
        """The latents (B, c, h, w) of images (B, C, H, W)."""
        return self.encoder((x + 1) / 2)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) of latents (B, c, h, w)."""
        return self.decoder(torch.tanh(z / _MAGNITUDE) * _MAGNITUDE) * 2 - 1

    def forward(self, x: Tensor, noise: Tensor) -> Coded:
        """Through the bottleneck and back; nothing is drawn."""
        z = self.encode(x)
        return Coded(self.decode(z), z)


class _Layers(nn.Module):
    """Layers under the name ``layers``."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _Block(nn.Module):
    """relu(conv(relu(conv(relu(conv(x))))) + x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for last in (False, False, True):
            layers += [nn.Conv2d(width, width, 3, padding=1), *([] if last else [nn.ReLU()])]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)
