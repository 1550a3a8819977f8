"""The U-Net of signals and volumes, against the net of one dimension less and against itself with axes swapped."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.config.spec import render
from diffprob.interop.configs import network_config
from diffprob.net import UNet, UNetSpec
from diffprob.net.head import HeadSpec
from diffprob.net.layers import from_patches, to_patches
from diffprob.net.scalar_unet import ScalarUNetSpec
from diffprob.net.unet import attended_levels

SMALL = UNetSpec(2, 2, (8, 16), 1, (False, True), groups=4, dims=1)


def randomised(spec: UNetSpec) -> UNet:
    torch.manual_seed(0)
    net = UNet(spec).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def embedded(net: UNet) -> UNet:
    """The net of one dimension more whose kernels are 0 but in the middle of the last axis."""
    larger, patch = UNet(replace(net.spec, dims=net.spec.dims + 1)).double(), net.spec.patch_size
    state = {}
    for name, value in net.state_dict().items():
        if name.startswith("conv_in.weight"):  # the channels of a block: only the first slice of it is read
            value = torch.stack([value, *[torch.zeros_like(value)] * (patch - 1)], 2).flatten(1, 2)
        if name.startswith("conv_out"):
            value = value.repeat_interleave(patch, 0)
        if value.ndim == 2 + net.spec.dims and "conv" in name:
            value = value[..., None]
            if value.shape[2] == 3:
                value = torch.cat([torch.zeros_like(value), value, torch.zeros_like(value)], -1)
        state[name] = value
    larger.load_state_dict(state)
    return larger


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("more", [{}, {"patch_size": 2, "padding": 1, "head_dim": 4, "fourier": (1,), "classes": 3}])
def test_one_axis_less_is_the_same_on_data_that_does_not_vary_along_it(dims: int, more: dict[str, object]) -> None:
    net = randomised(replace(SMALL, dims=dims, **more))
    x = torch.randn(2, 2, *(8, 12)[:dims], dtype=torch.float64, requires_grad=True)
    t, label = torch.tensor([3.0, 700.0], dtype=torch.float64), torch.tensor([0, 2]) if net.spec.classes else None
    wanted = net(x, t, label).main
    answer = embedded(net)(x[..., None].expand(*x.shape, 8), t, label).main
    torch.testing.assert_close(answer, wanted[..., None].expand_as(answer), rtol=1e-9, atol=1e-10)
    weight = torch.randn_like(wanted)
    gradients = [torch.autograd.grad((y * w).sum(), x)[0] for y, w in ((wanted, weight), (answer.mean(-1), weight))]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)


def test_all_axes_of_a_volume_are_treated_alike() -> None:
    net = randomised(replace(SMALL, dims=3))
    turned = randomised(replace(SMALL, dims=3))
    with torch.no_grad():
        for module in turned.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.copy_(module.weight.permute(0, 1, 4, 2, 3).clone())
    x, t = torch.randn(2, 2, 4, 6, 8, dtype=torch.float64), torch.tensor(5.0, dtype=torch.float64)
    answer = turned(x.permute(0, 1, 4, 2, 3), t).main
    torch.testing.assert_close(answer, net(x, t).main.permute(0, 1, 4, 2, 3), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 4, 8), (2, 3, 4, 6, 8)])
def test_patches_hold_their_blocks_and_come_back(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    patches = to_patches(x, 2)
    block = x[1, 2][tuple(slice(2, 4) for _ in shape[2:])].flatten()
    size: Tensor = patches[(1, slice(2 * len(block), 3 * len(block)), *[1] * (len(shape) - 2))]
    assert torch.equal(size, block) and torch.equal(from_patches(patches, 2), x)


def test_the_text_of_a_network_for_images_is_what_it_was() -> None:
    assert "dims" not in repr(UNetSpec()) + render(UNetSpec())
    assert repr(SMALL).endswith("dims=1)") and "dims=1" in render(SMALL)
    assert UNetSpec() == UNetSpec(dims=2) != UNetSpec(dims=3)


def test_attention_starts_at_256_positions_in_any_number_of_dimensions() -> None:
    assert attended_levels((512,), 1, 3) == (False, True, False)
    assert attended_levels((16, 16, 16), 1, 3) == (False, False, True)


def test_what_does_not_fit_is_said_in_one_line() -> None:
    with pytest.raises(ValueError, match="dims must be 1, 2 or 3, got 4"):
        UNetSpec(dims=4)
    with pytest.raises(ValueError, match=r"expected x of shape \(B, 2, L\), got \(1, 2, 4, 4\)"):
        UNet(SMALL)(torch.zeros(1, 2, 4, 4), torch.tensor(0.0))
    with pytest.raises(ValueError, match="the length must be divisible by 2 for 2 levels, got 7"):
        UNet(SMALL)(torch.zeros(1, 2, 7), torch.tensor(0.0))
    for refuses in (ScalarUNetSpec, HeadSpec.reading):
        with pytest.raises(ValueError, match="must be 2 here: this network is for images, got 1"):
            refuses(SMALL)
    with pytest.raises(InputError, match=r"dims=1\) has no counterpart"):
        network_config(SMALL, None)


@pytest.mark.parametrize(("dims", "shape"), [(1, (2, 16)), (3, (2, 4, 4, 8))])
def test_a_model_of_signals_or_volumes_draws_and_has_a_density(dims: int, shape: tuple[int, ...]) -> None:
    """A network that has learned nothing predicts no noise: its flow only scales, so log p is known.

    dx/dt = f(t) x with eps = 0, so that x_1 = x_0 exp(integral of f) = x_0 alpha(1)/alpha(0).
    """
    process = dp.LinearProcess()
    model = dp.Model(UNet(replace(SMALL, dims=dims)), shape=shape, process=process)
    assert model.sample(2, steps=3).images.shape == (2, *shape)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    scale = float(process.alpha(1.0) / process.alpha(process.schedule.start))
    d = x[0].numel()
    wanted = -0.5 * d * math.log(2 * math.pi) - 0.5 * scale**2 * (x.flatten(1) ** 2).sum(1) + d * math.log(scale)
    log_prob = torch.from_numpy(model.log_prob(x, method=dp.ProbabilityFlow()))
    torch.testing.assert_close(log_prob, wanted.double(), rtol=1e-3, atol=1e-2)
