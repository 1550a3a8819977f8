"""The U-Net against diffusers' UNet2DModel, published parameter counts, and fast paths against the definition."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffprob.net import UNet, UNetSpec, layers
from diffprob.net import norm as norms
from diffprob.net.layers import Attention, Downsample, ResBlock, Upsample, sinusoids
from diffprob.net.norm import group_norm

TINY = UNetSpec(in_channels=1, out_channels=1, widths=(8, 16), layers=1, attention=(False, True), groups=4)


Module = TypeVar("Module", bound=nn.Module)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def randomised(net: UNet) -> UNet:
    """Random values in every parameter, those that start at zero included."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return net


def in_memory(net: Module, memory_format: torch.memory_format = torch.channels_last) -> Module:
    return net.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("widths", "level", "count"),
    [
        ((128, 256, 256, 256), 1, 35_746_307),
        ((128, 128, 256, 256, 512, 512), 4, 113_673_219),
        ((192, 192, 384, 384, 768, 768), 4, 255_677_955),
    ],
    ids=["cifar10", "lsun", "lsun-large"],
)
def test_parameter_counts_match_ddpm(widths: tuple[int, ...], level: int, count: int) -> None:
    with torch.device("meta"):
        net = UNetSpec(widths=widths, attention=tuple(i == level for i in range(len(widths)))).build()
    assert sum(p.numel() for p in net.parameters()) == count


CASES = {
    "one-head": (UNetSpec(widths=(32, 64), layers=2, attention=(False, True)), 16),
    "heads-grey": (
        UNetSpec(in_channels=1, out_channels=1, widths=(16, 32), attention=(True, True), head_dim=8, groups=8),
        8,
    ),
    "28x28": (
        UNetSpec(in_channels=1, out_channels=1, widths=(8, 16, 16), layers=1, attention=(False, True, False), groups=8),
        28,
    ),
    "padding-1": (UNetSpec(widths=(16, 16, 32), layers=1, attention=(False, False, True), groups=4, padding=1), 16),
    "cosine-first": (
        UNetSpec(widths=(16, 32), attention=(False, False), groups=16, freq_shift=0, cosine_first=True),
        8,
    ),
    "no-attention": (UNetSpec(widths=(16, 16), attention=(False, False), mid_attention=False, groups=8, eps=1e-5), 8),
    "centred-6-out": (
        UNetSpec(out_channels=6, widths=(16, 32), layers=3, attention=(True, False), groups=8, center_input=True),
        8,
    ),
    "one-level": (UNetSpec(widths=(32,), layers=1, attention=(True,), head_dim=16), 7),
}


def diffusers_model(spec: UNetSpec) -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    return diffusers.UNet2DModel(
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        block_out_channels=spec.widths,
        layers_per_block=spec.layers,
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in spec.attention),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in spec.attention[::-1]),
        add_attention=spec.mid_attention,
        attention_head_dim=spec.head_dim,
        norm_num_groups=spec.groups,
        norm_eps=spec.eps,
        downsample_padding=spec.padding,
        freq_shift=spec.freq_shift,
        flip_sin_to_cos=spec.cosine_first,
        center_input_sample=spec.center_input,
    )


def joined(output: layers.Output) -> torch.Tensor:
    """Both halves of the outputs in one tensor, as diffusers has them."""
    return torch.cat([part for part in output if part is not None], dim=1)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels-last"]
)
def test_unet_matches_diffusers(name: str, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, size = CASES[name]
    monkeypatch.setattr(norms, "_FAST_ELEMENTS", 0)
    monkeypatch.setattr(layers, "_REPAYING_PIXELS", 0)
    ours, theirs = randomised(spec.build()), diffusers_model(spec)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    in_memory(ours, memory_format)
    x, t = torch.randn(3, spec.in_channels, size, size), torch.tensor([0.0, 421.0, 999.0])
    expected = theirs(x, t, return_dict=False)[0]
    assert expected.std() > 0.1
    with torch.no_grad():
        output = joined(ours(x.to(memory_format=memory_format), t))
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    result = joined(ours(x.to(memory_format=memory_format), t))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
    target = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected - target).square().mean(), list(theirs.parameters()))
    names = {id(p): key for key, p in theirs.named_parameters()}
    reference = {names[id(p)]: g for p, g in zip(theirs.parameters(), wanted, strict=True)}
    (result - target).square().mean().backward()
    for key, parameter in ours.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(
            parameter.grad, reference[key], rtol=1e-3, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}"
        )


def test_initial_output_is_zero_as_in_ddpm() -> None:
    spec = TINY
    net = spec.build()
    assert torch.equal(net(torch.randn(2, 1, 8, 8), torch.tensor(3.0)).main, torch.zeros(2, 1, 8, 8))
    zero = {name for name, p in net.named_parameters() if name.endswith("weight") and not p.any()}
    blocks = [name for name, m in net.named_modules() if name.rsplit(".", 1)[0].endswith("resnets")]
    attentions = [name for name, m in net.named_modules() if isinstance(m, Attention)]
    assert zero == {f"{b}.conv2.weight" for b in blocks} | {f"{a}.to_out.0.weight" for a in attentions} | {
        "conv_out.weight"
    }
    spread = net.time_embedding.linear_2.weight.std().item()
    assert spread == pytest.approx((2 / (32 + 32)) ** 0.5, rel=0.1)  # uniform with variance 2 / (fan_in + fan_out)


def test_features_and_output_layer_compose_to_the_output() -> None:
    net = randomised(TINY.build())
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([5.0, 700.0])
    features = net.features(x, t)
    assert features.shape == (2, 8, 8, 8) and net.encode(x, t).shape == (2, 16, 4, 4)
    torch.testing.assert_close(net.conv_out(F.silu(net.conv_norm_out(features))), net(x, t).main)
    assert net(x, t).extra is None


def test_scalar_time_applies_to_every_sample_and_samples_are_independent() -> None:
    net = randomised(TINY.build())
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        whole = net(x, torch.tensor(17.0)).main
        assert torch.equal(whole, net(x, torch.full((3,), 17.0)).main)
        other = net(torch.cat([x[:1], torch.randn(2, 1, 8, 8)]), torch.tensor([17.0, 3.0, 900.0])).main
    torch.testing.assert_close(other[:1], whole[:1], rtol=0, atol=1e-6)
    assert (other[1:] - whole[1:]).abs().max() > 1e-2


@pytest.mark.parametrize("setup", ["autocast", "bfloat16"])
def test_time_embedding_distinguishes_998_and_999_in_bfloat16(setup: str) -> None:
    net = TINY.build()
    exact = net.time_embedding(torch.tensor([998.0, 999.0]))
    with torch.autocast("cpu", torch.bfloat16, enabled=setup == "autocast"):
        if setup == "bfloat16":
            net.to(torch.bfloat16)
        embeddings = net.time_embedding(torch.tensor([998.0, 999.0]))
    assert embeddings.dtype == (torch.float32 if setup == "autocast" else torch.bfloat16)
    # bfloat16(998) = bfloat16(999) = 1000 would move the angle by 1 or 2; rounded weights move the result by a percent.
    torch.testing.assert_close(embeddings.float(), exact, rtol=0, atol=0.0 if setup == "autocast" else 0.02)
    assert (embeddings[0] - embeddings[1]).abs().max() > 0.05


def test_float64_network_computes_in_float64() -> None:
    net = randomised(TINY.build())
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.0, 999.0])
    single = net(x, t).main
    double = net.double()(x.double(), t.double()).main
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-4)
    k = torch.arange(4, dtype=torch.float64)
    angle = 999.0 * 10000.0 ** (-k / 3)
    waves = torch.cat([angle.sin(), angle.cos()])
    torch.testing.assert_close(sinusoids(torch.tensor([999.0], dtype=torch.float64), 8)[0], waves, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels-last"]
)
@pytest.mark.parametrize("threshold", [0, 1000], ids=["transposed", "enlarged"])
def test_upsampling_matches_nearest_then_convolution(
    memory_format: torch.memory_format, threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "_REPAYING_PIXELS", threshold)
    layer = in_memory(Upsample(5).double(), memory_format)
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64).to(memory_format=memory_format)
    expected = layer.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


NORMS = [
    (4, 8, 4, True, True),
    (4, 8, 8, True, False),
    (3, 32, 12, False, False),
    (2, 12, 32, True, False),
    (2, 12, 32, True, True),
]


@pytest.mark.parametrize(("groups", "channels", "size", "silu", "shifted"), NORMS)
def test_fast_norm_matches_the_definition(
    groups: int, channels: int, size: int, silu: bool, shifted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norms, "_FAST_ELEMENTS", 0)
    monkeypatch.setattr(layers, "_REPAYING_PIXELS", 0)
    channels = groups * channels
    layer = nn.GroupNorm(groups, channels, eps=1e-5)
    nn.init.normal_(layer.weight, 1.0)
    nn.init.normal_(layer.bias)
    x = (2 + 3 * torch.randn(2, channels, size, size)).to(memory_format=torch.channels_last)
    shift = torch.randn(2, channels) if shifted else None
    inputs = [p.requires_grad_() for p in (x, layer.weight, layer.bias, shift) if p is not None]
    probe = torch.randn(2, channels, size, size)

    def both(*values: Tensor) -> tuple[Tensor, ...]:
        x, weight, bias, *rest = values
        hidden = x + rest[0][:, :, None, None] if rest else x
        y = F.group_norm(hidden, groups, weight, bias, layer.eps)
        y = F.silu(y) if silu else y
        return y, *torch.autograd.grad(y, values, probe.to(y.dtype))

    expected = both(*(value.detach().double().requires_grad_() for value in inputs))
    y = group_norm(layer, x, shift, silu)
    assert type(y.grad_fn).__name__ == "_FastNormBackward"
    assert y.is_contiguous(memory_format=torch.channels_last) and norms._fast(x)
    for gradient, wanted in zip((y, *torch.autograd.grad(y, inputs, probe)), expected, strict=True):
        scale = wanted.abs().max().item()
        torch.testing.assert_close(gradient.double(), wanted, rtol=0, atol=2e-6 * scale)
    half = x.detach().to(torch.bfloat16)
    with torch.no_grad():
        coarse = group_norm(layer, half, shift, silu)
    assert coarse.dtype == torch.bfloat16 and (coarse - expected[0]).norm() < 0.01 * expected[0].norm()


def test_fast_path_has_second_and_forward_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "_FAST_ELEMENTS", 0)
    monkeypatch.setattr(layers, "_REPAYING_PIXELS", 0)
    net = in_memory(randomised(TINY.build()))
    x = torch.randn(1, 1, 8, 8).to(memory_format=torch.channels_last)
    t, v = torch.tensor([40.0]), torch.randn(1, 1, 8, 8)

    def curvature(like: torch.dtype) -> list[Tensor]:
        net.to(like).zero_grad()
        point = x.to(like).requires_grad_()
        (slope,) = torch.autograd.grad(net(point, t).main.square().sum(), point, create_graph=True)
        (bend,) = torch.autograd.grad((slope * v.to(like)).sum(), point, retain_graph=True)
        slope.square().sum().backward()
        return [
            slope.detach(),
            bend,
            net.conv_in.weight.grad.clone(),
            net.down_blocks[1].resnets[0].norm1.weight.grad.clone(),
        ]

    def directional(like: torch.dtype) -> Tensor:
        net.to(like)
        return torch.func.jvp(lambda x: net(x, t).main, (x.to(like),), (v.to(like),))[1]

    # float64 takes the plain path.
    single, slope = curvature(torch.float32), directional(torch.float32)
    exact, exact_slope = curvature(torch.float64), directional(torch.float64)
    for actual, wanted in zip([*single, slope], [*exact, exact_slope], strict=True):
        assert (actual.double() - wanted).norm() < 1e-4 * wanted.norm()


def test_bfloat16_autocast_gradients_stay_near_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "_FAST_ELEMENTS", 0)
    monkeypatch.setattr(layers, "_REPAYING_PIXELS", 0)
    net = in_memory(randomised(UNetSpec(widths=(32, 64), layers=1, attention=(False, True)).build()))
    x, t, target = torch.randn(4, 3, 16, 16), torch.tensor([0.0, 10.0, 500.0, 999.0]), torch.randn(4, 3, 16, 16)

    def gradient(enabled: bool) -> Tensor:
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = (net(x, t).main.float() - target).square().mean()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    exact, coarse = gradient(False), gradient(True)
    assert (coarse - exact).norm() < 0.03 * exact.norm()


class Bend(nn.Module):
    """One of each block, down and up with a skip: what a compiler gets to fuse, in a graph small enough for a test."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = Downsample(4, 0), Upsample(4)
        self.block = ResBlock(8, 4, 6, 2, 1e-6, 0.0)
        self.attention = Attention(4, None, 2, 1e-6)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        low = self.attention(self.down(x))
        return self.block(torch.cat([self.up(low), x], dim=1), temb)


def gradients(call: Callable[..., Any], net: nn.Module, *inputs: Tensor) -> dict[str, Tensor]:
    """The gradient of a loss for every parameter of ``net``, evaluated by ``call``."""
    net.zero_grad()
    result = call(*inputs)
    main = result if isinstance(result, Tensor) else result.main
    (main - torch.linspace(-1, 1, main.numel()).view(main.shape)).square().mean().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def assert_same_gradients(actual: dict[str, Tensor], expected: dict[str, Tensor], net: nn.Module) -> None:
    assert actual.keys() == expected.keys() == dict(net.named_parameters()).keys()
    size = max(gradient.norm().item() for gradient in expected.values())
    for name, wanted in expected.items():
        assert (actual[name] - wanted).norm() <= 1e-5 * size, name


def test_compiled_block_is_one_graph_with_the_eager_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_REPAYING_PIXELS", 0)
    net = in_memory(Bend())
    inputs = (torch.randn(2, 4, 4, 4).to(memory_format=torch.channels_last), torch.randn(2, 6))
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    assert_same_gradients(gradients(compiled, net, *inputs), gradients(net, net, *inputs), net)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif("DIFFPROB_TEST_COMPILED" not in os.environ, reason="minutes of C++: set DIFFPROB_TEST_COMPILED=1")
@pytest.mark.parametrize("threshold", [0, 1000], ids=["transposed", "enlarged"])
def test_compiled_gradients_match_eager_gradients(
    threshold: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written with `F.interpolate`, upsampling lets Inductor lose gradients in silence."""
    # A killed run leaves half a library in the shared cache.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(layers, "_REPAYING_PIXELS", threshold)
    net = in_memory(randomised(TINY.build()))
    inputs = (torch.randn(2, 1, 8, 8), torch.tensor([3.0, 800.0]))
    compiled = torch.compile(net, fullgraph=True)
    assert_same_gradients(gradients(compiled, net, *inputs), gradients(net, net, *inputs), net)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (48, 64), "attention": (False, False)}, "divisible by groups=32, got \\(48, 64\\)"),
        ({"attention": (True,)}, "tuple of 4 booleans"),
        ({"head_dim": 48}, "head_dim must divide .* got 48"),
        ({"padding": 2}, "padding must be 0 or 1, got 2"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout .* got 1.0"),
        ({"eps": 0.0}, "eps .* got 0.0"),
        ({"freq_shift": 2}, "freq_shift .* got 2"),
        ({"widths": ()}, "widths must have 1 to 12 entries"),
        ({"widths": (3, 6), "attention": (False, False), "groups": 3}, "first width must be even"),
    ],
)
def test_invalid_fields_are_errors_with_the_value(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetSpec(**settings)  # type: ignore[arg-type]


def test_wrong_input_shape_is_an_error() -> None:
    net = UNetSpec(in_channels=1, out_channels=1, widths=(8,) * 4, layers=1, attention=(False,) * 4, groups=4).build()
    with pytest.raises(ValueError, match="divisible by 8 for 4 levels, got 28x28"):
        net(torch.zeros(1, 1, 28, 28), torch.tensor(0.0))
    with pytest.raises(ValueError, match=r"expected x of shape \(B, 1, H, W\), got \(1, 3, 8, 8\)"):
        net(torch.zeros(1, 3, 8, 8), torch.tensor(0.0))
    with pytest.raises(ValueError, match=r"expected t of shape \(\) or \(2,\), got \(3,\)"):
        net(torch.zeros(2, 1, 8, 8), torch.zeros(3))


def test_dropout_is_active_only_in_training() -> None:
    net = randomised(
        UNetSpec(
            in_channels=1, out_channels=1, widths=(8,), layers=1, attention=(False,), groups=4, dropout=0.5
        ).build()
    )
    x, t = torch.randn(1, 1, 8, 8), torch.tensor(1.0)
    assert not torch.equal(net(x, t).main, net(x, t).main)
    net.eval()
    assert torch.equal(net(x, t).main, net(x, t).main)
