"""An energy for each image: no buffers, no mixing, and the largest singular values that were asked for."""

import pytest
import torch
import torch.nn.functional as F

from diffprob.net.energy import EnergySpec


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(5, 2, 7, 10, dtype=torch.float64)


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("activation", ["silu", "leaky"])
def test_gradients_match_finite_differences(x, activation, spectral):
    """By x and by every parameter, along random directions: central differences over h.

    Their error is of the order h^2 where the network is smooth, and 1e-15/h; steps that are shorter meet fewer kinks.
    """
    torch.manual_seed(0)
    net = EnergySpec(2, (4, 6), 1, activation, spectral).build().double()
    wanted = [x.requires_grad_(True), *net.parameters()]
    gradients = torch.autograd.grad(net(x).sum(), wanted)
    h, near = (1e-6, 1e-7) if activation == "silu" else (1e-9, 1e-5)
    for value, gradient in zip(wanted, gradients, strict=True):
        direction = torch.randn_like(value)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                value += sign * h * direction
                ends.append(net(x).sum())
                value -= sign * h * direction
        slope = (ends[0] - ends[1]) / (2 * h)
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=10 * near, atol=near)


def test_energy_of_an_image_does_not_depend_on_others(x):
    net = EnergySpec(2, (4, 6), 2).build().double()
    (gradient,) = torch.autograd.grad(net(x.requires_grad_(True))[1], x)
    reach = gradient.flatten(1).abs().amax(1)
    assert reach[1] > 0 and reach[[0, 2, 3, 4]].max() == 0
    torch.testing.assert_close(net(x), torch.cat([net(one[None]) for one in x]))


def test_spectral_norms_are_one(x):
    """What every layer multiplies by has the largest singular value 1, by a singular value decomposition."""
    torch.manual_seed(0)
    net = EnergySpec(2, (4, 6), 1, spectral=True).build().double()
    seen = []
    for layer in (module for module in net.modules() if isinstance(module, torch.nn.Conv2d)):
        with torch.no_grad():
            layer.weight *= 3
            layer.bias.zero_()
        rows, kernel = layer.weight.flatten(1), layer.kernel_size[0]
        sigma = torch.linalg.svdvals(rows)[0]
        probe = torch.randn(1, layer.in_channels, 5, 5, dtype=torch.float64)
        expected = F.conv2d(probe, layer.weight / sigma, padding=kernel // 2)
        torch.testing.assert_close(layer(probe), expected)
        seen.append(kernel)
    assert sorted(seen) == [1, 1, 3, 3, 3, 3, 3]
    assert not list(net.buffers())  # an average of the weights misses nothing


def test_smooth_network_has_second_derivatives(x):
    """Score matching needs the gradient of a gradient, by x and by the weights."""
    net = EnergySpec(2, (4, 6)).build().double()
    x = x.requires_grad_(True)
    (score,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    score.square().sum().backward()
    assert all(p.grad is not None for name, p in net.named_parameters() if name != "conv_out.bias")
    assert net.conv_in.weight.grad.abs().max() > 0


def test_energies_are_summed_in_full_precision():
    torch.manual_seed(0)
    net = EnergySpec(1, (8, 8)).build()
    x = torch.rand(4, 1, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = net(x)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, net(x), rtol=0.05, atol=0.05 * float(net(x).detach().abs().max()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"widths": ()}, "widths"),
        ({"widths": [8]}, "widths"),
        ({"blocks": 0}, "blocks"),
        ({"activation": "relu"}, "activation must be one of silu, leaky, got 'relu'"),
    ],
)
def test_invalid_settings_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        EnergySpec(**changes)
