"""The network of 2015: convolutions at several scales summed, a network for each pixel, and bumps in time."""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_BLOCKS, MOST_LEVELS, MOST_WIDTH, check_channels, check_weights
from diffprob.net.bumps import check_bumps, output_of, read_out
from diffprob.net.layers import Output


@dataclass(frozen=True)
class MultiScaleSpec:
    """The settings of a `MultiScale`, all literals.

    Args:
        in_channels, out_channels: of the images, and of the answer: twice as many where the variance is learned.
        features: channels of the multi-scale convolutions.
        scales: resolutions that each of them sees, from the full one down by halves.
        layers: multi-scale convolutions; 0: the dense part alone.
        dense: units of each layer of a part that sees the whole image; 0: none.
        dense_layers: of that part.
        dense_features: numbers that it gives every pixel.
        size: height and width of the images, which the dense part has to know; None without it.
        pixel_features: units of the layers that see one pixel.
        pixel_layers: how many of them, before the last, linear one.
        bumps: functions of time that the answer is mixed from.
        steps: labels of the clock that they are spread over: T of ``Index(T)``.

    Raises:
        ValueError: a field is out of range, or the parts do not fit together; the message has its name and value.
    """

    in_channels: int = 3
    out_channels: int = 3
    features: int = 20
    scales: int = 4
    layers: int = 4
    dense: int = 0
    dense_layers: int = 4
    dense_features: int = 2
    size: int | None = None
    pixel_features: int = 20
    pixel_layers: int = 1
    bumps: int = 10
    steps: int = 1000

    def __post_init__(self) -> None:
        check_channels(("in_channels", self.in_channels), ("out_channels", self.out_channels))
        for name in ("features", "dense_features", "pixel_features"):
            whole(name, getattr(self, name), 1, MOST_WIDTH)
        whole("scales", self.scales, 1, MOST_LEVELS)
        for name in ("layers", "pixel_layers"):
            whole(name, getattr(self, name), 0, MOST_BLOCKS)
        whole("dense_layers", self.dense_layers, 1, MOST_BLOCKS)
        whole("dense", self.dense, 0, MOST_WIDTH)
        whole("size", self.size, 1, MOST_WIDTH, none=True)
        check_bumps(self)
        if bool(self.dense) != bool(self.size):
            need = "the height and width of the images with a dense part" if self.dense else "None without a dense part"
            raise FieldError("size", f"must be {need}, got {self.size}")
        if not self.layers and not self.dense:
            raise FieldError("layers", "must be at least 1 without a dense part, got 0")
        pixels = (self.size or 0) ** 2
        check_weights(
            "MultiScaleSpec",
            [
                (self.in_channels + self.features * max(0, self.layers - 1), self.features, self.scales),
                (self.dense, (self.in_channels + self.dense_features) * pixels // 9 + self.dense, self.dense_layers),
                (self.pixel_features, self.out_channels * self.bumps // 9 + self.pixel_features, self.pixel_layers),
            ],
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution, from the full one down by halves."""
        return (self.features,) * self.scales

    def build(self) -> "MultiScale":
        """A network with random weights from torch's global generator, whose answer is 0."""
        return MultiScale(self)


class MultiScaleConvolution(nn.Module):
    """x (B, C, H, W) -> (B, features, H, W): means of 2^k x 2^k pixels, a 3x3 convolution of its own at each scale k,
    nearest upsampling, and the sum: a convolution by a large kernel with few weights, up to the blocks of the means.

    Reference: Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium thermodynamics" (2015), app.
    D.2.1; Barron et al., "Volumetric semantic segmentation using pyramid context features" (2013).
    """

    def __init__(self, channels: int, features: int, scales: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(channels, features, 3, padding=1, bias=not k) for k in range(scales)]
        self.convolutions = nn.ModuleList(convolutions)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        total = self.convolutions[0](x)
        for k, convolution in enumerate(list(self.convolutions)[1:], 1):
            x = F.avg_pool2d(x, 2)
            coarse = convolution(x)[:, :, :, None, :, None]
            total = total + coarse.expand(-1, -1, -1, 2**k, -1, 2**k).reshape(batch, -1, height, width)
        return total


class MultiScale(nn.Module):
    """x (B, in_channels, H, W) and labels t () or (B,) -> `Output` of shape (B, out_channels, H, W).

    Multi-scale convolutions with softplus, beside them the dense part with tanh; both give numbers to every pixel,
    which layers of 1x1 convolutions with tanh turn into coefficients of bumps in time (`diffprob.net.bumps.read_out`).
    What has to be done with an image at any time is done once: only the last sum knows the time. Height and width must
    be divisible by 2^(scales - 1). The last layer begins at 0.

    Reference: Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium thermodynamics" (2015), app. D.2
    and figure app. 1; the numbers of the defaults are those of its released code.
    """

    def __init__(self, spec: MultiScaleSpec) -> None:
        super().__init__()
        self.spec = spec
        inputs = [spec.in_channels] + [spec.features] * (spec.layers - 1)
        layers = [MultiScaleConvolution(channels, spec.features, spec.scales) for channels in inputs[: spec.layers]]
        self.convolutions = nn.ModuleList(layers)
        self.dense = nn.ModuleList()
        if spec.dense and spec.size:
            inner = [spec.dense] * (spec.dense_layers - 1)
            ends = [spec.in_channels * spec.size**2, *inner, spec.dense_features * spec.size**2]
            self.dense.extend(nn.Linear(*pair) for pair in pairwise(ends))
        first = (spec.features if spec.layers else 0) + (spec.dense_features if spec.dense else 0)
        ends = [first] + [spec.pixel_features] * spec.pixel_layers
        self.pixels = nn.ModuleList(nn.Conv2d(*pair, 1) for pair in pairwise(ends))
        self.last = nn.Conv2d(ends[-1], spec.out_channels * spec.bumps, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, t: Tensor) -> Output:
        """The answer.

        Raises:
            ValueError: a shape does not fit.
        """
        self._check(x)
        parts = []
        if len(self.convolutions):
            h = x
            for layer in self.convolutions:
                h = F.softplus(layer(h))
            parts.append(h)
        if len(self.dense):
            h = x.flatten(1)
            for layer in self.dense:
                h = torch.tanh(layer(h))
            parts.append(h.reshape(len(x), self.spec.dense_features, *x.shape[2:]))
        h = torch.cat(parts, 1)
        for layer in self.pixels:
            h = torch.tanh(layer(h))
        answer = read_out(self.last(h), t, self.spec.bumps, self.spec.steps)
        return output_of(answer, self.spec.in_channels)

    def _check(self, x: Tensor) -> None:
        spec, divisor = self.spec, 2 ** (self.spec.scales - 1)
        if x.ndim != 4 or x.shape[1] != spec.in_channels:
            raise ValueError(f"expected x of shape (B, {spec.in_channels}, H, W), got {tuple(x.shape)}")
        height, width = x.shape[2:]
        if height % divisor or width % divisor:
            raise ValueError(f"{spec.scales} scales need sizes divisible by {divisor}, got {height}x{width}")
        if spec.size and (height, width) != (spec.size, spec.size):
            raise ValueError(f"the dense part is for images of {spec.size}x{spec.size}, got {height}x{width}")
