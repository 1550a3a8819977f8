"""Anomaly maps against linear chains, and simplex noise against what makes it noise."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from truth.models import COV, MEAN, IsotropicData, gaussian_data, net_denoiser, tensor
from truth.proxies import N, images
from truth.statistics import assert_mean

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.density.anomaly import AnomalyMap
from diffprob.density.noise import ReconstructionError
from diffprob.density.simplex import SimplexNoise
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import VPSDE
from diffprob.sampling.ancestral import DDIM, Ancestral

VP = LinearProcess(VPSDE())


def at(process: LinearProcess, t: float) -> tuple[float, float]:
    alpha, sigma = process.coefficients(tensor(t))
    return float(alpha), float(sigma)


def test_map_of_normal_data_matches_the_closed_form() -> None:
    """Down to the last time u the chain draws from q(x_u|x_t), whatever its steps, and ends with E[x_0|x_u]. So y_0 is
    normal given x_t with mean E[x_0|x_t] and covariance Cov[x_0|x_t] - Cov[x_0|x_u]."""
    n, t, steps = 2500, 0.3, 3
    x0, eye = tensor([0.9, -1.0, 0.4]), torch.eye(3, dtype=torch.float64)

    def gain(time: float):
        alpha, sigma = at(VP, time)
        inverse = torch.linalg.inv(alpha**2 * COV + sigma**2 * eye)
        return alpha, sigma, COV @ inverse, sigma**2 * COV @ inverse

    alpha, sigma, ratio, spread = gain(t)
    bias = (alpha**2 * ratio - eye) @ (x0 - MEAN)
    rest = alpha**2 * sigma**2 * ratio @ ratio.T + spread - gain(t / steps)[3]
    maps = AnomalyMap(t, steps, 2)(gaussian_data(VP), x0.expand(n, 3), Rng.of(0, n))
    assert_mean(maps, bias.square() + rest.diagonal())


@pytest.mark.parametrize("simplex", [False, True])
def test_map_of_one_step_matches_the_closed_form(simplex: bool) -> None:
    """E[x_0|x_t] - x_0 = -b (x_0 - m) + c sigma z with b = 1 - alpha c: per pixel b^2 (x_0 - m)^2 + c^2 sigma^2 for any
    noise of variance 1, however its pixels go together."""
    n, variance, t = 3000, 0.3, 0.25
    alpha, sigma = at(VP, t)
    c = alpha * variance / (alpha**2 * variance + sigma**2)
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(1, 1, 3, 4)
    noise = SimplexNoise(2, 0.7, 6.0) if simplex else None
    proxy = AnomalyMap(t, 1, 2, DDIM(), noise)
    scores = proxy(IsotropicData(0.2, variance, VP), x.expand(n, -1, -1, -1), Rng.of(1, n))
    assert_mean(scores, ((1 - alpha * c) ** 2 * (x - 0.2) ** 2 + c**2 * sigma**2)[0])


def test_map_is_largest_at_the_outlying_pixel() -> None:
    """One pixel far from the data stands out, and the mean of the map is the reconstruction error."""
    model, x = IsotropicData(0.0, 0.05, VP), torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    x[..., 2, 3] = 1.0
    maps = AnomalyMap(0.3, 5, 20, Ancestral())(model, x, Rng.of(0, 1))
    assert maps.shape == x.shape and int(maps.flatten().argmax()) == 2 * 6 + 3
    n, images_ = 600, x.expand(600, -1, -1, -1)
    whole = AnomalyMap(0.3, 3, 1, DDIM())(model, images_, Rng.of(1, n)).mean((1, 2, 3))
    error = ReconstructionError(0.3, 1, 3)(model, images_, Rng.of(n, n))
    assert_mean(whole + error, 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", [None, SimplexNoise(3, 0.8, 8.0)], ids=repr)
def test_scores_have_the_same_bits_in_any_batch(noise, dtype: torch.dtype) -> None:
    model, rng, rule = net_denoiser(chunk=4, channels=3), Rng.of(5, N), AnomalyMap(0.25, 3, 2, noise=noise)
    x = images((3, 6, 5), dtype)
    model = model.double() if dtype == torch.float64 else model
    maps = rule(model, x, rng)
    assert maps.dtype == torch.float64 and maps.shape == x.shape and torch.isfinite(maps).all()
    # Another repeat is another draw.
    assert not torch.equal(maps, AnomalyMap(0.25, 3, 1, noise=noise)(model, x, rng))
    for k in (0, 9):
        assert torch.equal(rule(model, x[k : k + 1], rng.select(slice(k, k + 1))), maps[k : k + 1])


@pytest.mark.parametrize(("octaves", "persistence", "wavelength"), [(1, 1.0, 5.3), (3, 0.6, 9.0), (6, 0.8, 64.0)])
def test_simplex_noise_has_mean_zero_and_variance_one(octaves: int, persistence: float, wavelength: float) -> None:
    n = 3000
    z = SimplexNoise(octaves, persistence, wavelength)(Rng.of(0, n), torch.empty(n, 2, 2, 5, dtype=torch.float64))
    assert_mean(z, 0.0)
    assert_mean(z.square(), 1.0)
    assert_mean(z[:, 0] * z[:, 1], 0.0)  # channels are independent


def test_simplex_noise_correlation_depends_only_on_distance() -> None:
    """The same along rows, columns and the diagonal (3, 4), at every place; far apart there is none."""
    n, lag = 1000, 5
    z = SimplexNoise(1, 1.0, 16.0)(Rng.of(1, n), torch.empty(n, 1, 22, 22, dtype=torch.float64))
    here, elsewhere = z[:, 0, 2, 3], z[:, 0, 9, 8]
    kinds = [
        here * z[:, 0, 2, 3 + lag],
        here * z[:, 0, 2 + lag, 3],
        elsewhere * z[:, 0, 9 + 3, 8 + 4],
        elsewhere * z[:, 0, 9 - 4, 8 + 3],
    ]
    middle = torch.stack(kinds, 1).mean()
    assert float(middle) > 0.2
    # The lattice has six directions, not all: 0.02 of anisotropy besides the error of the images.
    for kind in kinds:
        assert abs(float(kind.mean() - middle)) < 0.02 + 4 * float(kind.std()) / n**0.5
    assert_mean(here * z[:, 0, 21, 21], 0.0)


def test_simplex_noise_spectrum_falls_with_frequency() -> None:
    """Power in rings of frequency, 0.8^2 for an octave that has four times the area: it falls in every octave, where
    independent pixels have the same everywhere."""
    n, size = 48, 64
    z = SimplexNoise()(Rng.of(2, n), torch.empty(n, 1, size, size)).double()[:, 0]
    window = torch.hann_window(size, dtype=torch.float64)  # the edges of an image do not meet
    power = torch.fft.fft2(z * window[:, None] * window).abs().square().mean(0).numpy()
    frequency = np.fft.fftfreq(size) * size
    radius = np.hypot(frequency[:, None], frequency)
    rings = [power[(radius >= low) & (radius < 2 * low)].mean() for low in (2, 4, 8, 16)]
    assert all(above > 1.5 * below for above, below in pairwise(rings)), rings


def reference(x: float, y: float, gradients: dict) -> float:
    """Simplex noise at one point of the plane, by going over all lattice points near it."""
    total = 0.0
    g = (3 - math.sqrt(3)) / 6
    for (i, j), angle in gradients.items():
        dx, dy = x - (i - (i + j) * g), y - (j - (i + j) * g)
        near = 0.5 - dx * dx - dy * dy
        if near > 0:
            total += near**4 * (math.cos(angle) * dx + math.sin(angle) * dy)
    return total


def test_simplex_noise_matches_the_sum_over_all_lattice_points() -> None:
    """Triangles and skewed coordinates are only a quick way to find those whose discs hold the point."""
    rng, wavelength, (height, width) = Rng.of(7, 1), 3.7, (9, 12)
    z = SimplexNoise(1, 1.0, wavelength)(rng, torch.empty(1, 1, height, width, dtype=torch.float64))[0, 0]
    octave, skew = rng.fold("octave 0"), (math.sqrt(3) - 1) / 2
    shift = octave.fold("shift").uniform((1, 2, 1, 1), torch.float64).flatten().tolist()
    tall, wide = (height - 1) / wavelength, (width - 1) / wavelength
    size = [math.floor(side + skew * (tall + wide)) + 3 for side in (wide, tall)]
    kinds = octave.fold("gradients").integers((1, size[0] * size[1]), 16).flatten().tolist()
    gradients = {(k // size[1], k % size[1]): 2 * math.pi * kind / 16 for k, kind in enumerate(kinds)}
    g = (3 - math.sqrt(3)) / 6
    offset = [s - sum(shift) * g for s in shift]  # the shift is in skewed coordinates
    variance = math.sqrt(3) * math.pi / 184320
    for row in range(height):
        for column in range(width):
            exact = reference(column / wavelength + offset[0], row / wavelength + offset[1], gradients)
            assert float(z[row, column]) == pytest.approx(exact / variance**0.5, abs=1e-9)


def test_simplex_noise_seeds_channels_and_dtypes() -> None:
    noise, like = SimplexNoise(3, 0.8, 8.0), torch.empty(4, 3, 6, 5)
    z = noise(Rng.of(0, 4), like)
    assert z.dtype == torch.float32 and torch.equal(z, noise(Rng.of(0, 4), like))
    assert torch.equal(noise(Rng.of(2, 1), like[:1])[0], z[2])
    assert not torch.equal(z[0], z[1]) and not torch.equal(z[0, 0], z[0, 1])
    torch.testing.assert_close(noise(Rng.of(0, 4), like.double()).float(), z, rtol=0, atol=0)


def test_invalid_arguments_are_errors() -> None:
    for make, message in [
        (lambda: SimplexNoise(0), "octaves must be at least 1, got 0"),
        (lambda: SimplexNoise(persistence=0.0), r"persistence must lie in \[1e-9, 1e9\], got 0.0"),
        (lambda: SimplexNoise(6, 0.8, 31.0), r"wavelength must lie in \[32, 1e9\], got 31.0"),
        (lambda: AnomalyMap(t=0.0), r"t must lie in \(0, 1\], got 0.0"),
        (lambda: AnomalyMap(repeats=0), "repeats must be at least 1, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    x = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(InputError, match=r"is noise for images \(B, C, H, W\), got \(2, 3\)$"):
        AnomalyMap(noise=SimplexNoise())(gaussian_data(), x, Rng.of(0, 2))
    with pytest.raises(InputError, match=r"has 10 times up to t = 0\.01, take at most 10 steps"):
        AnomalyMap(0.01, 11)(gaussian_data(), x, Rng.of(0, 2))
