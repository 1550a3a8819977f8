"""A network whose answer is an energy: one number for each image, of a density proportional to exp(-E)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import flag, one_of, whole
from diffprob.base.limits import MOST_BLOCKS, check_channels, check_weights, check_widths

_LEAK = 0.2


@dataclass(frozen=True)
class EnergySpec:
    """The settings of an `EnergyNet`, all literals.

    Args:
        in_channels: channels of the images.
        widths: channels of each resolution; every resolution after the first halves the one before.
        blocks: residual blocks at each resolution.
        activation: "silu", which is smooth, as score matching wants it, or "leaky" (leaky ReLU).
        spectral: divide the weight of every layer by its largest singular value, so that the energy cannot become
            steep.

    Raises:
        ValueError: a field is out of range; the message has its name and value.
    """

    in_channels: int = 1
    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    activation: str = "silu"
    spectral: bool = False

    def __post_init__(self) -> None:
        check_channels(("in_channels", self.in_channels))
        check_widths("widths", self.widths)
        whole("blocks", self.blocks, 1, MOST_BLOCKS)
        one_of("activation", self.activation, ("silu", "leaky"))
        flag("spectral", self.spectral)
        check_weights("EnergySpec", [(width, width, 2 * self.blocks + 1) for width in self.widths])

    def build(self) -> "EnergyNet":
        """A new network with torch's default initialisation."""
        return EnergyNet(self)


class EnergyNet(nn.Module):
    """Images (B, C, H, W) -> energies E (B,): p(x) is proportional to exp(-E(x)), and lower energy is denser.

    Convolution; residual blocks, halving the resolution between widths by averages; the sum over all pixels; a linear
    layer, always in the precision of its weights. Nothing couples the images of a batch, and there are no buffers: the
    largest singular values of ``spectral`` are computed exactly, not by power iterations that remember.

    Reference: Du & Mordatch, "Implicit generation and modeling with energy-based models" (2019), appendix A.3; Miyato
    et al., "Spectral normalization for generative adversarial networks" (2018), eq. 8.
    """

    def __init__(self, spec: EnergySpec) -> None:
        super().__init__()
        self.spec = spec
        self.conv_in = _Conv(spec.in_channels, spec.widths[0], 3, spec.spectral)
        stages, channels = [], spec.widths[0]
        for width in spec.widths:
            blocks = []
            for _ in range(spec.blocks):
                blocks.append(_Block(channels, width, spec))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.conv_out = _Conv(channels, 1, 1, spec.spectral)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level, stage in enumerate(self.stages):
            h = stage(F.avg_pool2d(h, 2) if level else h)
        with torch.autocast(x.device.type, enabled=False):
            pooled = _activated(h.to(self.conv_out.weight.dtype), self.spec).sum((2, 3), keepdim=True)
            return self.conv_out(pooled).flatten()


def _activated(x: Tensor, spec: EnergySpec) -> Tensor:
    return F.silu(x) if spec.activation == "silu" else F.leaky_relu(x, _LEAK)


class _Conv(nn.Conv2d):
    """A convolution; if ``spectral``, of the weight over the largest singular value of its (out, in k k) matrix."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, spectral: bool) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)
        self.spectral = spectral

    def forward(self, input: Tensor) -> Tensor:
        if not self.spectral:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            rows = self.weight.flatten(1)
            if rows.shape[0] > rows.shape[1]:
                rows = rows.T
            weight = self.weight / torch.linalg.eigvalsh(rows @ rows.T)[-1].sqrt()
        return F.conv2d(input, weight, self.bias, padding=self.padding)


class _Block(nn.Module):
    """conv(act(conv(act(x)))) + skip (1x1 conv where widths differ)."""

    def __init__(self, in_channels: int, out_channels: int, spec: EnergySpec) -> None:
        super().__init__()
        self.spec = spec
        self.conv1 = _Conv(in_channels, out_channels, 3, spec.spectral)
        self.conv2 = _Conv(out_channels, out_channels, 3, spec.spectral)
        self.shortcut = _Conv(in_channels, out_channels, 1, spec.spectral) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(_activated(self.conv1(_activated(x, self.spec)), self.spec))
        return h + (x if self.shortcut is None else self.shortcut(x))
