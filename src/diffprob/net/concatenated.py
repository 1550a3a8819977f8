"""The U-Net that sees an image beside the noisy one."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffprob.base.checks import MOST_CHANNELS, instance, whole
from diffprob.base.errors import FieldError
from diffprob.net.layers import Output
from diffprob.net.unet import Conditioning, UNet, UNetSpec
from diffprob.net.wrapped import ConditionedSpec


@dataclass(frozen=True)
class ConcatenatedUNetSpec(ConditionedSpec):
    """The settings of a `ConcatenatedUNet`, all literals.

    Args:
        body: the U-Net as it would be without the image; its ``in_channels`` are those of the data.
        extra_channels: of the image beside.

    Raises:
        ValueError: a field is out of range, or labels in the body; the message has its name and value.
    """

    body: UNetSpec
    extra_channels: int = 1

    def __post_init__(self) -> None:
        instance("body", self.body, UNetSpec)
        whole("extra_channels", self.extra_channels, 1, MOST_CHANNELS)
        if self.body.classes:
            raise FieldError("body.classes", f"must be 0 where images are told, got {self.body.classes}")

    def build(self) -> "ConcatenatedUNet":
        """A network with random weights from torch's global generator; on ``torch.device("meta")`` without memory."""
        return ConcatenatedUNet(self)


class ConcatenatedUNet(UNet):
    """A `UNet` whose first convolution reads x (B, in_channels, H, W) and an image (B, extra_channels, H, W).

    Exact when: the first convolution's weights for the image beside are zero; it then is the plain `UNet` of its body.

    Reference: Saharia et al., "Image super-resolution via iterative refinement" (2021), section 2.3.
    """

    def __init__(self, spec: ConcatenatedUNetSpec) -> None:
        super().__init__(replace(spec.body, in_channels=spec.in_channels + spec.extra_channels))
        self.own, self.extra_channels = spec.in_channels, spec.extra_channels

    def read_out(self, features: Tensor) -> Output:
        """The prediction from `features`; with twice as many channels as the data, the second half is ``extra``."""
        output = self.image(features)
        return Output(*output.chunk(2, dim=1)) if output.shape[1] == 2 * self.own else Output(output)

    def _encode(self, x: Tensor, t: Tensor, label: Tensor | None) -> tuple[Tensor, Conditioning, list[Tensor]]:
        expected = (len(x), self.extra_channels, *x.shape[2:])
        if label is None or tuple(label.shape) != expected:
            got = "none" if label is None else tuple(label.shape)
            raise ValueError(f"expected an image of shape {expected} beside x, got {got}")
        if x.shape[1] != self.own:
            raise ValueError(f"expected x of shape (B, {self.own}, H, W), got {tuple(x.shape)}")
        return super()._encode(torch.cat([x, label.to(x)], 1), t, None)
