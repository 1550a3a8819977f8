import numpy as np
import pytest
from scipy.io import savemat

from diffprob.data import Cifar10, Cifar100, Svhn, open_data


def write_cifar(folder, rand, names, records, classes):
    """Records of the documented layout; returns the pixels and (fine) labels of every file."""
    out = {}
    for name in names:
        x = rand.integers(0, 256, (records, 3, 32, 32), dtype=np.uint8)
        y = rand.integers(0, classes, (records, 1), dtype=np.uint8)
        head = [y] if classes == 10 else [rand.integers(0, 20, (records, 1), dtype=np.uint8), y]
        (folder / name).write_bytes(np.concatenate([*head, x.reshape(records, -1)], 1).tobytes())
        out[name] = x, y[:, 0]
    return out


BATCHES = [f"data_batch_{k}.bin" for k in range(1, 6)]


def test_cifar10_is_read(tmp_path, rand):
    made = write_cifar(tmp_path, rand, [*BATCHES, "test_batch.bin"], 3, 10)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (tmp_path / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    train, test = Cifar10(str(tmp_path)).load(), Cifar10(str(tmp_path), "test").load()
    assert np.array_equal(train.pixels, np.concatenate([made[name][0] for name in BATCHES]))
    assert train.labels is not None
    assert np.array_equal(train.labels, np.concatenate([made[name][1] for name in BATCHES]))
    assert train.class_names == tuple(names)
    assert np.array_equal(test.pixels, made["test_batch.bin"][0])
    assert train.event_shape == (3, 32, 32)
    assert any("10000" in note for note in train.notes)


def test_cifar100_has_fine_labels(tmp_path, rand):
    made = write_cifar(tmp_path, rand, ["train.bin", "test.bin"], 4, 100)
    for split in ("train", "test"):
        images = Cifar100(str(tmp_path), split).load()
        assert np.array_equal(images.pixels, made[f"{split}.bin"][0])
        assert images.labels is not None and np.array_equal(images.labels, made[f"{split}.bin"][1])


def test_single_cifar10_batch_is_read(tmp_path, rand):
    made = write_cifar(tmp_path, rand, ["data_batch_2.bin"], 3, 10)
    images = open_data(str(tmp_path / "data_batch_2.bin")).load()
    assert np.array_equal(images.pixels, made["data_batch_2.bin"][0])


def test_missing_cifar10_batch_is_an_error(tmp_path, rand, refused):
    write_cifar(tmp_path, rand, BATCHES[:4], 2, 10)
    refused(Cifar10(str(tmp_path)).load, tmp_path, "data_batch_5.bin", "binary version")
    refused(Cifar10(str(tmp_path), "test").load, "test_batch.bin")


@pytest.mark.parametrize("change", [-1, 1, -3073 * 2, 3073 * 3])
def test_wrong_file_length_is_an_error(tmp_path, rand, refused, change):
    write_cifar(tmp_path, rand, BATCHES, 2, 10)
    file = tmp_path / "data_batch_3.bin"
    data = file.read_bytes()
    file.write_bytes(data[:change] if change < 0 else data + bytes(change))
    refused(Cifar10(str(tmp_path)).load, "data_batch_3.bin", "cut short" if change > -6146 else "empty file")


def test_invalid_label_suggests_another_format(tmp_path, rand, refused):
    write_cifar(tmp_path, rand, ["test_batch.bin"], 3, 10)
    file = tmp_path / "test_batch.bin"
    data = bytearray(file.read_bytes())
    data[3073] = 10
    file.write_bytes(data)
    refused(Cifar10(str(tmp_path), "test").load, file, "record 1", "label 10", "0..9")


def test_wrong_number_of_class_names_is_an_error(tmp_path, rand, refused):
    write_cifar(tmp_path, rand, ["test_batch.bin"], 3, 10)
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n")
    refused(Cifar10(str(tmp_path), "test").load, "batches.meta.txt", "2 class names")


@pytest.fixture
def svhn(tmp_path, rand):
    x = rand.integers(0, 256, (32, 32, 3, 6), dtype=np.uint8)
    y = np.array([[10], [1], [2], [9], [10], [5]], dtype=np.uint8)
    savemat(tmp_path / "test_32x32.mat", {"X": x, "y": y}, do_compression=True)
    return tmp_path, x


def test_svhn_is_read(svhn):
    folder, x = svhn
    images = open_data(str(folder), split="test").load()
    assert images.pixels.shape == (6, 3, 32, 32)
    assert images.pixels[4, 2, 7, 30] == x[7, 30, 2, 4]
    assert images.labels is not None and images.labels.tolist() == [0, 1, 2, 9, 0, 5]
    assert np.array_equal(Svhn(str(folder / "test_32x32.mat"), "test").load().pixels, images.pixels)


def test_missing_svhn_file_is_an_error(svhn, refused):
    refused(Svhn(str(svhn[0]), "extra").load, "extra_32x32.mat")


@pytest.mark.parametrize("keep", [0, 60, 200, -100])
def test_truncated_svhn_file_is_an_error(svhn, refused, keep):
    file = svhn[0] / "test_32x32.mat"
    file.write_bytes(file.read_bytes()[:keep])
    refused(Svhn(str(file), "test").load, file)


def test_svhn_text_file_is_an_error(svhn, refused):
    file = svhn[0] / "test_32x32.mat"
    file.write_text("this is no matlab file at all, but it is long enough to have the header of one" * 4)
    refused(Svhn(str(file), "test").load, file, "MATLAB")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"A": np.zeros(3)}, ("X and y",)),
        ({"X": np.zeros((32, 32, 3, 2)), "y": np.ones((2, 1))}, ("float64", "uint8")),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((3, 1), np.uint8)}, ("3 labels", "2 images")),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.full((2, 1), 11, np.uint8)}, ("1..10",)),
    ],
)
def test_svhn_with_wrong_content_is_an_error(tmp_path, refused, content, expected):
    savemat(tmp_path / "train_32x32.mat", content)
    refused(Svhn(str(tmp_path)).load, "train_32x32.mat", *expected)


def test_svhn_as_hdf5_is_an_error(tmp_path, refused):
    head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512)
    (tmp_path / "train_32x32.mat").write_bytes(head)
    refused(Svhn(str(tmp_path)).load, "7.3", "-v7")
