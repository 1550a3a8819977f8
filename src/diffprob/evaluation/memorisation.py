"""Does a model repeat its training images? Distances to them, against those of real images it has never seen."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng, derive, increasing_subset
from diffprob.evaluation.estimate import NORMAL_95, Estimate, Points, flat_rows, same_width

_BLOCK = 1 << 22  # squared distances held at a time: 16 MiB in float32
_DRAWS = 400  # of the bootstrap
_CHUNK = 1 << 22  # random integers held at a time
FEWEST = 10  # images a side: below, z can hardly exceed 3, since it is at most sqrt(2s - 1)
_SIGNIFICANT = 3.0  # standard errors: one honest model in 740 exceeds them
_MOST_TESTED = 2000  # images a side of the test whether both sides are from one source
NONE, CLOSER = "none found", "closer to training images than chance"
MEMORISES, WITHHELD = "memorises", "withheld"


def nearest_neighbours(x: Points, reference: Points) -> tuple[Tensor, Tensor]:
    """Euclidean distance of every x (n, *event) to the nearest of the reference (m, *event), and that point's index.

    Returns float64 (n,) and int64 (n,). The search is in float32, where of two points at almost one distance (a
    millionth of the largest norm) either may be taken; the distance to the one taken is computed from differences in
    float64, so that copies are at distance 0. Memory beyond the points in float32: some blocks of 16 MiB.

    Raises:
        InputError: an empty set, unequal event shapes, or values that are not finite.
    """
    if x.shape[1:] != reference.shape[1:]:
        raise InputError(f"points must have one shape, got {tuple(x.shape[1:])} and {tuple(reference.shape[1:])}")
    a, b = flat_rows(x, "x"), flat_rows(reference, "the reference")
    same_width(a, b)
    # Around the reference's mean the norms, and with them the rounding errors, are smallest.
    centre = torch.stack([part.double().sum(0) for part in b.split(4096)]).sum(0) / len(b)
    targets = torch.cat([(part.double() - centre).float() for part in b.split(4096)])
    norms = targets.square().sum(1)
    rows = max(1, _BLOCK // max(len(b), a.shape[1]))
    distances, indices = [], []
    for block in a.split(rows):
        points = block.double()
        index = torch.addmm(norms, (points - centre).float(), targets.T, alpha=-2).argmin(1)
        distances.append((points - b[index].double()).square().sum(1).sqrt())
        indices.append(index)
    return torch.cat(distances), torch.cat(indices)


def memorisation(samples: Points, train: Points, held_out: Points, seed: int = 0) -> Estimate:
    """Do samples (n, *event) repeat the images they were trained on? By two statistics with known values if not.

    The value is a ratio of medians: distance sample -> nearest training image over distance held-out real image ->
    nearest training image. An honest model's samples are as far from the training set as new real images are: 1. Copies
    are at distance 0: a model that copies more than half of the time has a ratio near 0. The interval takes the 2.5%
    and 97.5% points of 400 bootstrap draws (seed) of both sets. A ratio below 1 alone proves nothing: smooth or dull
    samples are closer to every real image.

    The ``share`` settles that: of the samples, how many are closer to a training image than to any held-out one, both
    sets cut to one size s (random subsets by seed; ties count half). If training and held-out images are exchangeable
    for the model, it is 1/2; over all ways to divide the 2s images into two sets its variance is known, sum_p (c_p -
    n/2s)^2 / (4 n^2) * 2s / (2s - 1), where c_p is the number of samples whose nearest of the 2s images is p. ``z`` is
    the deviation in such standard errors. If a fraction f of the samples copies training images, the share is 1/2 +
    f s / (2 N) with N training images; ``copied`` is that f, with its interval from the same standard error. It is
    unbiased and not cut off: chance takes it below 0 and, where s is much less than N, above 1.

    All of that takes held-out images from where the training images are from, which `two_sample_test` checks
    (``own_side`` and ``own_side_z``): where z of that exceeds 3, no verdict is given.

    ``verdict``, with ``why`` in words where there is none: "withheld" where held-out and training images are told
    apart, or copied is above 1 by three standard errors, which no copying explains; "none found" for z <= 3;
    "memorises" where the interval of the ratio lies below 1, and that of copied above 1/2 or that of the ratio below;
    else "closer to training images than chance", even where samples unlike the data have a ratio above 1. In an
    intrinsic dimension D an honest model halves the distance only with 2^D times the training images.

    Details: verdict, why, share, z, copied, copied_low, copied_high, compared (s), own_side, own_side_z, train_distance
    (median of the samples), held_out_distance (median of the held-out images), held_out (their number), seed. ``n``
    counts samples, ``m`` training images.

    Raises:
        InputError: an empty set, fewer than 10 training or held-out images, unequal event shapes, values that are not
            finite, or held-out images half of which are training images.

    References: Meehan, Chaudhuri & Dasgupta, "A non-parametric test to detect data-copying in generative models"
    (2020), for comparing with held-out images; Gulrajani, Raffel & Metz, "Towards GAN benchmarks which require
    generalization" (2019), section 3, for why samples must be compared with them.
    """
    if min(len(train), len(held_out)) < FEWEST:
        raise InputError(f"needs {FEWEST} training and held-out images, got {len(train)} and {len(held_out)}")
    to_train, _ = nearest_neighbours(samples, train)
    held_to_train, _ = nearest_neighbours(held_out, train)
    ours, theirs = float(to_train.median()), float(held_to_train.median())
    if theirs == 0:
        raise InputError("half of the held-out images are training images: held-out images must be other ones")
    low, high = _ratio_interval(to_train.numpy(), held_to_train.numpy(), seed)
    details = _share(samples, train, held_out, seed)
    details["own_side"], details["own_side_z"] = two_sample_test(train, held_out, seed)
    conclusion, why = _conclude(details, high)
    details |= {
        "verdict": conclusion,
        "why": why,
        "train_distance": ours,
        "held_out_distance": theirs,
        "held_out": len(held_out),
        "seed": seed,
    }
    return Estimate(ours / theirs, len(to_train), len(train), low, high, details)


def _conclude(details: dict[str, Any], high: float) -> tuple[str, str | None]:
    """The conclusion, and in words why there is none."""
    share, three = details["share"], _SIGNIFICANT / NORMAL_95
    if details["own_side_z"] > _SIGNIFICANT:
        reason = (
            f"{details['own_side']:.0%} of both have their nearest neighbour on their own side,"
            f" z = {details['own_side_z']:.1f}"
        )
        return WITHHELD, f"the held-out images are from elsewhere than the training images: {reason}"
    if details["copied"] - three * (details["copied"] - details["copied_low"]) > 1:
        return WITHHELD, f"{share:.0%} of the samples are nearer to training images, which no copying explains"
    if details["z"] <= _SIGNIFICANT:
        return NONE, None
    return MEMORISES if high < 1 and (details["copied_low"] > 0.5 or high < 0.5) else CLOSER, None


def two_sample_test(train: Points, held_out: Points, seed: int = 0) -> tuple[float, float]:
    """Are two sets of images from one source? (share, z): how many have their nearest neighbour in their own set.

    Both sets are cut to one size s, at most 2,000 (random subsets by seed; so many that what changes the verdict is
    seen, and not the least difference). Over all ways to divide the 2s images into two sets of s, the images being as
    they are, the share has mean (s - 1) / (2s - 1) and a variance that counts how neighbours are shared: sum over
    ordered pairs of images i, j of Cov(a_i, a_j), where a_i says that i and its nearest neighbour lie in one set, which
    depends on whether the two edges have both ends, one or none in common. ``z`` is the deviation in such standard
    errors: above 3 for one pair of exchangeable sets in 740.

    References: Schilling, "Multivariate two-sample tests based on nearest neighbors" (1986); Henze (1988).
    """
    size = min(len(train), len(held_out), _MOST_TESTED)
    sides = [flat_rows(_cut(points, size, seed, name), name) for points, name in ((train, "train"), (held_out, "held"))]
    nearest = _nearest_others(torch.cat(sides))
    count = 2 * size
    side = torch.arange(count) < size
    share = float((side == side[nearest]).double().mean())
    mutual = int((nearest[nearest] == torch.arange(count)).sum())
    degrees = 1 + torch.bincount(nearest, minlength=count)
    touching = int((degrees * (degrees - 1)).sum()) - 2 * mutual
    one = (size - 1) / (count - 1)
    three = (size - 2) / (2 * (count - 1))
    four = one * ((size - 2) * (size - 3) + size * (size - 1)) / ((count - 2) * (count - 3))
    apart = count * (count - 1) - mutual - touching
    variance = count * one + mutual * one + touching * three + apart * four - (count * one) ** 2
    return share, (share - one) * count / math.sqrt(variance)


def _nearest_others(points: Tensor) -> Tensor:
    """The index of the nearest other point of each, int64 (n,); searched as `nearest_neighbours` does."""
    centred = (points.double() - points.double().mean(0)).float()
    norms, nearest = centred.square().sum(1), []
    rows = max(1, _BLOCK // max(len(points), points.shape[1]))
    for first in range(0, len(points), rows):
        block = centred[first : first + rows]
        distances = torch.addmm(norms, block, centred.T, alpha=-2)
        distances[torch.arange(len(block)), torch.arange(first, first + len(block))] = math.inf
        nearest.append(distances.argmin(1))
    return torch.cat(nearest)


def _share(samples: Points, train: Points, held_out: Points, seed: int) -> dict[str, Any]:
    """Share of samples closer to training than to held-out images, with the permutation test's standard error."""
    size = min(len(train), len(held_out))
    near, of_train = nearest_neighbours(samples, _cut(train, size, seed, "train"))
    far, of_held = nearest_neighbours(samples, _cut(held_out, size, seed, "held out"))
    closer = (near < far).double() + 0.5 * (near == far).double()
    n = len(closer)
    chosen = torch.cat([of_train, of_held + size])
    visits = torch.zeros(2 * size, dtype=torch.float64).index_add_(0, chosen, torch.cat([closer, 1 - closer]))
    variance = float((visits - n / (2 * size)).square().sum()) / (4 * n * n) * 2 * size / (2 * size - 1)
    error, share = math.sqrt(variance), float(closer.mean())
    # All visits equal means that the share is 1/2 under every division.
    z = (share - 0.5) / error if error > 0 else 0.0
    scale = 2 * len(train) / size
    return {
        "share": share,
        "z": z,
        "copied": scale * (share - 0.5),
        "copied_low": scale * (share - 0.5 - NORMAL_95 * error),
        "copied_high": scale * (share - 0.5 + NORMAL_95 * error),
        "compared": size,
    }


def _cut(points: Points, size: int, seed: int, name: str) -> Points:
    """A random subset of ``size`` points; sorted, so that a memory-mapped data set is read in the order of the file."""
    return points if len(points) == size else points[increasing_subset(len(points), size, seed, name)]


def _ratio_interval(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[float, float]:
    """Percentile bootstrap of median(x) / median(y)."""
    medians = []
    for values, name in ((x, "samples"), (y, "held out")):
        ordered, draws = np.sort(values), []
        rows = max(1, _CHUNK // len(ordered))
        for first in range(0, _DRAWS, rows):
            rng = Rng.of(derive(seed, "bootstrap") >> 1, min(rows, _DRAWS - first), first).fold(name)
            # The median of a draw is the value at the median of its ranks.
            picks = rng.integers((len(ordered),), len(ordered))
            draws.append(ordered[picks.median(1).values.numpy()])
        medians.append(np.concatenate(draws))
    ratios = medians[0] / np.maximum(medians[1], y[y > 0].min())  # a draw may hold mostly copies
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
