"""Networks for data of few numbers, of which each sees all: a perceptron and radial basis functions, bumps in time."""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.base.checks import image_shape, one_of, whole
from diffprob.base.errors import FieldError
from diffprob.base.limits import MOST_BLOCKS, MOST_WIDTH, check_channels, check_weights
from diffprob.net.bumps import check_bumps, output_of, read_out
from diffprob.net.layers import Output

_FUNCTIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": F.softplus, "silu": F.silu}


class _OfShape:
    """What specs of a shape share."""

    shape: tuple[int, int, int]

    @property
    def in_channels(self) -> int:
        """Channels of the data."""
        return self.shape[0]

    @property
    def numbers(self) -> int:
        """d, how many numbers the data have."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def divisor(self) -> int:
        """What height and width must be divisible by."""
        return 1


@dataclass(frozen=True)
class DenseSpec(_OfShape):
    """The settings of a `Dense`, all literals.

    Args:
        shape: (C, H, W) of the data.
        out_channels: of the answer: C, 2 C where the variance is learned, C K for the levels of discrete data.
        width: units of a layer.
        depth: layers.
        function: "tanh", "sigmoid", "softplus" or "silu".
        bumps: functions of time that the answer is mixed from; as many as there are steps give each step a read-out of
            its own.
        steps: labels of the clock that they are spread over: T of ``Index(T)``.
        levels: K values of an element of discrete data, for which the answer is logits; None: real numbers.

    Raises:
        ValueError: a field is out of range; the message has its name and value.
    """

    shape: tuple[int, int, int]
    out_channels: int = 1
    width: int = 50
    depth: int = 3
    function: str = "tanh"
    bumps: int = 10
    steps: int = 1000
    levels: int | None = None

    def __post_init__(self) -> None:
        _check(self)
        whole("width", self.width, 1, MOST_WIDTH)
        whole("depth", self.depth, 1, MOST_BLOCKS)
        one_of("function", self.function, _FUNCTIONS)
        whole("levels", self.levels, 2, 256, none=True)
        if self.levels is not None and self.out_channels != self.shape[0] * self.levels:
            wanted = f"{self.shape[0] * self.levels} for {self.levels} levels"
            raise FieldError("out_channels", f"must be {wanted}, got {self.out_channels}")
        last = self.numbers * (self.out_channels // self.shape[0]) * self.bumps
        check_weights("DenseSpec", [(self.width, (self.numbers + last) // 9 + self.width, self.depth)])

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of a layer: one resolution."""
        return (self.width,)

    def build(self) -> "Dense":
        """A network with random weights from torch's global generator, whose answer is 0."""
        return Dense(self)


@dataclass(frozen=True)
class RadialBasisSpec(_OfShape):
    """The settings of a `RadialBasis`, all literals.

    Args:
        shape: (C, H, W) of the data.
        out_channels: of the answer: C, or 2 C where the variance is learned.
        units: radial basis functions.
        bumps, steps: as in a `DenseSpec`.

    Raises:
        ValueError: a field is out of range; the message has its name and value.
    """

    shape: tuple[int, int, int]
    out_channels: int = 1
    units: int = 16
    bumps: int = 10
    steps: int = 1000

    def __post_init__(self) -> None:
        _check(self)
        whole("units", self.units, 1, MOST_WIDTH)
        last = self.numbers * (self.out_channels // self.shape[0]) * self.bumps
        check_weights("RadialBasisSpec", [(self.units, (self.numbers + last) // 9 + 1, 1)])

    @property
    def widths(self) -> tuple[int, ...]:
        """Units: one resolution."""
        return (self.units,)

    def build(self) -> "RadialBasis":
        """A network whose centres are drawn from torch's global generator, and whose answer is 0."""
        return RadialBasis(self)


def _check(spec: DenseSpec | RadialBasisSpec) -> None:
    """Refuse what both refuse."""
    image_shape("shape", spec.shape)
    check_channels(("out_channels", spec.out_channels))
    if spec.out_channels % spec.shape[0]:
        raise FieldError("out_channels", f"must be a multiple of {spec.shape[0]} channels, got {spec.out_channels}")
    check_bumps(spec)


class Dense(nn.Module):
    """x (B, *shape) and labels t () or (B,) -> `Output` of shape (B, out_channels, H, W), or of logits (B, *shape, K).

    Layers of the flattened data with a function after each, then a linear one whose numbers are coefficients of bumps
    in time (`diffprob.net.bumps.read_out`), which begins at 0. Levels k are seen as 2 k/(K - 1) - 1.

    Reference: Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium thermodynamics" (2015), app.
    D.1.2 (sigmoid, three layers of 50) and D.2.1.
    """

    def __init__(self, spec: DenseSpec) -> None:
        super().__init__()
        self.spec = spec
        ends = [spec.numbers] + [spec.width] * spec.depth
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(ends))
        self.last = _last(spec, spec.width)

    def forward(self, x: Tensor, t: Tensor) -> Output:
        """The answer.

        Raises:
            ValueError: a shape does not fit.
        """
        levels = self.spec.levels
        h = _flat(x, self.spec)
        h = h if levels is None else 2 * h / (levels - 1) - 1
        for layer in self.layers:
            h = _FUNCTIONS[self.spec.function](layer(h))
        answer = _answer(self.last(h), t, self.spec)
        if levels is None:
            return output_of(answer, self.spec.in_channels)
        return Output(answer.unflatten(1, (self.spec.in_channels, levels)).movedim(2, -1))


class RadialBasis(nn.Module):
    """x (B, *shape) and labels t () or (B,) -> `Output` of shape (B, out_channels, H, W).

    h_j = exp(-|x - c_j|^2/(2 r_j^2)) / sum_k exp(-|x - c_k|^2/(2 r_k^2)), normalised, with centres and radii that are
    trained, then a linear layer whose numbers are coefficients of bumps in time. The centres begin as draws of N(0, I),
    the radii at 1/2, the last layer at 0.

    Reference: Sohl-Dickstein et al., "Deep unsupervised learning using nonequilibrium thermodynamics" (2015), app.
    D.1.1 (16 units).
    """

    def __init__(self, spec: RadialBasisSpec) -> None:
        super().__init__()
        self.spec = spec
        self.centres = nn.Parameter(torch.randn(spec.units, spec.numbers))
        self.log_radii = nn.Parameter(torch.full((spec.units,), 0.5).log())
        self.last = _last(spec, spec.units)

    def forward(self, x: Tensor, t: Tensor) -> Output:
        """The answer.

        Raises:
            ValueError: a shape does not fit.
        """
        gaps = _flat(x, self.spec)[:, None] - self.centres
        h = torch.softmax(-0.5 * gaps.square().sum(-1) * torch.exp(-2 * self.log_radii), dim=1)
        return output_of(_answer(self.last(h), t, self.spec), self.spec.in_channels)


def _last(spec: DenseSpec | RadialBasisSpec, width: int) -> nn.Linear:
    """The layer that gives every element of the answer its coefficients."""
    _, rows, columns = spec.shape
    layer = nn.Linear(width, spec.out_channels * spec.bumps * rows * columns)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _flat(x: Tensor, spec: DenseSpec | RadialBasisSpec) -> Tensor:
    if tuple(x.shape[1:]) != spec.shape:
        raise ValueError(f"expected x of shape (B, {', '.join(map(str, spec.shape))}), got {tuple(x.shape)}")
    return x.flatten(1)


def _answer(coefficients: Tensor, t: Tensor, spec: DenseSpec | RadialBasisSpec) -> Tensor:
    """(B, out_channels, H, W)."""
    return read_out(coefficients.unflatten(1, (-1, *spec.shape[1:])), t, spec.bumps, spec.steps)
