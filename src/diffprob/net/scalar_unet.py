"""The way down and the middle of a U-Net with one number at the end: a scalar of an image and a time."""

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import instance, one_of, shown
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_BLOCKS, check_weights, check_widths
from diffprob.net.layers import Output
from diffprob.net.unet import UNet, UNetSpec, planar
from diffprob.net.wrapped import WrappedSpec

_ACTIVATIONS = {"silu": F.silu, "relu": F.relu, "softplus": F.softplus}
_NORMS = ("none", "group", "batch")
_POOLS = ("mean", "sum")


@dataclass(frozen=True)
class ScalarUNetSpec(WrappedSpec):
    """The settings of a `ScalarUNet`, all literals.

    The head's setting in the report that the method comes from is ``norm="batch", activation="relu"``; the defaults
    keep the samples of a batch apart and the gradient smooth.

    Args:
        body: the U-Net whose time embedding, way down and middle it has; its way up is left out.
        head_widths: channels of the head's 3x3 convolutions.
        norm: after each of them: "none", "group" (the body's groups) or "batch".
        activation: after that: "silu", "relu" or "softplus"; "relu" makes the head's gradient piecewise constant.
        pool: over the pixels, before the linear layer: "mean", or "sum", which makes the scalar grow with the image.

    Raises:
        ValueError: a field is out of range, or fields do not fit together; the message has its name and value.
    """

    body: UNetSpec
    head_widths: tuple[int, ...] = (128, 64)
    norm: str = "none"
    activation: str = "silu"
    pool: str = "mean"

    def __post_init__(self) -> None:
        instance("body", self.body, UNetSpec)
        planar("body", self.body)
        check_widths("head_widths", self.head_widths, MOST_BLOCKS)
        one_of("norm", self.norm, _NORMS)
        one_of("activation", self.activation, _ACTIVATIONS)
        one_of("pool", self.pool, _POOLS)
        if self.norm == "group" and any(width % self.body.groups for width in self.head_widths):
            widths = shown(self.head_widths)
            raise FieldError("head_widths", f"must be divisible by body.groups={self.body.groups}, got {widths}")
        check_weights("ScalarUNetSpec", [(a, b, 1) for a, b in pairwise((self.body.widths[-1], *self.head_widths))])

    def parts(self, prefix: str = "") -> dict[str, str]:
        """How the names of the parameters of each part begin, after ``prefix``, from the output back to the input.

        "head", "mid", "down.3" to "down.0" (so many as there are resolutions), "in", "time": in this order they are
        unfrozen, one after the other, where a trained body is kept at first.
        """
        downs = {f"down.{i}": f"down_blocks.{i}." for i in reversed(range(len(self.body.widths)))}
        names = {"head": "head.", "mid": "mid_block.", **downs, "in": "conv_in.", "time": "time_embedding."}
        return {part: prefix + name for part, name in names.items()}

    def build(self) -> "ScalarUNet":
        """A network with random weights from torch's global generator; on ``torch.device("meta")`` without memory."""
        return ScalarUNet(self)


class ScalarUNet(UNet):
    """Images (B, in_channels, H, W) and labels t of shape () or (B,) -> `Output` with one number a sample, (B,).

    `features` are the lowest resolution after the middle, (B, widths[-1], H / divisor, W / divisor); the
    head is convolutions with norm and activation, a pooling, and a linear layer that starts at 0. The body has the
    names and shapes of the U-Net's, so that its weights load by name. No skip connections: what the gradient with
    respect to the image knows of single pixels has gone through the strides, so it follows white noise badly.

    With ``norm="batch"`` samples of a batch depend on each other in training mode, and the gradient of their sum is not
    that of each; in evaluation mode the running statistics are used, and samples are apart.
    """

    def __init__(self, spec: ScalarUNetSpec) -> None:
        super().__init__(spec.body)
        del self.up_blocks, self.conv_norm_out, self.conv_out
        self.head = _Head(spec)

    def features(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """What the head reads: `encode`."""
        return self.encode(x, t, label)

    def read_out(self, features: Tensor) -> Output:
        """The scalar (B,) from `features`."""
        return Output(self.head(features))


class _Head(nn.Module):
    """Features (B, C, h, w) -> (B,)."""

    def __init__(self, spec: ScalarUNetSpec) -> None:
        super().__init__()
        self.activation, self.pool = _ACTIVATIONS[spec.activation], spec.pool
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        width = spec.widths[-1]
        for wanted in spec.head_widths:
            conv = nn.Conv2d(width, wanted, 3, padding=1)
            nn.init.xavier_uniform_(conv.weight)
            self.convs.append(conv)
            self.norms.append(_norm(spec, wanted))
            width = wanted
        self.linear = nn.Linear(width, 1)
        # A scalar without gradient: the first loss is that of predicting 0.
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, h: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = self.activation(norm(conv(h)))
        pooled = h.mean((2, 3)) if self.pool == "mean" else h.sum((2, 3))
        return self.linear(pooled).squeeze(1)


def _norm(spec: ScalarUNetSpec, width: int) -> nn.Module:
    if spec.norm == "group":
        return nn.GroupNorm(spec.body.groups, width, spec.body.eps)
    return nn.BatchNorm2d(width) if spec.norm == "batch" else nn.Identity()
