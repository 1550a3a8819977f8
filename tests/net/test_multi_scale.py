"""The network of 2015: bumps that add up to one, convolutions at several scales by loops, counts, gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diffprob.config.overrides import assign
from diffprob.config.recipe import build_model
from diffprob.conform import check_denoiser
from diffprob.net.bumps import bumps, read_out
from diffprob.net.dense import DenseSpec, RadialBasisSpec
from diffprob.net.multi_scale import MultiScaleConvolution, MultiScaleSpec
from diffprob.recipes.digits import digits

SMALL = MultiScaleSpec(1, 2, 5, scales=3, layers=2, dense=6, dense_layers=2, size=8, pixel_features=4, bumps=3, steps=9)
SPECS = [
    SMALL,
    MultiScaleSpec(3, 3, 4, scales=2, layers=1, pixel_layers=0, bumps=1),
    MultiScaleSpec(1, 1, 4, layers=0, dense=7, size=8, scales=1, steps=40),
    DenseSpec((1, 8, 8), 2, 6, 2, "sigmoid", 5, 40),
    DenseSpec((3, 2, 2), 3, 6, 1, "softplus"),
    RadialBasisSpec((1, 1, 2), 2, 16, 40, 40),
]


def network(spec, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = spec.build().double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


def states(spec, n: int = 3) -> torch.Tensor:
    shape = getattr(spec, "shape", (spec.in_channels, 8, 8))
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("count", "steps"), [(1, 10), (2, 10), (10, 1000), (40, 40)])
def test_bumps_add_up_to_one_and_are_those_of_the_formula(count: int, steps: int) -> None:
    t = torch.linspace(-3, steps + 2, 57, dtype=torch.float64)
    g = bumps(t, count, steps)
    assert torch.allclose(g.sum(1), torch.ones(57).double(), atol=1e-14) and bool((g >= 0).all())
    if count > 1:
        centres = torch.linspace(0, steps - 1, count, dtype=torch.float64)
        raw = torch.exp(-((t[:, None] - centres) ** 2) / (2 * float(centres[1] - centres[0]) ** 2))
        assert torch.allclose(g, raw / raw.sum(1, keepdim=True), atol=1e-12)
        assert torch.equal(bumps(centres, count, steps).argmax(1), torch.arange(count))
        assert torch.allclose(bumps(steps - 1 - t, count, steps), g.flip(1), atol=1e-12)


def test_as_many_bumps_as_steps_are_a_read_out_for_each_step() -> None:
    """Any answers at the T labels are those of some coefficients."""
    g = bumps(torch.arange(40, dtype=torch.float64), 40, 40)
    assert float(torch.linalg.cond(g)) < 1e4


def test_read_out_is_a_sum_over_bumps_of_each_channel() -> None:
    y = torch.randn(3, 8, 2, 2).double()  # 2 channels of 4 bumps
    t = torch.tensor([0.0, 5.0, 9.0]).double()
    g = bumps(t, 4, 10)
    for b in range(3):
        for c in range(2):
            expected = sum(g[b, j] * y[b, 4 * c + j] for j in range(4))
            assert torch.allclose(read_out(y, t, 4, 10)[b, c], expected, atol=1e-14)
    same = y[:, :1].repeat(1, 4, 1, 1)
    assert torch.allclose(read_out(same, t, 4, 10), y[:, :1], atol=1e-14)  # the same at all times
    with pytest.raises(ValueError, match="expected t of shape"):
        read_out(y, t[:2], 4, 10)


def test_multi_scale_convolution_is_pooling_convolution_and_upsampling_by_loops() -> None:
    torch.manual_seed(0)
    layer = MultiScaleConvolution(2, 3, 3).double()
    x = torch.randn(1, 2, 8, 8).double()
    total = torch.zeros(1, 3, 8, 8).double()
    for k, convolution in enumerate(layer.convolutions):
        side = 2**k
        small = torch.zeros(1, 2, 8 // side, 8 // side).double()
        for i in range(8 // side):
            for j in range(8 // side):
                small[:, :, i, j] = x[:, :, side * i : side * (i + 1), side * j : side * (j + 1)].mean((-1, -2))
        small = F.conv2d(F.pad(small, (1, 1, 1, 1)), convolution.weight, convolution.bias)
        for i in range(8):
            for j in range(8):
                total[:, :, i, j] += small[:, :, i // side, j // side]
    assert torch.allclose(layer(x), total, atol=1e-12)
    assert [c.bias is not None for c in layer.convolutions] == [True, False, False]


def test_a_shift_by_whole_blocks_shifts_the_answer() -> None:
    """Away from the border, which reaches 3 blocks of 2 pixels a layer here."""
    spec = MultiScaleSpec(1, 1, 4, scales=2, layers=2, bumps=4)
    net, t = network(spec), torch.tensor(300.0).double()
    x = F.pad(torch.randn(1, 1, 8, 8).double(), (12, 12, 12, 12))
    one, other = net(x, t).main, net(x.roll((2, -4), (2, 3)), t).main
    inner = slice(10, -10)
    assert torch.allclose(other.roll((-2, 4), (2, 3))[..., inner, inner], one[..., inner, inner], atol=1e-12)
    assert not torch.allclose(
        net(x.roll(1, 3), t).main.roll(-1, 3)[..., inner, inner], one[..., inner, inner], atol=1e-3
    )


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_shapes_time_and_gradients(spec) -> None:
    x, t = states(spec), torch.tensor([0.0, 3.0, 8.0]).double()
    fresh = spec.build().double()
    assert not fresh(x, t).main.any()  # the last layer begins at 0
    net = network(spec)
    output = net(x, t)
    assert output.main.shape == x.shape
    assert (output.extra is not None) == (spec.out_channels == 2 * spec.in_channels)
    one = net(x, t[1]).main
    assert torch.allclose(one[1], output.main[1], atol=1e-12)
    assert torch.equal(one, output.main) == (spec.bumps == 1)  # time matters
    assert torch.allclose(net(x[:1], t[:1]).main, output.main[:1], atol=1e-12)
    sum(part.square().sum() for part in output if part is not None).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 1e-9, name


def test_levels_are_answered_by_logits() -> None:
    spec = DenseSpec((1, 1, 20), 3, levels=3)
    x = torch.randint(3, (2, 1, 1, 20)).double()
    assert network(spec)(x, torch.zeros(2).double()).main.shape == (2, 1, 1, 20, 3)
    a, b = network(spec), network(DenseSpec((1, 1, 20), 3))
    b.load_state_dict(a.state_dict())
    t = torch.zeros(2).double()
    assert torch.allclose(a(x, t).main[..., 1], b(x - 1, t).main[:, 1:2], atol=1e-12)


def test_parameter_counts() -> None:
    def count(spec) -> int:
        return sum(p.numel() for p in spec.build().parameters())

    # 4 layers of 4 scales with one bias each, 20 -> 20 for a pixel, 20 -> 3 x 10 coefficients.
    layers = 4 * 9 * 3 * 20 + 20 + 3 * (4 * 9 * 400 + 20)
    assert count(MultiScaleSpec()) == layers + 20 * 20 + 20 + 20 * 30 + 30
    # The perceptron of the heartbeat: 20 inputs, three layers of 50, logits of 2 values for 20 bits by 10 bumps.
    assert count(DenseSpec((1, 1, 20), 2, levels=2)) == 20 * 50 + 50 + 2 * 2550 + 51 * 400
    assert count(RadialBasisSpec((1, 1, 2), 2)) == 16 * 2 + 16 + 17 * 4 * 10


def test_a_recipe_takes_them_by_name() -> None:
    recipe = assign(digits(), "network", "MultiScaleSpec(1, 1, scales=3)")
    assert recipe.network == MultiScaleSpec(1, 1, scales=3)
    check_denoiser(build_model(recipe).eval())


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (MultiScaleSpec, "features", 0),
        (MultiScaleSpec, "scales", 0),
        (MultiScaleSpec, "layers", 0),
        (MultiScaleSpec, "dense", 5),
        (MultiScaleSpec, "size", 8),
        (MultiScaleSpec, "bumps", 0),
        (MultiScaleSpec, "steps", 1),
        (DenseSpec, "shape", (1, 2)),
        (DenseSpec, "function", "relu"),
        (DenseSpec, "levels", 2),
        (RadialBasisSpec, "units", 0),
    ],
)
def test_invalid_fields_are_errors(kind: type, field: str, value: object) -> None:
    base = {} if kind is MultiScaleSpec or field == "shape" else {"shape": (1, 1, 2)}
    with pytest.raises(ValueError, match="must"):
        kind(**base, **{field: value})


def test_invalid_inputs_are_errors() -> None:
    x = torch.zeros(1, 1, 8, 8).double()
    for spec, wrong in ((SMALL, x[:, :, :4]), (SMALL, x.repeat(1, 2, 1, 1)), (SPECS[1], x.repeat(1, 3, 1, 1)[..., :7])):
        with pytest.raises(ValueError, match=r"expected x|divisible|images of 8x8"):
            network(spec)(wrong, torch.zeros(1).double())
    with pytest.raises(ValueError, match="expected x of shape"):
        network(DenseSpec((1, 8, 8)))(x[:, :, :4], torch.zeros(1).double())
