"""Nearest neighbours against brute force, and the two statistics on models that copy and on models that do not."""

import itertools
import math

import numpy as np
import pytest
import torch
from truth.statistics import assert_mean

from diffprob.base.errors import InputError
from diffprob.evaluation import memorisation as module
from diffprob.evaluation.memorisation import memorisation, nearest_neighbours


def normal(n, d, seed, scale=1.0):
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("block", [1 << 22, 100])
def test_nearest_neighbours_match_brute_force(block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    x, y = normal(60, 7, 0) + 50, normal(45, 7, 1) + 50
    brute = (x[:, None] - y).square().sum(2).sqrt()
    distances, indices = nearest_neighbours(x, y.numpy())
    assert torch.equal(indices, brute.argmin(1))
    assert torch.allclose(distances, brute.amin(1), rtol=1e-14)


def test_copies_of_pixels_are_at_distance_zero():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 6, 6)).astype(np.uint8)
    pixels.setflags(write=False)
    order = np.random.default_rng(1).permutation(50)
    distances, indices = nearest_neighbours(pixels[order], pixels)
    assert torch.equal(distances, torch.zeros(50, dtype=torch.float64))
    assert np.array_equal(indices.numpy(), order)


def test_copying_model_is_detected():
    train, held = normal(50, 6, 0), normal(200, 6, 1)
    copies = train[torch.randint(50, (300,), generator=torch.Generator().manual_seed(2))] + normal(300, 6, 3, 0.01)
    result = memorisation(copies, train, held)
    assert result.value < 0.05 and result.high < 0.05
    assert result.details["share"] == 1 and result.details["copied"] == 1
    assert result.details["verdict"] == "memorises"
    assert (result.n, result.m, result.details["held_out"], result.details["compared"]) == (300, 50, 200, 50)
    # z is at most sqrt(2 s - 1): all copies are on the training side, and all training images are visited alike.
    assert 8 < result.details["z"] < math.sqrt(99)


def test_model_without_copies_is_not_flagged():
    """Over 80 trials the ratio's median is 1, z is standard normal and the interval of the ratio holds 1."""
    x = normal(80 * 180, 4, 0).reshape(80, 180, 4)
    results = [memorisation(s[:80], s[80:140], s[140:], seed=i) for i, s in enumerate(x)]
    z = torch.tensor([e.details["z"] for e in results])
    assert_mean(z, 0.0)
    assert_mean(z.square(), 1.0)
    assert_mean(torch.tensor([math.log(e.value) for e in results]), 0.0)
    # 4 binomial standard errors of 80 are 10%.
    assert np.mean([e.low <= 1 <= e.high for e in results]) > 0.95 - 0.1
    assert np.mean([e.details["verdict"] == "none found" for e in results]) > 0.97


def test_share_mean_and_variance_match_all_divisions():
    """All 20 ways to divide 6 images into two sets of 3: mean 1/2, and the variance that z uses."""
    images, samples = normal(6, 2, 0), normal(9, 2, 1)
    shares, variances = [], []
    for chosen in itertools.combinations(range(6), 3):
        others = [i for i in range(6) if i not in chosen]
        result = module._share(samples, images[list(chosen)], images[others], seed=0)
        shares.append(result["share"])
        if result["share"] != 0.5:
            variances.append(((result["share"] - 0.5) / result["z"]) ** 2)
    assert np.mean(shares) == pytest.approx(0.5, rel=1e-14)
    assert variances == pytest.approx([np.var(shares)] * len(variances), rel=1e-12)


def test_samples_near_the_mean_are_not_called_copies():
    """Samples near the mean are closer to all real images: the ratio is small, the share is 1/2."""
    result = memorisation(normal(200, 30, 0, 0.2), normal(100, 30, 1), normal(100, 30, 2))
    assert result.high < 0.85
    assert abs(result.details["z"]) < 4 and result.details["verdict"] == "none found"


def test_fraction_of_copies_is_estimated():
    """30% copies of 300 training images, of which 100 can be compared with as many held-out ones."""
    train, held = normal(300, 8, 0), normal(100, 8, 1)
    fresh, copies = normal(1400, 8, 2), train.repeat(2, 1)
    results = [memorisation(torch.cat([fresh, copies]), train, held, seed=i).details for i in range(3)]
    for details in results:
        assert details["copied_low"] < 0.3 < details["copied_high"] and details["verdict"] != "memorises"


def test_ties_count_half():
    """The same images on both sides."""
    images, other = normal(20, 3, 0), normal(20, 3, 1)
    result = module._share(other, images, images, seed=0)
    assert (result["share"], result["z"], result["copied"]) == (0.5, 0.0, 0.0)


def test_held_out_images_of_another_law_are_detected():
    """Held-out points 2.4 standard deviations away, samples on the other side: the share says nothing of copies."""
    result = memorisation(3 * normal(100, 16, 2) - 2, normal(600, 16, 0), normal(120, 16, 1) + 0.6)
    assert result.low > 1 and result.details["z"] > 3
    assert result.details["verdict"] == "withheld" and "from elsewhere" in result.details["why"]


def test_conclusion_agrees_with_its_interval():
    """Whoever memorises is nearer to training images than held-out images are."""
    for high, copied, conclusion in (
        (3.23, 0.9, "closer to training images than chance"),
        (0.9, 0.6, "memorises"),
        (0.4, 0.2, "memorises"),
    ):
        details = {"share": 0.8, "z": 4.0, "own_side_z": 0.0, "copied": copied + 0.1, "copied_low": copied}
        assert module._conclude(details, high)[0] == conclusion


def test_conclusion_is_withheld_if_copying_cannot_explain_the_share():
    """All samples beside training images of the subset, of which there are three times as many."""
    result = module._conclude({"share": 1.0, "z": 9.0, "own_side_z": 0.0, "copied": 3.0, "copied_low": 2.6}, 0.2)
    assert result[0] == "withheld" and "no copying explains" in str(result[1])


def test_own_side_z_is_standard_normal_for_sets_of_one_source():
    """All 20 ways to divide 6 points: the mean and the variance that z uses. Over 200 pairs z is standard normal."""
    points, shares, deviations = normal(6, 2, 4), [], []
    for chosen in itertools.combinations(range(6), 3):
        others = [i for i in range(6) if i not in chosen]
        share, z = module.two_sample_test(points[list(chosen)], points[others])
        shares.append(share)
        deviations.append(z)
    assert np.mean(shares) == pytest.approx(2 / 5, rel=1e-14)
    assert np.mean(np.square(deviations)) == pytest.approx(1, rel=1e-12)
    x = normal(200 * 60, 5, 5).reshape(200, 60, 5)
    z = torch.tensor([module.two_sample_test(points[:30], points[30:])[1] for points in x])
    assert_mean(z, 0.0)
    assert_mean(z.square(), 1.0)


def test_result_depends_only_on_the_seed():
    sets = normal(50, 3, 0), normal(40, 3, 1), normal(20, 3, 2)
    assert memorisation(*sets, seed=1) == memorisation(*sets, seed=1)
    assert memorisation(*sets, seed=1).low != memorisation(*sets, seed=2).low


def test_invalid_input_is_an_error():
    x = normal(20, 3, 0)
    with pytest.raises(InputError, match="one shape"):
        nearest_neighbours(x, normal(20, 4, 0))
    with pytest.raises(InputError, match="needs 10 training and held-out images, got 9 and 20"):
        memorisation(x, x[:9], x)
    with pytest.raises(InputError, match="half of the held-out images are training images"):
        memorisation(x, x, x)
    with pytest.raises(InputError, match="not finite"):
        memorisation(x * math.nan, x, x)
