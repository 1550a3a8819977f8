"""Our reader of MATLAB 5 files beside scipy's, which is independent of it."""

import struct

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from diffprob.data import Svhn
from diffprob.data.formats.mat import read_mat

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_match_scipy(tmp_path, rand, dtype, packed):
    file = tmp_path / "a.mat"
    # one byte lies in its tag, the others need padding of their own
    stored = {
        "first": rand.integers(0, 100, (2, 3, 1, 5)).astype(dtype), "text": "between", "one": np.array([[7]], dtype),
        "nested": {"X": np.zeros(3)}, "empty": np.zeros((0, 3), dtype), "y": np.arange(3).astype(dtype)[:, None],
    }  # fmt: skip
    savemat(file, stored, do_compression=packed)
    expected = loadmat(file)
    arrays = read_mat(file, ("first", "one", "y", "empty"))
    assert sorted(arrays) == ["empty", "first", "one", "y"]
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])


def _bigendian(array: np.ndarray, name: str) -> bytes:
    """An array as MATLAB on a SPARC wrote it."""

    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    flags = struct.pack(">II", 11, 0)  # uint16
    shape = struct.pack(f">{array.ndim}i", *array.shape)
    items = array.astype(">u2").tobytes(order="F")
    return element(14, element(6, flags) + element(5, shape) + element(1, name.encode()) + element(4, items))


def test_big_endian_file_is_read(tmp_path, rand):
    array = rand.integers(0, 60000, (3, 5)).astype(np.uint16)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    (tmp_path / "a.mat").write_bytes(head + _bigendian(array, "k"))
    np.testing.assert_array_equal(loadmat(tmp_path / "a.mat")["k"], array)
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", ("k",))["k"], array)


@pytest.mark.parametrize("packed", [False, True])
def test_svhn_pixels_match_scipy(tmp_path, rand, packed):
    x, y = rand.integers(0, 256, (32, 32, 3, 5), dtype=np.uint8), np.array([[10.0], [1], [2], [9], [3]])
    savemat(tmp_path / "train_32x32.mat", {"y": y, "X": x}, do_compression=packed)
    images = Svhn(str(tmp_path)).load()
    np.testing.assert_array_equal(images.pixels, loadmat(tmp_path / "train_32x32.mat")["X"].transpose(3, 2, 0, 1))
    assert images.labels is not None and images.labels.tolist() == [0, 1, 2, 9, 3]


def test_complex_and_sparse_arrays_are_errors(tmp_path, refused):
    from scipy.sparse import eye

    for content in (np.ones((2, 2)) * 1j, eye(3).tocsc()):
        savemat(tmp_path / "a.mat", {"X": content})
        refused(lambda: read_mat(tmp_path / "a.mat", ("X",)), "a.mat", "no full array of real numbers")


def test_oversized_array_is_an_error_before_unpacking(tmp_path, refused, monkeypatch):
    from diffprob.data.formats import files

    x = np.zeros((32, 32, 3, 40), np.uint8)
    savemat(tmp_path / "train_32x32.mat", {"X": x, "y": np.ones((40, 1))}, do_compression=True)
    assert len(Svhn(str(tmp_path)).load()) == 40
    monkeypatch.setattr(files, "UNPACKED_FREELY", 10_000)
    refused(Svhn(str(tmp_path)).load, "would unpack to", "100 times")


def test_changed_byte_fails_the_checksum(tmp_path, rand, refused):
    x = rand.integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
    savemat(tmp_path / "train_32x32.mat", {"X": x, "y": np.ones((2, 1))}, do_compression=True)
    data = bytearray((tmp_path / "train_32x32.mat").read_bytes())
    data[3000] ^= 1
    (tmp_path / "train_32x32.mat").write_bytes(data)
    refused(Svhn(str(tmp_path)).load, "train_32x32.mat", "damaged")
