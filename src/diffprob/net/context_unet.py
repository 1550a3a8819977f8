"""The small U-Net with batch normalisation and multiplied labels that many MNIST experiments have used."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_CLASSES, MOST_WIDTH, check_channels, check_weights
from diffprob.net.layers import Output


@dataclass(frozen=True)
class ContextUNetSpec:
    """The settings of a `ContextUNet`; the defaults have 6,585,601 parameters, 26.3 million with ``features=256``.

    Args:
        in_channels, out_channels: of the images, and of the answer.
        features: channels F at the full resolution and the half one; a quarter has 2F.
        classes: labels that it takes, the null one included, as `Labels.rows` counts them; 0: none.
        size: height and width of the images, which the widest kernels fit; a multiple of 4.

    Raises:
        ValueError: a field is out of range; the message has its name and value.
    """

    in_channels: int = 1
    out_channels: int = 1
    features: int = 128
    classes: int = 11
    size: int = 28

    def __post_init__(self) -> None:
        check_channels(("in_channels", self.in_channels), ("out_channels", self.out_channels))
        whole("features", self.features, _GROUPS, MOST_WIDTH)
        if self.features % _GROUPS:
            raise FieldError("features", f"must be a multiple of {_GROUPS}, got {self.features}")
        whole("classes", self.classes, 0, MOST_CLASSES)
        if self.classes == 1:
            raise FieldError("classes", f"must be 0, or at least 2 (one and the null), got {self.classes}")
        whole("size", self.size, 4, 4096)
        if self.size % 4:
            raise FieldError("size", f"must be a multiple of 4, got {self.size}")
        wide = 2 * self.features
        unfolded = (wide * self.size // 4, wide * self.size // 4, 1)
        check_weights("ContextUNetSpec", [(wide, wide, 16), unfolded, (self.classes, wide, 1)])

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution, from the full one down by halves."""
        return self.features, self.features, 2 * self.features

    def build(self) -> "ContextUNet":
        """A network with torch's default weights, from its global generator."""
        return ContextUNet(self)


_GROUPS = 8


class ContextUNet(nn.Module):
    """x (B, in_channels, size, size), time (B,) or (), label int64 (B,) -> `Output` of shape (B, out_channels, ...).

    Time and label enter twice on the way up, h <- embed(label) h + embed(time). Of the published code are kept: batch
    normalisation, so that in training mode the samples of a batch depend on each other and in evaluation mode not;
    ReLU in places where GELU is elsewhere; and the time as one number without sinusoids, so it should lie in (0, 1], as
    the clock ``Scale(1.0)`` gives it (the published t/T). Mended are: a label enters as its one-hot vector, not as
    minus that; the null label ``classes - 1`` is the vector of zeros without a mask of its own; and residual sums are
    divided by sqrt(2), not by 1.414. Its noise levels (one factor too many) and images in [0, 1] are no matter of the
    network: a recipe has the usual ones.

    Exact when: the label is the null one: the labels' layers then see zeros.

    Reference: Pearce, "Conditional diffusion MNIST" (2022), the code for Ho & Salimans (2022).
    """

    def __init__(self, spec: ContextUNetSpec) -> None:
        super().__init__()
        self.spec = spec
        narrow, wide, quarter = spec.features, 2 * spec.features, spec.size // 4
        self.first = _Convolutions(spec.in_channels, narrow, residual=True)
        self.downs = nn.ModuleList([_Convolutions(narrow, narrow), _Convolutions(narrow, wide)])
        self.times = nn.ModuleList([_embedding(1, wide), _embedding(1, narrow)])
        self.labels = nn.ModuleList(_embedding(spec.classes - 1, n) for n in (wide, narrow) if spec.classes)
        # One vector for the whole image, and back to the lowest resolution.
        self.unfold = nn.Sequential(
            nn.ConvTranspose2d(wide, wide, quarter, quarter), nn.GroupNorm(_GROUPS, wide), nn.ReLU()
        )
        self.ups = nn.ModuleList([_Up(2 * wide, narrow), _Up(2 * narrow, narrow)])
        self.last = nn.Sequential(
            nn.Conv2d(2 * narrow, narrow, 3, padding=1),
            nn.GroupNorm(_GROUPS, narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, spec.out_channels, 3, padding=1),
        )

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Output:
        self._check(x, t, label)
        time = t.to(x).expand(len(x))[:, None]
        first = self.first(x)
        skips, h = [], first
        for down in self.downs:
            h = F.max_pool2d(down(h), 2)
            skips.append(h)
        h = self.unfold(F.gelu(F.avg_pool2d(h, self.spec.size // 4)))
        for k, up in enumerate(self.ups):
            if label is not None:
                h = h * self.labels[k](self.code(label).to(x))[:, :, None, None]
            h = up(torch.cat([h + self.times[k](time)[:, :, None, None], skips.pop()], 1))
        output = self.last(torch.cat([h, first], 1))
        if self.spec.out_channels == 2 * self.spec.in_channels:
            return Output(*output.chunk(2, dim=1))
        return Output(output)

    def code(self, label: Tensor) -> Tensor:
        """What stands for the labels (B,): one-hot rows (B, classes - 1), zeros for the null label."""
        return (label[:, None] == torch.arange(self.spec.classes - 1, device=label.device)).float()

    def _check(self, x: Tensor, t: Tensor, label: Tensor | None) -> None:
        shape = (self.spec.in_channels, self.spec.size, self.spec.size)
        if tuple(x.shape[1:]) != shape:
            raise ValueError(f"expected x of shape (B, {', '.join(map(str, shape))}), got {tuple(x.shape)}")
        if t.shape not in ((), (len(x),)):
            raise ValueError(f"expected t of shape () or ({len(x)},), got {tuple(t.shape)}")
        if (label is None) != (self.spec.classes == 0):
            raise ValueError(f"expected {'labels' if label is None else 'no labels'}: classes={self.spec.classes}")


class _Convolutions(nn.Module):
    """Twice convolution, batch norm, GELU; ``residual`` adds the input, or the first result where widths differ."""

    def __init__(self, in_channels: int, out_channels: int, residual: bool = False) -> None:
        super().__init__()
        self.one, self.two = _convolution(in_channels, out_channels), _convolution(out_channels, out_channels)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        second = self.two(first)
        if not self.residual:
            return second
        return ((x if x.shape[1] == second.shape[1] else first) + second) / 2**0.5


class _Up(nn.Module):
    """Double height and width, then four convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(in_channels, out_channels, 2, 2)
        self.body = nn.Sequential(_Convolutions(out_channels, out_channels), _Convolutions(out_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.enlarge(x))


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.GELU())


def _embedding(in_features: int, out_features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_features, out_features), nn.GELU(), nn.Linear(out_features, out_features))
