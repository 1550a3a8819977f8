"""Folders are decoded once: the same pixels as before, never from what was damaged, half written or of other files."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffprob.base.errors import InputError
from diffprob.data.formats import decoded
from diffprob.data.images import Images
from diffprob.data.sources import Folder
from diffprob.storage.folders import NO_CACHE, keeping
from diffprob.storage.locks import alone

COUNT = 100


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of colour and grey pictures of several sizes, which are few and kept all the same."""
    monkeypatch.setenv("DIFFPROB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded, "LEAST_FILES", 1)
    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    for k in range(COUNT):
        place = folder / "ab"[k % 2] / f"{k:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shape = (6 + k % 3, 7, 3) if k % 5 else (8, 8)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(place)
    return folder


class Counted:
    """The reader of a picture, and how often it was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.reader, self.lock = 0, decoded.read_picture, threading.Lock()
        monkeypatch.setattr(decoded, "read_picture", self)

    def __call__(self, *args):
        with self.lock:
            self.count += 1
        return self.reader(*args)


def load(folder: Path) -> Images:
    return Folder(str(folder), size=6).load()


def same(one: Images, other: Images) -> bool:
    notes = [{note for note in images.notes if "kept" not in note} for images in (one, other)]
    return one.digest() == other.digest() and notes[0] == notes[1] and one.files == other.files


def entry() -> Path:
    (place,) = (item for item in (Path(os.environ["DIFFPROB_CACHE"]) / "pictures").iterdir() if item.is_dir())
    return place


def test_the_second_start_decodes_nothing_and_has_the_same_pixels_and_notes(pictures, monkeypatch) -> None:
    with keeping(False):
        plain = load(pictures)
    assert not Path(os.environ["DIFFPROB_CACHE"]).exists()
    counted = Counted(monkeypatch)
    first, second = load(pictures), load(pictures)
    assert counted.count == COUNT and same(plain, first) and same(plain, second)
    assert isinstance(second.pixels, np.memmap) and not second.pixels.flags.writeable
    assert any("kept in" in note for note in first.notes) and not any("kept" in note for note in second.notes)
    monkeypatch.setenv(NO_CACHE, "1")
    assert same(plain, load(pictures)) and counted.count == 2 * COUNT


def test_other_files_times_or_options_are_decoded_anew(pictures, monkeypatch) -> None:
    first, counted = load(pictures), Counted(monkeypatch)
    Folder(str(pictures), size=5).load()
    assert counted.count == COUNT
    place = next(pictures.rglob("*.png"))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(place)
    changed = load(pictures)
    assert counted.count == 2 * COUNT and changed.digest() != first.digest()
    os.utime(place, ns=(1, 1))
    assert load(pictures).digest() == changed.digest() and counted.count == 3 * COUNT
    place.unlink()
    assert len(load(pictures)) == COUNT - 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "pixels.bin").write_bytes(b"\1" + (place / "pixels.bin").read_bytes()[1:]),
        lambda place: os.truncate(place / "pixels.bin", 10),
        lambda place: (place / "pixels.bin").unlink(),
        lambda place: (place / "about.json").write_text("{}"),
        lambda place: (place / "about.json").write_text("[1"),
        lambda place: (place / "about.json").write_text((place / "about.json").read_text().replace("100", "99")),
        lambda place: (place / "about.json").unlink(),
    ],
)
def test_what_is_damaged_is_made_anew(pictures, monkeypatch, damage) -> None:
    with keeping(False):
        plain = load(pictures)
    load(pictures)  # and let its map go
    damage(entry())
    counted = Counted(monkeypatch)
    assert same(plain, load(pictures)) and counted.count == COUNT
    assert same(plain, load(pictures)) and counted.count == COUNT


def test_several_that_begin_at_once_decode_once(pictures, monkeypatch) -> None:
    counted, digests = Counted(monkeypatch), []
    threads = [threading.Thread(target=lambda: digests.append(load(pictures).digest())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 4 and len(set(digests)) == 1 and counted.count == COUNT


def test_who_is_killed_leaves_neither_a_lock_nor_half_a_set(pictures, monkeypatch) -> None:
    script = (
        "import sys, time; from diffprob.data.formats import decoded; from diffprob.data.sources import Folder\n"
        "decoded.LEAST_FILES = 1; read, seen = decoded.read_picture, []\n"
        "def slow(*args):\n"
        "    seen.append(1); len(seen) == 50 and (print('half', flush=True), time.sleep(60)); return read(*args)\n"
        "decoded.read_picture = slow; Folder(sys.argv[1], size=6).load()"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(pictures)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    began = time.monotonic()
    with keeping(False):
        plain = load(pictures)
    assert same(plain, load(pictures)) and time.monotonic() - began < 10


def test_a_lock_keeps_others_out_until_it_is_let_go(tmp_path) -> None:
    order: list[str] = []

    def second() -> None:
        with alone(tmp_path / "lock"):
            order.append("second")

    with alone(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_a_full_disk_is_one_line_and_the_pictures_are_there(pictures, monkeypatch) -> None:
    with keeping(False):
        plain = load(pictures)

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    images = load(pictures)
    (note,) = (note for note in images.notes if "kept" in note)
    assert same(plain, images) and "not kept in" in note and "No space left" in note and "\n" not in note


def test_the_first_damaged_picture_is_named_whichever_core_meets_it(pictures) -> None:
    files = sorted(pictures.rglob("*.png"))
    for file in (files[40], files[90]):
        file.write_bytes(file.read_bytes()[:60])
    for _ in range(3):
        with pytest.raises(InputError, match=files[40].name):
            load(pictures)
    for file in (files[40], files[90]):
        file.unlink()
    with pytest.raises(InputError, match=r"pixels, while 000.png has 8x8"):
        Folder(str(pictures)).load()
    assert not [place for place in (Path(os.environ["DIFFPROB_CACHE"]) / "pictures").iterdir() if place.is_dir()]


def test_old_sets_go_where_there_are_too_many(pictures, monkeypatch) -> None:
    load(pictures)
    old = entry()
    os.utime(old, (1, 1))
    monkeypatch.setattr(decoded, "MOST_KEPT", COUNT * 3 * 36 + 4000)
    Folder(str(pictures), size=5).load()
    assert not old.exists() and entry()
