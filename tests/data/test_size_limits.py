"""What a file promises is compared with a bound before anything is allocated or unpacked."""

import gzip
import io
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest

from diffprob.base.errors import InputError
from diffprob.data import Array, Idx
from diffprob.data.formats import files
from diffprob.data.formats.files import blank_pixels, check_unpacked
from diffprob.data.formats.npy import open_npz


@pytest.fixture
def nothing_large(monkeypatch):
    """Any array above a megabyte is a mistake."""

    def blank(shape, dtype=np.uint8):
        assert np.prod(shape, dtype=float) < 1 << 20
        return np.empty(shape, dtype)

    for module in ("arrays", "npy", "mat", "binary", "decoded"):
        monkeypatch.setattr(f"diffprob.data.formats.{module}.blank_pixels", blank)


def _member(shape, dtype="|u1", data=b""):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def _npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, member in members.items():
            packed.writestr(f"{name}.npy", member)
    return Array(str(path))


@pytest.mark.parametrize(
    "shape", ["(70000, 256, 256)", "(1099511627776, 8, 8)", f"({10**18}, {10**18}, {10**18})", "(0, 9, 9)"]
)
def test_oversized_headers_are_errors(tmp_path, refused, nothing_large, shape):
    refused(_npz(tmp_path / "a.npz", images=_member(shape)).load, "a.npz")
    (tmp_path / "b.npy").write_bytes(_member(shape))
    refused(Array(str(tmp_path / "b.npy")).load, "b.npy")


def test_labels_are_read_only_if_their_number_matches(tmp_path, refused, nothing_large):
    pixels = _member("(3, 4, 4)", data=bytes(48))
    for shape, dtype in (("(536870912,)", "<i8"), ("(3,)", "<U100000000"), ("(3, 99999999)", "<i8"), ("()", "<i8")):
        refused(_npz(tmp_path / "a.npz", images=pixels, labels=_member(shape, dtype)).load, "labels", "(3,)")


def test_label_count_is_checked_before_unpacking_gz(tmp_path, refused, monkeypatch):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 2, 2, 2) + bytes(8))
    claim = gzip.compress(struct.pack(">2I", 0x801, 1 << 32 - 1) + bytes(1 << 20))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(claim)
    monkeypatch.setattr("diffprob.data.formats.idx.in_memory", lambda size: pytest.fail("allocated"))
    refused(Idx(str(tmp_path)).load, "train-labels-idx1-ubyte.gz", "labels for 2 images")


def test_decompression_bomb_is_an_error_before_unpacking(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(files, "UNPACKED_FREELY", 100_000)
    _npz(tmp_path / "a.npz", images=_member("(2000, 16, 16)", data=bytes(512_000)))
    monkeypatch.setattr("diffprob.data.formats.npy.blank_pixels", lambda shape: pytest.fail("allocated"))
    refused(Array(str(tmp_path / "a.npz")).load, "a.npz", "would unpack to 512,000", "without compression")
    packed = gzip.compress(struct.pack(">4I", 0x803, 2000, 16, 16) + bytes(512_000))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(packed)
    refused(Idx(str(tmp_path)).load, "train-images-idx3-ubyte.gz", "would unpack to 512,000")


def test_unpacked_size_limit_allows_real_images(tmp_path):
    check_unpacked(tmp_path, 256 << 20, 1 << 20)
    check_unpacked(tmp_path, 60 << 30, 1 << 30)
    with pytest.raises(InputError, match="100 times"):
        check_unpacked(tmp_path, (256 << 20) + 1, 1 << 20)
    with pytest.raises(InputError, match="cut short"):
        check_unpacked(tmp_path, 1033, 1)
    with pytest.raises(InputError, match="at most 68,719,476,736"):
        check_unpacked(tmp_path, (64 << 30) + 1, 1 << 30)
    # the best that zlib does to a run of zeros
    assert len(zlib.compress(bytes(10 << 20), 9)) * files.DEFLATE_RATIO >= 10 << 20


def test_data_larger_than_the_machine_is_an_error(monkeypatch, refused):
    refused(lambda: blank_pixels((1 << 20, 1 << 20)), "1,099,511,627,776 bytes", "at most")
    monkeypatch.setattr(files, "ON_DISK_BYTES", 1 << 60)  # there is no disk
    monkeypatch.setattr("os.sysconf", lambda name: 1024)
    refused(lambda: blank_pixels((1 << 20, 2)), "2,097,152 bytes", "DIFFPROB_CACHE")


def test_other_compression_and_damaged_members_are_errors(tmp_path, refused):
    for way in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", way) as packed:
            packed.writestr("images.npy", _member("(3, 4, 4)", data=bytes(48)))
        refused(Array(str(tmp_path / "a.npz")).load, "a.npz", "savez_compressed")
    for data, word in ((bytes(47), "cut short"), (bytes(49), "too long")):
        refused(_npz(tmp_path / "b.npz", images=_member("(3, 4, 4)", data=data)).load, "b.npz", word)


def test_headers_of_other_writers_are_read(tmp_path):
    """Another order of the keys, other quotes and blanks, Python 2's long numbers, and version 2."""
    data = bytes(range(24))
    for text in (
        "{'shape': (2L, 3L, 4L), 'fortran_order': False, 'descr': '|u1'}",
        '{"descr":"|u1","fortran_order":False,"shape":(2,3,4)}',
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4,), }" + " " * 60 + "\n",
    ):
        for version, width in ((1, "<H"), (2, "<I")):
            head = b"\x93NUMPY" + bytes([version, 0]) + struct.pack(width, len(text)) + text.encode()
            (tmp_path / "a.npy").write_bytes(head + data)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Python 2
                np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.arange(24).reshape(2, 3, 4))
            assert Array(str(tmp_path / "a.npy")).load().pixels.reshape(-1).tolist() == list(range(24))


def test_archives_match_numpy(tmp_path, rand):
    stored = {
        "a": rand.integers(0, 9, (3, 4)), "b": np.asfortranarray(rand.random((4, 5))), "c": np.float32(2.5),
        "text": np.array("words"), "empty": np.zeros((0, 3), ">f4"), "flags": np.array([True, False]),
    }  # fmt: skip
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **stored)
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    with open_npz(tmp_path / "a.npz") as archive:
        assert set(archive.names) == set(stored)
        for name, array in stored.items():
            result = archive.read(name)
            assert result.dtype == np.asarray(array).dtype
            np.testing.assert_array_equal(result, array)
