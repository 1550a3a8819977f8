"""Small files in the documented formats, and the check that a refusal is one line that names what is wrong."""

import gzip
import struct

import numpy as np
import pytest

from diffprob.base.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DIFFPROB_CACHE", str(folder))
    return folder


@pytest.fixture
def rand():
    return np.random.default_rng(7)


@pytest.fixture
def idx_bytes():
    def make(array):
        return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()

    return make


@pytest.fixture
def mnist(tmp_path, rand, idx_bytes):
    """A folder like MNIST's: 12 + 5 images of 6 rows and 4 columns, all .gz."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    arrays = {}
    for stem, n in (("train", 12), ("t10k", 5)):
        x, y = rand.integers(0, 256, (n, 6, 4), dtype=np.uint8), np.arange(n, dtype=np.uint8) % 10
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(x)))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(y)))
        arrays[stem] = x, y
    return folder, arrays


@pytest.fixture
def refused():
    """Run a call that must raise an `InputError` of one line with all of the words in it."""

    def call(function, *expected):
        with pytest.raises(InputError) as caught:
            function()
        message = str(caught.value)
        assert "\n" not in message
        for word in expected:
            assert str(word) in message, f"{word!r} not in {message!r}"
        return message

    return call
