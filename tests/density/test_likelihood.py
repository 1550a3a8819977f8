"""log p where it is known, and code lengths that Pillow can decode."""

import io
import math
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from truth.models import COV, MEAN, IsotropicData, gaussian_data, net_denoiser, tensor
from truth.proxies import N, assert_independent, images
from truth.quadrature import line
from truth.statistics import assert_mean

from diffprob.base.errors import InputError
from diffprob.base.rng import Rng
from diffprob.density.complexity import _filtered, code_length, encoded
from diffprob.density.likelihood import BoundDensity, ComplexityCorrected, FlowDensity
from diffprob.density.noise import NoiseNorm
from diffprob.likelihood.bound import Decoder, variational_bound
from diffprob.likelihood.flow import Exact
from diffprob.process.grids import Uniform
from diffprob.process.linear import LinearProcess
from diffprob.process.schedule import Cosine, LinearBetas
from diffprob.space.dequantise import dequantised
from diffprob.space.pixels import Pixels

COSINE = LinearProcess(Cosine())  # alpha(1) = 5e-5: no signal is left
X = tensor([[0.3, -0.5, 0.1], [0.9, -1.0, 0.4], [-0.4, 0.2, 0.3]])


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_bound_of_the_exact_posterior_is_log_p_of_each_image(eta: float) -> None:
    """With the full covariance the chain is the data's own, so that every image's average over the noise is log p."""
    exact = torch.distributions.MultivariateNormal(MEAN, COV).log_prob(X)
    n = 1000
    for x, value in zip(X, exact, strict=True):
        bound = BoundDensity(5, None, eta=eta).statistics(gaussian_data(COSINE), x.expand(n, 3), Rng.of(0, n))
        if eta == 1:
            assert_mean(bound[:, 0], value)
        else:  # Other kernels than the data's own: a bound.
            assert float(bound.mean()) < float(value) + 4 * float(bound.std()) / n**0.5


def test_random_terms_are_unbiased() -> None:
    n = 3000
    bound = BoundDensity(8, terms=2).statistics(gaussian_data(COSINE), X[1].expand(n, 3), Rng.of(1, n))
    assert_mean(bound[:, 0], torch.distributions.MultivariateNormal(MEAN, COV).log_prob(X[1]))


def test_bound_with_levels_matches_the_probability_of_the_bins() -> None:
    """Independent normal elements: the chain down to x_1 costs E log q(x_1|x_0)/q(x_1), and the bins then have
    E log P(bin|x_1), an integral over one normal number for each element."""
    space, n, m, v = Pixels((1, 2, 2), 16), 600, 0.1, 0.4
    model = IsotropicData(m, v, COSINE)
    levels = torch.tensor([[[[3, 8], [12, 15]]]], dtype=torch.uint8)
    x = space.to_model(levels, torch.float64)
    alpha, sigma = (float(c) for c in COSINE.coefficients(tensor(COSINE.schedule.start)))
    total = alpha**2 * v + sigma**2
    chain = (alpha**2 * (x - m) ** 2 + sigma**2) / (2 * total) - 0.5 + 0.5 * math.log(total / sigma**2)
    z, weight = line(-9, 9, 2001)
    mean = m + alpha * v / total * (alpha * (x.flatten()[:, None] - m) + sigma * z)
    law = torch.distributions.Normal(mean, sigma * (v / total) ** 0.5)
    upper = law.cdf(x.flatten()[:, None] + space.bin_width / 2)
    upper[3] = 1.0  # the last level has what lies above it
    bins = (upper - law.cdf(x.flatten()[:, None] - space.bin_width / 2)).log()
    exact = (bins * torch.exp(-z * z / 2) / (2 * math.pi) ** 0.5).sum() * weight - chain.sum()
    proxy = BoundDensity(10, None).bind(space)
    assert proxy == BoundDensity(10, None, levels=16) and BoundDensity(levels=256).bind(space).levels == 256
    assert_mean(proxy.statistics(model, x.expand(n, 1, 2, 2), Rng.of(2, n))[:, 0], exact)


def test_bound_density_is_minus_the_variational_bound() -> None:
    """Its nats, with the other sign, and in float64 also for images in float32."""
    model, x, rng = net_denoiser(chunk=4), images(), Rng.of(3, N)
    bound = variational_bound(model, x.double(), Uniform()(model.process, 6), rng, Decoder(256), 3, 0.7)
    assert torch.equal(BoundDensity(6, 3, 256, 0.7)(model, x, rng), -bound.total)


def test_flow_density_of_normal_data_is_exact() -> None:
    """log q at the last noisy time, on the cosine schedule good to 1e-3 nats; with bins of width w the average over u
    is log q(x) - tr(S^-1) w^2/24."""
    model, start = gaussian_data(COSINE), tensor(COSINE.schedule.start)
    exact = model.log_prob(X, start)
    scores = FlowDensity(Exact(), 1e-5)(model, X, Rng.of(0, 3))
    torch.testing.assert_close(scores, exact, rtol=1e-4, atol=2e-3)
    space, n = Pixels((1, 1, 3), 16), 100
    proxy = FlowDensity(Exact()).bind(space)
    assert proxy.levels == 16 and FlowDensity(levels=17).bind(space).levels == 17
    x = space.to_model(space.to_data(X[0].expand(n, 3)), torch.float64)
    values = proxy(model, x, Rng.of(4, n))
    shift = torch.linalg.inv(model.marginal_cov(start)[0]).trace() * space.bin_width**2 / 24
    # 0.1 for the tolerance of 1e-3 of the solver.
    error = 4 * float(values.std()) / n**0.5 + 0.1
    assert error < 0.5 < shift / 0.6, (error, shift)
    assert abs(float(values.mean() - model.log_prob(x[:1], start) + shift)) < error
    points = dequantised(space, space.to_data(x.reshape(n, 1, 1, 3)), Rng.of(4, n)).reshape(n, 3)
    assert torch.equal(values, FlowDensity(Exact())(model, points, Rng.of(4, n)))
    assert torch.equal(proxy(model, x[3:4], Rng.of(4, n).select(slice(3, 4))), values[3:4])


def test_looser_tolerance_gives_a_larger_error() -> None:
    model, x = IsotropicData(0.1, 0.05, COSINE), X[:2]
    alpha, sigma = COSINE.coefficients(tensor(COSINE.schedule.start))
    law = torch.distributions.Normal(alpha * 0.1, (alpha**2 * 0.05 + sigma**2).sqrt())
    errors = [
        (FlowDensity(Exact(), e)(model, x, Rng.of(0, 2)) - law.log_prob(x).sum(1)).abs().max() for e in (0.1, 1e-3)
    ]
    assert float(errors[0]) > 3 * float(errors[1]) and float(errors[1]) < 0.1


def decoded(stream: bytes, height: int, width: int, channels: int, bits: int = 8) -> np.ndarray:
    """The image that a PNG file with this data shows, read by Pillow."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    whole = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    return np.asarray(Image.open(io.BytesIO(whole))).reshape(height, width, channels)


def pictures(channels: int) -> list[Tensor]:
    """Constant, ramps, waves, noise, a single pixel, a row and a column; (C, H, W)."""
    y, x = torch.meshgrid(torch.arange(33), torch.arange(20), indexing="ij")
    waves = 127.5 + 127.4 * torch.sin(x / 3 + y / 5)
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (channels, 17, 23)))
    plain = [torch.full((28, 28), 255), 7 * x + 2 * y, waves, torch.zeros(1, 1), x[:1] * 9, y[:, :1] * 5]
    same = [picture.to(torch.uint8).expand(channels, *picture.shape) for picture in plain]
    shifted = torch.stack([torch.roll(waves.to(torch.uint8), k, 0) for k in range(channels)])
    return [*same, noise.to(torch.uint8), shifted]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pillow_decodes_the_png_code(channels: int) -> None:
    for picture in pictures(channels):
        image = picture.permute(1, 2, 0).numpy()
        stream = encoded(image)
        assert np.array_equal(decoded(stream, *image.shape), image)
        assert code_length(picture[None]).tolist() == [8.0 * len(stream)]


@pytest.mark.parametrize("kind", range(5), ids=["none", "left", "up", "average", "paeth"])
def test_pillow_decodes_every_png_filter(kind: int) -> None:
    """Also those that the shortest code of these pictures does not take."""
    for picture in pictures(3):
        image = picture.permute(1, 2, 0).numpy()
        rows = _filtered(image)[kind]
        stream = zlib.compress(np.insert(rows, 0, kind, axis=1).tobytes())
        assert np.array_equal(decoded(stream, *image.shape), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_code_length_is_close_to_pillows(channels: int) -> None:
    """Pillow's file has 57 bytes besides its data, coded with the rule for rows only."""
    for picture in pictures(channels):
        image = picture.permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if channels == 1 else image).save(file, "PNG", optimize=True)
        bits, theirs = float(code_length(picture[None])), 8.0 * (file.getbuffer().nbytes - 57)
        assert 0.6 * theirs - 64 < bits < 1.02 * theirs + 64, (tuple(picture.shape), bits, theirs)


def test_sixteen_bits_are_two_bytes_of_png() -> None:
    """The high byte first, as the format has it: Pillow reads the picture back."""
    picture = torch.from_numpy(np.random.default_rng(2).integers(0, 65536, (1, 1, 9, 7)).astype(np.uint16))
    samples = picture[0, 0].numpy().astype(">u2")
    stream = encoded(samples.view(np.uint8).reshape(9, 7, 2))
    assert code_length(picture).tolist() == [8.0 * len(stream)]
    assert np.array_equal(decoded(stream, 9, 7, 1, bits=16)[..., 0], picture[0, 0].numpy())
    noise = np.random.default_rng(3).integers(0, 65536, (1, 13, 32, 32)).astype(np.uint16)
    assert 16 <= float(code_length(torch.from_numpy(noise))) / (13 * 32 * 32) < 16.5


def test_code_length_of_noise_and_of_constant_images() -> None:
    noise = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32))).to(torch.uint8)
    bits = code_length(torch.cat([noise, torch.full_like(noise[:1], 90)]))
    assert bits.dtype == torch.float64
    assert bool((bits[:2] >= 8 * 3072).all()) and bool((bits[:2] < 8 * 3072 * 1.03).all())
    assert float(bits[2]) < 8 * 40
    for wrong in (noise[0], noise.float(), noise.int() * 300):
        with pytest.raises(ValueError, match="levels must"):
            code_length(wrong)


def test_complexity_correction_is_the_code_length_in_nats() -> None:
    space, rng = Pixels((3, 6, 5)), Rng.of(5, N)
    x, model = images((3, 6, 5)), net_denoiser(channels=3, chunk=4)
    proxy = ComplexityCorrected(BoundDensity(3, None)).bind(space)
    assert proxy == ComplexityCorrected(BoundDensity(3, None, levels=256), 256)
    statistics = proxy.statistics(model, x, rng)
    assert torch.equal(statistics[:, 0], proxy.of(model, x, rng))
    assert torch.equal(statistics[:, 1], code_length(space.to_data(x)))
    torch.testing.assert_close(
        proxy.score(statistics), statistics[:, 0] + math.log(2) * statistics[:, 1], rtol=1e-15, atol=0
    )
    # Constant images are coded in far fewer bits than noise; the correction takes that off.
    assert float(statistics[:3, 1].max()) < float(statistics[3:, 1].min())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "proxy",
    [BoundDensity(3, None), BoundDensity(6, 2, 256), ComplexityCorrected(BoundDensity(2, None), 256)],
    ids=repr,
)
def test_scores_have_the_same_bits_in_any_batch(proxy, dtype: torch.dtype) -> None:
    assert_independent(proxy, dtype, channels=3 if dtype == torch.float32 else 1)


def test_flow_density_has_the_same_bits_in_any_batch() -> None:
    """Images of a batch take steps of their own: alone, one has the same bits; constant ones are dequantised too."""
    model, x, rng = net_denoiser(LinearProcess(Cosine(50)), chunk=2), images((1, 4, 3))[2:5], Rng.of(5, 3)
    proxy = FlowDensity(tolerance=0.9, levels=256)
    statistics = proxy.statistics(model, x, rng)
    assert statistics.dtype == torch.float64 and statistics.shape == (3, 1) and torch.isfinite(statistics).all()
    for k in (0, 2):
        assert torch.equal(proxy.statistics(model, x[k : k + 1], rng.select(slice(k, k + 1))), statistics[k : k + 1])


def test_invalid_arguments_are_errors() -> None:
    for make, message in [
        (lambda: BoundDensity(0), "steps must be at least 1 or None, got 0"),
        (lambda: BoundDensity(terms=0), "terms must be at least 1 or None, got 0"),
        (lambda: BoundDensity(eta=0.0), r"eta must lie in \(0, 1\].*got 0"),
        (lambda: BoundDensity(levels=1), "levels must be at least 2"),
        (lambda: FlowDensity(tolerance=0.0), r"tolerance must lie in \[1e-12, 1\), got 0"),
        (lambda: ComplexityCorrected(NoiseNorm()), "of must measure log p in nats, like BoundDensity"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(InputError, match="has 20 times"):
        BoundDensity(21, None)(gaussian_data(LinearProcess(LinearBetas(20))), X, Rng.of(0, 3))
    for proxy, x in ((ComplexityCorrected(), images()), (ComplexityCorrected(levels=256), X)):
        with pytest.raises(InputError, match=r"needs images \(B, C, H, W\) and their grey levels"):
            proxy(net_denoiser(), x, Rng.of(0, len(x)))
