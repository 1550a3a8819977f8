"""A second output for a trained `UNet`: variances from the features that its own last layers read."""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import flag, one_of, real, whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_BLOCKS, MOST_WIDTH, check_channels, check_weights
from diffprob.net.layers import Output
from diffprob.net.norm import group_norm
from diffprob.net.unet import UNet, UNetSpec, planar

SHARPNESS = 5.0  # of the softplus


@dataclass(frozen=True)
class HeadSpec:
    """The settings of a `VarianceHead`, all literals.

    Args:
        channels: channels of the features it reads, ``widths[0]`` of the network.
        out_channels: channels of the data.
        groups: of the group norms.
        eps: of the group norms.
        blocks: residual blocks before the last norm and convolution: 0 is the "simple" head of the released code of Bao
            et al. ("Estimating the optimal covariance with imperfect mean", 2022), 1 comes near its "complex" one.
        patch_size: pixels of a side that one position of the features stands for, as in the network.
        positive: the answer goes through a softplus, as a likelihood needs, which knows no variance below 0.

    Raises:
        ValueError: a field is out of range, or fields do not fit together; the message has its name and value.
    """

    channels: int
    out_channels: int
    groups: int = 32
    eps: float = 1e-6
    blocks: int = 0
    patch_size: int = 1
    positive: bool = False

    def __post_init__(self) -> None:
        whole("channels", self.channels, 1, MOST_WIDTH)
        check_channels(("out_channels", self.out_channels))
        whole("groups", self.groups, 1, MOST_WIDTH)
        if self.channels % self.groups:
            raise FieldError("channels", f"must be divisible by groups={self.groups}, got {self.channels}")
        real("eps", self.eps, "(0, 1]")
        whole("blocks", self.blocks, 0, MOST_BLOCKS)
        one_of("patch_size", self.patch_size, (1, 2, 4, 8))
        flag("positive", self.positive)
        check_weights("HeadSpec", [(self.channels, self.channels, 2 * self.blocks + 1)])

    @classmethod
    def reading(cls, net: UNetSpec, blocks: int = 0, positive: bool = False) -> "HeadSpec":
        """The head that reads the features of such a network: one variance for every element of its input."""
        planar("network", net)
        return cls(net.widths[0], net.in_channels, net.groups, net.eps, blocks, net.patch_size, positive)

    def build(self) -> "VarianceHead":
        """A head that answers 1 everywhere; only with ``blocks`` does it draw from torch's global generator."""
        return VarianceHead(self)


class VarianceHead(nn.Module):
    """Features (B, channels, H, W) -> variances in units of unit data's (B, out_channels, H, W).

    Residual blocks (if any), GN, SiLU, 3x3 convolution with weight 0 and a bias that makes the answer 1: untrained it
    says that the data is N(0, I). The answer h is linear in the last features and may be negative, and whoever makes a
    variance of it cuts it at 0; with ``positive`` it is softplus(5 h)/5. It is computed in the precision of its own
    weights, also where the network runs under autocast.
    """

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.spec = spec
        self.blocks = nn.ModuleList(_Block(spec) for _ in range(spec.blocks))
        self.norm = nn.GroupNorm(spec.groups, spec.channels, spec.eps)
        self.conv = nn.Conv2d(spec.channels, spec.patch_size**2 * spec.out_channels, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        one = math.log(math.expm1(SHARPNESS)) / SHARPNESS if spec.positive else 1.0
        nn.init.constant_(cast(Tensor, self.conv.bias), one)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            h = features.to(self.conv.weight.dtype)
            if torch.is_grad_enabled() and not h.requires_grad and h.device.type == "cpu":
                # torch 2.13 crashes in the backward pass of a channels-last group norm whose input wants no gradient.
                h = h.contiguous()
            for block in self.blocks:
                h = block(h)
            h = F.pixel_shuffle(self.conv(group_norm(self.norm, h)), self.spec.patch_size)
            return F.softplus(SHARPNESS * h) / SHARPNESS if self.spec.positive else h


class _Block(nn.Module):
    """GN, SiLU, conv, GN, SiLU, conv with weight 0, + skip; the features already depend on the time."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(spec.groups, spec.channels, spec.eps)
        self.conv1 = nn.Conv2d(spec.channels, spec.channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(spec.groups, spec.channels, spec.eps)
        self.conv2 = nn.Conv2d(spec.channels, spec.channels, 3, padding=1)
        for conv in (self.conv1, self.conv2):
            nn.init.zeros_(cast(Tensor, conv.bias))
        nn.init.xavier_uniform_(self.conv1.weight)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(group_norm(self.norm2, self.conv1(group_norm(self.norm1, x))))


class HeadedUNet(nn.Module):
    """A `UNet` with a second output from the same pass: ``Output(main, extra)``, extra = head(features).

    ``main`` has the bits of the network alone; a learned variance of its own is replaced by the head's.

    Args:
        net: the network.
        head: module from its features (B, widths[0], H, W) to ``extra``, usually a `VarianceHead`; ``nn.Identity()``
            hands out the features themselves.
    """

    def __init__(self, net: UNet, head: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.head = head

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Output:
        features = self.net.features(x, t, label)
        return Output(self.net.read_out(features).main, self.head(features))
