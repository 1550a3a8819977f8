"""The U-Net with an image beside against the plain one on the same channels."""

import pytest
import torch
from torch import nn

from diffprob.net.concatenated import ConcatenatedUNet, ConcatenatedUNetSpec
from diffprob.net.unet import UNetSpec

BODY = UNetSpec(2, 4, (8, 16), 1, (False, True), groups=4)


def network(body: UNetSpec = BODY, extra_channels: int = 1) -> ConcatenatedUNet:
    torch.manual_seed(0)
    net = ConcatenatedUNetSpec(body, extra_channels).build().double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


X, T, C = torch.randn(3, 2, 8, 8).double(), torch.tensor([1.0, 50.0, 999.0]).double(), torch.randn(3, 1, 8, 8).double()


def test_condition_enters_through_the_first_convolution_only() -> None:
    """Without its weights for the image, the network is the plain one of the body; and only the first has such."""
    net, plain = network(), BODY.build().double()
    state = {**net.state_dict(), "conv_in.weight": net.conv_in.weight[:, :2]}
    plain.load_state_dict(state)
    assert (net(X, T, C).main - plain(X, T).main).abs().amax((1, 2, 3)).min() > 1e-2
    with torch.no_grad():
        net.conv_in.weight[:, 2:] = 0
    output, expected = net(X, T, C), plain(X, T)
    assert output.extra is not None and expected.extra is not None
    torch.testing.assert_close(torch.cat(output), torch.cat(expected), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("channels", "out", "extra_channels"), [(1, 1, 1), (1, 2, 1), (1, 4, 1), (2, 4, 2), (1, 2, 3)])
def test_learned_variance_needs_twice_the_data_channels(channels: int, out: int, extra_channels: int) -> None:
    """Whatever number of channels the first convolution reads: also where the answer is twice that."""
    net = network(UNetSpec(channels, out, (8,), 1, (False,), groups=4), extra_channels)
    output = net(X[:, :channels], T, torch.randn(3, extra_channels, 8, 8))
    assert output.main.shape[1] == (channels if out == 2 * channels else out)
    assert (output.extra is None) == (out != 2 * channels)


def test_condition_of_the_wrong_shape_is_an_error() -> None:
    net = network()
    for wrong in (None, C[:2], C[:, :, :4], torch.cat([C, C], 1)):
        with pytest.raises(ValueError, match=r"expected an image of shape \(3, 1, 8, 8\) beside x"):
            net(X, T, wrong)
    with pytest.raises(ValueError, match="expected x of shape"):
        net(X[:, :1], T, C)
    with pytest.raises(ValueError, match="extra_channels must be at least 1, got 0"):
        ConcatenatedUNetSpec(BODY, 0)
    with pytest.raises(ValueError, match=r"body\.classes must be 0"):
        ConcatenatedUNetSpec(UNetSpec(classes=3))
    spec = ConcatenatedUNetSpec(BODY)
    assert (spec.in_channels, spec.out_channels, spec.widths) == (2, 4, (8, 16))
