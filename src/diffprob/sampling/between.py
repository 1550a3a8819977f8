"""Between noise and image: noised images, chains that go on from one, and mixtures of two.

Where a formula says (1 - l) and l, ``weights`` holds the values of l, float64 (L,); the results have one row for each.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from diffprob.base.rng import Rng
from diffprob.base.shapes import check_points, per_sample
from diffprob.denoise.denoiser import Denoiser
from diffprob.process.chain import nearest, noisy_times
from diffprob.process.linear import LinearProcess
from diffprob.process.process import Process
from diffprob.sampling.simulate import Sampler, State, simulate

NOISES = ("shared", "independent", "rescaled")


def add_noise(process: Process, x0: Tensor, t: Tensor | float, rng: Rng) -> Tensor:
    """x_t = alpha x_0 + sigma z ~ q(x_t | x_0), (B, *event).

    Args:
        process: the process.
        x0: (B, *event).
        t: the time, in (0, 1].
        rng: one stream per sample, or a single one: then all have the same z.

    Raises:
        ValueError: another number of streams, or images of whole numbers.
        NumericalError: a value that is not finite.

    Exact when: always; mean alpha x_0 and variance sigma^2.
    """
    if len(rng) not in (1, len(x0)):
        raise ValueError(f"{len(rng)} random streams for a batch of {len(x0)}")
    check_points(x0, "an image")
    return process.begin(rng, x0).marginal(x0, t).sample(rng.fold("noised"))


def times_from(process: LinearProcess, times: Tensor, t: Tensor | float) -> Tensor:
    """The part of a grid that a chain from t visits: t first, then the times below it, float64 (m,).

    On a discrete schedule t is snapped to it. A time that is nearer to t than half the step after it (in log-SNR) is
    left out: t takes its place. A multistep sampler would divide by so short a step what noise changed in it.

    Raises:
        ValueError: t is not in (0, 1], or the times are no grid of a chain.
    """
    times = noisy_times(process, times)
    first = nearest(process, t).reshape(1)
    below = times[times < first]
    if len(below) > 1:
        short, long = process.logsnr(torch.cat([first, below[:2]])).diff()
        below = below[1:] if short < long / 2 else below
    return torch.cat([first, below])


def sample_from(
    model: Denoiser, sampler: Sampler, xt: Tensor, t: Tensor | float, times: Tensor, rng: Rng
) -> Iterator[State]:
    """Go on from x_t to the data: `simulate` on `times_from` t draws x_0 ~ p(x_0|x_t) (Ho et al. 2020, fig. 7).

    Args:
        model, sampler: as for `simulate`.
        xt: at t, (B, *event); the same x_t in every row gives independent draws of p(x_0 | x_t).
        times: a whole grid, decreasing, float64 (n,).
        rng: one stream per row; a row depends on its own alone.

    Exact when: the sampler is, such as `Ancestral` with an exact posterior: the modes of a mixture then come out with
    the frequencies p(mode | x_t).
    """
    path = times_from(model.process, times, t)
    return simulate(model, sampler, State(xt, path[0]), path, rng)


def mix(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """(1 - l) a + l b, (L, *event), for a and b of shape (1 or L, *event); l = 0 and 1 give a and b to the bit.

    Raises:
        ValueError: weights that are not finite, or not (L,).
    """
    if weights.ndim != 1 or not bool(torch.isfinite(weights).all()):
        raise ValueError(f"weights must be finite numbers (L,), got {weights.tolist()}")
    a, b = (x.expand(len(weights), *x.shape[1:]) for x in (a, b))
    return per_sample(1 - weights, a) * a + per_sample(weights, b) * b


def interpolate_noised(
    process: LinearProcess, x0: Tensor, y0: Tensor, t: Tensor | float, weights: Tensor, rng: Rng, noise: str = "shared"
) -> Tensor:
    """(1 - l) x_t + l y_t of two noised images, (L, *event), to be decoded from t (Ho et al. 2020, section 4.4).

    The mean is alpha ((1 - l) x_0 + l y_0). The standard deviation depends on ``noise``: "shared", one z for both
    images: sigma. "independent": sigma r with r^2 = (1 - l)^2 + l^2, half the variance in the middle, less noise than
    the model expects at t. "rescaled": independent noises whose mixture is divided by r: sigma again.

    Args:
        x0, y0: the images, (1, *event).
        t: the time, in (0, 1].
        rng: a single stream.

    Raises:
        ValueError: another noise.

    Exact when: l = 0 and 1 give x_t and y_t to the bit; x_t is the same for every noise.
    """
    if noise not in NOISES:
        raise ValueError(f"noise must be one of {', '.join(NOISES)}, got {noise!r}")
    xt, yt = (add_noise(process, x, t, rng.at(k if noise != "shared" else 0)) for k, x in enumerate((x0, y0)))
    between = mix(xt, yt, weights)
    if noise != "rescaled":
        return between
    # Added to the mixture instead of put together anew, so that r = 1 changes no bit.
    pure = between - process.marginal(mix(x0, y0, weights), t).mean
    return between + per_sample(1 / torch.hypot(1 - weights, weights) - 1, pure) * pure


def slerp(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """From a to b along the great circle, the norm going evenly from |a| to |b|, (L, *event) (Shoemake 1985).

    (sin((1 - l) w)/sin(w) a/|a| + sin(l w)/sin(w) b/|b|) ((1 - l) |a| + l |b|), w the angle between a and b. Two
    independent noises in many dimensions are nearly orthogonal, and their straight mixture is too short by the r of
    `interpolate_noised`.

    Args:
        a, b: (1, *event).

    Raises:
        ValueError: a or b is zero, or they are opposite: no great circle is the shortest.

    Exact when: l = 0 and 1 give a and b to the bit.
    """
    # The angle in float64, which not every device has.
    flat, other, weights = a.cpu().double().flatten(), b.cpu().double().flatten(), weights.cpu()
    size, wide = flat.norm(), other.norm()
    if not (size > 0 and wide > 0):
        raise ValueError("slerp between vectors of which one is zero has no direction")
    u, v = flat / size, other / wide
    angle = 2 * torch.atan2((u - v).norm(), (u + v).norm())
    if math.pi - float(angle) < 1e-6:
        raise ValueError("slerp between opposite vectors has no direction")
    length = mix(size.reshape(1), wide.reshape(1), weights)

    def part(share: Tensor, norm: Tensor) -> Tensor:
        # sin(share w)/sin(w) in a form that holds at w = 0.
        return share * torch.sinc(share * angle / math.pi) / torch.sinc(angle / math.pi) * (length / norm)

    rows = (len(weights), *a.shape[1:])
    first, second = a.expand(rows), b.expand(rows)
    return per_sample(part(1 - weights, size), first) * first + per_sample(part(weights, wide), second) * second
