"""A transformer over patches of images or over tokens, with the time in its layer norms."""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import one_of, whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_BLOCKS, MOST_CLASSES, MOST_WIDTH, check_channels, check_weights
from diffprob.net.layers import Output, TimeEmbedding, split_heads

MOST_TOKENS = 16384  # attention has the square of their number


def _check_body(spec: "TransformerSpec | TokenTransformerSpec") -> None:
    """Refuse widths, layers, heads and classes that make no transformer."""
    whole("width", spec.width, 4, MOST_WIDTH)
    whole("layers", spec.layers, 1, MOST_BLOCKS)
    whole("heads", spec.heads, 1, MOST_WIDTH)
    whole("classes", spec.classes, 0, MOST_CLASSES)
    if spec.width % 2 or spec.width % spec.heads:
        raise FieldError("width", f"must be even and divisible by heads={spec.heads}, got {spec.width}")


@dataclass(frozen=True)
class TransformerSpec:
    """The settings of a `Transformer` for square images, all literals.

    Args:
        in_channels, out_channels: of the images and of the answer; twice as many where a variance is learned.
        size: height and width.
        patch_size: pixels of the side of a patch, which is one token; divides ``size``.
        width: of the tokens.
        layers: transformer blocks.
        heads: of their attention; divides ``width``.
        classes: class labels it takes, the null one included; 0 for none.

    Raises:
        ValueError: a field is out of range, or fields do not fit together; the message has its name and value.
    """

    in_channels: int = 3
    out_channels: int = 3
    size: int = 32
    patch_size: int = 2
    width: int = 128
    layers: int = 4
    heads: int = 4
    classes: int = 0

    def __post_init__(self) -> None:
        check_channels(("in_channels", self.in_channels), ("out_channels", self.out_channels))
        whole("size", self.size, 1, 4096)
        one_of("patch_size", self.patch_size, (1, 2, 4, 8, 16))
        _check_body(self)
        if self.size % self.patch_size or (self.size // self.patch_size) ** 2 > MOST_TOKENS:
            raise FieldError(
                "patch_size", f"must divide size={self.size} into at most {MOST_TOKENS} patches, got {self.patch_size}"
            )
        ends = self.patch_size**2 * (self.in_channels + self.out_channels)
        parts = [(self.width, self.width, 2 * self.layers + 1), (ends + self.classes, self.width, 1)]
        check_weights("TransformerSpec", parts)

    @property
    def widths(self) -> tuple[int, ...]:
        """One resolution."""
        return (self.width,)

    @property
    def divisor(self) -> int:
        """What height and width must be divisible by."""
        return self.patch_size

    def build(self) -> "Transformer":
        """A network with random weights from torch's global generator; on ``torch.device("meta")`` without memory."""
        return Transformer(self)


@dataclass(frozen=True)
class TokenTransformerSpec:
    """The settings of a `TokenTransformer` for sequences of levels, all literals.

    Args:
        levels: K values of a token; K itself is the mask.
        length: tokens of a sequence.
        width, layers, heads, classes: as in a `TransformerSpec`.

    Raises:
        ValueError: a field is out of range, or fields do not fit together; the message has its name and value.
    """

    levels: int = 256
    length: int = 64
    width: int = 128
    layers: int = 4
    heads: int = 4
    classes: int = 0

    def __post_init__(self) -> None:
        whole("levels", self.levels, 2, 2**16)
        whole("length", self.length, 1, MOST_TOKENS)
        _check_body(self)
        parts = [(self.width, self.width, 2 * self.layers + 1), (self.levels + self.classes, self.width, 1)]
        check_weights("TokenTransformerSpec", parts)

    @property
    def in_channels(self) -> int:
        """One: a token at each place."""
        return 1

    @property
    def out_channels(self) -> int:
        """K logits at each place."""
        return self.levels

    @property
    def widths(self) -> tuple[int, ...]:
        """One resolution."""
        return (self.width,)

    @property
    def divisor(self) -> int:
        """Any length will do."""
        return 1

    def build(self) -> "TokenTransformer":
        """A network with random weights from torch's global generator; on ``torch.device("meta")`` without memory."""
        return TokenTransformer(self)


class Body(nn.Module):
    """Tokens (B, n, width), times (B,) and labels -> tokens after their last norm, (B, n, width).

    Learned positions; in each block attention and a layer of four times the width, each behind a layer norm without
    weights whose shift and scale, and whose gate, follow from the time (adaLN-zero): at first every block is the
    identity.

    Reference: Peebles & Xie, "Scalable diffusion models with transformers" (2023), sec. 3.2.
    """

    def __init__(self, length: int, width: int, layers: int, heads: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.time_embedding = TimeEmbedding(width, width, 0, False)
        self.class_embedding = nn.Embedding(classes, width) if classes else None
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for layer in (self.modulation, *(cast(_Block, block).modulation for block in self.blocks)):
            nn.init.zeros_(layer.weight)

    def forward(self, tokens: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        if (label is None) != (self.class_embedding is None):
            raise ValueError(f"expected {'labels' if label is None else 'no labels'}: classes={self.classes}")
        embedding = self.time_embedding(t.to(tokens.device).expand(len(tokens)))
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(label)
        embedding = F.silu(embedding)
        x = tokens + self.positions
        for block in self.blocks:
            x = block(x, embedding)
        shift, scale = self.modulation(embedding)[:, None].chunk(2, dim=2)
        return self.norm(x) * (1 + scale) + shift


class _Block(nn.Module):
    """Attention and a layer for each token, both behind norms that the time moves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        moves = self.modulation(embedding)[:, None].chunk(6, dim=2)
        h = self.norm(x) * (1 + moves[1]) + moves[0]
        q, k, v = (split_heads(part, self.heads) for part in self.to_qkv(h).chunk(3, dim=2))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + moves[2] * self.to_out(attended)
        h = self.norm(x) * (1 + moves[4]) + moves[3]
        return x + moves[5] * self.mlp(h)


class Transformer(nn.Module):
    """Images (B, in_channels, size, size) and times () or (B,) -> `Output` of (B, out_channels, size, size).

    Every patch of pixels is a token. The last layer starts at zero.

    Reference: Peebles & Xie, "Scalable diffusion models with transformers" (2023), sec. 3.2.
    """

    def __init__(self, spec: TransformerSpec) -> None:
        super().__init__()
        self.spec = spec
        pixels = spec.patch_size**2
        self.patches = nn.Linear(pixels * spec.in_channels, spec.width)
        self.body = Body((spec.size // spec.patch_size) ** 2, spec.width, spec.layers, spec.heads, spec.classes)
        self.last = nn.Linear(spec.width, pixels * spec.out_channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Output:
        """The prediction; with twice as many channels out as in, the second half is ``extra``.

        Raises:
            ValueError: a shape does not fit.
        """
        output = self.image(x, t, label)
        if self.spec.out_channels == 2 * self.spec.in_channels:
            return Output(*output.chunk(2, dim=1))
        return Output(output)

    def image(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """All channels of the answer, (B, out_channels, size, size)."""
        spec = self.spec
        if x.shape[1:] != (spec.in_channels, spec.size, spec.size):
            raise ValueError(f"expected x (B, {spec.in_channels}, {spec.size}, {spec.size}), got {tuple(x.shape)}")
        tokens = F.pixel_unshuffle(x, spec.patch_size).flatten(2).transpose(1, 2)
        answer = self.last(self.body(self.patches(tokens), t, label)).transpose(1, 2)
        side = spec.size // spec.patch_size
        return F.pixel_shuffle(answer.unflatten(2, (side, side)), spec.patch_size)


class TokenTransformer(nn.Module):
    """Sequences (B, ..., length) of levels, K for the mask, and times () or (B,) -> `Output` of logits (..., K).

    Reference: Sahoo et al., "Simple and effective masked diffusion language models" (2024), app. C.
    """

    def __init__(self, spec: TokenTransformerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.tokens = nn.Embedding(spec.levels + 1, spec.width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.body = Body(spec.length, spec.width, spec.layers, spec.heads, spec.classes)
        self.last = nn.Linear(spec.width, spec.levels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Output:
        """The logits.

        Raises:
            ValueError: another length.
        """
        if x.shape[-1] != self.spec.length or x[0].numel() != self.spec.length:
            raise ValueError(f"expected sequences (B, {self.spec.length}), got {tuple(x.shape)}")
        logits = self.last(self.body(self.tokens(x.flatten(1).long()), t, label))
        return Output(logits.reshape(*x.shape, self.spec.levels))
