import json
from dataclasses import dataclass

import numpy as np
import pytest

from diffprob.data import Digits, Images, check
from diffprob.data.check import network_levels


@dataclass(frozen=True)
class FixedSource:
    """A source of what it is given."""

    images: Images

    def load(self):
        return self.images


def test_check_of_the_digits_matches_numpy():
    report = check(Digits())
    pixels = Digits().load().pixels / 16
    assert (report.images, report.channels, report.height, report.width) == (1437, 1, 8, 8)
    assert (report.levels, report.used_levels, report.lowest, report.highest) == (17, 17, 0, 16)
    assert report.mean[0] == pytest.approx(pixels.mean(), abs=1e-12)
    assert report.std[0] == pytest.approx(pixels.std(), abs=1e-12)
    assert report.classes is not None and sum(report.classes.values()) == 1437
    assert list(report.classes) == list("0123456789")
    assert report.network_levels == 2
    assert report.warnings == ()
    assert report.source == "Digits(split='train')"
    assert report.digest == Digits().load().digest()


def test_moments_per_channel_match_numpy(rand):
    pixels = rand.integers(0, 256, (300, 3, 6, 10), dtype=np.uint8)
    pixels[:, 1] //= 3
    report = check(FixedSource(Images(pixels)))
    assert np.allclose(report.mean, (pixels / 255).mean((0, 2, 3)), atol=1e-12)
    assert np.allclose(report.std, (pixels / 255).std((0, 2, 3)), atol=1e-12)
    assert report.classes is None


def test_duplicates_constants_and_classes_are_counted(rand):
    pixels = rand.integers(0, 256, (400, 1, 8, 8), dtype=np.uint8)
    pixels[30], pixels[399] = pixels[7], pixels[7]
    pixels[50] = 9
    labels = np.zeros(400, np.int64)
    labels[[30, 31, 32]] = 3
    report = check(FixedSource(Images(pixels, labels, class_names=("a", "b", "c", "d"))))
    assert report.duplicates == 2
    assert report.duplicate_pairs == ((30, 7), (399, 7))
    assert (report.constant, report.constant_indices) == (1, (50,))
    assert report.classes == {"a": 397, "d": 3}
    text = " | ".join(report.warnings)
    for message in (
        "2 images (0.5%) repeat",
        "1 of the repeated images have another label",
        "one single value (first: 50)",
        "uneven",
    ):
        assert message in text


def test_duplicates_across_chunks_are_counted(rand, monkeypatch):
    monkeypatch.setattr("diffprob.data.images.CHUNK_BYTES", 256)
    pixels = rand.integers(0, 256, (200, 1, 8, 8), dtype=np.uint8)
    pixels[199] = pixels[0]
    assert check(FixedSource(Images(pixels))).duplicate_pairs == ((199, 0),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:20], "only 20 images"),
        (lambda x: x // 128 * 255, "only 2 of 256 grey levels"),
        (lambda x: x * 0, "nothing to learn"),
        (lambda x: x[:, :1].repeat(3, 1), "three channels are equal"),
        (lambda x: x[..., :7], "one network level"),
    ],
)
def test_suspicious_data_gives_warnings(rand, change, message):
    pixels = rand.integers(0, 256, (200, 3, 8, 8), dtype=np.uint8)
    assert check(FixedSource(Images(pixels))).warnings == ()
    assert any(message in warning for warning in check(FixedSource(Images(change(pixels)))).warnings)


def test_level_above_the_format_warns():
    pixels = np.tile(np.arange(18, dtype=np.uint8), 8 * 8 * 200)[: 8 * 8 * 200].reshape(200, 1, 8, 8)
    warnings = check(FixedSource(Images(pixels, levels=17))).warnings
    assert any("grey level 17 occurs" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("size", "levels"),
    [
        ((8, 8), 2),
        ((28, 28), 3),
        ((32, 32), 4),
        ((64, 64), 5),
        ((256, 256), 6),
        ((7, 8), 1),
        ((12, 64), 2),
        ((1024, 1024), 6),
    ],
)
def test_network_levels_fit_the_image_size(size, levels):
    assert network_levels(*size) == levels
    assert all(side % 2 ** (levels - 1) == 0 for side in size)


def test_report_survives_json():
    report = check(Digits("test")).to_dict()
    assert json.loads(json.dumps(report))["images"] == 360
