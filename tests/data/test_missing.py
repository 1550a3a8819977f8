"""Missing data is distinguished from unreadable data: who falls back to another split catches absence alone."""

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from diffprob.base.errors import InputError, Missing
from diffprob.data import Array, Cifar10, Cifar100, Folder, Idx, Subset, Svhn, open_data
from diffprob.data.combined import held_out_source


def _pictures(folder: Path) -> Path:
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(np.full((4, 4), 40 * k, np.uint8)).save(folder / split / f"{k}.png")
    return folder


def _cifar(folder: Path, names: tuple[str, ...], record: int) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(bytes(2 * record))
    return folder


def _svhn(folder: Path) -> Path:
    folder.mkdir()
    for split in ("train", "test"):
        stored = {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((2, 1), np.uint8)}
        savemat(folder / f"{split}_32x32.mat", stored)
    return folder


@pytest.fixture
def made(tmp_path: Path, mnist: tuple[Path, object]) -> Callable:
    """(training source, the file of its test split, a function that damages it) for a kind of data."""

    def make(kind: str) -> tuple[object, Path]:
        root = tmp_path / kind
        if kind == "folder":
            return Folder(str(_pictures(root))), root / "test" / "1.png"
        if kind == "idx":
            return Idx(str(mnist[0])), mnist[0] / "t10k-images-idx3-ubyte.gz"
        if kind == "labels":
            return Idx(str(mnist[0])), mnist[0] / "t10k-labels-idx1-ubyte.gz"
        if kind == "cifar10":
            names = (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin")
            return Cifar10(str(_cifar(root, names, 3073))), root / "test_batch.bin"
        if kind == "cifar100":
            return Cifar100(str(_cifar(root, ("train.bin", "test.bin"), 3074))), root / "test.bin"
        if kind == "svhn":
            return Svhn(str(_svhn(root))), root / "test_32x32.mat"
        np.savez(root, x_train=np.zeros((2, 4, 4), np.uint8), x_test=np.ones((20, 4, 4), np.uint8))
        return Array(f"{root}.npz"), Path(f"{root}.npz")

    return make


KINDS = ["folder", "idx", "labels", "cifar10", "cifar100", "svhn", "npz"]


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_test_split_is_not_treated_as_missing(kind: str, made: Callable):
    source, file = made(kind)
    assert len(held_out_source(source).load())
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match=file.name) as caught:
        held_out_source(source).load()
    assert not isinstance(caught.value, Missing)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("labels", "npz")])
def test_broken_link_is_damage(kind: str, made: Callable):
    source, file = made(kind)
    file.unlink()
    file.symlink_to("nowhere")
    with pytest.raises(InputError, match=file.name) as caught:
        held_out_source(source).load()
    assert not isinstance(caught.value, Missing)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("labels", "npz")])
def test_absent_test_split_raises_missing(kind: str, made: Callable):
    source, file = made(kind)
    if kind == "folder":
        shutil.rmtree(file.parent)
    else:
        file.unlink()
    with pytest.raises(Missing):
        held_out_source(source).load()


def test_missing_batch_is_damage_and_absent_class_raises_missing(made: Callable):
    source, file = made("cifar10")
    (file.parent / "data_batch_3.bin").unlink()
    with pytest.raises(InputError, match="data_batch_3") as caught:
        source.load()
    assert not isinstance(caught.value, Missing)
    with pytest.raises(Missing, match="label 7"):
        Subset(held_out_source(source), label=7).load()


def test_absent_path_or_array_raises_missing(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4), np.uint8))
    np.savez(tmp_path / "b.npz", images=np.zeros((2, 4, 4), np.uint8))
    for load in (
        Array(str(tmp_path / "a.npy"), "test").load,
        Array(str(tmp_path / "b.npz"), "test").load,
        Folder(str(tmp_path / "gone")).load,
        lambda: open_data(str(tmp_path / "gone")),
        lambda: open_data("gone"),
    ):
        with pytest.raises(Missing):
            load()


def test_single_file_is_a_test_split_only_by_name(mnist: tuple[Path, object]):
    train = mnist[0] / "train-images-idx3-ubyte.gz"
    assert len(Idx(str(train)).load()) == 12
    assert len(Idx(str(mnist[0] / "t10k-images-idx3-ubyte.gz"), "test").load()) == 5
    with pytest.raises(Missing, match="taken whole"):
        Idx(str(train), "test").load()
    # a run that was trained on the file called test has no other images to be tested on
    with pytest.raises(Missing, match="taken whole"):
        held_out_source(Idx(str(mnist[0] / "t10k-images-idx3-ubyte.gz")))


@pytest.mark.parametrize("kind", KINDS)
def test_unreadable_test_split_is_not_treated_as_missing(kind: str, made: Callable, monkeypatch: pytest.MonkeyPatch):
    source, file = made(kind)
    real = os.open

    def refuse(path, *rest, **more):
        if Path(path).name == file.name:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match=file.name) as caught:
        held_out_source(source).load()
    assert not isinstance(caught.value, Missing)
    assert "permission denied" in str(caught.value).lower()


def test_unreadable_folders_are_not_treated_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A class or a split that is a link to nowhere, or may not be entered, is no smaller set of images."""
    whole = _pictures(tmp_path / "whole")
    nowhere = shutil.copytree(whole, tmp_path / "nowhere")
    shutil.rmtree(nowhere / "test")
    (nowhere / "test").symlink_to(tmp_path / "gone")
    part = shutil.copytree(whole, tmp_path / "part")
    (part / "test/cat").symlink_to(tmp_path / "gone")
    closed = shutil.copytree(whole, tmp_path / "closed")
    (closed / "test/locked").mkdir()
    real = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for folder, message in ((nowhere, "test: .*nowhere"), (part, "cat: .*nowhere"), (closed, "locked: .*denied")):
        assert len(Folder(str(folder)).load()) == 3
        with pytest.raises(InputError, match=f"(?i){message}") as caught:
            held_out_source(Folder(str(folder))).load()
        assert not isinstance(caught.value, Missing)


def test_folder_with_a_files_name_is_not_treated_as_missing(mnist: tuple[Path, object], made: Callable):
    """As some programs unpack x.gz: a folder x with the file in it."""
    for source, file in ((Idx(str(mnist[0])), mnist[0] / "t10k-images-idx3-ubyte.gz"), made("cifar10")):
        file.unlink()
        file.mkdir()
        with pytest.raises(InputError, match=f"{file.name} is a folder") as caught:
            held_out_source(source).load()
        assert not isinstance(caught.value, Missing)


def test_empty_label_file_is_an_error(mnist: tuple[Path, object]):
    (mnist[0] / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(InputError, match="train-labels"):
        Idx(str(mnist[0])).load()
