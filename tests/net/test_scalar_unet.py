"""The scalar U-Net: the published size, the U-Net's own names and numbers, and a head as specified."""

import pytest
import torch
import torch.nn.functional as F

from diffprob.config.registry import ALL
from diffprob.config.spec import parse
from diffprob.net.scalar_unet import ScalarUNet, ScalarUNetSpec
from diffprob.net.unet import UNetSpec

UNET = UNetSpec(3, 3, widths=(8, 16), layers=1, attention=(False, True), groups=4)


def randomised(net: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_parameter_count_of_the_ddpm_body() -> None:
    """13,411,712 parameters are left of google/ddpm-cifar10-32 without its way up; its lowest resolution is 256x4x4."""
    with torch.device("meta"):
        net = ScalarUNetSpec(UNetSpec()).build()
    head = sum(p.numel() for name, p in net.named_parameters() if name.startswith("head."))
    assert sum(p.numel() for p in net.parameters()) - head == 13_411_712
    assert head == (256 * 128 * 9 + 128) + (128 * 64 * 9 + 64) + (64 + 1)
    small = ScalarUNetSpec(UNetSpec(widths=(32, 32, 32, 256), attention=(False,) * 4, mid_attention=False)).build()
    assert small.features(torch.randn(2, 3, 32, 32), torch.tensor(5.0)).shape == (2, 256, 4, 4)


def test_unet_weights_load_by_name_and_give_the_same_features() -> None:
    teacher, net = randomised(UNET.build()), ScalarUNetSpec(UNET).build()
    above = ("up_blocks", "conv_norm_out", "conv_out")
    weights = {name: value for name, value in teacher.state_dict().items() if not name.startswith(above)}
    mismatch = net.load_state_dict(weights, strict=False)
    assert not mismatch.unexpected_keys and all(name.startswith("head.") for name in mismatch.missing_keys)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3.0, 700.0])
    assert torch.equal(net.encode(x, t), teacher.encode(x, t))
    assert torch.equal(net.features(x, t), net.encode(x, t))


def test_parameter_groups_cover_every_parameter_once() -> None:
    spec = ScalarUNetSpec(UNET)
    names = [name for name, _ in spec.build().named_parameters()]
    parts = spec.parts()
    assert list(parts) == ["head", "mid", "down.1", "down.0", "in", "time"]
    for name in names:
        assert sum(name.startswith(prefix) for prefix in parts.values()) == 1, name
    assert all(any(name.startswith(prefix) for name in names) for prefix in parts.values())
    assert spec.parts("net.body.")["down.0"] == "net.body.down_blocks.0."


@pytest.mark.parametrize("norm", ["none", "group", "batch"])
@pytest.mark.parametrize("activation", ["silu", "relu", "softplus"])
@pytest.mark.parametrize("pool", ["mean", "sum"])
def test_head_matches_the_formula(norm: str, activation: str, pool: str) -> None:
    net = randomised(ScalarUNetSpec(UNET, (12, 4), norm, activation, pool).build()).double().eval()
    h = torch.randn(3, 16, 2, 2, dtype=torch.float64)
    weights = {name.removeprefix("head."): value for name, value in net.state_dict().items()}
    output = net.read_out(h).main
    for i in range(2):
        h = F.conv2d(h, weights[f"convs.{i}.weight"], weights[f"convs.{i}.bias"], padding=1)
        if norm == "group":
            h = F.group_norm(h, 4, weights[f"norms.{i}.weight"], weights[f"norms.{i}.bias"], 1e-6)
        if norm == "batch":
            moments = weights[f"norms.{i}.running_mean"], weights[f"norms.{i}.running_var"]
            h = F.batch_norm(h, *moments, weights[f"norms.{i}.weight"], weights[f"norms.{i}.bias"])
        h = {"silu": F.silu, "relu": torch.relu, "softplus": lambda u: torch.log1p(u.exp())}[activation](h)
    pooled = h.mean((2, 3)) if pool == "mean" else h.sum((2, 3))
    expected = pooled @ weights["linear.weight"][0] + weights["linear.bias"]
    assert output.shape == (3,)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)


def test_untrained_scalar_is_zero() -> None:
    net = ScalarUNetSpec(UNET).build()
    output = net(torch.randn(2, 3, 8, 8), torch.tensor(3.0))
    assert torch.equal(output.main, torch.zeros(2)) and output.extra is None


def test_spec_survives_the_round_trip() -> None:
    spec = ScalarUNetSpec(UNET, (8,), norm="batch", activation="relu")
    assert parse(repr(spec), ALL) == spec and isinstance(spec.build(), ScalarUNet)
    assert (spec.in_channels, spec.widths) == (3, (8, 16))
    for bad in (
        lambda: ScalarUNetSpec(UNET, ()), lambda: ScalarUNetSpec(UNET, (8, 0)), lambda: ScalarUNetSpec(UNET, [8]),
        lambda: ScalarUNetSpec(UNET, norm="layer"), lambda: ScalarUNetSpec(UNET, activation="gelu"),
        lambda: ScalarUNetSpec(UNET, pool="max"), lambda: ScalarUNetSpec(UNET, (6, 4), norm="group"),
        lambda: ScalarUNetSpec(spec),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="got"):
            bad()
