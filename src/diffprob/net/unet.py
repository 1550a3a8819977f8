"""The U-Net of Ho et al. 2020, with the state-dict names and shapes of diffusers' UNet2DModel."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import flag, one_of, real, several, shown, whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_BLOCKS, MOST_CLASSES, MOST_WIDTH, check_channels, check_weights, check_widths
from diffprob.base.text import QUIET, text_fields
from diffprob.net.layers import (
    Attention,
    Downsample,
    Output,
    ResBlock,
    TimeEmbedding,
    Upsample,
    convolution,
    from_patches,
    to_patches,
    waves,
)
from diffprob.net.norm import group_norm

ATTENDED = 256  # positions among which attention is affordable: 16x16


def attended_levels(sides: Sequence[int], patch_size: int, levels: int) -> tuple[bool, ...]:
    """Where attention is affordable, and enough: at the first level of 16x16 positions or fewer below the first.

    Args:
        sides: of the images, signals or volumes.
        patch_size: of the network.
        levels: how many it has.
    """
    dims = len(sides)
    positions = [prod(sides) // (patch_size * 2**level) ** dims for level in range(levels)]
    return tuple(
        level > 0 and positions[level] <= ATTENDED and (level == 1 or positions[level - 1] > ATTENDED)
        for level in range(levels)
    )


@dataclass(frozen=True)
class UNetSpec:
    """The settings of a `UNet`, all literals; the defaults are Ho et al.'s for CIFAR-10 (35,746,307 parameters).

    ``widths`` and ``attention`` have one entry per level, from the full resolution down; ``layers`` is the number of
    residual blocks per level on the way down (one more on the way up); ``padding`` 0 pads the stride-2 convolutions on
    the right and bottom only; ``head_dim`` None is a single attention head; ``cosine_first`` and ``freq_shift``
    describe the time embedding; ``center_input`` maps x to 2x - 1 first; ``fourier`` has the n of further inputs
    sin(2^n pi x) and cos(2^n pi x), see `fourier_powers`; ``classes`` is the number of class labels it takes, the
    null one included, 0 for none; ``patch_size`` p makes one position of the first level of p x p pixels: the layers at
    the full resolution, the dearest, are left out; ``dims`` is 1 for signals (C, L), 2 for images (C, H, W) and 3 for
    volumes (C, D, H, W): convolutions, patches and halvings are along so many axes, and all else is the same.

    Raises:
        ValueError: a field is out of range, or fields do not fit together; the message has its name and value.
    """

    in_channels: int = 3
    out_channels: int = 3
    widths: tuple[int, ...] = (128, 256, 256, 256)
    layers: int = 2
    attention: tuple[bool, ...] = (False, True, False, False)
    mid_attention: bool = True
    head_dim: int | None = None
    groups: int = 32
    padding: int = 0
    eps: float = 1e-6
    dropout: float = 0.0
    freq_shift: int = 1
    cosine_first: bool = False
    center_input: bool = False
    fourier: tuple[int, ...] = ()
    classes: int = 0
    patch_size: int = 1
    dims: int = field(default=2, metadata={QUIET: True})

    def __post_init__(self) -> None:
        check_channels(("in_channels", self.in_channels), ("out_channels", self.out_channels))
        whole("layers", self.layers, 1, MOST_BLOCKS)
        whole("groups", self.groups, 1, MOST_WIDTH)
        check_widths("widths", self.widths)
        if not isinstance(self.attention, tuple) or len(self.attention) != len(self.widths):
            count, got = len(self.widths), shown(self.attention)
            raise FieldError("attention", f"must be a tuple of {count} booleans, one per level, got {got}")
        several("attention", self.attention, flag)
        flag("mid_attention", self.mid_attention)
        if any(width % self.groups for width in self.widths):
            raise FieldError("widths", f"must all be divisible by groups={self.groups}, got {shown(self.widths)}")
        whole("head_dim", self.head_dim, 1, MOST_WIDTH, none=True)
        attended = [w for w, attends in zip(self.widths, self.attention, strict=True) if attends]
        attended += [self.widths[-1]] if self.mid_attention else []
        if self.head_dim is not None and any(width % self.head_dim for width in attended):
            raise FieldError("head_dim", f"must divide every width with attention {attended}, got {self.head_dim}")
        one_of("padding", self.padding, (0, 1))
        real("eps", self.eps, "(0, 1]")
        real("dropout", self.dropout, "[0, 1)")
        one_of("freq_shift", self.freq_shift, (0, 1))
        for name in ("cosine_first", "center_input"):
            flag(name, getattr(self, name))
        several("fourier", self.fourier, lambda name, n: whole(name, n, 0, 16), 0, 17, "(7, 8)")
        whole("classes", self.classes, 0, MOST_CLASSES)
        one_of("patch_size", self.patch_size, (1, 2, 4, 8))
        one_of("dims", self.dims, (1, 2, 3))
        if self.widths[0] % 2 or self.widths[0] // 2 <= self.freq_shift:
            raise ValueError(f"the first width must be even and above {2 * self.freq_shift}, got {self.widths[0]}")
        first, patch = self.widths[0], self.patch_size**self.dims
        channels = patch * self.in_channels * (1 + 2 * len(self.fourier))
        ends = [(channels, first, 1), (first, patch * self.out_channels, 1), (self.classes, first, 1)]
        most = (5 * self.layers + 5) * max(1, 3 ** (self.dims - 2))
        check_weights("UNetSpec", [*ends, *((width, width, most) for width in self.widths)])

    @property
    def divisor(self) -> int:
        """What every side must be divisible by."""
        return self.patch_size * 2 ** (len(self.widths) - 1)

    def __repr__(self) -> str:
        return f"UNetSpec({', '.join(f'{name}={value!r}' for name, value in text_fields(self))})"

    def build(self) -> "UNet":
        """A network with random weights from torch's global generator; on ``torch.device("meta")`` without memory."""
        return UNet(self)


def planar(name: str, value: object) -> None:
    """Refuse a U-Net for signals or volumes where a layer around it is for images.

    Raises:
        FieldError: ``value``, in the field ``name``, is a `UNetSpec` whose ``dims`` are not 2.
    """
    if isinstance(value, UNetSpec) and value.dims != 2:
        raise FieldError(f"{name}.dims", f"must be 2 here: this network is for images, got {value.dims}")


class Conditioning(NamedTuple):
    """What every level of a network takes beside the image.

    Args:
        temb: embedding of the time, and of the label where there is one, after its SiLU, (B, temb_channels).
        context: what the attention is called with beside its input.
    """

    temb: Tensor
    context: tuple[Tensor, ...] = ()


class UNet(nn.Module):
    """U-Net (B, in_channels, H, W) and times t of shape () or (B,) -> `Output` of shape (B, out_channels, H, W).

    With ``dims`` 1 or 3 there are so many sides in place of H, W. Every side must be divisible by `UNetSpec.divisor`;
    nothing is ever padded, since that would change the dimension of the data. Any memory format works; for images
    channels-last (``net.to(memory_format=torch.channels_last)``) is the fast one.

    Weights start as in Ho et al. 2020: uniform with variance 2 / (fan_in + fan_out), biases zero, and zero for the last
    layer of every residual and attention block and of the network, and for the class embedding. diffusers keeps torch's
    default for all of them. Dropout, the one thing here that draws numbers, takes them from torch's global generator.
    """

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec
        first, hidden = spec.widths[0], 4 * spec.widths[0]
        patch, conv = spec.patch_size**spec.dims, convolution(spec.dims)
        channels = patch * spec.in_channels * (1 + 2 * len(spec.fourier))
        self.conv_in = conv(channels, first, 3, padding=1)
        self.time_embedding = TimeEmbedding(first, hidden, spec.freq_shift, spec.cosine_first)
        self.class_embedding = nn.Embedding(spec.classes, hidden) if spec.classes else None
        self.down_blocks = nn.ModuleList()
        skips, width = [first], first
        for level, outside in enumerate(spec.widths):
            inputs = [width] + [outside] * (spec.layers - 1)
            last = level == len(spec.widths) - 1
            self.down_blocks.append(
                _Level(spec, inputs, outside, spec.attention[level], "" if last else "downsamplers")
            )
            skips += [outside] * (spec.layers + (not last))
            width = outside
        self.mid_block = _Level(spec, [width, width], width, spec.mid_attention, "", attentions=1)
        self.up_blocks = nn.ModuleList()
        for level in reversed(range(len(spec.widths))):
            outside = spec.widths[level]
            inputs = [(width if i == 0 else outside) + skips.pop() for i in range(spec.layers + 1)]
            self.up_blocks.append(_Level(spec, inputs, outside, spec.attention[level], "upsamplers" if level else ""))
            width = outside
        self.conv_norm_out = nn.GroupNorm(spec.groups, first, spec.eps)
        self.conv_out = conv(first, patch * spec.out_channels, 3, padding=1)
        self._initialise()

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Output:
        """The network's raw prediction for ``x`` (B, in_channels, H, W) at the times ``t``, () or (B,), e.g. 0..999.

        Args:
            x: (B, in_channels, H, W).
            t: () or (B,).
            label: the class of each image, int64 (B,), where the network has classes.

        Raises:
            ValueError: a shape does not fit.
        """
        return self.read_out(self.features(x, t, label))

    def read_out(self, features: Tensor) -> Output:
        """The prediction from `features`; with twice as many channels out as in, the second half is ``extra``."""
        output = self.image(features)
        if self.spec.out_channels == 2 * self.spec.in_channels:
            return Output(*output.chunk(2, dim=1))
        return Output(output)

    def image(self, features: Tensor) -> Tensor:
        """All channels of the last convolution in the resolution of the image: (B, out_channels, H, W)."""
        return from_patches(self.conv_out(group_norm(self.conv_norm_out, features)), self.spec.patch_size)

    def features(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """What the last norm and convolution read: (B, widths[0], H / patch_size, W / patch_size)."""
        h, conditioning, skips = self._encode(x, t, label)
        for block in cast(Iterable[_Level], self.up_blocks):
            for i in range(len(block.resnets)):
                h = block.layer(i, torch.cat([h, skips.pop()], dim=1), conditioning)
            h = block.resample(h)
        return h

    def encode(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """The lowest resolution, after the middle block: (B, widths[-1], H / divisor, W / divisor)."""
        return self._encode(x, t, label)[0]

    def conditioning(self, t: Tensor, label: Tensor | None) -> Conditioning:
        """The conditioning of the levels on the times (B,) and the labels; another kind of condition has another.

        Raises:
            ValueError: labels for a network without classes, or none for one with them.
        """
        if (label is None) != (self.class_embedding is None):
            raise ValueError(f"expected {'labels' if label is None else 'no labels'}: classes={self.spec.classes}")
        temb = self.time_embedding(t)
        if self.class_embedding is not None:
            temb = temb + self.class_embedding(label)
        # Every residual block starts with a SiLU of the same embedding: once is enough.
        return Conditioning(F.silu(temb))

    def _encode(self, x: Tensor, t: Tensor, label: Tensor | None) -> tuple[Tensor, Conditioning, list[Tensor]]:
        self._check(x, t)
        conditioning = self.conditioning(t.to(x.device).expand(x.shape[0]), label)
        x = 2 * x - 1 if self.spec.center_input else x
        x = torch.cat([x, *waves(x, self.spec.fourier)], 1) if self.spec.fourier else x
        h = self.conv_in(to_patches(x, self.spec.patch_size))
        skips = [h]
        for block in cast(Iterable[_Level], self.down_blocks):
            for i in range(len(block.resnets)):
                h = block.layer(i, h, conditioning)
                skips.append(h)
            if block.downsamplers is not None:
                h = block.resample(h)
                skips.append(h)
        for i in range(2):
            h = self.mid_block.layer(i, h, conditioning)
        return h, conditioning, skips

    def _check(self, x: Tensor, t: Tensor) -> None:
        if x.ndim != 2 + self.spec.dims or x.shape[1] != self.spec.in_channels:
            sides = ("L", "H, W", "D, H, W")[self.spec.dims - 1]
            raise ValueError(f"expected x of shape (B, {self.spec.in_channels}, {sides}), got {tuple(x.shape)}")
        if t.shape not in ((), (x.shape[0],)):
            raise ValueError(f"expected t of shape () or ({x.shape[0]},), got {tuple(t.shape)}")
        divisor = self.spec.divisor
        if any(side % divisor for side in x.shape[2:]):
            name = ("the length", "height and width", "all three sides")[self.spec.dims - 1]
            need = f"{name} must be divisible by {divisor} for {len(self.spec.widths)} levels"
            raise ValueError(f"{need}, got {'x'.join(map(str, x.shape[2:]))}: use fewer levels")

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        last = [m.conv2 for m in self.modules() if isinstance(m, ResBlock)]
        last += [cast(nn.Linear, m.to_out[0]) for m in self.modules() if isinstance(m, Attention)]
        for module in [*last, self.conv_out]:
            nn.init.zeros_(module.weight)
        if self.class_embedding is not None:
            nn.init.zeros_(self.class_embedding.weight)


class _Level(nn.Module):
    """One resolution on the way down or up, or the middle: residual blocks, each with attention, then resampling."""

    def __init__(
        self,
        spec: UNetSpec,
        inputs: list[int],
        width: int,
        attention: bool,
        resample: str,
        attentions: int | None = None,
    ) -> None:
        super().__init__()
        settings = (4 * spec.widths[0], spec.groups, spec.eps, spec.dropout, spec.dims)
        self.resnets = nn.ModuleList(ResBlock(c, width, *settings) for c in inputs)
        count = (len(inputs) if attentions is None else attentions) if attention else 0
        self.attentions = nn.ModuleList(Attention(width, spec.head_dim, spec.groups, spec.eps) for _ in range(count))
        down, up = resample == "downsamplers", resample == "upsamplers"
        self.downsamplers = nn.ModuleList([Downsample(width, spec.padding, spec.dims)]) if down else None
        self.upsamplers = nn.ModuleList([Upsample(width, spec.dims)]) if up else None

    def layer(self, i: int, x: Tensor, conditioning: Conditioning) -> Tensor:
        """Residual block ``i`` and, where there is one, its attention."""
        x = self.resnets[i](x, conditioning.temb)
        return self.attentions[i](x, *conditioning.context) if i < len(self.attentions) else x

    def resample(self, x: Tensor) -> Tensor:
        """The change of resolution, or ``x`` itself on the last level."""
        layers = self.downsamplers if self.downsamplers is not None else self.upsamplers
        return x if layers is None else layers[0](x)
