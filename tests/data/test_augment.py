import math

import pytest
import torch

from diffprob.base.rng import Rng
from diffprob.data.augment import Elastic, HorizontalFlip, augment, warp


def images(n, height=12, width=10, channels=1, seed=0):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("change", [HorizontalFlip(), Elastic(2.0), Elastic(1.5, nodes=4)], ids=repr)
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (13, 31)], ids=str)
def test_augmentation_does_not_depend_on_the_batch(change, size):
    x, rng = images(64, *size, channels=3), Rng.of(5, 64).at(3)
    whole = change(x, rng)
    assert not torch.equal(whole, x)
    for index in ([0], [63], [17, 3], list(range(7, 14))):
        part = change(x[index], rng.select(torch.tensor(index)))
        assert torch.equal(part, whole[index]), index
    assert torch.equal(change(x, rng), whole)
    assert not torch.equal(change(x, rng.at(4)), whole)


def test_flips_occur_at_the_set_probability():
    x, n = images(1, 4, 4).expand(4000, 1, 4, 4), 4000
    for p in (0.0, 0.3, 1.0):
        y = HorizontalFlip(p)(x, Rng.of(1, n))
        flipped = (y == x.flip(-1)).all(-1).all(-1)[:, 0]
        assert torch.equal(y[~flipped], x[~flipped])
        assert abs(flipped.double().mean() - p) <= 4 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_displacement_is_the_identity(dtype):
    x = images(3).to(dtype)
    y = Elastic(0.0)(x, Rng.of(0, 3))
    assert y.dtype == dtype
    # positions pass through grid_sample's units in float32: a few 1e-7 of 12 pixels, times slopes of at most 2
    assert (y - x).abs().max() < 2e-5


@pytest.mark.parametrize(("across", "down"), [(1, 0), (0, 2), (-3, 1)])
def test_whole_pixel_displacement_is_a_shift_with_repeated_border(across, down):
    x = images(2, 9, 11)
    shift = torch.tensor([across, down], dtype=torch.float32)[None, :, None, None].expand(2, 2, 9, 11)
    rows = (torch.arange(9) + down).clamp(0, 8)
    columns = (torch.arange(11) + across).clamp(0, 10)
    assert (warp(x, shift) - x[:, :, rows][..., columns]).abs().max() < 2e-5


def test_displacement_has_the_set_scale_at_the_nodes():
    n = 3000
    field = Elastic(2.5).displacement(9, 13, Rng.of(0, n))
    nodes = field[:, :, ::4, ::6]  # corners, edge centres, centre
    assert nodes.shape == (n, 2, 3, 3)
    z = (nodes.double().square().mean(0) / 2.5**2 - 1) / math.sqrt(2 / n)
    assert z.abs().max() < 4.5
    flat = nodes.double().reshape(n, -1)
    correlation = torch.corrcoef(flat.T) - torch.eye(18)
    assert correlation.abs().max() < 5 / math.sqrt(n)


def test_displacement_is_bicubic_between_the_nodes():
    change, rng = Elastic(1.0), Rng.of(9, 4)
    nodes = change.displacement(3, 3, rng)
    expected = torch.nn.functional.interpolate(nodes, (17, 23), mode="bicubic", align_corners=True)
    assert (change.displacement(17, 23, rng) - expected).abs().max() < 1e-5


def test_smooth_image_is_moved_by_the_displacement_field():
    height = width = 32
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")

    def picture(x, y):
        return 0.8 * torch.sin(0.2 * x) * torch.cos(0.15 * y)

    change, rng = Elastic(1.5), Rng.of(2, 5)
    field = change.displacement(height, width, rng)
    warped = change(picture(x, y).expand(5, 1, 32, 32).clone(), rng)
    at_x, at_y = x + field[:, 0], y + field[:, 1]
    expected = picture(at_x, at_y)[:, None]
    inside = ((at_x > 1) & (at_x < 30) & (at_y > 1) & (at_y < 30))[:, None]
    assert inside.double().mean() > 0.7
    # cubic convolution with torch's a = -0.75 has the error (1 + 2a) (2s^3 - 3s^2 + s) f', at most 0.0481 f'
    # (Keys 1981), here with slopes of at most 0.16 and 0.12, and a second-order term of at most f''/8
    assert (warped - expected)[inside].abs().max() < 0.0481 * (0.16 + 0.12) + (0.032 + 0.018) / 8


def test_values_stay_in_range():
    x = images(20).sign()
    y = Elastic(3.0)(x, Rng.of(0, 20))
    assert y.min() >= -1 and y.max() <= 1


def test_background_stays_background():
    x = -torch.ones(4, 1, 28, 28)
    assert (Elastic(4.0)(x, Rng.of(0, 4)) - x).abs().max() < 5e-6  # 16 weights sum to 1 up to about 40 eps


def test_repeated_augmentations_use_different_noise():
    x, rng = images(8, 20, 20), Rng.of(0, 8)
    one = augment(x, rng, (Elastic(2.0),))
    assert not torch.equal(augment(x, rng, (Elastic(2.0), Elastic(2.0))), Elastic(2.0)(one, rng.fold("augment 0")))
    assert torch.equal(augment(x, rng, ()), x)


@pytest.mark.parametrize(
    "make",
    [lambda: HorizontalFlip(1.5), lambda: Elastic(-1.0), lambda: Elastic(math.nan), lambda: Elastic(1.0, nodes=1)],
)
def test_invalid_settings_are_errors(make):
    with pytest.raises(ValueError):
        make()


def test_wrong_number_of_streams_is_an_error():
    for change in (HorizontalFlip(), Elastic()):
        with pytest.raises(ValueError, match="streams"):
            change(images(3), Rng.of(0, 4))
