"""A small transformer that reads captions: words by number, to one vector each."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_BLOCKS, MOST_CLASSES, MOST_WIDTH, check_weights
from diffprob.net.layers import mix_masked, split_heads


@dataclass(frozen=True)
class TextEncoderSpec:
    """The settings of a `TextEncoder`, all literals.

    Args:
        words: how many it knows; they have the numbers 1..words, and 0 is padding.
        length: words of the longest caption.
        width: of the vectors.
        layers: transformer blocks.
        heads: of their attention; divides ``width``.

    Raises:
        ValueError: a field is out of range; the message has its name and value.
    """

    words: int
    length: int = 8
    width: int = 64
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        whole("words", self.words, 1, MOST_CLASSES)
        whole("length", self.length, 1, 10000)
        whole("width", self.width, 1, MOST_WIDTH)
        whole("layers", self.layers, 0, MOST_BLOCKS)
        whole("heads", self.heads, 1, MOST_WIDTH)
        if self.width % self.heads:
            raise FieldError("heads", f"must divide width={self.width}, got {self.heads}")
        table = (self.words + self.length, self.width, 1)
        check_weights("TextEncoderSpec", [table, (self.width, self.width, 2 * self.layers)])

    def build(self) -> "TextEncoder":
        """A network with random weights from torch's global generator."""
        return TextEncoder(self)


class Text(NamedTuple):
    """What was read.

    Args:
        vectors: (B, tokens, width); the first belongs to the start of the caption, one follows for each word.
        mask: bool (B, tokens), false for padding.
        pooled: mean of the vectors that are no padding, (B, width).
    """

    vectors: Tensor
    mask: Tensor
    pooled: Tensor


class TextEncoder(nn.Module):
    """Numbers of words (B, length), int64 -> `Text` of length + 1 vectors.

    A start token is put before every caption, so that the empty one, all padding, is read like any other. Then token
    and position embeddings, pre-norm blocks x + attention(norm(x)), x + mlp(norm(x)), and a last norm. No vector
    depends on padding.

    Exact when: further padding follows; neither the words' vectors nor the mean change.

    Reference: Vaswani et al., "Attention is all you need" (2017); Xiong et al., "On layer normalization in the
    transformer architecture" (2020), for the place of the norms.
    """

    def __init__(self, spec: TextEncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        # Padding is never attended to, so that its row is free to be the start token's.
        self.tokens = nn.Embedding(spec.words + 1, spec.width)
        self.positions = nn.Embedding(spec.length + 1, spec.width)
        self.blocks = nn.ModuleList(_Block(spec.width, spec.heads) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.width)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=spec.width**-0.5)

    def forward(self, tokens: Tensor) -> Text:
        if tokens.ndim != 2 or tokens.dtype != torch.int64 or tokens.shape[1] > self.spec.length:
            wanted = f"int64 of shape (B, {self.spec.length}) or shorter"
            raise ValueError(f"expected words {wanted}, got {tokens.dtype} {tuple(tokens.shape)}")
        tokens = F.pad(tokens, (1, 0))
        mask = (tokens > 0) | (torch.arange(tokens.shape[1], device=tokens.device) == 0)
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        present = mask[:, :, None].to(x.dtype)
        return Text(x, mask, (x * present).sum(1) / present.sum(1))


class _Block(nn.Module):
    """Self-attention among the words, then a layer for each of them, both added to what they read."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.to_qkv(self.norm1(x)).chunk(3, dim=2))
        x = x + self.to_out(mix_masked(q, k, v, mask).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))
