"""A convolutional autoencoder, with the state-dict names and shapes of diffusers' AutoencoderKL."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from diffprob.base.checks import flag, one_of, real, shown, whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_BLOCKS, MOST_CLASSES, MOST_WIDTH, check_channels, check_weights, check_widths
from diffprob.net.layers import Attention, Downsample, Upsample
from diffprob.net.norm import group_norm

REGULARISERS = ("kl", "vq", "none")
_NARROWEST, _WIDEST = -30.0, 20.0  # log-variance of the posterior, beyond which it stays, as in diffusers


class Coded(NamedTuple):
    """What training works with, of images (B, C, H, W).

    Args:
        images: the reconstruction, (B, C, H, W).
        mean: of the latents, (B, c, h, w).
        log_variance: of the latents, shaped like ``mean``; None without the regulariser "kl".
        codes: the vectors of the codebook nearest to ``mean``, shaped like it; None without the regulariser "vq".
    """

    images: Tensor
    mean: Tensor
    log_variance: Tensor | None = None
    codes: Tensor | None = None


@dataclass(frozen=True)
class AutoencoderSpec:
    """The settings of an `AutoencoderNet`, all literals. It makes images smaller by the factor 2^(levels - 1).

    Args:
        in_channels: channels of the images.
        latent_channels: channels of the latents.
        widths: channels at each resolution, from the full one down by halves.
        layers: residual blocks at each resolution of the encoder; one more in the decoder.
        regulariser: "kl": latents are drawn from N(mean, variance) in training, which `Reconstruction` draws near
            N(0, 1); "vq": the decoder sees the nearest of ``codes`` vectors; "none".
        codes: vectors of the codebook of "vq".
        groups: of the group normalisation; divides every width.
        mid_attention: self-attention over the smallest maps, in encoder and decoder.
        quant_conv: a 1x1 convolution behind the encoder and one before the decoder.
        eps: of the group normalisation.

    Raises:
        ValueError: a field is out of range, or fields do not fit together; the message has its name and value.
    """

    in_channels: int = 1
    latent_channels: int = 4
    widths: tuple[int, ...] = (32, 64)
    layers: int = 1
    regulariser: str = "kl"
    codes: int = 512
    groups: int = 8
    mid_attention: bool = False
    quant_conv: bool = True
    eps: float = 1e-6

    def __post_init__(self) -> None:
        check_channels(("in_channels", self.in_channels), ("latent_channels", self.latent_channels))
        check_widths("widths", self.widths)
        whole("layers", self.layers, 1, MOST_BLOCKS)
        one_of("regulariser", self.regulariser, REGULARISERS)
        whole("codes", self.codes, 2, MOST_CLASSES)
        whole("groups", self.groups, 1, MOST_WIDTH)
        if any(width % self.groups for width in self.widths):
            raise FieldError("widths", f"must all be divisible by groups={self.groups}, got {shown(self.widths)}")
        flag("mid_attention", self.mid_attention)
        flag("quant_conv", self.quant_conv)
        real("eps", self.eps, "(0, 1]")
        ends = [(self.in_channels, self.widths[0], 2), (2 * self.latent_channels, self.widths[-1], 2)]
        body = [(width, width, 4 * self.layers + 8) for width in self.widths]
        check_weights("AutoencoderSpec", [*ends, *body, (self.codes, self.latent_channels, 1)])

    @property
    def divisor(self) -> int:
        """What height and width must be divisible by: the factor by which the latents are smaller."""
        return 2 ** (len(self.widths) - 1)

    def latent_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(c, h, w) of the latents of images (C, H, W)."""
        return self.latent_channels, shape[1] // self.divisor, shape[2] // self.divisor

    def build(self) -> "AutoencoderNet":
        """A network with random weights from torch's global generator; on ``torch.device("meta")`` without memory."""
        return AutoencoderNet(self)


class AutoencoderNet(nn.Module):
    """Images (B, C, H, W) in [-1, 1] -> latents (B, c, h, w) -> images.

    Residual blocks of group norm, SiLU and convolution; a convolution with stride 2 between the resolutions of the
    encoder, nearest-neighbour upsampling and a convolution between those of the decoder.

    Reference: Rombach et al., "High-resolution image synthesis with latent diffusion models" (2022), appendix E.1; van
    den Oord, Vinyals & Kavukcuoglu, "Neural discrete representation learning" (2017), section 3, for "vq".
    """

    def __init__(self, spec: AutoencoderSpec) -> None:
        super().__init__()
        self.spec, c = spec, spec.latent_channels
        moments = 2 * c if spec.regulariser == "kl" else c
        self.encoder = _Encoder(spec, moments)
        self.decoder = _Decoder(spec)
        self.quant_conv = nn.Conv2d(moments, moments, 1) if spec.quant_conv else None
        self.post_quant_conv = nn.Conv2d(c, c, 1) if spec.quant_conv else None
        self.quantize = _Codebook(spec.codes, c) if spec.regulariser == "vq" else None

    def latent_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(c, h, w) of the latents of images (C, H, W)."""
        return self.spec.latent_shape(shape)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance of the latents of images (B, C, H, W), each (B, c, h, w); None: they have none."""
        h = self.encoder(x)
        h = h if self.quant_conv is None else self.quant_conv(h)
        if self.spec.regulariser != "kl":
            return h, None
        mean, log_variance = h.chunk(2, dim=1)
        return mean, log_variance.clamp(_NARROWEST, _WIDEST)

    def encode(self, x: Tensor) -> Tensor:
        """Latents (B, c, h, w) of images (B, C, H, W): the mean of their posterior, for "vq" before the codebook."""
        return self.moments(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) of latents (B, c, h, w); for "vq" of the nearest codes of these."""
        return self._decode(z if self.quantize is None else self.quantize(z))

    def _decode(self, z: Tensor) -> Tensor:
        return self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z))

    def forward(self, x: Tensor, noise: Tensor) -> Coded:
        """Through the bottleneck and back, with gradients as training needs them.

        Args:
            x: images (B, C, H, W).
            noise: standard normal (B, c, h, w), which draws the latents of "kl".
        """
        mean, log_variance = self.moments(x)
        if log_variance is not None:
            return Coded(self._decode(mean + (log_variance / 2).exp() * noise), mean, log_variance)
        if self.quantize is None:
            return Coded(self._decode(mean), mean)
        codes = self.quantize(mean)
        # Straight through: the decoder sees the code, the encoder its gradient.
        return Coded(self._decode(mean + (codes - mean).detach()), mean, None, codes)


class _Codebook(nn.Module):
    """The vectors of "vq", under diffusers' name ``embedding``."""

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, channels)
        nn.init.uniform_(self.embedding.weight, -1.0 / codes, 1.0 / codes)

    def forward(self, z: Tensor) -> Tensor:
        """The vector nearest to each position of (B, c, h, w), with gradients to the codebook alone."""
        book = self.embedding.weight
        rows = z.detach().permute(0, 2, 3, 1).reshape(-1, z.shape[1]).to(book.dtype)
        distance = rows.square().sum(1, keepdim=True) - 2 * rows @ book.T + book.square().sum(1)
        nearest = self.embedding(distance.argmin(1))
        return nearest.view(z.shape[0], *z.shape[2:], z.shape[1]).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """conv(silu(norm(conv(silu(norm(x)))))) + skip (1x1 conv where widths differ)."""

    def __init__(self, in_channels: int, out_channels: int, spec: AutoencoderSpec) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(spec.groups, in_channels, spec.eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(spec.groups, out_channels, spec.eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(group_norm(self.norm2, self.conv1(group_norm(self.norm1, x))))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class _Middle(nn.Module):
    """A residual block, attention where the settings say so, a residual block."""

    def __init__(self, width: int, spec: AutoencoderSpec) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([_Block(width, width, spec), _Block(width, width, spec)])
        attention = [Attention(width, None, spec.groups, spec.eps)] if spec.mid_attention else []
        self.attentions = nn.ModuleList(attention)

    def forward(self, x: Tensor) -> Tensor:
        h = self.resnets[0](x)
        for attention in self.attentions:
            h = attention(h)
        return self.resnets[1](h)


class _Level(nn.Module):
    """The residual blocks of one resolution, and the step to the next one under the name ``step``; None: the last."""

    def __init__(self, widths: Sequence[int], spec: AutoencoderSpec, step: str, resample: nn.Module | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([_Block(before, after, spec) for before, after in pairwise(widths)])
        if resample is not None:
            self.add_module(step, nn.ModuleList([resample]))
        self.step = step if resample is not None else ""

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resnets:
            x = block(x)
        return self.get_submodule(f"{self.step}.0")(x) if self.step else x


class _Encoder(nn.Module):
    def __init__(self, spec: AutoencoderSpec, out_channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(spec.in_channels, spec.widths[0], 3, padding=1)
        levels, before = [], spec.widths[0]
        for level, width in enumerate(spec.widths):
            down = Downsample(width, padding=0) if level < len(spec.widths) - 1 else None
            levels.append(_Level([before, *[width] * spec.layers], spec, "downsamplers", down))
            before = width
        self.down_blocks = nn.ModuleList(levels)
        self.mid_block = _Middle(before, spec)
        self.conv_norm_out = nn.GroupNorm(spec.groups, before, spec.eps)
        self.conv_out = nn.Conv2d(before, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down_blocks:
            h = level(h)
        return self.conv_out(group_norm(self.conv_norm_out, self.mid_block(h)))


class _Decoder(nn.Module):
    def __init__(self, spec: AutoencoderSpec) -> None:
        super().__init__()
        before = spec.widths[-1]
        self.conv_in = nn.Conv2d(spec.latent_channels, before, 3, padding=1)
        self.mid_block = _Middle(before, spec)
        levels = []
        for level, width in enumerate(reversed(spec.widths)):
            up = Upsample(width) if level < len(spec.widths) - 1 else None
            levels.append(_Level([before, *[width] * (spec.layers + 1)], spec, "upsamplers", up))
            before = width
        self.up_blocks = nn.ModuleList(levels)
        self.conv_norm_out = nn.GroupNorm(spec.groups, before, spec.eps)
        self.conv_out = nn.Conv2d(before, spec.in_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid_block(self.conv_in(z))
        for level in self.up_blocks:
            h = level(h)
        return self.conv_out(group_norm(self.conv_norm_out, h))


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(m, v) || N(0, 1)) = (m^2 + v - log v - 1)/2 of every component, nats, shaped like ``mean``.

    Reference: Kingma & Welling, "Auto-encoding variational Bayes" (2014), appendix B.
    """
    return (mean.square() + log_variance.exp() - log_variance - 1) / 2
