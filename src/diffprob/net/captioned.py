"""The U-Net that reads a caption: its attention looks at the pixels, then at the words."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import instance, whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_WIDTH
from diffprob.net.layers import Attention, mix_masked, split_heads
from diffprob.net.norm import group_norm
from diffprob.net.text import Text, TextEncoderSpec
from diffprob.net.unet import Conditioning, UNet, UNetSpec, planar
from diffprob.net.wrapped import ConditionedSpec


@dataclass(frozen=True)
class CaptionedUNetSpec(ConditionedSpec):
    """The settings of a `CaptionedUNet`, all literals.

    Args:
        body: the U-Net; its levels with attention, and its middle, attend to the words one by one.
        text: how captions are read.
        heads: of the attention to the words; divides the width of every level that has it.

    Raises:
        ValueError: fields do not fit together; the message has their names and values.
    """

    body: UNetSpec
    text: TextEncoderSpec
    heads: int = 4

    def __post_init__(self) -> None:
        instance("body", self.body, UNetSpec)
        planar("body", self.body)
        instance("text", self.text, TextEncoderSpec)
        if self.body.classes:
            raise FieldError("body.classes", f"must be 0 where captions are told, got {self.body.classes}")
        attended = [w for w, attends in zip(self.body.widths, self.body.attention, strict=True) if attends]
        attended += [self.body.widths[-1]] if self.body.mid_attention else []
        if not attended:
            raise FieldError("body.attention", "must have a level with attention, or body.mid_attention be True")
        whole("heads", self.heads, 1, MOST_WIDTH)
        if any(width % self.heads for width in attended):
            raise FieldError("heads", f"must divide every width with attention {attended}, got {self.heads}")

    def build(self) -> "CaptionedUNet":
        """A network with random weights from torch's global generator; on ``torch.device("meta")`` without memory."""
        return CaptionedUNet(self)


class CaptionedUNet(UNet):
    """A `UNet` with the words' numbers, int64 (B, length), for a label; 0 is padding, and a row of it no caption.

    After every self-attention the pixels attend to the caption's vectors, x + linear(softmax(q k^T / sqrt(d)) v) with
    queries of the normed pixels and of their places; the mean of the vectors is added to the time embedding. Without
    the places a word is hardly ever bound to one side of the image: both digits of "a three left of a five" are drawn,
    in either order. Both begin at zero: with its first weights it is the plain `UNet` of its body. The names of the
    body's weights are those of a `UNet`, so that it can begin with the weights of one.

    Exact when: the last layers of both are zero; captions then change nothing.

    Reference: Rombach et al., "High-resolution image synthesis with latent diffusion models" (2022), section 3.3;
    Nichol et al., "GLIDE" (2021), section 3, for the mean in the time embedding; Jaegle et al., "Perceiver IO" (2022),
    section 3.2, for queries made of Fourier features of the places.
    """

    def __init__(self, spec: CaptionedUNetSpec) -> None:
        super().__init__(spec.body)
        self.text = spec.text.build()
        self.pooled = nn.Linear(spec.text.width, 4 * spec.body.widths[0])
        for level in chain(self.down_blocks, [self.mid_block], self.up_blocks):
            own = cast(Iterable[Attention], level.attentions)
            level.attentions = nn.ModuleList(_WithWords(attention.group_norm.num_channels, spec) for attention in own)
        self._initialise()
        last = [m.words.to_out for m in self.modules() if isinstance(m, _WithWords)]
        for module in [*last, self.pooled]:
            nn.init.zeros_(module.weight)

    def conditioning(self, t: Tensor, label: Tensor | None) -> Conditioning:
        """The conditioning of the levels on the times (B,) and the captions (B, length).

        Raises:
            ValueError: no captions, or none of such a shape.
        """
        if label is None:
            raise ValueError("expected captions: int64 numbers of words (B, length), 0 for padding")
        text: Text = self.text(label)
        return Conditioning(F.silu(self.time_embedding(t) + self.pooled(text.pooled)), (text.vectors, text.mask))


class _WithWords(Attention):
    """Self-attention over the pixels, then attention from each to the words."""

    def __init__(self, channels: int, spec: CaptionedUNetSpec) -> None:
        super().__init__(channels, spec.body.head_dim, spec.body.groups, spec.body.eps)
        self.words = _ToWords(channels, spec)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        return self.words(super().forward(x), *context)


class _ToWords(nn.Module):
    """x + linear(softmax(q k^T / sqrt(head_dim)) v): queries from pixels and places, keys and values from the words."""

    def __init__(self, channels: int, spec: CaptionedUNetSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.norm = nn.GroupNorm(spec.body.groups, channels, spec.body.eps)
        self.place = nn.Linear(4 * len(_WAVES), channels, bias=False)
        self.to_q, self.to_out = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.to_k, self.to_v = nn.Linear(spec.text.width, channels), nn.Linear(spec.text.width, channels)

    def forward(self, x: Tensor, vectors: Tensor, mask: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        pixels = group_norm(self.norm, x, silu=False).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        pixels = pixels + self.place(_places(height, width, pixels))
        parts = (self.to_q(pixels), self.to_k(vectors), self.to_v(vectors))
        q, k, v = (split_heads(part, self.heads) for part in parts)
        attended = self.to_out(mix_masked(q, k, v, mask).transpose(1, 2).flatten(2))
        return x + attended.view(batch, height, width, channels).permute(0, 3, 1, 2)


_WAVES = (1.0, 2.0, 4.0)  # half periods over the image: the first tells one side from the other


def _places(height: int, width: int, like: Tensor) -> Tensor:
    """Sines and cosines of the places of pixels, (height width, 4 waves): alike for every size of one image."""

    def along(size: int) -> Tensor:
        middles = (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) / size
        angles = torch.pi * middles[:, None] * torch.tensor(_WAVES, dtype=like.dtype, device=like.device)
        return torch.cat([angles.sin(), angles.cos()], 1)

    rows, columns = along(height)[:, None], along(width)[None]
    return torch.cat([rows.expand(height, width, -1), columns.expand(height, width, -1)], 2).flatten(0, 1)
