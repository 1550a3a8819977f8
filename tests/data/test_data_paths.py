"""The same data at another place: what a source takes of it stays, and no path depends on where one stands."""

from pathlib import Path

import numpy as np
import pytest

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.data.images import Source
from diffprob.data.places import absolute, at_place, is_kind, paths, without_folders

BOTH = dp.Concatenated((dp.Subset(dp.Array("gone.npz"), 3, 0), dp.Subset(dp.Array("gone.npz"), 2, 1)))


def test_subset_is_kept_at_another_path(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "here.npz", images=pixels, labels=np.arange(12) % 2)
    images = at_place(BOTH, str(tmp_path / "here.npz")).load()
    np.testing.assert_array_equal(np.asarray(images.pixels)[:, 0], pixels[[0, 2, 4, 1, 3]])
    subset = at_place(dp.Subset(dp.Array("gone.npz"), 5), str(tmp_path / "here.npz")).load()
    assert subset.labels is not None and subset.labels.tolist() == [0, 1, 0, 1, 0]


def test_folder_above_the_data_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").mkdir()
    assert at_place(dp.Cifar10("gone"), str(tmp_path)) == dp.Cifar10(str(tmp_path / "cifar-10-batches-bin"))
    assert at_place(dp.Folder("gone", 8, 1), "not/there") == dp.Folder("not/there", 8, 1)


@pytest.mark.parametrize("source", [dp.Digits(), dp.Concatenated((dp.Digits(), dp.Array("a.npy")))])
def test_source_without_a_path_cannot_move(source: Source) -> None:
    with pytest.raises(InputError, match="has no path"):
        at_place(source, "there")


def test_source_with_several_paths_cannot_move() -> None:
    with pytest.raises(InputError, match="in 2 places"):
        at_place(dp.Concatenated((dp.Array("a.npy"), dp.Array("b.npy"))), "there")


def test_paths_are_made_absolute_or_stripped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths(absolute(BOTH)) == {str(tmp_path / "gone.npz")} and paths(absolute(dp.Digits())) == {None}
    assert without_folders(absolute(BOTH)) == BOTH
    assert absolute(absolute(dp.Idx("~/x"))) == dp.Idx(str(Path.home() / "x"))


def test_source_kind_is_that_of_the_files() -> None:
    assert is_kind(BOTH, dp.Array("x.npy")) and not is_kind(BOTH, dp.Folder("x"))
    assert not is_kind(dp.Digits(), dp.Digits())
