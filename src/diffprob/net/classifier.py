"""A small convolutional classifier for images of 8x8 to 64x64 pixels."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import shown, whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_CLASSES, MOST_WIDTH, check_channels, check_weights, check_widths

_QUARTERS = 2


@dataclass(frozen=True)
class ClassifierSpec:
    """Shape of a `Classifier`; ``build()`` makes one with torch's default initialisation.

    Args:
        in_channels: channels of the images.
        classes: number of classes, >= 2.
        widths: channels of each resolution; every resolution after the first halves the one before.
        groups: of the group normalisation; divides every width.
    """

    in_channels: int = 1
    classes: int = 10
    widths: tuple[int, ...] = (32, 64, 128)
    groups: int = 8

    def __post_init__(self) -> None:
        check_channels(("in_channels", self.in_channels))
        whole("classes", self.classes, 2, MOST_CLASSES)
        check_widths("widths", self.widths)
        whole("groups", self.groups, 1, MOST_WIDTH)
        if any(width % self.groups for width in self.widths):
            raise FieldError("widths", f"must be multiples of groups={self.groups}, got {shown(self.widths)}")
        check_weights("ClassifierSpec", [(self.classes, self.widths[-1], 1), *((w, w, 2) for w in self.widths)])

    def build(self) -> "Classifier":
        """A new network of this shape."""
        return Classifier(self)


class Classifier(nn.Module):
    """Images (B, C, H, W) in [-1, 1] -> logits (B, classes).

    Convolution, group normalisation, SiLU; the means over the four quarters of the image feed one linear layer, so any
    size fits. Group normalisation keeps the samples of a batch apart: logits depend on their image.
    """

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__()
        self.spec = spec
        layers: list[nn.Module] = []
        channels = spec.in_channels
        for level, width in enumerate(spec.widths):
            layers += _block(channels, width, spec.groups, stride=2 if level else 1)
            if level:  # the first resolution is the dearest by far; one convolution there is enough
                layers += _block(width, width, spec.groups, stride=1)
            channels = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels * _QUARTERS**2, spec.classes)

    @property
    def dimension(self) -> int:
        """Number of features, 4 times the last width."""
        return self.head.in_features

    def features(self, x: Tensor) -> Tensor:
        """What the linear layer sees: images (B, C, H, W) -> (B, dimension)."""
        return F.adaptive_avg_pool2d(self.body(x), _QUARTERS).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def _block(channels: int, width: int, groups: int, stride: int) -> list[nn.Module]:
    # No bias: the normalisation that follows has its own.
    convolution = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.GroupNorm(groups, width), nn.SiLU()]
