"""Networks of images as networks of grey levels that may be masked: what they see, and logits for every pixel."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from diffprob.base.checks import instance, whole
from diffprob.base.errors import FieldError
from diffprob.base.level_tree import MOST_BRANCHES, LevelTree
from diffprob.base.limits import check_weights
from diffprob.net.layers import Output
from diffprob.net.transformer import TransformerSpec
from diffprob.net.unet import UNetSpec, planar
from diffprob.net.wrapped import WrappedSpec

MOST_LOGITS = 4096  # channels of the last layer of an image's pixel


@dataclass(frozen=True)
class CategoricalUNetSpec(WrappedSpec):
    """The settings of a `CategoricalUNet`, all literals.

    Args:
        body: a U-Net or a transformer as it would be for images of real numbers, with as many channels out as in.
        levels: K values of a pixel; K itself is the mask.
        outputs: numbers that are said of each pixel; None: K, its logits.

    Raises:
        ValueError: a field is out of range, or the body has an answer of its own; the message has its name and value.
    """

    body: UNetSpec | TransformerSpec
    levels: int = 256
    outputs: int | None = None

    def __post_init__(self) -> None:
        instance("body", self.body, (UNetSpec, TransformerSpec))
        planar("body", self.body)
        whole("levels", self.levels, 2, 256)
        whole("outputs", self.outputs, 1, MOST_LOGITS, none=True)
        channels = self.body.in_channels
        if self.body.out_channels != channels:
            raise FieldError(
                "body.out_channels", f"must be those of the data, {channels}, got {self.body.out_channels}"
            )
        if self.out_channels > MOST_LOGITS:
            field = "levels" if self.outputs is None else "outputs"
            each = self.out_channels // channels
            raise FieldError(field, f"times {channels} channels must be at most {MOST_LOGITS}, got {each}")
        check_weights("CategoricalUNetSpec", [(self.body.widths[0], self.out_channels, 1)])

    @property
    def out_channels(self) -> int:
        """Those of every channel of the data."""
        return self.body.in_channels * (self.outputs or self.levels)

    @property
    def classes(self) -> int:
        """Class labels it takes, the null one included."""
        return self.body.classes

    def build(self) -> "CategoricalUNet":
        """A network with random weights from torch's global generator; on ``torch.device("meta")`` without memory."""
        return CategoricalUNet(self)


@dataclass(frozen=True)
class StagedUNetSpec(CategoricalUNetSpec):
    """The settings of a `CategoricalUNet` that is shown levels more and more finely, all literals.

    Args:
        body, levels, outputs: as in `CategoricalUNetSpec`.
        branching: that of the `diffprob.base.level_tree.LevelTree` of its states.
    """

    branching: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("branching", self.branching, 2, MOST_BRANCHES)


class CategoricalUNet(nn.Module):
    """Levels (B, C, H, W), K for the mask, and times () or (B,) -> `Output` of logits (B, C, H, W, K).

    With ``outputs`` there are as many numbers in the place of the K logits.

    The body sees 2k/(K - 1) - 1 for level k and 0 for the mask, and for each of them a channel that is 1 where the
    level is known and 0 where it is masked: it tells a masked pixel from one in the middle. Of an interval of levels,
    between the two, it sees the middle, and the share of a level's information that is known.

    Reference: Hoogeboom et al., "Autoregressive diffusion models" (2022), app. B.
    """

    def __init__(self, spec: CategoricalUNetSpec) -> None:
        super().__init__()
        self.spec = spec
        channels = spec.in_channels
        self.body = replace(spec.body, in_channels=2 * channels, out_channels=spec.out_channels).build()

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Output:
        """The logits.

        Raises:
            ValueError: a shape does not fit.
        """
        if x.ndim != 4 or x.shape[1] != self.spec.in_channels:
            raise ValueError(f"expected x of shape (B, {self.spec.in_channels}, H, W), got {tuple(x.shape)}")
        output = self.body(torch.cat(self._shown(x), 1), t, label)
        # A body with twice as many channels out as in takes the second half for a variance.
        logits = output.main if output.extra is None else torch.cat([output.main, output.extra], 1)
        return Output(logits.unflatten(1, (self.spec.in_channels, -1)).movedim(2, -1))

    def _shown(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The value on [-1, 1] of what states say, and how much they do."""
        levels = self.spec.levels
        if not isinstance(self.spec, StagedUNetSpec):
            known = (x < levels).to(x.dtype)
            return known * (2 * x / (levels - 1) - 1), known
        tree = LevelTree(levels, self.spec.branching)
        low, high = tree.interval(x)
        return (low + high) / (levels - 1) - 1, tree.known(x)
