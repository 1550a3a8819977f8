"""Held-out images for data without a test part: chosen by their pixels, near-duplicates on one side."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from diffprob.base.errors import InputError, Missing
from diffprob.config.registry import ALL
from diffprob.config.spec import parse
from diffprob.data import Digits, Images, TrainTestSplit, split_of
from diffprob.data.combined import held_out_source
from diffprob.data.near_duplicates import has_near_duplicate
from diffprob.data.train_test_split import numbers


class Memory:
    """A source of images that are there."""

    def __init__(self, images):
        self.images = images

    def load(self):
        return self.images


def smooth(n, seed, side=16, channels=3):
    """Different pictures, smooth as photographs are, uint8 (n, C, H, W)."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (n, channels, 5, 5))
    rows = [
        np.stack([np.asarray(Image.fromarray(c.astype(np.float32)).resize((side, side), 2)) for c in x]) for x in coarse
    ]
    return np.clip(np.round(np.stack(rows)), 0, 255).astype(np.uint8)


def as_jpeg(pixels, quality=75):
    """The same pictures saved as JPEG and read again."""
    saved = []
    for x in pixels:
        file = io.BytesIO()
        Image.fromarray(x.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
        saved.append(np.asarray(Image.open(file)).transpose(2, 0, 1))
    return np.stack(saved)


def parts(split):
    """The pixels of both parts as sets of bytes."""
    train, test = split.load(), replace(split, split="test").load()
    return [{row.tobytes() for row in part.pixels} for part in (train, test)]


def test_both_parts_together_are_all_images_once():
    images = Digits("all").load()
    split = split_of(Digits("all"), images)
    train, test = split.load(), held_out_source(split).load()
    assert len(train) + len(test) == len(images) and not parts(split)[0] & parts(split)[1]
    assert abs(len(test) - 180) < 10
    assert replace(split, split="all").load().digest() == images.digest()


def test_every_class_gives_its_share():
    images = Digits("all").load()
    test = held_out_source(split_of(Digits("all"), images, 0.2)).load()
    for held_out, every in zip(test.class_counts, images.class_counts, strict=True):
        assert abs(held_out - 0.2 * every) <= 1.5


@pytest.mark.parametrize(("n", "least", "most"), [(90, 28, 32), (300, 48, 52), (1000, 95, 105)])
def test_default_share_is_a_tenth_but_at_least_fifty_and_at_most_a_third(n, least, most):
    images = Images(smooth(n, 1, side=8))
    assert least <= len(held_out_source(split_of(Memory(images), images)).load()) <= most


@pytest.mark.parametrize(("n", "classes"), [(150, 7), (200, 10), (240, 12), (530, 9)])
def test_at_least_fifty_are_held_out_whatever_the_classes(n, classes):
    """A run of 200 pictures in ten folders had 49 held-out images, one less than `detect` compares."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        images = Images(rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), labels=rng.integers(0, classes, n))
        assert 50 <= split_of(Memory(images), images).held_out(images).sum() <= 53 + classes


def test_numbers_are_uniform_and_depend_on_the_pixels_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (4000, 1, 4, 4), dtype=np.uint8)
    u = numbers(Images(pixels))
    # Kolmogorov-Smirnov at p = 0.001: 1.95 / sqrt(n)
    assert np.abs(np.sort(u) - (np.arange(4000) + 0.5) / 4000).max() < 1.95 / 4000**0.5
    order = np.random.default_rng(1).permutation(4000)
    np.testing.assert_array_equal(numbers(Images(pixels[order], name="other")), u[order])


def test_order_and_added_images_leave_every_side_as_it_was():
    pixels = smooth(400, 2)
    split = split_of(Memory(Images(pixels)), Images(pixels))
    train, test = parts(split)
    order = np.random.default_rng(3).permutation(400)
    assert parts(replace(split, source=Memory(Images(pixels[order])))) == [train, test]
    more = np.concatenate([smooth(200, 4), pixels[order]])
    grown = parts(replace(split, source=Memory(Images(more))))
    assert train <= grown[0] and test <= grown[1] and len(grown[1]) > len(test)


def test_images_saved_again_stay_on_the_side_of_the_first():
    pixels = smooth(300, 5)
    copies = as_jpeg(pixels)
    images = Images(np.concatenate([pixels, copies]))
    split = split_of(Memory(images), images)
    held_out = split.held_out(images)
    np.testing.assert_array_equal(held_out[:300], held_out[300:])
    assert 40 <= held_out.sum() <= 80
    apart = replace(split, apart=False).held_out(images)  # the mistake that the rule prevents
    assert (apart[:300] != apart[300:]).sum() > 20


def test_a_leak_between_train_and_test_is_found():
    pixels = smooth(200, 6)
    copied = as_jpeg(pixels[:1])
    images, everyone = Images(np.concatenate([pixels, copied])), np.arange(201) < 200
    assert has_near_duplicate(images, np.array([200]), everyone).all()
    assert not has_near_duplicate(images, np.array([200]), everyone & (np.arange(201) > 0)).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_near_duplicates_match_brute_force(channels):
    pixels = smooth(60, 7, side=11, channels=channels)
    noisy = pixels.astype(int) + np.random.default_rng(8).integers(-15, 16, pixels.shape)
    both = np.stack([pixels, np.clip(noisy, 0, 255).astype(np.uint8)], 1).reshape(-1, *pixels.shape[1:])
    images = Images(np.concatenate([both, pixels[:5] // 2]))
    x = np.asarray(images.pixels, dtype=np.float64)
    luma = x[:, 0] if channels == 1 else np.einsum("nchw,c->nhw", x, [0.299, 0.587, 0.114])
    edges = list(itertools.pairwise([0, 2, 5, 8, 11]))
    cells = np.stack([x[:, :, a:b, c:d].mean((2, 3)) for a, b in edges for c, d in edges], 2)
    chosen, others = np.arange(0, len(x), 2), np.arange(len(x)) % 2 == 1
    expected = []
    for i in chosen:
        rows = []
        for j in np.flatnonzero(others):
            deviation = ((luma[i].std() ** 2 + luma[j].std() ** 2) / 2) ** 0.5
            close = ((luma[i] - luma[j]) ** 2).mean() ** 0.5 <= max(6, 0.2 * deviation)
            rows.append(close and ((cells[i] - cells[j]) ** 2).mean() ** 0.5 <= 8)
        expected.append(any(rows))
    assert has_near_duplicate(images, chosen, others).tolist() == expected
    assert 5 < sum(expected) < len(chosen)


def test_a_chain_of_near_duplicates_is_held_out_whole_or_not_at_all():
    first = smooth(1, 9)[0].astype(int)
    film = np.stack([np.clip(first + 2 * k, 0, 255) for k in range(40)]).astype(np.uint8)
    images = Images(np.concatenate([film, smooth(200, 10)]))
    held_out = split_of(Memory(images), images).held_out(images)
    assert not held_out[:40].any() and 40 <= held_out.sum() <= 60


def test_images_that_all_look_alike_cannot_be_split():
    film = Images(np.stack([np.full((1, 8, 8), 100 + k % 3, np.uint8) for k in range(60)]))
    with pytest.raises(InputError, match="no image can be held out: each has a near-duplicate"):
        split_of(Memory(film), film)


def test_reads_back_and_refuses_nonsense():
    for split in (TrainTestSplit(Digits("all"), 0.25), TrainTestSplit(Digits("all"), (0.1,) * 10, "test", False)):
        assert parse(repr(split), ALL) == split
    with pytest.raises(Missing, match="no image is held out"):
        TrainTestSplit(Digits("all"), 0.0, "test").load()
    with pytest.raises(InputError, match="has 10 classes, the split has bounds for 2"):
        TrainTestSplit(Digits("all"), (0.1, 0.1)).load()
    with pytest.raises(ValueError, match="below"):
        TrainTestSplit(Digits("all"), 1.5)
    with pytest.raises(ValueError, match="share"):
        split_of(Digits("all"), Digits("all").load(), 1.0)
