"""The building blocks of the U-Net, under the names that diffusers gives them in a state dict."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.net.norm import group_norm

# From this many pixels of the smaller map on, the transposed convolution of `Upsample` is the faster way on a CPU.
_REPAYING_PIXELS = 512


class Output(NamedTuple):
    """What every network returns: ``main`` feeds the prediction, ``extra`` the learned variances."""

    main: Tensor
    extra: Tensor | None = None


def sinusoids(t: Tensor, dim: int, shift: int = 1, cosine_first: bool = False) -> Tensor:
    """Sinusoidal embedding of the labels ``t`` (B,) -> (B, dim), in the floating dtype of ``t``.

    [sin(t f_k), cos(t f_k)] with f_k = exp(-ln(10000) k / (dim/2 - shift)), k = 0..dim/2 - 1; the cosines come first
    where ``cosine_first``. DDPM: shift 1 and sines first; iDDPM: shift 0 and cosines first.

    Reference: Vaswani et al. 2017, section 3.5, as in the code of Ho et al. 2020.
    """
    half = dim // 2
    exponent = -math.log(10000.0) * torch.arange(half, dtype=t.dtype, device=t.device) / (half - shift)
    angle = t[:, None] * exponent.exp()
    parts = (angle.cos(), angle.sin()) if cosine_first else (angle.sin(), angle.cos())
    return torch.cat(parts, dim=1)


def waves(x: Tensor, powers: Sequence[int]) -> Iterator[Tensor]:
    """sin(2^n pi x) and cos(2^n pi x) for every n, shaped like x: what lets a network see the last bits of its input.

    Reference: Kingma et al., "Variational diffusion models" (2021), appendix C.
    """
    for n in powers:
        angle = 2.0**n * math.pi * x
        yield angle.sin()
        yield angle.cos()


def fourier_powers(levels: int) -> tuple[int, int]:
    """The n of `waves` whose periods are two grey levels and one: (7, 8) for 256 levels, which are 2/255 apart."""
    if levels < 3:
        raise ValueError(f"levels must be at least 3, got {levels}")
    one = round(math.log2(levels - 1))
    return one - 1, one


class TimeEmbedding(nn.Module):
    """Labels (B,) -> (B, hidden): sinusoids, then linear, SiLU, linear.

    The sinusoids are float32 whatever the dtype of the weights, and float64 with float64 weights: in bfloat16 the label
    999 is 1000. Autocast is off throughout.
    """

    def __init__(self, dim: int, hidden: int, shift: int, cosine_first: bool) -> None:
        super().__init__()
        self.dim, self.shift, self.cosine_first = dim, shift, cosine_first
        self.linear_1 = nn.Linear(dim, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    def forward(self, t: Tensor) -> Tensor:
        weights = self.linear_1.weight.dtype
        precise = torch.float64 if weights == torch.float64 else torch.float32
        with torch.autocast(t.device.type, enabled=False):
            waves = sinusoids(t.to(precise), self.dim, self.shift, self.cosine_first).to(weights)
            return self.linear_2(F.silu(self.linear_1(waves)))


def convolution(dims: int) -> type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]:
    """The convolution over that many axes: 1, 2 or 3."""
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]


def to_patches(x: Tensor, size: int) -> Tensor:
    """Channels of blocks: (B, C, *sides) -> (B, C size^dims, *sides / size); of images, torch's ``pixel_unshuffle``."""
    if x.ndim == 4 or size == 1:
        return F.pixel_unshuffle(x, size) if x.ndim == 4 else x
    dims = x.ndim - 2
    blocks = x.reshape(*x.shape[:2], *(part for side in x.shape[2:] for part in (side // size, size)))
    inside, outside = range(3, 3 + 2 * dims, 2), range(2, 2 + 2 * dims, 2)
    return blocks.permute(0, 1, *inside, *outside).flatten(1, 1 + dims)


def from_patches(x: Tensor, size: int) -> Tensor:
    """The inverse of `to_patches`: (B, C size^dims, *sides) -> (B, C, *size sides)."""
    if x.ndim == 4 or size == 1:
        return F.pixel_shuffle(x, size) if x.ndim == 4 else x
    dims = x.ndim - 2
    blocks = x.unflatten(1, (-1, *[size] * dims))
    order = [axis for i in range(dims) for axis in (2 + dims + i, 2 + i)]
    return blocks.permute(0, 1, *order).reshape(len(x), -1, *(size * side for side in x.shape[2:]))


class ResBlock(nn.Module):
    """Residual block: GN, SiLU, conv, + linear(temb), GN, SiLU, dropout, conv, + skip (1x1 conv where widths differ).

    ``temb`` is the time embedding after its SiLU, (B, temb_channels): every block needs the same one. Reference: Ho et
    al. 2020, appendix B.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        temb_channels: int,
        groups: int,
        eps: float,
        dropout: float,
        dims: int = 2,
    ) -> None:
        super().__init__()
        conv = convolution(dims)
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = conv(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb_channels, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = conv(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        h = self.conv1(group_norm(self.norm1, x))
        h = self.conv2(self.dropout(group_norm(self.norm2, h, self.time_emb_proj(temb))))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """Self-attention over the positions: GN, softmax(q k^T / sqrt(head_dim)) v, linear, + skip; None is one head."""

    def __init__(self, channels: int, head_dim: int | None, groups: int, eps: float) -> None:
        super().__init__()
        self.heads = channels // (head_dim or channels)
        self.group_norm = nn.GroupNorm(groups, channels, eps)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def normed(self, x: Tensor) -> Tensor:
        """What queries, keys and values are made from, shaped like ``x``."""
        return group_norm(self.group_norm, x, silu=False)

    def forward(self, x: Tensor) -> Tensor:
        # In channels-last memory this and the way back are views.
        tokens = self.normed(x).movedim(1, -1).reshape(len(x), -1, x.shape[1])
        heads = (*tokens.shape[:2], self.heads, tokens.shape[2] // self.heads)
        q, k, v = (layer(tokens).view(heads).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v))
        attended = _mix(q, k, v).transpose(1, 2).reshape(tokens.shape)
        return x + self.to_out[0](attended).view(len(x), *x.shape[2:], x.shape[1]).movedim(-1, 1)


def _mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v for (B, heads, tokens, head_dim).

    Written out for short sequences in training on a CPU: the gradient of torch's fused kernel takes up to five times as
    long there in bfloat16, and has no derivative of its own.
    """
    if q.device.type != "cpu" or q.shape[2] > 256 or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v)
    batch, heads = q.shape[:2]
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))
    weights = torch.softmax(torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(1, 2)), dim=-1)
    return torch.bmm(weights, v).unflatten(0, (batch, heads))


def mix_masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v over the keys whose ``mask`` is true.

    Args:
        q, k, v: (B, heads, tokens, head_dim).
        mask: bool (B, tokens of k), at least one true in every row.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return torch.softmax(scores.masked_fill(~mask[:, None, None], -torch.inf), dim=-1) @ v


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, tokens, channels) -> (B, heads, tokens, channels / heads)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


class Downsample(nn.Module):
    """Halve every side: conv 3x3 with stride 2, padded all round, or (``padding=0``) on the right and bottom."""

    def __init__(self, channels: int, padding: int, dims: int = 2) -> None:
        super().__init__()
        self.conv = convolution(dims)(channels, channels, 3, stride=2, padding=padding)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1) * (x.ndim - 2)) if self.padding == 0 else x)


class Upsample(nn.Module):
    """Double every side: nearest neighbour, then conv 3x3, of images computed as one transposed convolution.

    Nearest upsampling is a transposed convolution with a 2x2 kernel of ones and stride 2. Followed by a 3x3 kernel w it
    is one with a 4x4 kernel, along each axis K = (w2, w1 + w2, w0 + w1, w0): 4 products for an output pixel instead of
    9, and no enlarged map in memory. The parameter stays the 3x3 kernel. Few pixels do not repay the making of K.
    """

    def __init__(self, channels: int, dims: int = 2) -> None:
        super().__init__()
        self.conv = convolution(dims)(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            for axis in range(2, x.ndim):
                x = x.repeat_interleave(2, axis)
            return self.conv(x)
        batch, channels, height, width = x.shape
        if x.device.type != "cpu" or batch * height * width < _REPAYING_PIXELS:
            # F.interpolate would do the same, but Inductor loses gradients around it (torch 2.13).
            rows = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(-1, -1, 2, -1, 2, -1)
            rows = rows.reshape(batch, 2 * height, 2 * width, channels)
            return self.conv(rows.permute(0, 3, 1, 2))
        kernel = self.conv.weight.transpose(0, 1).reshape(-1, 9)
        # Made here, not kept: a constant outside the state dict would be lost by to_empty and meta devices.
        reach = torch.arange(3, device=x.device)[:, None] + torch.arange(4, device=x.device)
        axis = ((reach == 2) | (reach == 3)).to(kernel.dtype)
        with torch.autocast(x.device.type, enabled=False):
            kernel = kernel @ (axis[:, None, :, None] * axis[:, None, :]).view(9, 16)
        return F.conv_transpose2d(x, kernel.view(channels, channels, 4, 4), self.conv.bias, stride=2, padding=1)
