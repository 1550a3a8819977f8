import ast
import hashlib
import importlib.util
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from diffprob import data
from diffprob.base.errors import Missing
from diffprob.data import Array, Cifar10, Cifar100, Digits, Folder, HuggingFace, Idx, Images, Pages, Svhn, open_data

ALL = [
    Digits(), Idx("a/b", "test"), Cifar10("c"), Cifar100("c", "test"), Svhn("s", "extra"),
    Folder("f", 64, 1, "all", "lanczos"), Array("x.npz", "all"), HuggingFace("ylecun/mnist", "test[:10]", "img", 32, 1),
]  # fmt: skip


@pytest.mark.parametrize("source", ALL, ids=repr)
def test_repr_is_a_call_with_literals(source):
    call = ast.parse(repr(source), mode="eval").body
    assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    arguments = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    assert getattr(data, call.func.id)(**arguments) == source
    with pytest.raises(FrozenInstanceError):
        source.split = "train"


@pytest.mark.parametrize("source", [s for s in ALL if not isinstance(s, HuggingFace)], ids=repr)
def test_misspelt_split_gets_a_suggestion(source):
    with pytest.raises(ValueError, match="did you mean 'train'"):
        replace(source, split="tran")


@pytest.mark.parametrize("kind", [Idx, Cifar10, Cifar100, Svhn, Folder, Pages, Array, HuggingFace])
def test_invalid_path_is_an_error(kind):
    for wrong in ("", 3, None):
        with pytest.raises(ValueError, match="non-empty string"):
            kind(wrong)


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": 1.5}, {"size": True}, {"channels": 17}, {"resample": "bicubicc"}]
)
def test_invalid_image_options_are_errors(wrong):
    for kind in (Folder, HuggingFace):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            kind("a", **wrong)


def test_digits_match_scikit_learn():
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        pytest.skip("scikit-learn is not installed")
    # the file that `sklearn.datasets.load_digits` reads, without the seconds its import takes
    rows = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = Digits("all").load()
    assert np.array_equal(images.pixels[:, 0], rows[:, :-1].reshape(-1, 8, 8))
    assert images.labels is not None and np.array_equal(images.labels, rows[:, -1])
    assert (images.levels, images.event_shape, images.pixels.max()) == (17, (1, 8, 8), 16)


def test_digits_splits_have_the_documented_sizes():
    whole, train, test = (Digits(split).load() for split in ("all", "train", "test"))
    assert (len(train), len(test), len(whole)) == (1437, 360, 1797)
    assert np.array_equal(test.pixels, whole.pixels[::5])
    assert np.array_equal(train.pixels, np.delete(whole.pixels, np.s_[::5], axis=0))
    assert train.labels is not None and set(train.labels) == set(range(10))


def test_importing_data_is_light():
    code = "import sys, diffprob.data; print([m for m in ('torch', 'PIL', 'scipy', 'datasets') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_digest_is_sha256_of_shape_bytes_and_labels(rand):
    pixels = rand.integers(0, 256, (7, 3, 4, 5), dtype=np.uint8)
    labels = np.arange(7)
    expected = hashlib.sha256(b"(7, 3, 4, 5)" + pixels.tobytes())
    assert Images(pixels).digest() == expected.hexdigest()
    expected.update(labels.astype("<i8").tobytes())
    assert Images(pixels, labels).digest() == expected.hexdigest()
    strided = Images(pixels.transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2), labels)
    assert strided.digest() == expected.hexdigest()
    assert Images(pixels.reshape(7, 3, 5, 4), labels).digest() != expected.hexdigest()


def test_digest_does_not_depend_on_chunks(rand, monkeypatch):
    pixels = rand.integers(0, 256, (50, 1, 4, 4), dtype=np.uint8)
    whole = Images(pixels).digest()
    monkeypatch.setattr("diffprob.data.images.CHUNK_BYTES", 48)
    assert len(list(Images(pixels).chunks())) == 17
    assert Images(pixels).digest() == whole


def test_invalid_images_are_errors():
    good = np.zeros((2, 1, 4, 4), np.uint8)
    for bad in (good.astype(float), good[0], np.zeros((2, 17, 4, 4), np.uint8), good.astype(np.int64), good[:0]):
        with pytest.raises(ValueError, match="pixels"):
            Images(bad)
    for bad in (np.zeros(3, np.int64), np.zeros(2, np.int32)):
        with pytest.raises(ValueError, match="labels"):
            Images(good, bad)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="levels"):
        Images(good, levels=257)
    with pytest.raises(ValueError, match="levels must be uint8, got uint16"):
        Images(good.astype(np.uint16), levels=256)


def test_format_is_detected(tmp_path, idx_bytes):
    def holding(*names):
        folder = tmp_path / names[0]
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"")
        return str(folder)

    assert open_data("digits", split="test") == Digits("test")
    assert open_data("hf:a/b", size=32) == HuggingFace("a/b", size=32)
    for names, kind in [
        (["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"], Idx),
        (["data_batch_1.bin", "batches.meta.txt"], Cifar10),
        (["train.bin", "fine_label_names.txt"], Cifar100),
        (["train_32x32.mat", "test_32x32.mat"], Svhn),
    ]:
        folder = holding(*names)
        assert open_data(folder) == kind(folder)
        assert type(open_data(f"{folder}/{names[0]}")) is kind
    folder = holding("a.jpeg", "notes.txt")
    assert open_data(folder, size=8, channels=1, split="all") == Folder(folder, 8, 1, "all")
    folder = holding("x.npz", "notes.txt")
    assert open_data(folder) == open_data(folder + "/x.npz") == Array(folder + "/x.npz")
    (tmp_path / "cifar-10-batches-bin").mkdir()
    assert open_data(str(tmp_path)) == Cifar10(str(tmp_path / "cifar-10-batches-bin"))
    (tmp_path / "unnamed").write_bytes(idx_bytes(np.zeros((1, 2, 2))))
    assert open_data(str(tmp_path / "unnamed")) == Idx(str(tmp_path / "unnamed"))


def test_unknown_format_is_an_error(tmp_path, refused):
    def holding(*names):
        folder = tmp_path / names[0].replace(".", "_")
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"some content")
        return str(folder)

    refused(lambda: open_data("digit"), "'digit'", "did you mean 'digits'")
    refused(lambda: open_data(""), "''", "digits")
    refused(lambda: open_data("hf:"), "hf:")
    refused(lambda: open_data(str(tmp_path / "no" / "where")), tmp_path, "no such file or folder")
    refused(lambda: open_data("x" * 5000 + "/y"), "cannot be read")
    refused(lambda: open_data("a\0b"), "data")
    refused(lambda: open_data(holding("data_batch_1", "batches.meta")), "pickled", ".bin")
    refused(lambda: open_data(holding("mnist.zip")), "archive", "mnist.zip")
    refused(lambda: open_data(holding("a.npy", "b.npy")), "2 array files")
    refused(lambda: open_data(holding("a.png", "b.npy")), "several kinds", "images")
    folder = holding("one.png", "a.tar.gz", "a.dat")
    for name, word in (("one.png", "one image"), ("a.tar.gz", "unpack"), ("a.dat", "not a known format")):
        refused(lambda name=name: open_data(f"{folder}/{name}"), name, word)
    refused(lambda: open_data("digits", size=32), "size", "Digits")
    refused(lambda: open_data("digits", split="tset"), "'tset'", "did you mean 'test'")
    refused(lambda: open_data(folder, size=-1), "size", "-1")


class Rows:
    """What the reader uses of a `datasets.Dataset`."""

    def __init__(self, pictures, labels=None, names=None):
        self.pictures, self.labels = pictures, labels
        self.column_names = ["image"] + (["label"] if labels is not None else [])
        self.features = {"label": SimpleNamespace(names=names)}

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, key):
        return self.labels if key == "label" else {"image": self.pictures[key]}


@pytest.fixture
def hub(monkeypatch):
    def install(result):
        def load_dataset(name, split):
            if isinstance(result, Exception):
                raise result
            return result

        module = ModuleType("datasets")
        module.__dict__["load_dataset"] = load_dataset
        monkeypatch.setitem(sys.modules, "datasets", module)

    return install


def test_hub_dataset_is_read(hub, rand):
    x = rand.integers(0, 256, (3, 8, 8), dtype=np.uint8)
    hub(Rows([Image.fromarray(a) for a in x], [1, 0, 1], ["cat", "dog"]))
    images = HuggingFace("a/b", channels=1).load()
    assert np.array_equal(images.pixels[:, 0], x)
    assert images.labels is not None and images.labels.tolist() == [1, 0, 1]
    assert images.class_names == ("cat", "dog")
    assert HuggingFace("a/b", size=4).load().event_shape == (3, 4, 4)


def test_invalid_hub_datasets_are_errors(hub, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(HuggingFace("a/b").load, "pip install 'diffprob[datasets]'")
    hub(FileNotFoundError("Couldn't find\nany data"))
    refused(HuggingFace("a/b").load, "hf:a/b", "cannot be loaded", "Couldn't find any data", "does not answer")
    hub(ZeroDivisionError("whatever it raises"))
    refused(HuggingFace("a/b").load, "hf:a/b", "whatever it raises")
    hub(ValueError("Unknown split \"test\". Should be one of ['train']."))
    with pytest.raises(Missing, match="Unknown split"):
        HuggingFace("a/b", "test").load()
    grey = Image.fromarray(np.zeros((8, 8), np.uint8))
    hub(Rows([grey, grey]))
    refused(HuggingFace("a/b", column="imge").load, "'imge'", "did you mean 'image'")
    hub(Rows([grey, grey.resize((9, 8))]))
    refused(HuggingFace("a/b").load, "row 1", "9x8", "size")
    hub(Rows([grey, "text"]))
    refused(HuggingFace("a/b").load, "row 1", "str")
    hub(Rows([Image.fromarray(np.zeros((8, 8), np.float32))]))
    refused(HuggingFace("a/b").load, "row 0", "a picture of floats")
    hub(Rows([grey, Image.fromarray(np.zeros((8, 8), np.uint16))]))
    refused(HuggingFace("a/b").load, "row 1: 16 bits a channel, the first picture has 8")
    hub(Rows([]))
    refused(HuggingFace("a/b").load, "empty")
    hub(Rows([grey, grey], np.array([1, 2**64 - 1], np.uint64)))
    refused(HuggingFace("a/b").load, "hf:a/b: labels go up to 18446744073709551615", "at most 9223372036854775807")
