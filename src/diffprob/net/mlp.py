"""A network for rows of numbers: residual layers conditioned on the time."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_BLOCKS, MOST_WIDTH, check_weights
from diffprob.net.layers import Output, TimeEmbedding


@dataclass(frozen=True)
class MLPSpec:
    """The settings of an `MLP`, all literals.

    Args:
        features: numbers in a row, and in the answer.
        width: of the layers.
        depth: residual blocks, of two layers each.
        embedding: sinusoids of the time, an even number from 4.

    Raises:
        ValueError: a field is out of range; the message has its name and value.
    """

    features: int
    width: int = 128
    depth: int = 3
    embedding: int = 64

    def __post_init__(self) -> None:
        whole("features", self.features, 1, 10**6)
        whole("width", self.width, 1, MOST_WIDTH)
        whole("depth", self.depth, 1, MOST_BLOCKS)
        whole("embedding", self.embedding, 4, MOST_WIDTH)
        if self.embedding % 2:
            raise FieldError("embedding", f"must be an even number from 4, got {self.embedding}")
        check_weights("MLPSpec", [(self.features, self.width, 2), (self.width, self.width, 2 * self.depth)])

    @property
    def in_channels(self) -> int:
        """Numbers in a row."""
        return self.features

    @property
    def out_channels(self) -> int:
        """Numbers in the answer."""
        return self.features

    @property
    def shape(self) -> tuple[int]:
        """Of a row."""
        return (self.features,)

    @property
    def widths(self) -> tuple[int]:
        """Of the layers: there is one resolution."""
        return (self.width,)

    def build(self) -> "MLP":
        """A network with random weights from torch's global generator, whose answer is 0."""
        return MLP(self)


class MLP(nn.Module):
    """Rows (B, features) and labels t (B,) -> `Output` of shape (B, features).

    A linear layer into ``width``, blocks h + linear(SiLU(linear(SiLU(h)) + linear(SiLU(temb)))), SiLU, a linear layer
    back. There is no normalisation: an answer depends on its row and its t alone, and is smooth in both. The last layer
    of the network and of every block starts at 0, so that an untrained network that predicts v says that the data is
    N(0, I).
    """

    def __init__(self, spec: MLPSpec) -> None:
        super().__init__()
        self.spec = spec
        self.inside = nn.Linear(spec.features, spec.width)
        self.time_embedding = TimeEmbedding(spec.embedding, spec.width, shift=1, cosine_first=False)
        self.blocks = nn.ModuleList(_Block(spec.width) for _ in range(spec.depth))
        self.outside = _zero(nn.Linear(spec.width, spec.features))

    def forward(self, x: Tensor, t: Tensor) -> Output:
        temb = F.silu(self.time_embedding(t.expand(len(x)) if t.ndim == 0 else t))
        h = self.inside(x)
        for block in self.blocks:
            h = block(h, temb)
        return Output(self.outside(F.silu(h)))


class _Block(nn.Module):
    """Two layers with the time between them, + skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.time = nn.Linear(width, width)
        self.second = _zero(nn.Linear(width, width))

    def forward(self, h: Tensor, temb: Tensor) -> Tensor:
        return h + self.second(F.silu(self.first(F.silu(h)) + self.time(temb)))


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
