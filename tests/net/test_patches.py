"""Networks on patches of pixels, against the plain network on pixels sorted by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diffprob.base.errors import InputError
from diffprob.config.recipe import Recipe
from diffprob.data import Digits
from diffprob.interop.configs import network_config
from diffprob.net import UNet, UNetSpec
from diffprob.net.captioned import CaptionedUNetSpec
from diffprob.net.concatenated import ConcatenatedUNetSpec
from diffprob.net.head import HeadedUNet, HeadSpec
from diffprob.net.noisy import NoisyClassifierSpec
from diffprob.net.potential import PotentialSpec
from diffprob.net.scalar_unet import ScalarUNetSpec
from diffprob.net.text import TextEncoderSpec
from diffprob.space.pixels import Pixels
from diffprob.training.settings import Training

PATCHES = UNetSpec(
    in_channels=2, out_channels=2, widths=(8, 16), layers=1, attention=(False, True), groups=4, patch_size=2
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def randomised(net: nn.Module) -> nn.Module:
    """Random values in every parameter, those that start at zero included."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return net.double()


def sorted_by_hand(x: Tensor, p: int) -> Tensor:
    """(B, C, H, W) -> (B, C p p, H / p, W / p): channel c p^2 + i p + j has row i and column j of every patch."""
    parts = [x[:, c, i::p, j::p] for c in range(x.shape[1]) for i in range(p) for j in range(p)]
    return torch.stack(parts, 1)


@pytest.mark.parametrize(("patch_size", "out_channels"), [(2, 2), (2, 4), (4, 2)])
def test_a_network_on_patches_is_the_plain_one_on_sorted_pixels(patch_size: int, out_channels: int) -> None:
    spec = replace(PATCHES, patch_size=patch_size, out_channels=out_channels)
    net = randomised(spec.build())
    square = patch_size**2
    plain = replace(spec, in_channels=2 * square, out_channels=out_channels * square, patch_size=1).build().double()
    plain.load_state_dict(net.state_dict())
    x, t = torch.randn(3, 2, 16, 24, dtype=torch.float64), torch.tensor([0.0, 400.0, 999.0])
    answer, expected = net(x, t), plain(sorted_by_hand(x, patch_size), t)
    whole = torch.cat([part for part in answer if part is not None], 1)
    parts = torch.cat([part for part in expected if part is not None], 1)
    assert whole.shape == (3, out_channels, 16, 24)
    assert torch.allclose(sorted_by_hand(whole, patch_size), parts, rtol=1e-12, atol=1e-14)
    assert (answer.extra is not None) == (out_channels == 4)


def test_an_untrained_head_on_patches_is_one_at_every_pixel_and_each_pixel_has_its_own() -> None:
    net = PATCHES.build()
    head = HeadSpec.reading(PATCHES).build()
    x, t = torch.randn(2, 2, 8, 8), torch.tensor(3.0)
    assert torch.equal(HeadedUNet(net, head)(x, t).extra, torch.ones(2, 2, 8, 8))
    randomised(head)
    answer = HeadedUNet(randomised(net), head)(x.double(), t).extra
    assert answer is not None and answer.shape == x.shape
    assert len(answer.flatten().unique()) == answer.numel()


def test_networks_around_one_on_patches_take_and_give_whole_images() -> None:
    x, t = torch.randn(2, 2, 16, 16), torch.tensor([3.0, 5.0])
    beside = torch.randn(2, 1, 16, 16)
    assert ConcatenatedUNetSpec(PATCHES).build()(x, t, beside).main.shape == x.shape
    assert PotentialSpec(PATCHES).build()(x, t).main.shape == x.shape
    assert ScalarUNetSpec(PATCHES, head_widths=(8,)).build()(x, t).main.shape == (2,)
    assert NoisyClassifierSpec(PATCHES, 3).build()(x, t).shape == (2, 3)
    specs = (ConcatenatedUNetSpec, PotentialSpec, ScalarUNetSpec, NoisyClassifierSpec)
    assert [spec(PATCHES).divisor for spec in specs] == [4] * len(specs)
    assert CaptionedUNetSpec(PATCHES, TextEncoderSpec(words=5)).divisor == 4


def test_sizes_that_are_no_whole_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="divisible by 4 for 2 levels, got 8x10"):
        PATCHES.build()(torch.randn(1, 2, 8, 10), torch.tensor(1.0))
    with pytest.raises(ValueError, match="a network of 2 levels needs sizes divisible by 8, got 12x12"):
        Recipe(
            name="x",
            data=Digits(),
            space=Pixels((2, 12, 12), 17),
            network=replace(PATCHES, patch_size=4),
            training=Training(steps=1),
        )
    with pytest.raises(ValueError, match="patch_size"):
        replace(PATCHES, patch_size=3)


def test_diffusers_has_no_counterpart() -> None:
    with pytest.raises(InputError, match="patch_size=2"):
        network_config(PATCHES, (16, 16))


def test_without_patches_nothing_has_changed() -> None:
    spec = replace(PATCHES, patch_size=1)
    assert isinstance(spec.build(), UNet) and spec.divisor == 2
    names = {name: tuple(value.shape) for name, value in spec.build().state_dict().items()}
    assert names["conv_in.weight"] == (8, 2, 3, 3) and names["conv_out.weight"] == (2, 8, 3, 3)
