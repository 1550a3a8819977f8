"""InceptionV3 as the Frechet inception distance is published with: TensorFlow's graph of 2015-12-05."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 1008  # ImageNet's 1000 and eight that nothing was trained for
FEATURES = 2048
SIDE = 299


@dataclass(frozen=True)
class _Conv:
    """One convolution of a branch; without a stride it keeps the size, with one it takes no padding."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1

    def build(self, channels: int) -> "ConvNorm":
        height, width = self.kernel
        padding = (height // 2, width // 2) if self.stride == 1 else (0, 0)
        return ConvNorm(channels, self.width, self.kernel, self.stride, padding)


@dataclass(frozen=True)
class _Branch:
    """Convolutions one after the other; those of ``fork`` all see the last one's output and are concatenated."""

    chain: tuple[_Conv, ...]
    fork: tuple[_Conv, ...] = ()


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation (eps 1e-3), ReLU: (B, channels, H, W) -> (B, width, H', W')."""

    def __init__(
        self, channels: int, width: int, kernel: tuple[int, int], stride: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, the last of them a 3x3 pooling, their channels concatenated.

    Args:
        channels: of the input.
        branches: all but the pooled one.
        pool: of `pool3x3`; all of them but "shrink" keep the size.
        pooled: width of the convolution after the pooling; 0 for none.
    """

    def __init__(self, channels: int, branches: tuple[_Branch, ...], pool: str, pooled: int = 0) -> None:
        super().__init__()
        self.branches, self.pool = branches, pool
        for branch in branches:
            width = channels
            for conv in branch.chain:
                self.add_module(conv.name, conv.build(width))
                width = conv.width
            for conv in branch.fork:
                self.add_module(conv.name, conv.build(width))
        self.branch_pool = ConvNorm(channels, pooled, (1, 1)) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch in self.branches:
            y = x
            for conv in branch.chain:
                y = self.get_submodule(conv.name)(y)
            outputs += [self.get_submodule(conv.name)(y) for conv in branch.fork] or [y]
        return torch.cat([*outputs, self.branch_pool(pool3x3(x, self.pool))], 1)


def pool3x3(x: Tensor, kind: str) -> Tensor:
    """3x3 pooling "average" (the mean of the pixels there are), "max", or "shrink" (maximum, stride 2, no padding)."""
    if kind == "average":
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    if kind == "max":
        return F.max_pool2d(x, 3, stride=1, padding=1)
    return F.max_pool2d(x, 3, stride=2)


class InceptionV3(nn.Module):
    """RGB images (B, 3, H, W) in [-1, 1], both sides at least 75 and by rights 299 -> logits (B, 1008).

    Names and shapes of the state are those of torchvision's ``Inception3`` without auxiliary classifier, so that the
    published file ``pt_inception-2015-12-05-6726825d`` fits. The graph differs from torchvision's: average pooling
    leaves the padding out, and the last block pools by the maximum. For evaluation only (it has no dropout).

    Reference: Szegedy, Vanhoucke, Ioffe, Shlens & Wojna, "Rethinking the Inception architecture for computer vision"
    (2016); Heusel, Ramsauer, Unterthiner, Nessler & Hochreiter, "GANs trained by a two time-scale update rule converge
    to a local Nash equilibrium" (2017), for the features.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, (3, 3), padding=(1, 1))
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, (3, 3))
        self.Mixed_5b = _block_a(192, pooled=32)
        self.Mixed_5c = _block_a(256, pooled=64)
        self.Mixed_5d = _block_a(288, pooled=64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(768, inner=128)
        self.Mixed_6c = _block_c(768, inner=160)
        self.Mixed_6d = _block_c(768, inner=160)
        self.Mixed_6e = _block_c(768, inner=192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, pool="average")
        self.Mixed_7c = _block_e(2048, pool="max")
        self.fc = nn.Linear(FEATURES, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """The mean of the last block over the image ("pool3"): (B, 3, H, W) -> (B, 2048)."""
        for name, layer in self.named_children():
            if name == "fc":
                break
            x = layer(x)
            if name in {"Conv2d_2b_3x3", "Conv2d_4a_3x3"}:
                x = pool3x3(x, "shrink")
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))


def _block_a(channels: int, pooled: int) -> Mixed:
    branches = (
        _Branch((_Conv("branch1x1", 64),)),
        _Branch((_Conv("branch5x5_1", 48), _Conv("branch5x5_2", 64, (5, 5)))),
        _Branch(
            (_Conv("branch3x3dbl_1", 64), _Conv("branch3x3dbl_2", 96, (3, 3)), _Conv("branch3x3dbl_3", 96, (3, 3)))
        ),
    )
    return Mixed(channels, branches, "average", pooled)


def _block_b(channels: int) -> Mixed:
    branches = (
        _Branch((_Conv("branch3x3", 384, (3, 3), stride=2),)),
        _Branch(
            (
                _Conv("branch3x3dbl_1", 64),
                _Conv("branch3x3dbl_2", 96, (3, 3)),
                _Conv("branch3x3dbl_3", 96, (3, 3), stride=2),
            )
        ),
    )
    return Mixed(channels, branches, "shrink")


def _block_c(channels: int, inner: int) -> Mixed:
    wide, tall = (1, 7), (7, 1)
    branches = (
        _Branch((_Conv("branch1x1", 192),)),
        _Branch((_Conv("branch7x7_1", inner), _Conv("branch7x7_2", inner, wide), _Conv("branch7x7_3", 192, tall))),
        _Branch(
            (
                _Conv("branch7x7dbl_1", inner),
                _Conv("branch7x7dbl_2", inner, tall),
                _Conv("branch7x7dbl_3", inner, wide),
                _Conv("branch7x7dbl_4", inner, tall),
                _Conv("branch7x7dbl_5", 192, wide),
            )
        ),
    )
    return Mixed(channels, branches, "average", 192)


def _block_d(channels: int) -> Mixed:
    branches = (
        _Branch((_Conv("branch3x3_1", 192), _Conv("branch3x3_2", 320, (3, 3), stride=2))),
        _Branch(
            (
                _Conv("branch7x7x3_1", 192),
                _Conv("branch7x7x3_2", 192, (1, 7)),
                _Conv("branch7x7x3_3", 192, (7, 1)),
                _Conv("branch7x7x3_4", 192, (3, 3), stride=2),
            )
        ),
    )
    return Mixed(channels, branches, "shrink")


def _block_e(channels: int, pool: str) -> Mixed:
    branches = (
        _Branch((_Conv("branch1x1", 320),)),
        _Branch((_Conv("branch3x3_1", 384),), _fork("branch3x3_2")),
        _Branch((_Conv("branch3x3dbl_1", 448), _Conv("branch3x3dbl_2", 384, (3, 3))), _fork("branch3x3dbl_3")),
    )
    return Mixed(channels, branches, pool, 192)


def _fork(name: str) -> tuple[_Conv, _Conv]:
    return _Conv(f"{name}a", 384, (1, 3)), _Conv(f"{name}b", 384, (3, 1))
