import gzip
import hashlib
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from diffprob.data import Idx, open_data


@pytest.mark.parametrize(("split", "stem"), [("train", "train"), ("test", "t10k")])
def test_images_and_labels_are_read(mnist, split, stem):
    folder, arrays = mnist
    images = Idx(str(folder), split).load()
    x, y = arrays[stem]
    assert images.pixels.shape == (len(x), 1, 6, 4)
    assert np.array_equal(images.pixels[:, 0], x)
    assert images.labels is not None and images.labels.dtype == np.int64
    assert np.array_equal(images.labels, y)
    assert (images.levels, images.notes) == (256, ())


def test_gz_is_unpacked_once_and_memory_mapped(mnist, cache, monkeypatch):
    folder, arrays = mnist
    first = Idx(str(folder)).load()
    assert isinstance(first.pixels.base, np.memmap) or isinstance(first.pixels, np.memmap)
    key = hashlib.sha256((folder / "train-images-idx3-ubyte.gz").read_bytes()).hexdigest()
    (copy,) = (cache / "idx").iterdir()
    assert copy.name.startswith(key)
    before = copy.stat().st_mtime_ns
    assert np.array_equal(Idx(str(folder)).load().pixels[:, 0], arrays["train"][0])
    assert copy.stat().st_mtime_ns == before


def test_damaged_copy_in_the_cache_is_not_trusted(mnist, cache):
    folder, arrays = mnist
    Idx(str(folder)).load()
    (copy,) = (cache / "idx").iterdir()
    data = bytearray(copy.read_bytes())
    data[40] ^= 1
    copy.unlink()
    copy.write_bytes(data)
    assert np.array_equal(Idx(str(folder)).load().pixels[:, 0], arrays["train"][0])
    copy.unlink()
    copy.write_bytes(data[:30])
    assert np.array_equal(Idx(str(folder)).load().pixels[:, 0], arrays["train"][0])


def test_each_source_has_its_own_cached_copy(mnist, cache, idx_bytes):
    folder, _ = mnist
    Idx(str(folder)).load()
    new = np.full((12, 6, 4), 9, np.uint8)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(new)))
    assert np.array_equal(Idx(str(folder)).load().pixels[:, 0], new)
    assert len(list((cache / "idx").iterdir())) == 2


def test_only_stale_temporary_files_are_removed(mnist, cache):
    (cache / "idx").mkdir()
    for name, age in ((".tmp-old", 2 * 24 * 3600), (".tmp-new", 0)):
        file = cache / "idx" / name
        file.write_bytes(b"x")
        os.utime(file, (file.stat().st_mtime - age,) * 2)
    Idx(str(mnist[0])).load()
    assert not (cache / "idx" / ".tmp-old").exists()
    assert (cache / "idx" / ".tmp-new").exists()


def test_unwritable_cache_falls_back_to_memory(mnist, tmp_path, monkeypatch):
    folder, arrays = mnist
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DIFFPROB_CACHE", str(tmp_path / "file"))
    assert np.array_equal(Idx(str(folder)).load().pixels[:, 0], arrays["train"][0])


def test_full_disk_falls_back_to_memory(mnist, cache, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    folder, arrays = mnist
    assert np.array_equal(Idx(str(folder)).load().pixels[:, 0], arrays["train"][0])
    assert list((cache / "idx").iterdir()) == []


def test_plain_file_is_mapped_in_place_and_preferred(mnist, cache, idx_bytes):
    folder, _ = mnist
    plain = np.arange(12 * 24, dtype=np.uint8).reshape(12, 6, 4)
    file = folder / "train-images-idx3-ubyte"
    file.write_bytes(idx_bytes(plain))
    images = Idx(str(folder)).load()
    assert np.array_equal(images.pixels[:, 0], plain)
    assert not (cache / "idx").exists()
    alone = Idx(str(file)).load()
    assert np.array_equal(alone.pixels, images.pixels)


def test_labels_are_optional(mnist):
    folder, _ = mnist
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    images = Idx(str(folder)).load()
    assert images.labels is None
    assert "no labels" in images.notes[0]


def test_emnist_is_transposed_upright(tmp_path, rand, idx_bytes):
    upright = rand.integers(0, 256, (4, 5, 5), dtype=np.uint8)
    stored = upright.transpose(0, 2, 1)
    (tmp_path / "emnist-letters-test-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(stored)))
    (tmp_path / "emnist-letters-test-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([1, 26, 3, 4])))
    images = open_data(str(tmp_path), split="test").load()
    assert np.array_equal(images.take([3, 0])[:, 0], upright[[3, 0]])
    assert images.labels is not None
    assert [images.class_names[k] for k in images.labels] == ["1", "26", "3", "4"]
    assert images.former_labels.tolist() == [1, 26, 3, 4]
    assert "transposed" in images.notes[0]


def test_missing_split_is_an_error_that_lists_files(tmp_path, idx_bytes, refused):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((2, 3, 3))))
    refused(Idx(str(tmp_path)).load, tmp_path, "train-images-idx3-ubyte", "t10k-images-idx3-ubyte")


def test_two_sets_in_one_folder_are_an_error(tmp_path, idx_bytes, refused):
    for name in ("emnist-letters", "emnist-digits"):
        (tmp_path / f"{name}-train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((2, 3, 3))))
    refused(Idx(str(tmp_path)).load, "emnist-letters", "emnist-digits", "one file")


def _damage(kind, data):
    return {
        "cut": lambda: data[:-3],
        "header": lambda: data[:9],
        "empty": lambda: b"",
        "long": lambda: data + b"\0",
        "magic": lambda: b"\0\0\x09\x03" + data[4:],
        "claim": lambda: data[:4] + struct.pack(">3I", 2**31, 2**31, 2**31) + data[16:],
        "none": lambda: data[:4] + struct.pack(">3I", 0, 6, 4),
    }[kind]()


WORDS = {
    "cut": ("cut short", "12x6x4"), "header": ("cut short", "header"), "empty": ("0 bytes",), "long": ("too long",),
    "magic": ("0x00000903", "0x00000803"), "claim": ("cut short",), "none": ("holds nothing",),
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("kind", WORDS)
def test_damaged_images_are_errors(mnist, cache, idx_bytes, refused, kind, packed):
    folder, arrays = mnist
    data = _damage(kind, idx_bytes(arrays["train"][0]))
    file = folder / ("train-images-idx3-ubyte" + ".gz" * packed)
    file.write_bytes(gzip.compress(data) if packed else data)
    refused(Idx(str(folder)).load, file, *WORDS[kind])
    assert not any(cache.rglob("*idx3*")) and not any((cache / "idx").glob("*"))


@pytest.mark.parametrize("keep", [5, 60, -1, -9])
def test_truncated_gz_is_an_error(mnist, refused, cache, keep):
    file = mnist[0] / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:keep])
    refused(Idx(str(mnist[0])).load, file, "cut short")
    assert not any((cache / "idx").glob("*"))


def test_gz_with_a_flipped_bit_is_an_error(mnist, refused):
    file = mnist[0] / "train-images-idx3-ubyte.gz"
    data = bytearray(file.read_bytes())
    data[-6] ^= 16  # the stored checksum
    file.write_bytes(data)
    refused(Idx(str(mnist[0])).load, file, "damaged")


def test_number_of_labels_must_match(mnist, idx_bytes, refused):
    file = mnist[0] / "train-labels-idx1-ubyte.gz"
    file.write_bytes(gzip.compress(idx_bytes(np.zeros(11))))
    refused(Idx(str(mnist[0])).load, file, "11 labels", "12 images")


def test_images_in_place_of_labels_are_an_error(mnist, idx_bytes, refused):
    file = mnist[0] / "train-labels-idx1-ubyte.gz"
    file.write_bytes(gzip.compress(idx_bytes(np.zeros((12, 1, 1)))))
    refused(Idx(str(mnist[0])).load, file, "labels", "0x00000801")


MEASURE = """
import sys
from diffprob.data import Idx

def megabytes():
    with open("/proc/self/status") as status:
        lines = (line.split() for line in status)
        return {words[0]: int(words[1]) / 1024 for words in lines if words[0] in ("VmHWM:", "RssAnon:")}

before = megabytes()
images = Idx(sys.argv[1]).load()
images.take(range(0, 60000, 500))
images.digest()
after = megabytes()
print(len(images), *(after[key] - before[key] for key in ("VmHWM:", "RssAnon:")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_file_of_mnists_size_is_memory_mapped(tmp_path, rand, idx_bytes):
    block = rand.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    data = idx_bytes(np.tile(block, (3000, 1, 1)))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(data, 1))
    for _ in ("unpacked", "from the cache"):
        run = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True)
        n, peak, anonymous = map(float, run.stdout.split())
        assert n == 60000
        assert peak < 100  # 47 of them are pages of the mapped file, which the kernel may drop
        assert anonymous < 20
