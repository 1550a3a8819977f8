"""Glow: an invertible network, whose density is that of the noise it makes of an image times the change of volume."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import flag, image_shape, one_of, whole
from diffprob.base.limits import MOST_BLOCKS, MOST_LEVELS, MOST_WIDTH, check_weights
from diffprob.base.rng import Rng

_LOG_SCALE_FACTOR = 3.0  # of the last convolutions: their scales learn so much faster than their weights
_SMALLEST_STD = 1e-6  # a channel that is constant in the first batch


@dataclass(frozen=True)
class GlowSpec:
    """The settings of a `Glow`, all literals.

    Args:
        shape: (C, H, W) of the images; height and width divisible by 2^scales.
        depth: steps K at each scale.
        scales: L; each begins with a squeeze, each but the last ends with a split.
        width: channels inside a coupling.
        permutation: "conv1x1" (learned) or "reverse" of the channels.
        coupling: "affine" or "additive".
        learn_top: whether mean and scale of the last latents are learned, for each channel.

    Raises:
        ValueError: a field is out of range; the message has its name and value.
    """

    shape: tuple[int, int, int]
    depth: int = 8
    scales: int = 2
    width: int = 64
    permutation: str = "conv1x1"
    coupling: str = "affine"
    learn_top: bool = True

    def __post_init__(self) -> None:
        image_shape("shape", self.shape)
        whole("depth", self.depth, 1, MOST_BLOCKS)
        whole("scales", self.scales, 1, MOST_LEVELS)
        whole("width", self.width, 1, MOST_WIDTH)
        _, height, width = self.shape
        if height % 2**self.scales or width % 2**self.scales:
            raise ValueError(f"scales={self.scales} halve {height}x{width} to a fraction of a pixel; take fewer")
        one_of("permutation", self.permutation, ("conv1x1", "reverse"))
        one_of("coupling", self.coupling, ("affine", "additive"))
        flag("learn_top", self.learn_top)
        channels = [self.shape[0] * 2 ** (scale + 2) for scale in range(self.scales)]
        check_weights("GlowSpec", [(n + self.width, n + self.width, self.depth) for n in channels])

    def build(self) -> "Glow":
        """A new network; it draws rotations and weights from torch's global generator."""
        return Glow(self)


class Glow(nn.Module):
    """log p(x) = log N(noise(x); 0, I) + log |det d noise/dx|, nats, float64 (B,), for continuous x (B, C, H, W).

    Each of L scales: squeeze 2x2 pixels into channels; K times actnorm, a mixing of the channels, a coupling of their
    halves; and a split, which makes standard noise of one half by a mean and a scale read from the other.

    In training mode an actnorm whose parameters are all 0 sets them so that this batch (of all processes) leaves it
    with mean 0 and variance 1. That is the whole state: there is no flag that an average of the weights could miss.
    Evaluation mode never sets anything. Autocast reaches the convolutions inside couplings only; in whatever precision
    these are computed, the determinant is that of the map that was applied.

    Exact when: always; `inverse` undoes `noise` up to rounding.

    Reference: Kingma & Dhariwal, "Glow: generative flow with invertible 1x1 convolutions" (2018), table 1; Dinh et al.,
    "Density estimation using Real NVP" (2017), section 3.6 for the splits.
    """

    def __init__(self, spec: GlowSpec) -> None:
        super().__init__()
        self.spec = spec
        channels, height, width = spec.shape
        scales, sizes = [], []
        for scale in range(spec.scales):
            channels, height, width = 4 * channels, height // 2, width // 2
            scales.append(nn.ModuleList(_Step(spec, channels) for _ in range(spec.depth)))
            if scale < spec.scales - 1:
                channels //= 2
            sizes.append((channels, height, width))
        self.sizes = sizes  # of the latents that leave at each scale
        self.scales = nn.ModuleList(scales)
        self.splits = nn.ModuleList(_ScaledConv(size[0], 2 * size[0], zero=True) for size in sizes[:-1])
        self.top = nn.Parameter(torch.zeros(2, channels, 1, 1)) if spec.learn_top else None

    def noise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) -> standard normal noise (B, d) and log |det d noise/dx|, float64 (B,).

        Raises:
            ValueError: the images have another shape than the network was built for.
        """
        if x.shape[1:] != self.spec.shape:
            raise ValueError(f"expected images of shape {self.spec.shape}, got {tuple(x.shape[1:])}")
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        noises = []
        for scale, steps in enumerate(self.scales):
            x = squeeze(x)
            for step in cast(Iterable[_Step], steps):
                x, log_det = step(x)
                total = total + log_det
            x, leaving = x.chunk(2, 1) if scale < len(self.splits) else (x, x)
            mean, log_std = self._prior(scale, x)
            noises.append(((leaving - mean) * torch.exp(-log_std)).flatten(1))
            total = total - _sum(log_std.expand_as(leaving))
        return torch.cat(noises, 1), total

    @torch.no_grad()
    def inverse(self, noise: Tensor) -> Tensor:
        """The images (B, C, H, W) that `noise` makes this noise (B, d) of; computed without autocast."""
        parts = noise.split([math.prod(size) for size in self.sizes], 1)
        x = noise.new_zeros(0)
        with torch.autocast(noise.device.type, enabled=False):
            for scale in reversed(range(len(parts))):
                part = parts[scale].reshape(-1, *self.sizes[scale])
                mean, log_std = self._prior(scale, x)
                part = part * torch.exp(log_std) + mean
                x = part if scale == len(parts) - 1 else torch.cat([x, part], 1)
                for step in reversed(list(cast(Iterable[_Step], self.scales[scale]))):
                    x = step.inverse(x)
                x = unsqueeze(x)
        return x

    def log_prob(self, x: Tensor) -> Tensor:
        """log p of images (B, C, H, W), nats of a density in their own units, float64 (B,)."""
        noise, log_det = self.noise(x)
        return log_det - 0.5 * _sum(noise * noise) - 0.5 * noise.shape[1] * math.log(2 * math.pi)

    def sample(self, rng: Rng, temperature: float = 1.0) -> Tensor:
        """One image for each stream, (B, C, H, W): the inverse of noise with standard deviation ``temperature``.

        The inverse of a trained network can be steep where few images lie: single samples may be far off, or not
        finite, and fewer are at lower temperatures (Behrmann et al., "Understanding and mitigating exploding inverses
        in invertible neural networks", 2021).
        """
        weight = next(self.parameters())
        noise = rng.normal((math.prod(self.spec.shape),), weight.dtype).to(weight.device)
        return self.inverse(temperature * noise)

    def forward(self, x: Tensor) -> Tensor:
        return self.log_prob(x)

    def _prior(self, scale: int, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the latents that leave at a scale, given those that go on."""
        if scale < len(self.splits):
            mean, log_std = self.splits[scale](kept).to(kept.dtype).chunk(2, 1)
            return mean, log_std
        if self.top is None:
            weight = next(self.parameters())
            return weight.new_zeros(()), weight.new_zeros(())
        return self.top[0], self.top[1]


def squeeze(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 4C, H/2, W/2): the pixels of a 2x2 block become channels."""
    return F.pixel_unshuffle(x, 2)


def unsqueeze(x: Tensor) -> Tensor:
    """The inverse of `squeeze`."""
    return F.pixel_shuffle(x, 2)


def _sum(x: Tensor) -> Tensor:
    """Sum over everything but the batch, in float64: (B, *event) -> (B,)."""
    return x.reshape(len(x), -1).sum(1, dtype=torch.float64)


def _set(bias: Tensor, log_scale: Tensor, x: Tensor) -> None:
    """Make (x + bias) exp(log_scale) have mean 0 and variance 1 over batch and pixels, for each channel.

    Processes that train together see different parts of the batch and have to agree.
    """
    with torch.no_grad():
        flat = x.double().transpose(0, 1).flatten(1)
        moments = torch.stack([flat.mean(1), flat.square().mean(1)])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(moments)
            moments = moments / torch.distributed.get_world_size()
        mean, square = moments
        std = (square - mean * mean).clamp_min(0).sqrt() + _SMALLEST_STD
        bias.copy_(-mean.reshape(bias.shape))
        log_scale.copy_(-std.log().reshape(log_scale.shape))


def _unset(bias: Tensor, log_scale: Tensor) -> bool:
    return not bool(bias.any() or log_scale.any())


class _ScaledConv(nn.Conv2d):
    """(W * x + b) exp(f s): an actnorm follows the convolution (f = 1), or W, b and s begin at 0 (f = 3)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, zero: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)
        self.zero = zero
        self.log_scale = nn.Parameter(torch.zeros(out_channels))
        nn.init.zeros_(cast(Tensor, self.bias))
        if zero:
            nn.init.zeros_(self.weight)
        else:
            nn.init.normal_(self.weight, std=0.05)

    def forward(self, input: Tensor) -> Tensor:
        bias = cast(Tensor, self.bias)
        if self.training and not self.zero and _unset(bias, self.log_scale):
            _set(bias, self.log_scale, F.conv2d(input, self.weight, padding=self.padding))
        # Scaling the weights is the same, and spares a pass over the images.
        scale = torch.exp((_LOG_SCALE_FACTOR if self.zero else 1.0) * self.log_scale)
        return F.conv2d(input, self.weight * scale[:, None, None, None], bias * scale, padding=self.padding)


class _Step(nn.Module):
    """Actnorm, mixing of the channels, coupling: (B, C, H, W) -> the same shape and log |det|, (B,)."""

    def __init__(self, spec: GlowSpec, channels: int) -> None:
        super().__init__()
        self.affine = spec.coupling == "affine"
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0] if spec.permutation == "conv1x1" else None
        self.mixing = nn.Parameter(rotation) if rotation is not None else None
        self.net = nn.Sequential(
            _ScaledConv(channels // 2, spec.width),
            nn.ReLU(inplace=True),
            _ScaledConv(spec.width, spec.width, 1),
            nn.ReLU(inplace=True),
            _ScaledConv(spec.width, channels if self.affine else channels // 2, zero=True),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and _unset(self.bias, self.log_scale):
            _set(self.bias, self.log_scale, x)
        log_det = self.log_scale.double().sum() * (x.shape[2] * x.shape[3])
        x = (x + self.bias) * torch.exp(self.log_scale)
        if self.mixing is None:
            x = x.flip(1)
        else:
            x = _mixed(x, self.mixing)
            log_det = log_det + torch.linalg.slogdet(self.mixing)[1].double() * (x.shape[2] * x.shape[3])
        kept, changed = x.chunk(2, 1)
        shift, log_scale = self._coupling(kept)
        changed = changed + shift
        if log_scale is not None:
            changed = changed * torch.exp(log_scale)
            log_det = log_det + _sum(log_scale)
        return torch.cat([kept, changed], 1), log_det

    def inverse(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, 1)
        shift, log_scale = self._coupling(kept)
        if log_scale is not None:
            changed = changed * torch.exp(-log_scale)
        x = torch.cat([kept, changed - shift], 1)
        x = x.flip(1) if self.mixing is None else _mixed(x, torch.linalg.inv(self.mixing.double()).to(x))
        return x * torch.exp(-self.log_scale) - self.bias

    def _coupling(self, kept: Tensor) -> tuple[Tensor, Tensor | None]:
        """The shift of the other half and the logarithm of its scale, sigmoid(h + 2) as in the released code."""
        h = self.net(kept).to(kept.dtype)
        if not self.affine:
            return h, None
        shift, raw = h.chunk(2, 1)
        return shift, F.logsigmoid(raw + 2)


def _mixed(x: Tensor, matrix: Tensor) -> Tensor:
    """The same matrix applied to the channels of every pixel, in the precision of x."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x, matrix[:, :, None, None])
