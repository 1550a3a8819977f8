"""The way down and the middle of a U-Net with a linear layer at the end: a classifier conditioned on the time."""

from dataclasses import dataclass

from torch import Tensor, nn

from diffprob.base.checks import instance, whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_CLASSES, check_weights
from diffprob.net.norm import group_norm
from diffprob.net.unet import UNet, UNetSpec, planar
from diffprob.net.wrapped import WrappedSpec


@dataclass(frozen=True)
class NoisyClassifierSpec(WrappedSpec):
    """The settings of a `NoisyClassifierNet`, all literals.

    Args:
        body: the U-Net whose time embedding, way down and middle it has; its way up is left out.
        classes: number of classes, >= 2.

    Raises:
        ValueError: a field is out of range, or fields do not fit together; the message has its name and value.
    """

    body: UNetSpec
    classes: int = 10

    def __post_init__(self) -> None:
        instance("body", self.body, UNetSpec)
        planar("body", self.body)
        if self.body.classes:
            raise FieldError("body.classes", f"must be 0: labels are what it is to find, got {self.body.classes}")
        whole("classes", self.classes, 2, MOST_CLASSES)
        check_weights("NoisyClassifierSpec", [(self.classes, self.body.widths[-1], 1)])

    def build(self) -> "NoisyClassifierNet":
        """A network with random weights from torch's global generator; on ``torch.device("meta")`` without memory."""
        return NoisyClassifierNet(self)


class NoisyClassifierNet(UNet):
    """Images (B, in_channels, H, W) and times t of shape () or (B,) -> logits (B, classes).

    `features` are the lowest resolution after the middle block; the head is a group norm with SiLU, the mean over the
    positions and a linear layer that starts at 0, so that every class begins equally likely. The body has the names and
    shapes of the U-Net's: the weights of a denoiser load by name. Group normalisation keeps the samples apart.

    Reference: the half U-Net of Dhariwal & Nichol, "Diffusion models beat GANs on image synthesis" (2021), section 4,
    with a mean in the place of their attention pooling.
    """

    def __init__(self, spec: NoisyClassifierSpec) -> None:
        super().__init__(spec.body)
        del self.up_blocks, self.conv_norm_out, self.conv_out
        width = spec.body.widths[-1]
        self.head_norm = nn.GroupNorm(spec.body.groups, width, spec.body.eps)
        self.head = nn.Linear(width, spec.classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.head(group_norm(self.head_norm, self.features(x, t)).mean((2, 3)))

    def features(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """What the head reads, (B, widths[-1], H / divisor, W / divisor)."""
        return self.encode(x, t, label)
