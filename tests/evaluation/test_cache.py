"""Kept features: the same bits, found only for what decides them; damage, a full cache or disk are survived."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from diffprob.evaluation import cache as module
from diffprob.evaluation.cache import FeatureCache
from diffprob.evaluation.features import PixelFeatures
from diffprob.storage.folders import cache_folder

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), np.uint8)


class Set:
    """Images that count how often they are read."""

    def __init__(self, pixels=PIXELS):
        self.pixels, self.read = pixels, 0

    def __len__(self):
        return len(self.pixels)

    def take(self, indices):
        self.read += len(indices)
        return self.pixels[indices]


FEATURES = PixelFeatures((1, 4, 4))


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


def test_cached_features_are_reused_without_reading_images(cache):
    images = Set()
    first = cache.extract(FEATURES, images, "data")
    assert (images.read, first.kept, first.notes) == (20, False, ())
    second = cache.extract(FEATURES, images, "data")
    assert (images.read, second.kept, second.notes) == (20, True, ())
    assert torch.equal(first.features, second.features)
    assert [path.name for path in cache.folder.iterdir()] == [cache.path(FEATURES, "data").name]


def test_cache_key_includes_everything_that_determines_features(cache):
    class Resized(PixelFeatures):
        def __post_init__(self):
            object.__setattr__(self, "resize", "4x4, bilinear")

    order = np.arange(5)
    keys = [
        cache.path(FEATURES, "data"),
        cache.path(FEATURES, "other"),
        cache.path(FEATURES, "data", order),
        cache.path(FEATURES, "data", order[::-1]),
        cache.path(PixelFeatures((1, 4, 4), 128), "data"),
        cache.path(Resized((1, 4, 4)), "data"),
    ]
    assert len(set(keys)) == len(keys)
    extraction = cache.extract(FEATURES, Set(), "data", order[::-1])
    assert torch.equal(extraction.features, FEATURES(PIXELS[4::-1]))
    assert cache.path(FEATURES, "data", order.astype(np.int32)) == cache.path(FEATURES, "data", order)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_damaged_file_is_noted_and_replaced(cache, damage):
    good = cache.extract(FEATURES, Set(), "data").features
    path = cache.path(FEATURES, "data")
    whole = path.read_bytes()
    broken = {"cut": whole[:-8], "flip": whole[:-1] + bytes([whole[-1] ^ 1]), "empty": b""}
    if damage == "other":
        cache.extract(FEATURES, Set(), "others")
        cache.path(FEATURES, "others").replace(path)
    else:
        path.write_bytes(broken[damage])
    again = cache.extract(FEATURES, Set(), "data")
    assert not again.kept
    assert len(again.notes) == 1
    assert "something else" in again.notes[0] if damage == "other" else "damaged" in again.notes[0]
    assert again.notes[0].endswith("computed again")
    assert torch.equal(again.features, good)
    assert cache.extract(FEATURES, Set(), "data").kept


def test_least_recently_used_file_is_removed_first(cache):
    cache.extract(FEATURES, Set(), "a")
    size = cache.path(FEATURES, "a").stat().st_size
    small = FeatureCache(cache.folder, 2 * size)
    small.extract(FEATURES, Set(), "b")
    for age, data in ((100, "a"), (200, "b")):
        os.utime(small.path(FEATURES, data), (age, age))
    assert small.extract(FEATURES, Set(), "a").kept  # used again: b is the oldest now
    (cache.folder / "classifier-x.safetensors").write_bytes(bytes(10 * size))
    small.extract(FEATURES, Set(), "c")
    left = [data for data in "abc" if small.path(FEATURES, data).exists()]
    assert left == ["a", "c"]
    assert (cache.folder / "classifier-x.safetensors").exists()  # not a file of features


def test_features_larger_than_the_cache_are_not_kept(cache):
    cache.extract(FEATURES, Set(), "a")
    tiny = FeatureCache(cache.folder, 100)
    extraction = tiny.extract(FEATURES, Set(), "b")
    assert "more than the 100 of the cache: not kept" in extraction.notes[0]
    assert tiny.path(FEATURES, "a").exists()
    assert not tiny.path(FEATURES, "b").exists()
    with pytest.raises(ValueError, match="-1"):
        FeatureCache(cache.folder, -1)


def test_failing_disk_is_noted(tmp_path, cache, monkeypatch):
    (tmp_path / "file").write_text("")
    extraction = FeatureCache(tmp_path / "file").extract(FEATURES, Set(), "data")
    assert extraction.features.shape == (20, 16)
    assert "not kept" in extraction.notes[0]

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    extraction = cache.extract(FEATURES, Set(), "data")
    assert "no space left on device" in extraction.notes[0]
    assert list(cache.folder.iterdir()) == []


def test_cache_folder_follows_the_environment(monkeypatch):
    for own, base in (("", ""), ("", "/x"), ("/y", "/x")):
        monkeypatch.setenv("DIFFPROB_CACHE", own)
        monkeypatch.setenv("XDG_CACHE_HOME", base)
        assert FeatureCache().folder == cache_folder()
    monkeypatch.setenv("DIFFPROB_CACHE", "")
    assert cache_folder() == Path("/x/diffprob")
