"""A head beside the network's own output: one pass, the same bits, and unit variance before training."""

import pytest
import torch
from torch import nn

from diffprob.net.head import HeadedUNet, HeadSpec
from diffprob.net.unet import UNet, UNetSpec


def unet(out_channels: int = 3, widths: tuple[int, ...] = (8, 16)) -> UNet:
    """A small U-Net with attention, its zero layers filled."""
    torch.manual_seed(0)
    spec = UNetSpec(3, out_channels, widths=widths, layers=1, attention=(False, True), groups=4, dropout=0.1)
    net = spec.build().eval()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net


@pytest.mark.parametrize("out_channels", [3, 6])
def test_head_leaves_the_network_output_bits_unchanged(out_channels: int) -> None:
    net = unet(out_channels)
    x, t = torch.randn(5, 3, 16, 16), torch.tensor([0.0, 10.0, 500.0, 998.0, 999.0])
    for layout in (torch.contiguous_format, torch.channels_last):
        x = x.contiguous(memory_format=layout)
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                output = HeadedUNet(net, HeadSpec.reading(net.spec).build())(x, t)
                assert torch.equal(output.main, net(x, t).main)
            assert output.main.shape == output.extra.shape == (5, 3, 16, 16)
            assert torch.equal(output.extra, torch.ones_like(output.extra))


def test_head_needs_one_network_pass() -> None:
    net, calls = unet(), []
    net.mid_block.resnets[0].register_forward_hook(lambda *_: calls.append(1))
    output = HeadedUNet(net, nn.Identity())(torch.randn(2, 3, 8, 8), torch.tensor(3.0))
    assert len(calls) == 1
    assert torch.equal(net.read_out(output.extra).main, output.main)


@pytest.mark.parametrize("blocks", [0, 1])
@pytest.mark.parametrize("size", [4, 32])
def test_gradients_do_not_depend_on_memory_layout_or_frozen_features(blocks: int, size: int) -> None:
    """torch's own group norm crashes on channels-last features without a gradient."""
    features, gradients = torch.randn(4, 16, size, size), []
    for layout in (torch.contiguous_format, torch.channels_last):
        for frozen in (True, False):
            torch.manual_seed(0)
            head = HeadSpec(16, 1, groups=4, blocks=blocks).build()
            head.conv.weight.data.normal_()
            head(features.clone(memory_format=layout).requires_grad_(not frozen)).square().mean().backward()
            gradients.append([parameter.grad for parameter in head.parameters()])
    for grads in gradients[1:]:
        for one, other in zip(gradients[0], grads, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_initial_head_outputs_one_and_learns(blocks: int) -> None:
    """Weight 0 and bias 1; every parameter gets a gradient once the last convolution has left 0."""
    head = HeadSpec(8, 3, groups=4, blocks=blocks).build()
    features = torch.randn(2, 8, 6, 6)
    assert torch.equal(head(features), torch.ones(2, 3, 6, 6))
    for name, parameter in head.named_parameters():
        if "conv" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    (head(features) - torch.randn(2, 3, 6, 6)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head.parameters())


def test_head_without_blocks_is_norm_silu_convolution() -> None:
    head = HeadSpec(8, 2, groups=2, eps=1e-3).build().double()
    for parameter in head.parameters():
        parameter.data = torch.randn_like(parameter)
    features = torch.randn(3, 8, 5, 5, dtype=torch.float64)
    grouped = features.reshape(3, 2, -1)
    centred = grouped - grouped.mean(-1, keepdim=True)
    normed = (centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt()).reshape(features.shape)
    h = normed * head.norm.weight[:, None, None] + head.norm.bias[:, None, None]
    expected = nn.functional.conv2d(h * h.sigmoid(), head.conv.weight, head.conv.bias, padding=1)
    torch.testing.assert_close(head(features), expected, rtol=1e-12, atol=1e-12)


def test_head_computes_in_float32_under_autocast() -> None:
    """Under autocast the features may be bfloat16; the variance stays float32."""
    net = unet()
    model = HeadedUNet(net, HeadSpec.reading(net.spec, blocks=1).build())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(torch.randn(2, 3, 8, 8), torch.tensor(3.0))
    assert output.main.dtype == torch.bfloat16
    assert output.extra.dtype == torch.float32
    assert model.double()(torch.randn(1, 3, 8, 8).double(), torch.tensor(3.0).double()).extra.dtype == torch.float64


def test_head_spec_follows_the_network_and_checks_fields() -> None:
    assert HeadSpec.reading(UNetSpec(), 1) == HeadSpec(128, 3, 32, 1e-6, 1)
    assert HeadSpec.reading(unet(out_channels=6).spec).out_channels == 3
    assert (
        repr(HeadSpec(8, 1, 4))
        == "HeadSpec(channels=8, out_channels=1, groups=4, eps=1e-06, blocks=0, patch_size=1, positive=False)"
    )
    for bad in (
        lambda: HeadSpec(0, 1), lambda: HeadSpec(32, 0), lambda: HeadSpec(32, 1, 0), lambda: HeadSpec(32, 1, blocks=-1),
        lambda: HeadSpec(48, 1), lambda: HeadSpec(32, 1, eps=0.0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="got"):
            bad()
