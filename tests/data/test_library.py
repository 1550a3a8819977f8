"""Data sets by name, and runs that find their images there."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from diffprob.base.errors import InputError, Missing, MovedData
from diffprob.cli.main import main
from diffprob.data import Array, open_data
from diffprob.data.library import FILE, add_place, known_places, place_of, remove_place
from diffprob.runs.images import OwnImages
from diffprob.runs.writer import RunWriter
from diffprob.tasks.own_recipe import automatic


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIFFPROB_CONFIG", str(tmp_path / "settings"))
    monkeypatch.delenv("DIFFPROB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def pixels(seed: int, n: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8), dtype=np.uint8)


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """A run in ``run`` whose data was moved from here to ``elsewhere``."""
    np.save("slides.npy", pixels(0))
    recipe, images, _ = automatic(str(tmp_path / "slides.npy"))
    RunWriter.open("run", recipe, images.digest()).close()
    (tmp_path / "elsewhere").mkdir()
    return Path(shutil.move("slides.npy", tmp_path / "elsewhere" / "slides.npy"))


def own_images() -> OwnImages:
    writer = RunWriter(Path("run"))
    writer.close()
    return OwnImages(FakeRun(writer))


class FakeRun:
    """What `OwnImages` asks of a run that has no weights yet."""

    def __init__(self, writer: RunWriter) -> None:
        self.recipe, self.meta, self.name, self.measurements = writer.recipe, writer.manifest.meta, "slides", ()


def test_places_are_kept_in_order_replaced_and_removed(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    assert known_places() == {}
    add_place("two", "b")
    add_place("one", tmp_path / "a")
    assert list(known_places().items()) == [("one", str(tmp_path / "a")), ("two", str(tmp_path / "b"))]
    add_place("one", "b")
    remove_place("two")
    assert known_places() == {"one": str(tmp_path / "b")}
    with pytest.raises(Missing, match=r"no data set 'onee' was added.*'one'"):
        remove_place("onee")


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "-x", "é" * 200])
def test_invalid_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no name for data"):
        add_place(name, tmp_path)


def test_damaged_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings").mkdir()
    for content in ("{", "[]", '{"version": 1, "places": {"../x": "y"}}', '{"version": 9, "places": {}}'):
        (tmp_path / "settings" / FILE).write_text(content)
        with pytest.raises(InputError, match="list of data sets"):
            known_places()


def test_data_is_opened_by_its_name_unless_something_of_that_name_is_here(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pixels(0))
    add_place("slides", "x.npy")
    assert open_data("slides") == Array(str(tmp_path / "x.npy"))
    with pytest.raises(Missing, match="did you mean 'slides'"):
        open_data("slidez")
    np.save("slides", pixels(1))
    Path("slides.npy").rename("slides")
    assert place_of("slides") == "slides"


def test_data_that_was_added_and_is_gone_says_how_to_add_it_again(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pixels(0))
    add_place("mine", str(tmp_path / "x.npy"))
    (tmp_path / "x.npy").unlink()
    with pytest.raises(
        Missing, match=r"data 'mine' was added as .*x.npy, which is not there.*data-add mine PATH would"
    ):
        open_data("mine")


def test_moved_images_are_found_in_the_library_by_their_digest(moved: Path, tmp_path: Path) -> None:
    with pytest.raises(MovedData, match=r"slides.npy.*data=PATH says where the images of slides \(sha256"):
        _ = own_images().train
    np.save(tmp_path / "others.npy", pixels(9))
    add_place("aaa", "others.npy")  # other data of the same kind
    add_place("slides", moved)
    own = own_images()
    assert own.test is not None and len(own.train) + len(own.test) == 60
    assert any(str(moved) in note for note in own.notes)
    remove_place("slides")
    with pytest.raises(MovedData):
        _ = own_images().train


def test_moved_images_are_found_below_the_folder_of_all_data(
    moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFPROB_DATA", str(moved.parent))
    assert len(own_images().train) > 0


def test_other_images_at_the_old_place_are_not_taken(moved: Path) -> None:
    np.save("slides.npy", pixels(5))
    with pytest.raises(InputError, match="not the images that slides was trained on"):
        _ = own_images().train
    add_place("slides", moved)
    assert len(own_images().train) > 0


def test_error_names_the_command_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["likelihood", "mnist", "-n", "2"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "diffprob likelihood mnist -n 2 --data PATH; or once, for all runs: diffprob data-add mnist PATH" in error
    assert "sha256 71d3be42f93a" in error and len(error) <= 320


def test_verb_adds_lists_and_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", pixels(0))
    assert main(["data-add"]) == 0 and "no data was added" in capsys.readouterr().out
    assert main(["data-add", "slides", "x.npy"]) == 0
    assert str(tmp_path / "x.npy") in capsys.readouterr().out
    for wrong in (["slides"], ["--remove"], ["slides", "x.npy", "--remove"], ["slides", "gone.npy"]):
        assert main(["data-add", *wrong]) == 2
    assert main(["data-add", "slides", "--remove"]) == 0 and known_places() == {}
