"""Networks that predict the gradient of a scalar: conservative fields, whose scalar is a density's logarithm."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffprob.base.checks import instance
from diffprob.base.errors import FieldError
from diffprob.base.shapes import flat_sum
from diffprob.net.layers import Output
from diffprob.net.scalar_unet import ScalarUNet, ScalarUNetSpec
from diffprob.net.unet import UNet, UNetSpec
from diffprob.net.wrapped import WrappedSpec


@dataclass(frozen=True)
class PotentialSpec(WrappedSpec):
    """The settings of a `Potential`, all literals.

    Args:
        body: of the network whose outputs are summed, or that has one scalar.

    Raises:
        ValueError: the body is another network, or has a second output.
    """

    body: UNetSpec | ScalarUNetSpec

    def __post_init__(self) -> None:
        instance("body", self.body, (UNetSpec, ScalarUNetSpec))
        classes = self.body.classes if isinstance(self.body, UNetSpec) else self.body.body.classes
        if classes:
            raise FieldError("body.classes", f"must be 0: a potential is of x and t alone, got {classes}")
        if isinstance(self.body, UNetSpec) and self.body.out_channels != self.body.in_channels:
            raise FieldError("body.out_channels", f"must be {self.body.in_channels}, got {self.body.out_channels}")

    @property
    def out_channels(self) -> int:
        """Channels of the gradient: those of the images."""
        return self.body.in_channels

    def build(self) -> "Potential":
        """A network with random weights from torch's global generator; on ``torch.device("meta")`` without memory."""
        return Potential(self.body.build())


class Potential(nn.Module):
    """x (B, *event), t () or (B,) -> ``Output(main)``, main = grad_x F(x, t), with F the sum of the body's outputs.

    Wherever a network is expected that predicts noise, this one predicts a field with a symmetric Jacobian. It opens
    ``enable_grad`` itself and works under ``no_grad``, where it keeps no graph. Where gradients are wanted, of x or of
    the parameters, main has a graph, so a loss of it needs derivatives of derivatives; attention is then computed in
    its plain form, the only one that has them.

    What is added to F has no gradient: the last bias of a body that ends linearly (`UNet`, `ScalarUNet`) is frozen.

    Args:
        body: module with ``body(x, t) -> Output``, main of shape (B, ...), the samples of a batch kept apart.

    Exact when: always; finite differences of F are main.

    Reference: Salimans & Ho, "Should EBMs model the energy or the score?" (2021), section 2.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        if isinstance(body, UNet):
            last = body.head.linear if isinstance(body, ScalarUNet) else body.conv_out
            cast(Tensor, last.bias).requires_grad_(False)

    def potential(self, x: Tensor, t: Tensor) -> Tensor:
        """F(x, t), (B,), in the dtype of x."""
        return flat_sum(self.body(x, t).main.to(x.dtype))

    def forward(self, x: Tensor, t: Tensor) -> Output:
        """grad_x F(x, t), (B, *event), in the dtype of x."""
        kept = torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.parameters()))
        with torch.enable_grad(), _twice_differentiable(kept):
            at = x if kept and x.requires_grad else x.detach().requires_grad_()
            value = self.potential(at, t)
            # Every operation of the way back has the precision of its way forth; autocast would choose anew.
            with torch.autocast(x.device.type, enabled=False):
                (main,) = torch.autograd.grad(value.sum(), at, create_graph=kept)
        return Output(main)


@contextmanager
def _twice_differentiable(wanted: bool) -> Iterator[None]:
    """Attention without torch's fused kernels, whose gradients have no gradient."""
    if not wanted:
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield
