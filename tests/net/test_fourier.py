"""Further inputs of a U-Net: waves as fine as the grey levels."""

import math
from dataclasses import replace

import pytest
import torch

from diffprob.net.layers import fourier_powers, waves
from diffprob.net.unet import UNetSpec

TINY = UNetSpec(in_channels=2, out_channels=2, widths=(8,), layers=1, attention=(False,), groups=4)


def test_finest_periods_are_two_levels_and_one():
    """Kingma et al. 2021 take 7 and 8 for 256 levels; on 17, whose distance is a power of two, neighbours alternate."""
    assert fourier_powers(256) == (7, 8) and fourier_powers(17) == (3, 4)
    x = 2 * torch.arange(17, dtype=torch.float64) / 16 - 1
    _, two, _, one = waves(x, fourier_powers(17))
    torch.testing.assert_close(two, (-1.0) ** torch.arange(17, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(one, torch.ones_like(x), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="levels"):
        fourier_powers(2)


def test_fourier_features_follow_the_image_channels():
    spec = replace(TINY, fourier=(0, 3))
    net = spec.build().double()
    assert net.conv_in.weight.shape == (8, 10, 3, 3)
    x = torch.rand(3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = []
    net.conv_in.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    net(x, torch.tensor(3.0))
    wanted = [x, *(f(2**n * math.pi * x) for n in (0, 3) for f in (torch.sin, torch.cos))]
    assert torch.equal(seen[0], torch.cat(wanted, 1))


def test_no_fourier_features_leave_the_network_unchanged():
    torch.manual_seed(0)
    plain = TINY.build()
    torch.manual_seed(0)
    same = replace(TINY, fourier=()).build()
    x = torch.rand(1, 2, 4, 4)
    assert torch.equal(plain(x, torch.tensor(1.0)).main, same(x, torch.tensor(1.0)).main)
    assert plain.conv_in.weight.shape == (8, 2, 3, 3)


@pytest.mark.parametrize("wrong", [3, (1.5,), (-1,), (17,)])
def test_invalid_powers_are_errors(wrong):
    with pytest.raises(ValueError, match="fourier"):
        replace(TINY, fourier=wrong)
