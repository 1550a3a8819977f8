import pickle

import numpy as np
import pytest

from diffprob.data import Array, open_data


@pytest.fixture
def pixels(rand):
    return rand.integers(0, 256, (5, 3, 8, 6), dtype=np.uint8)


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "nhw", "n1hw", "nhw1"])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_array_layouts_are_recognised(tmp_path, pixels, layout, suffix):
    stored, expected = {
        "nchw": (pixels, pixels),
        "nhwc": (pixels.transpose(0, 2, 3, 1), pixels),
        "nhw": (pixels[:, 0], pixels[:, :1]),
        "n1hw": (pixels[:, :1], pixels[:, :1]),
        "nhw1": (pixels[:, 0, :, :, None], pixels[:, :1]),
    }[layout]
    file = tmp_path / f"x.{suffix}"
    np.save(file, stored) if suffix == "npy" else np.savez(file, images=stored)
    images = open_data(str(file)).load()
    assert np.array_equal(images.pixels, expected)
    assert images.take([4]).flags.c_contiguous
    assert "(N, " in images.notes[0]


def test_fortran_order_is_read(tmp_path, pixels):
    np.save(tmp_path / "x.npy", np.asfortranarray(pixels))
    images = Array(str(tmp_path / "x.npy")).load()
    assert np.array_equal(images.pixels, pixels)


def test_npy_is_memory_mapped(tmp_path, pixels):
    np.save(tmp_path / "x.npy", pixels)
    assert isinstance(Array(str(tmp_path / "x.npy")).load().pixels, np.memmap)


@pytest.mark.parametrize(
    ("images", "labels"), [("images", "labels"), ("x", "y"), ("arr_0", "y"), ("x_train", "y_train")]
)
def test_npz_keys_are_recognised(tmp_path, pixels, images, labels):
    np.savez(tmp_path / "d.npz", **{images: pixels, labels: np.arange(5)[:, None]})
    loaded = Array(str(tmp_path / "d.npz")).load()
    assert np.array_equal(loaded.pixels, pixels)
    assert loaded.labels is not None and loaded.labels.tolist() == [0, 1, 2, 3, 4]


def test_npz_with_both_splits_is_split(tmp_path, pixels, refused):
    file = tmp_path / "mnist.npz"
    np.savez(file, x_train=pixels[:3], y_train=np.zeros(3, int), x_test=pixels[3:], y_test=np.ones(2, int))
    assert np.array_equal(Array(str(file)).load().pixels, pixels[:3])
    test = Array(str(file), "test").load()
    assert np.array_equal(test.pixels, pixels[3:])
    assert test.labels is not None and (test.labels.tolist(), test.class_names) == ([0, 0], ("1",))
    refused(Array(str(file), "all").load, "images, x or arr_0", "x_train")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("low", [0, -1])
def test_floats_are_quantised(tmp_path, dtype, low):
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    values = levels / 255 if low == 0 else levels / 127.5 - 1
    np.save(tmp_path / "x.npy", values.astype(dtype))
    images = Array(str(tmp_path / "x.npy")).load()
    assert np.array_equal(images.pixels[:, 0], levels)
    assert ("[0, 1]" if low == 0 else "[-1, 1]") in images.notes[1]
    assert "256 levels" in images.notes[1]


def test_rounding_is_noted(tmp_path):
    np.save(tmp_path / "x.npy", np.full((2, 8, 8), 100.25 / 255))
    assert "0.25 levels" in Array(str(tmp_path / "x.npy")).load().notes[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_first_invalid_value_is_named(tmp_path, refused, bad, suffix):
    x = np.zeros((9, 8, 6, 3), np.float32)
    x[8, 0, 0, 0] = x[7, 2, 5, 1] = x[7, 3, 0, 0] = bad
    file = tmp_path / f"x.{suffix}"
    np.save(file, x) if suffix == "npy" else np.savez(file, x=x)
    # channels come first once loaded, so (c, y, x) = (0, 3, 0) precedes (1, 2, 5)
    refused(Array(str(file)).load, file, bad, "(7, 0, 3, 0)")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.linspace(0, 255, 128).reshape(2, 8, 8), ("0 to 255", "[0, 1]")),
        (np.full((2, 8, 8), 65536, np.int64), ("65536", "0..65535")),
        (np.full((2, 8, 8), -1, np.int32), ("-1", "0..65535")),
        (np.zeros((2, 8, 8), np.complex64), ("complex64", "whole numbers")),
        (np.zeros((2, 17, 32, 20), np.uint8), ("2x17x32x20", "1 to 16")),
        (np.zeros((2, 4, 8, 4), np.uint8), ("2x4x8x4", "ambiguous")),
        (np.zeros((8, 8, 3), np.uint8), ("8x8x3", "ambiguous", "channels")),
        (np.zeros((2, 8), np.uint8), ("2x8",)),
        (np.zeros((2, 4, 8, 8), np.uint8), ("2x4x8x8", "channels")),
        (np.zeros((2, 3, 8, 3), np.uint8), ("ambiguous",)),
        (np.zeros((0, 8, 8), np.uint8), ("no images", "0x8x8")),
        (np.float32(1), ("shape",)),
    ],
)
def test_invalid_arrays_are_errors(tmp_path, refused, array, expected):
    np.save(tmp_path / "x.npy", array)
    refused(Array(str(tmp_path / "x.npy")).load, tmp_path / "x.npy", *expected)


def test_pickles_are_never_loaded(tmp_path, refused):
    class Boom:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    objects = np.empty(2, dtype=object)
    objects[:] = [Boom(), Boom()]
    np.save(tmp_path / "o.npy", objects, allow_pickle=True)
    refused(Array(str(tmp_path / "o.npy")).load, "o.npy")
    np.savez(tmp_path / "o.npz", images=objects, allow_pickle=True)
    refused(Array(str(tmp_path / "o.npz")).load, "o.npz", "pickled")
    for name in ("p.npy", "p.npz"):
        (tmp_path / name).write_bytes(pickle.dumps(Boom()))
        refused(Array(str(tmp_path / name)).load, name)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("keep", [0, 4, 70, -1, -40])
def test_truncated_files_are_errors(tmp_path, pixels, refused, suffix, keep):
    file = tmp_path / f"x.{suffix}"
    np.save(file, pixels) if suffix == "npy" else np.savez_compressed(file, images=pixels)
    file.write_bytes(file.read_bytes()[:keep])
    refused(Array(str(file)).load, file)


def test_npz_named_npy_is_read(tmp_path, pixels, refused):
    np.savez(tmp_path / "x.npz", images=pixels)
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    refused(Array(str(tmp_path / "x.npy")).load, "x.npy")
    np.save(tmp_path / "y.npy", pixels)
    (tmp_path / "y.npy").rename(tmp_path / "y.npz")
    refused(Array(str(tmp_path / "y.npz")).load, "y.npz")


@pytest.mark.parametrize("labels", [np.zeros(4, int), np.zeros(5), np.zeros((5, 2), int)])
def test_invalid_labels_are_errors(tmp_path, pixels, refused, labels):
    np.savez(tmp_path / "x.npz", images=pixels, labels=labels)
    refused(Array(str(tmp_path / "x.npz")).load, "x.npz", "labels")


def test_missing_test_split_is_an_error(tmp_path, pixels, refused):
    np.save(tmp_path / "x.npy", pixels)
    refused(Array(str(tmp_path / "x.npy"), "test").load, "'test'", "'all'")
    np.savez(tmp_path / "x.npz", images=pixels)
    refused(Array(str(tmp_path / "x.npz"), "test").load, "x_test", "images")
    refused(Array(str(tmp_path)).load, tmp_path)
