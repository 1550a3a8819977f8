"""A U-Net whose width is multiplied at every level, with attention at the lowest: the thesis's network for colour."""

from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import flag, real, several, whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import (
    MOST_BLOCKS,
    MOST_CLASSES,
    MOST_LEVELS,
    MOST_WIDTH,
    check_channels,
    check_weights,
    check_widths,
)
from diffprob.net.layers import Attention, Downsample, Output, ResBlock, TimeEmbedding
from diffprob.net.norm import group_norm

_LAST_GROUPS = 8
_EPS = 1e-5


@dataclass(frozen=True)
class EpsilonThetaSpec:
    """The settings of an `EpsilonTheta`; the defaults have 105,272,579 parameters.

    Args:
        in_channels, out_channels: of the images, and of the answer.
        features: F, channels before the first level.
        multipliers: by how much each level is wider than the one before, so that widths are cumulative products: (1, 2,
            2, 4) of 64 are 64, 128, 256, 1024.
        blocks: residual blocks of a level on the way down; one more on the way up.
        groups: of the group normalisation in the blocks.
        dropout: within the residual blocks.
        norm_attention: whether attention normalises its input. The published code makes and counts these norms, but
            never applies them; False leaves them out.
        classes: labels that it takes, the null one included, as `Labels.rows` counts them; 0: none.

    Raises:
        ValueError: a field is out of range; the message has its name and value.
    """

    in_channels: int = 3
    out_channels: int = 3
    features: int = 64
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    blocks: int = 1
    groups: int = 32
    dropout: float = 0.1
    norm_attention: bool = True
    classes: int = 0

    def __post_init__(self) -> None:
        check_channels(("in_channels", self.in_channels), ("out_channels", self.out_channels))
        whole("blocks", self.blocks, 1, MOST_BLOCKS)
        whole("groups", self.groups, 1, MOST_WIDTH)
        whole("features", self.features, 1, MOST_WIDTH)
        if self.features % self.groups or self.features % _LAST_GROUPS:
            raise FieldError(
                "features", f"must be divisible by groups={self.groups} and by {_LAST_GROUPS}, got {self.features}"
            )
        several("multipliers", self.multipliers, lambda name, n: whole(name, n, 1, 64), 1, MOST_LEVELS, "(1, 2, 2)")
        check_widths("features times the multipliers", self.widths)
        real("dropout", self.dropout, "[0, 1)")
        flag("norm_attention", self.norm_attention)
        whole("classes", self.classes, 0, MOST_CLASSES)
        blocks = [(width, width, 5 * self.blocks + 8) for width in self.widths]
        check_weights("EpsilonThetaSpec", [*blocks, (self.classes, self.features, 1)])

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution, from the full one down by halves."""
        return tuple(self.features * product for product in accumulate(self.multipliers, mul))

    def build(self) -> "EpsilonTheta":
        """A network with torch's default weights; on ``torch.device("meta")`` without memory."""
        return EpsilonTheta(self)


class EpsilonTheta(nn.Module):
    """x (B, in_channels, H, W) and t (B,) or (), e.g. 0..999 -> `Output` of shape (B, out_channels, H, W).

    Height and width must be divisible by 2^(levels - 1). Only the last level and the middle have attention, with one
    head of full width. Two quirks of the published code are decided here: widths do multiply from level to level, and
    the norm of the attention is applied (``norm_attention``). Weights begin as torch's defaults, like the published
    ones, not at zero where the `UNet` of Ho et al. has zeros; the class embedding begins at zero. Dropout draws from
    torch's global generator.

    Reference: Borowiecki, "COMP3547 deep learning" (the code on which the thesis's CIFAR experiments stand).
    """

    def __init__(self, spec: EpsilonThetaSpec) -> None:
        super().__init__()
        self.spec = spec
        width, hidden, lowest = spec.features, 4 * spec.features, len(spec.multipliers) - 1
        self.time_embedding = TimeEmbedding(width, hidden, 1, False)
        self.class_embedding = nn.Embedding(spec.classes, hidden) if spec.classes else None
        self.first = nn.Conv2d(spec.in_channels, width, 3, padding=1)
        skips = [width]
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, outside in enumerate(spec.widths):
            for _ in range(spec.blocks):
                self.downs.append(_Block(spec, width, outside, level == lowest))
                width = outside
                skips.append(width)
            if level < lowest:
                self.downs.append(_Resample(Downsample(width, 1)))
                skips.append(width)
        self.middle = nn.ModuleList([_Block(spec, width, width, True), _Block(spec, width, width, False)])
        for level, above in reversed(list(enumerate((spec.features, *spec.widths[:-1])))):
            for i in range(spec.blocks + 1):
                outside = above if i == spec.blocks else width
                self.ups.append(_Block(spec, width + skips.pop(), outside, level == lowest))
                width = outside
            if level:
                self.ups.append(_Resample(nn.ConvTranspose2d(width, width, 4, 2, 1)))
        self.last_norm = nn.GroupNorm(_LAST_GROUPS, width, _EPS)
        self.last = nn.Conv2d(width, spec.out_channels, 3, padding=1)
        if self.class_embedding is not None:
            nn.init.zeros_(self.class_embedding.weight)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Output:
        self._check(x, t, label)
        temb = self.time_embedding(t.to(x.device).expand(len(x)))
        if self.class_embedding is not None:
            temb = temb + self.class_embedding(label)
        temb = F.silu(temb)
        h = self.first(x)
        skips = [h]
        for layer in self.downs:
            h = layer(h, temb)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, temb)
        for layer in self.ups:
            h = layer(h if isinstance(layer, _Resample) else torch.cat([h, skips.pop()], 1), temb)
        output = self.last(group_norm(self.last_norm, h))
        if self.spec.out_channels == 2 * self.spec.in_channels:
            return Output(*output.chunk(2, dim=1))
        return Output(output)

    def _check(self, x: Tensor, t: Tensor, label: Tensor | None) -> None:
        factor = 2 ** (len(self.spec.multipliers) - 1)
        if x.ndim != 4 or x.shape[1] != self.spec.in_channels or x.shape[2] % factor or x.shape[3] % factor:
            wanted = f"(B, {self.spec.in_channels}, H, W) with H and W divisible by {factor}"
            raise ValueError(f"expected x of shape {wanted}, got {tuple(x.shape)}")
        if t.shape not in ((), (len(x),)):
            raise ValueError(f"expected t of shape () or ({len(x)},), got {tuple(t.shape)}")
        if (label is None) != (self.class_embedding is None):
            raise ValueError(f"expected {'labels' if label is None else 'no labels'}: classes={self.spec.classes}")


class _Block(nn.Module):
    """A residual block and, where wanted, its attention."""

    def __init__(self, spec: EpsilonThetaSpec, in_channels: int, out_channels: int, attention: bool) -> None:
        super().__init__()
        self.residual = ResBlock(in_channels, out_channels, 4 * spec.features, spec.groups, _EPS, spec.dropout)
        kind = Attention if spec.norm_attention else _Unnormed
        self.attention = kind(out_channels, None, spec.groups, _EPS) if attention else None

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        h = self.residual(x, temb)
        return h if self.attention is None else self.attention(h)


class _Unnormed(Attention):
    """Attention as the published code computes it."""

    def __init__(self, channels: int, head_dim: int | None, groups: int, eps: float) -> None:
        super().__init__(channels, head_dim, groups, eps)
        del self.group_norm

    def normed(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        return x


class _Resample(nn.Module):
    """A change of resolution, which the time does not enter."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, _temb: Tensor) -> Tensor:
        return cast(Tensor, self.layer(x))
